"""The runs in outputs/: what each holds and takes, and how one is removed."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dedup_lib.errors import DedupError, RunFolderError, SettingError
from dedup_lib.run.files import writing
from dedup_lib.run.folder import RunFolder, is_run, list_runs, suggest_run
from dedup_lib.run.lock import is_held, read_holder
from dedup_lib.run.paths import is_there, resolve_path
from dedup_lib.run.status import read_progress
from dedup_lib.settings import SETTINGS, SearchSettings

DAMAGED = "damaged"
"""The state of a run whose books cannot be read."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """One run in outputs/."""

    name: str
    worked: str
    """When something was last written into its books, UTC in ISO format."""
    rows: int | None
    """Number of rows of its list; None before 06_search_and_clean has finished."""
    kept: int | None
    size_bytes: int
    state: str


def describe_runs() -> list[RunFacts]:
    """Every run in outputs/, the latest first. Changes nothing."""
    facts = [_describe(RunFolder(resolve_path("outputs") / name)) for name in list_runs()]
    return sorted(facts, key=lambda run: (run.worked, run.name), reverse=True)


def _describe(run: RunFolder) -> RunFacts:
    try:
        state = str(read_progress(run).state)
    except (DedupError, OSError, ValueError, TypeError, KeyError):
        state = DAMAGED
    counts: dict[str, int] = {}
    with suppress(DedupError, OSError, TypeError, KeyError):
        rows = (run.read_summary() or {})["rows"]
        counts = {name: int(rows[name]) for name in ("input", "final")}
    return RunFacts(
        name=run.path.name,
        worked=_find_last_work(run),
        rows=counts.get("input"),
        kept=counts.get("final"),
        size_bytes=measure_size(run.path),
        state=state,
    )


def _find_last_work(run: RunFolder) -> str:
    books = (run.lock_path, run.ledger_path, *(run.record_path(stage) for stage in SETTINGS))
    last_s = max((path.stat().st_mtime for path in books if is_there(path)), default=0.0)
    return datetime.fromtimestamp(last_s, UTC).isoformat(timespec="seconds")


def measure_size(folder: Path) -> int:
    """The size of all files in a folder, in bytes. Links count as themselves, and are not followed."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            # A run at work removes temporary files.
            with suppress(OSError):
                size += (Path(place) / name).lstat().st_size
    return size


def find_removable(name: str) -> RunFolder:
    """The run in outputs/ with this name. Raises SettingError for what is no run there, and RunFolderError for a run
    that is at work."""
    outputs = resolve_path("outputs")
    path = outputs / name
    if not name.strip(". ") or path.parent != outputs:
        raise SettingError("NAME", name, "give the name of a run in outputs/, not a path")
    if path.is_symlink():
        raise SettingError("NAME", name, "it is a link, and links are not followed: remove the link itself with rm")
    if not is_there(path):
        raise SettingError("NAME", name, f"there is no such run folder; {suggest_run(name)}")
    if not path.is_dir() or not is_run(path):
        raise SettingError("NAME", name, "no run has worked there, so it is left alone")
    run = RunFolder(path)
    if is_held(run.lock_path):
        holder = read_holder(run.lock_path)
        raise RunFolderError(
            f"the run {name} is at work ({holder or 'its process has not written its name'}): wait until it ends, or "
            "stop it first"
        )
    return run


def find_given_files() -> set[Path]:
    """The files that runs in outputs/ were given: their lists, and people's decisions. Raises RunFolderError for a
    damaged record, because it may name one."""
    found = set()
    for name in list_runs():
        run = RunFolder(resolve_path("outputs") / name)
        for stage in SETTINGS:
            record = run.read_record(stage) or {}
            if list_csv := record.get("list", {}).get("csv"):
                found |= {Path(list_csv), Path(list_csv).with_name("decisions.csv")}
            if decisions_csv := record.get("settings", {}).get("decisions_csv"):
                found.add(resolve_path(decisions_csv))
    return {_settle(path) for path in found}


def find_dependents(runs: Collection[RunFolder]) -> dict[str, list[str]]:
    """For each of these runs that others were compared with: the names of those others, unless they go too."""
    names = {run.path.name for run in runs}
    dependents: dict[str, list[str]] = {}
    for name in list_runs():
        if name in names:
            continue
        record = RunFolder(resolve_path("outputs") / name).read_record(SearchSettings.stage) or {}
        earlier = {_settle(resolve_path(path)) for path in record.get("settings", {}).get("existing_runs", ())}
        for run in runs:
            if _settle(run.path) in earlier:
                dependents.setdefault(run.path.name, []).append(name)
    return dependents


def remove_run(run: RunFolder, *, but: Collection[Path]) -> list[Path]:
    """Removes a run folder with all that is in it but the files `but` (see `find_given_files`). Returns what is left.

    Links are removed, never followed. A removal that was stopped may be begun again. Raises RunFolderError when another
    process works in the folder, or when the disk refuses.
    """
    left = []
    with run.locked("removal"):
        for place, folders, files in os.walk(run.path, topdown=False):
            # Without its lock file, the folder would no longer be known as a run, so that one goes last.
            for name in sorted([*folders, *files], key=lambda name: (Path(place, name) == run.lock_path, name)):
                path = Path(place, name)
                try:
                    if path.is_dir() and not path.is_symlink():
                        if not any(path.iterdir()):
                            path.rmdir()
                    elif _settle(path) in but:
                        left.append(path)
                    else:
                        path.unlink()
                except OSError as error:
                    raise RunFolderError(
                        f"cannot remove {run.shown(path)}: {error.strerror or error}. Make it and its folder writable, "
                        "then give the same command again"
                    ) from error
    if not left:
        # Another run may have begun in the folder.
        with writing(run.path):
            run.path.rmdir()
    return left


def _settle(path: Path) -> Path:
    """The path without links in its folder; the file itself may be one."""
    return path.parent.resolve() / path.name
