"""Where the project lies, and which file a person means by a path."""

from __future__ import annotations

import os
from pathlib import Path


def find_project_root(start: Path | None = None) -> Path:
    """The folder at which relative paths start: the nearest folder from `start` (default: the working directory)
    upwards that holds `notebooks/` and `params/`; else the nearest from this package upwards; else `start` itself.

    JupyterLab runs a notebook in `notebooks/`, papermill in the folder where it was called; with this root, a relative
    path means the same file in both.
    """
    here = (start or Path.cwd()).resolve()
    for place in (here, Path(__file__).resolve().parent):
        for folder in (place, *place.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    return here


def notebook_path(stage: str) -> Path:
    """The notebook of a stage, such as 03_extract."""
    return find_project_root() / "notebooks" / f"{stage}.ipynb"


def list_profiles() -> list[str]:
    """Names of the profiles in params/."""
    return sorted(path.stem for path in (find_project_root() / "params").glob("*.yaml"))


def expand_home(path: str | Path) -> Path:
    """`path` with the home folder in place of a leading `~`. Keeps a name such as `~draft.csv`, which names no user."""
    # Path.expanduser raises RuntimeError for such a name.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def resolve_path(path: str | Path) -> Path:
    """`path` with `~` expanded; a relative path starts at the project root."""
    expanded = expand_home(path)
    return expanded if expanded.is_absolute() else find_project_root() / expanded


def find_inputs(path: str | Path) -> list[Path]:
    """The existing files and folders that a person may mean by `path`, each once: first in the working directory, then
    in the project root."""
    expanded = expand_home(path)
    found: list[Path] = []
    for place in (Path.cwd() / expanded, resolve_path(expanded)):
        # Both places of an absolute path are the same.
        if is_there(place) and not any(is_same_place(place, other) for other in found):
            found.append(place)
    return found


def is_there(path: Path) -> bool:
    """Whether this file or folder exists; False when this user may not look."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder may not be read


def is_same_place(first: Path, second: Path) -> bool:
    """Whether both paths lead to the same file or folder."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        # One of them does not exist yet.
        return first.resolve() == second.resolve()
