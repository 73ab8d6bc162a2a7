"""Where the project lies, and which file a person means by a path."""

from __future__ import annotations

import os
from pathlib import Path


def find_project_root(start: Path | None = None) -> Path:
    """The folder that relative paths are taken from: the nearest one upwards of `start` (default: the working
    directory) that holds `notebooks/` and `params/`; else upwards of this package; else `start` itself.

    JupyterLab runs a notebook inside `notebooks/` and papermill runs it wherever it was called: both mean
    the same file by the same relative path.
    """
    here = (start or Path.cwd()).resolve()
    for place in (here, Path(__file__).resolve().parent):
        for folder in (place, *place.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    return here


def expand_home(path: str | Path) -> Path:
    """`path` with the home folder for a leading `~`; a name such as `~draft.csv`, which is no user's, stays."""
    # Path.expanduser raises RuntimeError for it.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def resolve_path(path: str | Path) -> Path:
    """`path` with `~` expanded, taken from the project root when it is relative."""
    expanded = expand_home(path)
    return expanded if expanded.is_absolute() else find_project_root() / expanded


def find_inputs(path: str | Path) -> list[Path]:
    """The files and folders that a person may mean by `path`, best first: in the working directory, in the project
    root. Only those that are there, and each once."""
    expanded = expand_home(path)
    found: list[Path] = []
    for place in (Path.cwd() / expanded, resolve_path(expanded)):
        # An absolute path is the same in both.
        if is_there(place) and not any(is_same_place(place, other) for other in found):
            found.append(place)
    return found


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, as far as this user may see."""
    try:
        return path.exists()
    except OSError:
        return False


def is_same_place(first: Path, second: Path) -> bool:
    """Whether what is written to one of them would be read from the other, by whatever name."""
    try:
        return first.samefile(second)
    except (OSError, ValueError):
        # One of them is not there yet.
        return first.resolve() == second.resolve()
