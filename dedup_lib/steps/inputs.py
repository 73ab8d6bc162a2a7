"""01 and on: which list a notebook works on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dedup_lib.errors import RunFolderError, SettingError
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.run.paths import find_inputs, is_same_place, resolve_path
from dedup_lib.settings import DecodeSettings

OUTPUTS = {
    "FINAL_RESULT": "unique_csv",
    "duplicates": "report_csv",
    "review": "",
    "invalid_urls": "invalid_csv",
    "failed_urls": "",
    "featureless_urls": "",
}
"""The lists that 06_search_and_clean writes, each with the parameter that may give its path. Without one, the path is
`<name>.csv` in the run folder."""


@dataclass(frozen=True, kw_only=True)
class ListSource:
    """The file that a stage reads, and the list from which it was made."""

    path: Path
    url_column: str
    list_csv: Path
    """The file that the user named first."""
    list_rows: int | None
    """Number of rows in that list. None where this stage is the first to read it."""
    text_duplicates: int
    """Number of rows that 02_dedupe_urls removed before this stage."""

    @property
    def is_ours(self) -> bool:
        """Whether an earlier notebook wrote the file. Where all URLs of a list were read before, it has no rows."""
        return self.path != self.list_csv

    @property
    def stem(self) -> str:
        """Name of the list without its extensions. Output files are named after it."""
        return list_stem(self.list_csv)

    def as_record(self, url_column: str, *, rows: int, text_duplicates: int = 0) -> Record:
        """The entry of a stage record that names the list. `rows` is the number of rows in the file that was read. The
        stage removed `text_duplicates` of them."""
        return {
            "list": {
                "csv": str(self.list_csv),
                "rows": rows if self.list_rows is None else self.list_rows,
                "text_duplicates": self.text_duplicates + text_duplicates,
            },
            "url_column": url_column,
        }


def list_stem(path: Path) -> str:
    """Name of a list without its extensions: `ads` for ads.csv and for ads.csv.gz."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem


def locate_list(input_csv: str) -> Path:
    """The file that `input_csv` names: in the working directory, else in the project root. Where both hold such a
    file, a warning says which one is read.

    Raises SettingError for a web address, and for a name that is no text.
    """
    if re.match("[a-z][a-z0-9+.-]+://", input_csv.strip(), re.IGNORECASE):
        remedy = (
            "give the path of the file, without file://"
            if input_csv.strip().lower().startswith("file:")
            else "download the list first, and give the path of the file"
        )
        raise SettingError("input_csv", input_csv, f"it is an address, not a file: {remedy}")
    found = find_inputs(input_csv)
    if len(found) > 1:
        warnings.warn(describe_choice(input_csv, found), stacklevel=2)
    path = found[0] if found else resolve_path(input_csv)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # Neither a record nor an output could name it.
        raise SettingError("input_csv", str(path), "its name is no valid UTF-8: give the file another name") from None
    return path


def describe_choice(input_csv: str, found: Sequence[Path]) -> str:
    """Say which of several files is read as the list."""
    return f"input_csv = {input_csv!r} is {' and '.join(map(str, found))}: {found[0]} is read"


def find_first_list(run: RunFolder, *, input_csv: str, url_column: str) -> ListSource:
    """The user's own list: `input_csv`, or the list that this run folder was last used for.

    Raises RunFolderError when neither is known. Raises SettingError for a web address, and for a list that the run
    would overwrite.
    """
    record = run.read_record(DecodeSettings.stage)
    if not input_csv and record is None:
        raise RunFolderError(
            f"input_csv is empty, and {run.shown(run.path)} has not read a list yet: set input_csv to the CSV with the "
            "video URLs (make demo fills outputs/demo with an example)"
        )
    path = Path(record["list"]["csv"]) if record is not None and not input_csv else locate_list(input_csv)
    _check_place(run, path)
    return ListSource(path=path, url_column=url_column, list_csv=path, list_rows=None, text_duplicates=0)


def find_list(run: RunFolder, *, input_csv: str, url_column: str, after: Sequence[str]) -> ListSource:
    """The file that a stage reads: the output of the first stage in `after` that has run on the list, else the list.

    `input_csv` names the list. It may stay empty once an earlier notebook has read the list in this run folder. Raises
    RunFolderError when it is empty and no earlier notebook has run, or when earlier notebooks read different lists.
    Raises SettingError for a web address, and for a list that the run would overwrite.
    """
    named = locate_list(input_csv) if input_csv else None
    if named is not None:
        _check_place(run, named)
    records = [record for stage in after if (record := run.read_record(stage)) is not None]
    lists = sorted({record["list"]["csv"] for record in records})
    if named is None and len(lists) > 1:
        raise RunFolderError(
            f"input_csv is empty, and the notebooks before this one read different lists in {run.shown(run.path)} "
            f"({', '.join(lists)}): set input_csv to one of them, or run those notebooks again with one list"
        )
    for record in records:
        if named is not None and named.resolve() != Path(record["list"]["csv"]).resolve():
            continue
        return ListSource(
            path=run.recorded_path(record, "output_csv"),
            url_column=url_column or record["url_column"],
            list_csv=Path(record["list"]["csv"]),
            list_rows=record["list"]["rows"],
            text_duplicates=record["list"]["text_duplicates"],
        )
    if named is None:
        raise RunFolderError(
            f"input_csv is empty, and {' or '.join(after)} has not run in {run.shown(run.path)}: set input_csv, or run "
            "the notebooks before this one with the same run_dir"
        )
    return ListSource(path=named, url_column=url_column, list_csv=named, list_rows=None, text_duplicates=0)


def check_outputs(source: ListSource, **outputs: Path) -> None:
    """Raises SettingError where an output of a notebook, under the name of its parameter, would overwrite the list, the
    file that the notebook reads, or another of these outputs."""
    taken = [(source.list_csv, "the list"), (source.path, "the file that this notebook reads")]
    for parameter, path in outputs.items():
        refuse_overwriting(parameter, path, taken)
        taken.append((path, parameter))


def refuse_overwriting(parameter: str, path: Path, taken: Iterable[tuple[Path, str]]) -> None:
    """Raises SettingError where an output, under the name of its parameter, is one of the files in `taken`, each given
    with what it is."""
    for place, what in taken:
        if is_same_place(path, place):
            raise SettingError(parameter, str(path), f"it would overwrite {what}: name another file")


def _check_place(run: RunFolder, list_csv: Path) -> None:
    """Raises SettingError for a list at a path that 06_search_and_clean writes to."""
    for name in OUTPUTS:
        if is_same_place(list_csv, run.output_path("", f"{name}.csv")):
            raise SettingError(
                "input_csv",
                str(list_csv),
                f"06_search_and_clean would overwrite it with its {name}.csv; rename or move the list, or set another "
                "run_dir",
            )
