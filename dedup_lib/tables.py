"""Lists as tables of text: load a CSV whoever wrote it, find its URL column, save it, split off text copies.

A table is a DataFrame whose cells are all text (dtype `str`, a missing cell is ""), in the order of the file,
with the rows numbered from 0.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from html import escape
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import pandas as pd

from dedup_lib.display import show_text
from dedup_lib.errors import ListError
from dedup_lib.run_folder import writing
from dedup_lib.urls import decode_url, find_text_copies, is_local_path, is_web_url

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m3u8", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpd", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
"""By these the path of a local video is known."""

URL_WORDS = frozenset({"url", "link", "uri", "href", "src"})

REPORT_COLUMNS = ("url", "duplicate_of", "rule", "row", "first_row")
"""First columns of the report on text copies; the list's other columns follow."""

_DELIMITERS = ",;\t"
# A table holds no NUL, so this never splits a line.
_ONE_COLUMN = "\0"
_SAMPLE_RECORDS = 1000
# The largest that the csv module takes on every platform.
_FIELD_LIMIT = 2**31 - 1
_ADDRESS = re.compile(r"www\.|[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# What a spreadsheet may take for a formula when it opens a CSV (OWASP, "CSV Injection"), full-width signs included,
# which Excel takes for plain ones in some languages. A byte order mark in front would vanish. Numbers, dates and
# telephone numbers can name no cell, no function and no program.
_FORMULA = re.compile(r"\ufeff*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-][0-9+\-.,:/()% ]*([eE][+-]?[0-9]+)?", re.ASCII)


def protect_cell(text: str) -> str:
    """A cell as it is written to a CSV: with an apostrophe in front where a spreadsheet would run it as a formula.

    Text of that kind that has apostrophes in front already gets one more, so that `bare_cell` gives back every text.
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def bare_cell(text: str) -> str:
    """A cell of a CSV as it is meant: without the apostrophe that `protect_cell` or a spreadsheet put in front."""
    return text[1:] if text.startswith("'") and _is_formula(text.lstrip("'")) else text


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def load_list(path: Path) -> pd.DataFrame:
    """The CSV at `path` as a table of text.

    Reads UTF-8 and UTF-16, gzip, any line end, and comma, semicolon or tab, whichever the records agree on (see
    `_choose_delimiter`). A first record that holds a URL or the path of a video is data: the columns are then called
    `column_1`, …, and the one with the URLs `url`. Lines that are empty are skipped, short rows filled with "",
    columns of the same name told apart by `_2`, …, and cells read as `bare_cell` says.

    Raises ListError, with the remedy, for what cannot be read without guessing or losing a row.
    """
    try:
        with _unlimited_fields():
            return _parse_list(_decode(_read_bytes(path)))
    except ListError as error:
        raise ListError(f"{path} {error}") from error.__cause__


def _parse_list(text: str) -> pd.DataFrame:
    delimiter = _choose_delimiter(text)
    records = _records(text, delimiter)
    first_line, first = next(records, (1, []))
    if not first:
        raise ListError("is empty: give a CSV with one video URL per line")
    header = None if any(map(_is_link, first)) else first
    if header is None:
        records = chain([(first_line, first)], records)
    width = len(header) if header else _common_width(_sample(text, delimiter)[0])
    rows = list(_fill(records, width))
    if not rows:
        raise ListError("holds a header but no rows: give a CSV with one video URL per line below its header")
    frame = pd.DataFrame(rows, columns=_column_names(header or [""] * width), dtype="str")
    links = [] if header else _link_columns(frame)
    return frame.rename(columns={links[0]: "url"}) if len(links) == 1 else frame


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ListError("is a folder, not a file: name the CSV inside it")
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except FileNotFoundError as error:
        raise ListError("does not exist: check the path of the list") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ListError(f"is a damaged gzip file ({error}): compress or copy it again") from error
    except OSError as error:
        raise ListError(f"cannot be read ({error.strerror or error}): check its permissions") from error


def _decode(data: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16."""
    encoding = _guess_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_of(data[: error.start].decode(encoding, "replace"))
        family = "UTF-16" if encoding.startswith("utf-16") else "UTF-8"
        raise ListError(
            f"is not valid {family} (byte 0x{data[error.start]:02X} on line {line}): "
            "save the list as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        line = _line_of(text[: text.index("\0")])
        raise ListError(f"is not a text file (NUL character on line {line}): save the list as a CSV in UTF-8")
    return text


def _guess_encoding(data: bytes) -> str:
    """By the byte order mark, else by where NUL bytes lie: every other byte of plain text in UTF-16 is one."""
    if data.startswith(b"\xff\xfe"):
        return "utf-16-le"
    if data.startswith(b"\xfe\xff"):
        return "utf-16-be"
    sample = data[:4096]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) * 0.2 and even < odd * 0.1:
        return "utf-16-le"
    if even > len(sample) * 0.2 and odd < even * 0.1:
        return "utf-16-be"
    return "utf-8"


def _line_of(text_before: str) -> int:
    return 1 + len(re.findall("\r\n?|\n", text_before))


@contextmanager
def _unlimited_fields() -> Iterator[None]:
    """The csv module refuses fields above 128 KiB by a limit that the whole process shares."""
    before = csv.field_size_limit(_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _choose_delimiter(text: str) -> str:
    """The delimiter by which the largest share of the first records has the same number of columns, more than one.

    With a header only those count that split the header, and the header's number of columns. Without one, nine in ten
    records must agree, and something must tell columns from a list of URLs that hold this character (see
    `_looks_like_columns`).
    """
    best, largest_share = _ONE_COLUMN, -1.0
    # Quotes around several cells of a line make no sense in a list of one column.
    has_quoted_cells = not _sample(text, _ONE_COLUMN)[1]
    for delimiter in _DELIMITERS:
        records, is_sound = _sample(text, delimiter)
        if not records:
            continue
        has_header = not any(map(_is_link, records[0]))
        width = len(records[0]) if has_header else _common_width(records)
        agreeing = [record for record in records if len(record) == width]
        share = len(agreeing) / len(records)
        if not has_header:
            by_content = 2 * sum(map(_looks_like_columns, agreeing)) >= len(agreeing)
            if share < 0.9 or not (has_quoted_cells or delimiter == "\t" or by_content):
                continue
        if width > 1 and share * is_sound > largest_share:
            best, largest_share = delimiter, share * is_sound
    return best


def _looks_like_columns(record: list[str]) -> bool:
    """Whether a line was rightly split, and is not one URL that holds the delimiter."""
    first, *others = record
    return (
        not _is_link(first)
        or _is_video_path(first)
        or any(not cell or any(map(str.isspace, cell.rstrip())) or is_web_url(decode_url(cell)) for cell in others)
    )


def _sample(text: str, delimiter: str) -> tuple[list[list[str]], bool]:
    """The first records that are not empty, and whether this delimiter makes sense of all of them."""
    records: list[list[str]] = []
    try:
        records.extend(record for _, record in islice(_records(text, delimiter), _SAMPLE_RECORDS))
    except ListError:
        return records, False
    return records, True


def _common_width(records: list[list[str]]) -> int:
    return Counter(map(len, records)).most_common(1)[0][0]


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and cells, of every record that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, [bare_cell(cell) for cell in record]
            line = reader.line_num + 1
    except csv.Error as error:
        is_open = "unexpected end" in str(error)
        cause = "opens a quote that is never closed" if is_open else "has text after a closing quote"
        raise ListError(
            f"cannot be split into cells: the row that starts on line {line} {cause}. "
            'Close the quote, and double every quote inside a quoted cell ("")'
        ) from error


def _fill(records: Iterable[tuple[int, list[str]]], width: int) -> Iterator[list[str]]:
    """The cells of every record, "" for those that it lacks."""
    for line, cells in records:
        if len(cells) > width:
            raise ListError(
                f"cannot be read as a table: line {line} has {len(cells)} cells, and the list has {width} columns. "
                "Put quotes around cells that contain the delimiter"
            )
        yield cells + [""] * (width - len(cells))


def _column_names(header: Sequence[str]) -> list[str]:
    """The names in a header, each of them there and unlike the others."""
    names: list[str] = []
    for position, given in enumerate(header, start=1):
        is_free = given.strip() and given not in names
        wanted = given if given.strip() else f"column_{position}"
        # A name that stands in the header keeps to its own column.
        names.append(given if is_free else _free_name(wanted, {*names, *header}))
    return names


def _free_name(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def _is_link(cell: str) -> bool:
    """Whether `cell` can only be data: a URL of any kind, or a local video."""
    decoded = decode_url(cell)
    return bool(_ADDRESS.match(decoded)) or is_web_url(decoded) or _is_video_path(cell)


def _is_video_path(cell: str) -> bool:
    """Whether `cell` is a path, local or of a URL, that ends as the name of a video file does."""
    decoded = decode_url(cell)
    return decoded.lower().endswith(VIDEO_SUFFIXES) and (is_local_path(decoded) or is_web_url(decoded))


def _link_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of which at least half of the cells that hold something are web URLs; if none, local videos."""
    for is_wanted in (lambda cell: is_web_url(decode_url(cell)), _is_video_path):
        found = []
        for name in frame.columns:
            cells = [cell for cell in frame[name] if cell.strip()]
            if cells and 2 * sum(map(is_wanted, cells)) >= len(cells):
                found.append(name)
        if found:
            return found
    return []


def find_url_column(frame: pd.DataFrame, *, url_column: str = "") -> str:
    """The name of the column that holds the videos' URLs.

    That is `url_column` if given (by any case where only one column fits); else the column called url; else the only
    one with url, link, uri, href or src as a word of its name; else the only one with URLs (or paths of videos) in at
    least half of its cells. Raises ListError when none or several would do.
    """
    names = [str(name) for name in frame.columns]
    listed = ", ".join(map(repr, names)) or "none"
    if url_column:
        if url_column in names:
            return url_column
        alike = [name for name in names if name.strip().casefold() == url_column.strip().casefold()]
        if len(alike) == 1:
            return alike[0]
        raise ListError(f"url_column = {url_column!r} is not a column of the list: set it to one of {listed}")
    exact = [name for name in names if name.strip().casefold() == "url"]
    candidates = exact or [name for name in names if not URL_WORDS.isdisjoint(_words(name))]
    if len(candidates) != 1 and not exact:
        candidates = _link_columns(frame) or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        several = ", ".join(map(repr, candidates))
        raise ListError(f"several columns could hold the URLs ({several}): set url_column to the right one")
    raise ListError(
        f"no column looks like URLs, neither by its name nor by its content: set url_column to one of {listed}"
    )


def _words(name: str) -> set[str]:
    """The words of a column name such as `videoURLs` or `src_2`, in lower case and the singular."""
    words = re.split(r"[\W\d_]+", re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name))
    return {word.lower().removesuffix("s") for word in words}


def save_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV with a header: UTF-8, lines that end with a line feed, quotes only where they are needed,
    no cell that a spreadsheet would run (see `protect_cell`).

    A reader never sees half a file. A missing value is written as "". Raises RunFolderError when the disk or the name
    of the file does not allow it.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("w", encoding="utf-8", newline="") as file:
                # The csv module quotes only what holds a character of its own line end, and a lone carriage return has
                # to be quoted too. It writes row by row.
                rows = csv.writer(_LineFeeds(file), lineterminator="\r\n")
                rows.writerow(map(_written, frame.columns))
                cells = frame.astype(object).where(frame.notna(), "")
                rows.writerows(map(_written, row) for row in cells.itertuples(index=False, name=None))
            scratch.replace(path)
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)


def load_table(path: Path) -> pd.DataFrame:
    """A table that `save_table` wrote, as text; it may have no rows. Raises ListError when it cannot be read."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", encoding_errors="replace")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise ListError(f"{path} cannot be read ({reason}): run 06_search_and_clean again to rewrite it") from error
    return rows.map(bare_cell).rename(columns=bare_cell)


def _written(cell: object) -> object:
    return protect_cell(cell) if isinstance(cell, str) else cell


class _LineFeeds:
    """A text file that ends with a line feed each row written with CR LF."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


def free_column_name(frame: pd.DataFrame, wanted: str) -> str:
    """`wanted`, or if the frame has such a column `wanted_2`, `wanted_3`, …"""
    return _free_name(wanted, set(frame.columns))


def decode_list(
    frame: pd.DataFrame, *, url_column: str, progress: Callable[[int], object] = lambda count: None
) -> pd.DataFrame:
    """A copy of the list with every URL repaired (see `urls.decode_url`).

    If that changed any, a new last column `original_url` holds what the list said. `progress` is told of rows done.
    """

    def decode(url: str) -> str:
        progress(1)
        return decode_url(url)

    decoded = frame.copy()
    decoded[url_column] = pd.Series(map(decode, frame[url_column]), index=frame.index, dtype="str")
    if not decoded[url_column].equals(frame[url_column]):
        decoded[free_column_name(frame, "original_url")] = frame[url_column]
    return decoded


def find_changed_rows(before: pd.DataFrame, after: pd.DataFrame, *, url_column: str) -> pd.DataFrame:
    """The rows whose URL differs between two versions of a list: row (from 1), before, after."""
    changed = before[url_column].ne(after[url_column])
    return pd.DataFrame(
        {
            "row": before.index[changed] + 1,
            "before": before.loc[changed, url_column].to_numpy(),
            "after": after.loc[changed, url_column].to_numpy(),
        }
    )


def split_text_copies(
    frame: pd.DataFrame,
    *,
    url_column: str,
    ignore_path_case: bool = False,
    drop_query_parameters: Collection[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose URL stands nowhere above them, and a report with a row for each of the others.

    The report has the columns `REPORT_COLUMNS` (`row` and `first_row` count the rows of the list from 1, int64) and
    then the list's other columns. See `urls.find_text_copies` for what is a copy. `progress`
    is told of rows done.
    """
    urls = frame[url_column].tolist()
    copies = find_text_copies(
        urls, ignore_path_case=ignore_path_case, drop_query_parameters=drop_query_parameters, progress=progress
    )
    rows = [copy.row for copy in copies]
    columns = {
        "url": pd.Series([urls[copy.row] for copy in copies], dtype="str"),
        "duplicate_of": pd.Series([urls[copy.first_row] for copy in copies], dtype="str"),
        "rule": pd.Series([copy.rule for copy in copies], dtype="str"),
        "row": pd.Series([copy.row + 1 for copy in copies], dtype="int64"),
        "first_row": pd.Series([copy.first_row + 1 for copy in copies], dtype="int64"),
    }
    report = pd.DataFrame({name: columns[name] for name in REPORT_COLUMNS})
    copied = frame.iloc[rows].reset_index(drop=True)
    for name in copied.columns:
        if name != url_column:
            report[free_column_name(report, name)] = copied[name]
    is_first = pd.Series(True, index=range(len(frame)))
    is_first.iloc[rows] = False
    return frame[is_first.to_numpy()].reset_index(drop=True), report


MOST_SHOWN_CHARACTERS = 200
"""Of one cell in a notebook."""


class ShownTable(pd.DataFrame):
    """A table that a notebook shows so that a keyboard can scroll it, and that is named for those who do not see it.
    Cells begin at the left, as URLs are read, where notebooks would set them to the right, and are cut off late, for
    the names of files stand at the end of URLs."""

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", MOST_SHOWN_CHARACTERS):
            table = super()._repr_html_()  # type: ignore[misc]  # the stubs of pandas lack it
        if table is None:
            return None
        for cell in ("th", "td"):
            table = table.replace(f"<{cell}>", f'<{cell} style="text-align: left">')
        rows = f"{len(self):,} {'row' if len(self) == 1 else 'rows'}"
        name = escape(f"Table of {', '.join(map(str, self.columns))}: {rows}")
        frame = f'class="scroll" role="region" aria-label="{name}" tabindex="0" style="overflow-x: auto"'
        return f"<div {frame}>{table}</div>"


def shown_table(frame: pd.DataFrame) -> ShownTable:
    """A table as a notebook may show it: no control characters, no credentials of URLs (see `display.show_text`)."""
    return ShownTable(frame.map(_shown).rename(columns=_shown))


def _shown(cell: object) -> object:
    return show_text(cell) if isinstance(cell, str) else cell


def describe_record(record: object) -> ShownTable:
    """A frozen record as a table of one row a field, records inside it unfolded: `recipe.encoder`."""
    rows = list(_fields_of(record, prefix=""))
    return ShownTable({"value": [value for _, value in rows]}, index=[name for name, _ in rows], dtype=object)


def _fields_of(record: object, *, prefix: str) -> Iterator[tuple[str, str]]:
    for field in fields(cast(Any, record)):
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from _fields_of(value, prefix=f"{prefix}{field.name}.")
        elif value not in ("", None):
            yield f"{prefix}{field.name}", str(value)
