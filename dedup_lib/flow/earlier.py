"""Which earlier runs a list is compared with: those that `--against` names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.run.folder import RunFolder, list_runs, named_run_dir, suggest_run
from dedup_lib.run.lock import is_held, read_holder
from dedup_lib.run.paths import is_same_place
from dedup_lib.settings import SearchSettings


def choose_earlier(run: RunFolder, named: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders of the runs in outputs/ that `named` names, for `existing_runs`, and notes for the person.

    A name may be a pattern, such as `week*`. A pattern leaves out the run itself, runs without a result, and runs that
    were themselves compared with this one: so a command that is given again later decides the same.

    Raises SettingError for a name that stands for no such run, and RunFolderError for a run that is at work.
    """
    known = list_runs()
    chosen: dict[str, None] = {}
    notes = []
    for name in named:
        is_pattern = name not in known and any(sign in name for sign in "*?[")
        fitting = [other for other in known if fnmatchcase(other, name)] if is_pattern else [name]
        if not is_pattern and name not in known:
            raise SettingError("--against", name, f"there is no such run folder; {suggest_run(name)}")
        taken = 0
        for other in fitting:
            folder = RunFolder(named_run_dir(other))
            _refuse_work(run, folder)
            trouble = _find_trouble(run, folder)
            if trouble and not is_pattern:
                raise SettingError("--against", name, trouble)
            if not trouble:
                chosen[named_run_dir(other)] = None
                taken += 1
        if is_pattern and not taken:
            notes.append(f"--against {name}: no earlier run with a result fits yet")
    return list(chosen), notes


def _refuse_work(run: RunFolder, other: RunFolder) -> None:
    """Raises RunFolderError where another run is at work: what it will read is not known yet."""
    if not is_same_place(run.path, other.path) and is_held(other.lock_path):
        raise RunFolderError(
            f"the run {other.path.name}, which --against names, is at work "
            f"({read_holder(other.lock_path) or 'its process has not written its name'}): start again when it has ended"
        )


def _find_trouble(run: RunFolder, other: RunFolder) -> str:
    """Why a run cannot be compared with another one; empty when it can."""
    if is_same_place(run.path, other.path):
        return "it is this run itself; name the runs before it"
    if other.read_record(SearchSettings.stage) is None:
        return "it has no result yet, for 06_search_and_clean has not run there; let it finish first"
    if _comes_after(other, run):
        return "it was itself compared with this run, so each would set aside what the other keeps"
    return ""


def _comes_after(other: RunFolder, run: RunFolder) -> bool:
    """Whether another run was compared with this one, or with a run that was."""
    waiting, seen = [other], {other.path}
    while waiting:
        record = waiting.pop().read_record(SearchSettings.stage)
        for name in record["settings"].get("existing_runs", ()) if record is not None else ():
            folder = RunFolder(name)
            if is_same_place(folder.path, run.path):
                return True
            if folder.path not in seen:
                seen.add(folder.path)
                waiting.append(folder)
    return False
