"""06: the threshold that a person chose with the slider, kept as a profile of the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dedup_lib.errors import RunFolderError
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import FLOWS, SETTINGS, ExtractSettings, SearchSettings

FILE_NAME = "chosen.yaml"

OF_ONE_CALL = frozenset({"overwrite", "start", "end"})
"""Parameters that say what one call does: a profile that is used again must not empty a collection again."""

_NOTES = """\
# The settings of this run, with the threshold that was chosen with the slider of 06_search_and_clean.
# To decide by it:       {command}
# For another list, add: --set input_csv=LIST.csv --run NAME, in place of --only 06
"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A threshold that is saved in a profile."""

    place: str
    """The file, for people to read."""
    line: str
    """The line of the profile that sets the threshold."""
    command: str
    """What to type in the project folder to decide by it."""
    line_before: str
    """The line that this one took the place of; "" if there was no file, or nothing changed."""


def save_chosen(run: RunFolder, settings: SearchSettings, *, parameter: str, threshold: float) -> Chosen:
    """Write `chosen.yaml` into the run folder: a profile with every setting of the run that is not the default, and
    `threshold` as its `parameter`.

    It takes the place of an earlier choice. Raises RunFolderError for a file that a person changed, or that cannot be
    written, and for a damaged record of an earlier notebook.
    """
    path = run.path / FILE_NAME
    place = run.shown(path)
    command = f"python -m dedup_lib run {shlex.quote(place)} --only 06"
    values = _list_settings(run, settings) | {parameter: round(threshold, 7)}
    before = _read_own(path, command=command, values=values, parameter=parameter, place=place)
    write_text_atomically(path, _render(values, command=command))
    line, line_before = (f"{parameter}: {known[parameter]}" for known in (values, before or values))
    return Chosen(place=place, line=line, command=command, line_before=line_before if line_before != line else "")


def _list_settings(run: RunFolder, settings: SearchSettings) -> dict[str, Any]:
    """The settings of all notebooks of the run that differ from the defaults."""
    records = {stage: record["settings"] for stage, record in run.read_records().items()}
    records[settings.stage] = settings.as_record()
    mode = records.get(ExtractSettings.stage, {}).get("mode", ExtractSettings.mode)
    values: dict[str, Any] = {"run_dir": settings.run_dir}
    for stage in FLOWS[mode]:
        usual = SETTINGS[stage]().as_record()
        for name, value in records.get(stage, {}).items():
            if name in usual and value != usual[name] and name not in OF_ONE_CALL:
                values[name] = value
    return values | {"run_dir": settings.run_dir}


def _render(values: Mapping[str, Any], *, command: str) -> str:
    return _NOTES.format(command=command) + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def _read_own(
    path: Path, *, command: str, values: Mapping[str, Any], parameter: str, place: str
) -> Mapping[str, Any] | None:
    """The values of an earlier choice; None if there is no file. Raises RunFolderError for any other file."""
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        before = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        text, before = "", {}
    if isinstance(before, dict) and parameter in before and _render(before, command=command) == text:
        known: dict[str, Any] = before
        if known | {parameter: 0} == dict(values) | {parameter: 0}:
            return known
    raise RunFolderError(
        f"{place} was changed by hand, or is of other settings, and is left as it is: rename or remove it to save "
        f"this choice, or put {parameter}: {values[parameter]} into it yourself"
    )
