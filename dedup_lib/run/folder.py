"""Where a run keeps its files, and what its notebooks tell each other.

A run folder belongs to one list. Every notebook writes a stage record (JSON) into it, with its settings, its counts
and the files that it wrote. The next notebook reads that record instead of asking for the file again.
"""

from __future__ import annotations

import difflib
import getpass
import json
import platform
import shlex
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.records import utc_now, video_key
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.lock import RunLock
from dedup_lib.run.paths import expand_home, find_project_root, is_same_place, is_there, resolve_path
from dedup_lib.run.versions import find_versions
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import SETTINGS, NotebookSettings, SearchSettings

Record = dict[str, Any]

MAX_NAME_BYTES = 255
"""Most bytes in the name of a folder."""

_LOCK_NAME, _STAGES_NAME, _LEDGER_NAME = "run.lock", "stages", "ledger.sqlite"


def named_run_dir(name: str) -> str:
    """Returns the value of `run_dir` for a run of this name. Raises SettingError for a name that could be a path, or
    that no disk takes."""
    is_path = not name.strip(". ") or not name.isprintable() or bool(set(name) & set("/\\"))
    if is_path or len(name.encode()) > MAX_NAME_BYTES:
        raise SettingError(
            "--run",
            name,
            f"the name of a run may not contain / or \\, control characters, only dots, or more than {MAX_NAME_BYTES} "
            "bytes; set run_dir for a folder outside outputs/",
        )
    return str(Path("outputs") / name)


def is_run(path: Path) -> bool:
    """Whether a run has worked in this folder."""
    return any(is_there(path / name) for name in (_LOCK_NAME, _STAGES_NAME, _LEDGER_NAME))


def list_runs() -> list[str]:
    """Names of the runs in outputs/."""
    return sorted(path.name for path in resolve_path("outputs").glob("*/") if is_run(path))


def describe_known_runs() -> str:
    """Which runs there are, for messages about one that is not there."""
    return f"outputs/ holds {', '.join(list_runs()) or 'no run yet'}"


def suggest_run(name: str) -> str:
    """The run that a wrong name may mean, or else which runs there are, for messages."""
    near = difflib.get_close_matches(name, list_runs(), n=1)
    return f"did you mean {near[0]}?" if near else describe_known_runs()


def find_run(name: str) -> RunFolder | None:
    """Returns the run folder with this name in outputs/, or at this path; None when there is no such folder. A folder
    in which a run has worked comes first."""
    places = (Path(name).absolute(), resolve_path("outputs") / name) if name.strip() else ()
    found = [path for path in places if is_there(path) and path.is_dir()]
    found.sort(key=is_run, reverse=True)
    return RunFolder(found[0]) if found else None


def name_run(run: RunFolder) -> str:
    """What to type for a run where a command asks for one: its name in outputs/, or its path."""
    return run.path.name if is_same_place(run.path.parent, resolve_path("outputs")) else str(run.path)


def thumbnail_path(url: str, *, thumbnails_dir: Path) -> Path:
    """The path of the storyboard of a video; the file may not exist."""
    return thumbnails_dir / f"{video_key(url)}.jpg"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run with a number that has no name.
        return "somebody"


class RunFolder:
    """The folder of one run, and the paths in it. It is created when something is first written, so that a refused run
    leaves no folder."""

    def __init__(self, run_dir: str | Path) -> None:
        self.path = resolve_path(run_dir)
        self.ledger_path = self.path / _LEDGER_NAME
        # The lock file names the run that works in the folder, or did last.
        self.lock_path = self.path / _LOCK_NAME
        # What other thresholds would decide, and all pairs of videos that were compared.
        self.sweep_path, self.pairs_path = self.path / "sweep.json", self.path / "pairs.parquet"
        # The Milvus Lite store, used when no server is named.
        self.lite_path = self.path / "milvus.db"
        self.thumbnails_dir = self.path / "thumbnails"
        # Executed notebooks, and their rendered pages.
        self.notebooks_dir, self.reports_dir = self.path / "notebooks", self.path / "reports"

    def make(self) -> None:
        """Creates the folder when it is missing. Raises RunFolderError when that fails."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunFolderError(
                f"the run folder {self.path} cannot be created ({reason}): set another run_dir, or make its place "
                "writable"
            ) from error

    def __repr__(self) -> str:
        return f"RunFolder({self.shown(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows, so that nobody works on another run than they think."""
        state = "" if is_run(self.path) else ", a new folder"
        name, place = (escape(sanitise_line(text)) for text in (self.path.name, self.shown(self.path)))
        return f"<p><strong>This is the run {name}</strong>, in {place}{state}.</p>"

    def record_path(self, stage: str) -> Path:
        """The path of a stage's record; the file exists once the stage has run."""
        return self.path / _STAGES_NAME / f"{stage}.json"

    def locked(self, *notebooks: str, command: str = "") -> RunLock:
        """Returns the lock of this folder for a run of these notebooks, as a context manager. `command` is the command
        that continues the run.

        Raises RunFolderError when another process holds the lock, or the folder cannot be created or written.
        """
        self.make()
        return RunLock(self.lock_path, notebooks=notebooks, command=command)

    def output_path(self, given: str, default_name: str) -> Path:
        """The path of an output file: `given`, or `default_name` when `given` is empty.

        A relative path starts at the run folder, because outputs belong to their run.
        """
        return self.path / (expand_home(given) if given else default_name)

    def shown(self, path: str | Path) -> str:
        """A path for people to read: relative to the project root when both the path and the working directory lie in
        it, otherwise absolute."""
        root = find_project_root(self.path)
        resolved = Path(path).resolve()
        is_near = resolved.is_relative_to(root) and Path.cwd().resolve().is_relative_to(root)
        return str(resolved.relative_to(root)) if is_near else str(resolved)

    def shown_in_run(self, path: Path) -> str:
        """A path, relative to the run folder when it lies there."""
        return str(path.relative_to(self.path)) if path.is_relative_to(self.path) else str(path)

    def write_record(
        self, settings: NotebookSettings, *, counts: Record, files: Mapping[str, Path], details: Record | None = None
    ) -> Path:
        """Writes the record of a stage to `stages/<stage>.json`, and returns its path.

        Raises RunFolderError when another process works in this folder, or for an error of the disk.
        """
        record = {
            "stage": settings.stage,
            "settings": settings.as_record(),
            "counts": counts,
            "files": {name: self.shown_in_run(path) for name, path in files.items()},
            "versions": find_versions(),
            "finished": utc_now(),
            "by": f"{_user()} on {platform.node()}",
            **(details or {}),
        }
        path = self.record_path(settings.stage)
        with self.locked(settings.stage):
            write_text_atomically(path, json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")
        return path

    def read_record(self, stage: str) -> Record | None:
        """Returns the record of a stage, or None when the stage has not run in this folder.

        Raises RunFolderError for a damaged record.
        """
        return self.read_json(self.record_path(stage), stage=stage)

    def read_records(self) -> dict[str, Record]:
        """The records of all stages that have run in this folder, in the order of the notebooks.

        Raises RunFolderError for a damaged record.
        """
        return {stage: record for stage in SETTINGS if (record := self.read_record(stage)) is not None}

    def read_summary(self) -> Record | None:
        """Returns the summary that 06_search_and_clean wrote, or None when it has not finished.

        Raises RunFolderError for a damaged one.
        """
        return self.read_json(self.path / "summary.json", stage=SearchSettings.stage)

    def read_json(self, path: Path, *, stage: str) -> Record | None:
        """Returns what a stage wrote into a JSON file, or None when there is no such file.

        Raises RunFolderError for a damaged file.
        """
        if not path.exists():
            return None
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError("it holds no JSON object")
        except ValueError as error:
            raise RunFolderError(
                f"{self.shown(path)} is damaged ({error}): run notebooks/{stage}.ipynb again with the same run_dir"
            ) from error
        return record

    def require_record(self, stage: str) -> Record:
        """Returns the record of a stage. Raises RunFolderError when the stage has not finished in this folder."""
        record = self.read_record(stage)
        if record is None:
            raise RunFolderError(
                f"{stage} has not finished in {self.shown(self.path)}: `python -m dedup_lib status "
                f"{shlex.quote(name_run(self))}` shows how far the run is and how to continue it"
            )
        return record

    def recorded_path(self, record: Record, name: str) -> Path:
        """The path of a file in a stage record. Paths in the run folder are relative to it, so it may be moved."""
        return self.path / str(record["files"][name])
