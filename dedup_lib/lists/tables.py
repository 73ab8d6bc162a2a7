"""Lists as tables of text: load a CSV file, find its URL column, save it, split off repeated URLs.

A table is a DataFrame of text (dtype `str`; a missing cell is ""), in the order of the file, with rows numbered from 0.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dedup_lib.errors import ListError
from dedup_lib.lists.cells import bare_cell, is_url_name, is_video_path, protect_cell
from dedup_lib.lists.dialects import (
    BYTE_ORDER_MARK,
    DELIMITERS,
    PLAIN,
    Dialect,
    SplitText,
    read_text,
    split_text,
    unlimited_fields,
)
from dedup_lib.lists.markup import split_urls
from dedup_lib.lists.urls import decode_url, find_text_copies, has_scheme, is_web_url, url_for_request
from dedup_lib.run.files import write_file_atomically

REPORT_COLUMNS = ("url", "duplicate_of", "rule", "row", "first_row", "read_by")
"""First columns of the report on text copies; the list's other columns follow."""

# A cheap count of these finds the cells that may hold several URLs.
_SCHEME_MARK = re.compile(r"https?(?:%3A|:)", re.IGNORECASE)
_HOST_WITHOUT_SCHEME = re.compile(r"www\.|[\w-]+(\.[\w-]+)+(:\d+)?/", re.IGNORECASE)
_ORIGINAL = re.compile(r"original_url(_\d+)?")
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# The delimiter behind the first name of a header that `_header_line` wrote.
_NAMED_DELIMITER = re.compile(r'(?:"(?:[^"]|"")*+"|[^",;\t|\r\n]*+)([,;\t|])')

MAX_NAMED = 5
"""Most rows that a message names."""


@dataclass(frozen=True, kw_only=True)
class ReadList:
    """A list as it was read."""

    table: pd.DataFrame
    dialect: Dialect
    lines_above: int
    """Number of lines above its header or first row that are no rows: titles, a line `sep=;`, empty lines."""

    def __str__(self) -> str:
        left_out = f"; left out at the top: {self.lines_above:,} that hold no rows" if self.lines_above else ""
        return f"{self.dialect}{left_out}"


def read_list(path: Path, *, is_ours: bool = False) -> ReadList:
    """Reads the CSV at `path` as a table of text, with its dialect.

    Reads UTF-8 and UTF-16, gzip, any line end, and everything that `dialects.split_text` knows. Columns without a name
    are called `column_1`, …; without a header, the column with the URLs is called `url`. Repeated column names get
    `_2`, …. Cells are read by `cells.bare_cell`. With `is_ours`, `save_table` wrote the file: it has a header, and may
    have no rows.

    Raises ListError, with the remedy, for a file that cannot be read without guessing or losing a row.
    """
    split = _split_file(path, is_ours=is_ours)
    frame = pd.DataFrame(split.rows, columns=_column_names(split.header or [""] * len(split.rows[0])), dtype="str")
    links = [] if split.header else _link_columns(frame)
    return ReadList(
        table=frame.rename(columns={links[0]: "url"}) if len(links) == 1 else frame,
        dialect=split.dialect,
        lines_above=split.lines_above,
    )


def load_list(path: Path, *, is_ours: bool = False) -> pd.DataFrame:
    """The table of `read_list`."""
    return read_list(path, is_ours=is_ours).table


def load_table(path: Path, *, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Reads a table that `save_table` wrote, as text; it may have no rows. Raises ListError when it cannot be read, and
    when it lacks one of these columns, because a person edited it."""
    try:
        split = _split_file(path, is_ours=True)
    except ListError as error:
        cause, _, _ = str(error).removeprefix(f"{path} ").partition(":")
        raise ListError(f"{path} cannot be read ({cause}): run 06_search_and_clean again to rewrite it") from error
    if missing := [name for name in columns if name not in (split.header or ())]:
        raise ListError(f"{path} has no column {missing[0]!r}: run 06_search_and_clean again to rewrite it")
    return pd.DataFrame(split.rows, columns=split.header, dtype="str")


def _split_file(path: Path, *, is_ours: bool = False) -> SplitText:
    try:
        text, dialect = read_text(path)
        with unlimited_fields():
            split = _split_saved(text, dialect) if is_ours else None
            return split or split_text(text, dialect, is_ours=is_ours)
    except ListError as error:
        raise ListError(f"{path} {error}") from error.__cause__


def _split_saved(text: str, dialect: Dialect) -> SplitText | None:
    """Splits what `save_table` wrote, without a guess. Returns None for a table that a person edited: it begins with a
    line such as `sep=;`, or rows differ in length."""
    if text[:4].lower() == "sep=":
        return None
    named = _NAMED_DELIMITER.match(text)
    # A table holds no NUL, so this never splits a line.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=named[1] if named else "\0", strict=True)
    try:
        records = [list(map(bare_cell, record)) for record in reader]
    except csv.Error:
        return None
    if len(set(map(len, records))) != 1:
        return None
    if named:
        dialect = replace(dialect, delimiter=named[1])
    return SplitText(dialect=dialect, header=records[0], rows=records[1:], lines_above=0)


def _column_names(header: Sequence[str]) -> list[str]:
    """The names in a header, all filled in and unique."""
    names: list[str] = []
    for position, given in enumerate(header, start=1):
        is_free = given.strip() and given not in names
        wanted = given if given.strip() else f"column_{position}"
        # A new name must not be one that the header gives to another column.
        names.append(given if is_free else _free_name(wanted, {*names, *header}))
    return names


def _free_name(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def _link_columns(frame: pd.DataFrame) -> list[str]:
    """The columns in which at least half of the filled cells are web URLs; if none, the same with local videos."""
    return _columns_of(frame, lambda cell: is_web_url(decode_url(cell))) or _columns_of(frame, is_video_path)


def _columns_of(frame: pd.DataFrame, is_wanted: Callable[[str], bool]) -> list[str]:
    """The columns in which at least half of the filled cells are wanted."""
    found = []
    for name in frame.columns:
        cells = [cell for cell in frame[name] if cell.strip()]
        if cells and 2 * sum(map(is_wanted, cells)) >= len(cells):
            found.append(name)
    return found


def _is_url_of_video(cell: str) -> bool:
    """Whether a cell is a web URL that ends like the name of a video. An animation may be the still of one."""
    url = decode_url(cell)
    return is_web_url(url) and is_video_path(url) and not url.lower().endswith(".gif")


def find_url_column(frame: pd.DataFrame, *, url_column: str = "") -> str:
    """Finds the name of the column that holds the videos' URLs.

    That is `url_column` if given (in any case, when only one column fits); else the column called url; else the only
    column with url, link, uri, href or src as a word of its name, unless only other columns have URLs that end like
    videos; else the only column with URLs (or paths of videos) in at least half of its filled cells.

    Raises ListError when no column or several columns fit, when a cell holds several URLs, and when no cell holds a URL
    that can be fetched or the path of an existing file. A list without rows has none to refuse.
    """
    found = _choose_url_column(frame, url_column)
    _refuse_several_urls(frame, found)
    if len(frame):
        _require_url(frame, found)
    return found


def _choose_url_column(frame: pd.DataFrame, url_column: str) -> str:
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
    # A clean list of this project, read again, has this column with the URLs before their repair.
    named = [name for name in names if is_url_name(name) and not _ORIGINAL.fullmatch(name)]
    candidates = exact or named
    if len(named) == 1 and not exact:
        # The only link of a list may lead to a page or to a still, beside a column with the videos.
        of_videos = _columns_of(frame, _is_url_of_video)
        candidates = named if named[0] in of_videos else [*named, *of_videos]
    elif not exact:
        candidates = _link_columns(frame) or named
        candidates = [name for name in candidates if not _ORIGINAL.fullmatch(name)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        several = ", ".join(map(repr, candidates))
        raise ListError(f"several columns could hold the URLs ({several}): set url_column to the right one")
    example = f"; the first row is {_quote(' | '.join(frame.iloc[0]))}" if len(frame) and names else ""
    raise ListError(
        f"no column looks like URLs, neither by its name nor by its content{example}: set url_column to one of "
        f"{listed}, or give a list with a video URL in every row"
    )


def _refuse_several_urls(frame: pd.DataFrame, column: str) -> None:
    several = [
        (row, urls)
        for row, cell in enumerate(frame[column], start=1)
        if len(_SCHEME_MARK.findall(cell)) > 1 and len(urls := split_urls(decode_url(cell))) > 1
    ]
    if several:
        row, urls = several[0]
        more = ", ".join(f"{row:,}" for row, _ in several[1:MAX_NAMED])
        hidden = len(several) - MAX_NAMED
        more = (f"; so do the rows {more}" if more else "") + (f" and {hidden:,} more" if hidden > 0 else "")
        raise ListError(
            f"row {row:,} of column {column!r} holds {len(urls)} URLs ({_quote(' and '.join(urls[:2]))}){more}: give "
            "each URL a row of its own. Where it is one URL, write the comma, semicolon or blank in it as %2C, %3B, %20"
        )


def _require_url(frame: pd.DataFrame, column: str) -> None:
    if any(map(_is_usable, frame[column])):
        return
    filled = [(row, cell) for row, cell in enumerate(frame[column], start=1) if cell.strip()]
    others = [name for name in _link_columns(frame) if name != column]
    if others:
        remedy = f"set url_column to the right column, such as {others[0]!r}"
    elif filled and _HOST_WITHOUT_SCHEME.match(decode_url(filled[0][1])):
        remedy = "write https:// in front of every URL"
    elif filled and _OTHER_SCHEME.match(decode_url(filled[0][1])) and not is_web_url(decode_url(filled[0][1])):
        remedy = "only http and https can be fetched; give URLs of these, or the paths of files that are there"
    else:
        listed = ", ".join(repr(str(name)) for name in frame.columns)
        remedy = f"give a list with a video URL such as https://… in every row, or set url_column to one of {listed}"
    found = f"row {filled[0][0]:,} holds {_quote(filled[0][1])}" if filled else "all its cells are empty"
    raise ListError(f"no cell of column {column!r} holds a URL that can be fetched; {found}: {remedy}")


def _is_usable(cell: str) -> bool:
    """Whether a cell holds a URL that can be fetched, or the path of an existing file."""
    url = decode_url(cell)
    try:
        if not is_web_url(url):
            return Path(url).is_file()
        return bool(url_for_request(url if has_scheme(url) else f"https:{url}"))
    except (OSError, ValueError):
        return False


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def save_table(frame: pd.DataFrame, path: Path, *, dialect: Dialect = PLAIN) -> None:
    """Writes a table as CSV with a header in the given dialect. Quotes only the cells that need it, and protects cells
    that a spreadsheet would run (see `cells.protect_cell`).

    A reader never sees half a file. A missing value is written as "". Raises RunFolderError when the disk or the name
    of the file does not allow it.
    """
    in_rows = re.compile(f'["\r\n{dialect.delimiter}]')

    def write(scratch: Path) -> None:
        with scratch.open("w", encoding=dialect.encoding, newline="") as file:
            file.write(BYTE_ORDER_MARK if dialect.has_mark else "")
            file.write(_header_line(frame.columns, in_rows, dialect))
            cells = frame.astype(object).where(frame.notna(), "")
            file.writelines(_line(row, in_rows, dialect) for row in cells.itertuples(index=False, name=None))

    write_file_atomically(path, write)


def _header_line(names: Iterable[object], quoted: re.Pattern[str], dialect: Dialect) -> str:
    """The header line. When a name holds another delimiter, the first name is quoted: then only the right delimiter can
    follow it."""
    line = _line(names, quoted, dialect)
    if line.startswith('"') or not set(line) & (set(DELIMITERS) - {dialect.delimiter}):
        return line
    first, delimiter, others = line.removesuffix(dialect.line_end).partition(dialect.delimiter)
    return f'"{first}"{delimiter}{others}{dialect.line_end}'


def _line(cells: Iterable[object], quoted: re.Pattern[str], dialect: Dialect) -> str:
    texts = [protect_cell(cell) if isinstance(cell, str) else str(cell) for cell in cells]
    written = ['"' + text.replace('"', '""') + '"' if quoted.search(text) else text for text in texts]
    # An empty line would be no row.
    return (dialect.delimiter.join(written) or '""') + dialect.line_end


def count_guarded(frame: pd.DataFrame) -> int:
    """Number of cells that get an apostrophe when the table is saved."""
    columns = (frame[name] for name in frame.columns)
    return sum(isinstance(cell, str) and protect_cell(cell) != cell for column in columns for cell in column)


def free_column_name(frame: pd.DataFrame, wanted: str) -> str:
    """`wanted`; if the frame already has that column, `wanted_2`, `wanted_3`, …"""
    return _free_name(wanted, set(frame.columns))


def decode_list(
    frame: pd.DataFrame, *, url_column: str, progress: Callable[[int], object] = lambda count: None
) -> pd.DataFrame:
    """Returns a copy of the list with every URL repaired (see `urls.decode_url`).

    If any URL changed, a new last column `original_url` holds the URL before its repair, and "" in unchanged rows.
    Calls `progress` with the number of rows newly done.
    """

    def decode(url: str) -> str:
        progress(1)
        return decode_url(url)

    decoded = frame.copy()
    decoded[url_column] = pd.Series(map(decode, frame[url_column]), index=frame.index, dtype="str")
    changed = decoded[url_column].ne(frame[url_column])
    if changed.any():
        decoded[free_column_name(frame, "original_url")] = frame[url_column].where(changed, "")
    return decoded


def find_changed_rows(before: pd.DataFrame, after: pd.DataFrame, *, url_column: str) -> pd.DataFrame:
    """The rows whose URL differs between two versions of a list; columns row (from 1), before, after."""
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
    before: Mapping[str, str] | None = None,
    ignore_path_case: bool = False,
    drop_query_parameters: Collection[str] = (),
    progress: Callable[[int], object] = lambda count: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows whose URL occurs in no earlier row, and a report with one row for each other row.

    `before` are URLs that precede the list, each with the name of the run that read it. A row that equals one of them
    has this name in `read_by`, and no `first_row`.

    The report has the columns `REPORT_COLUMNS` (`row` and `first_row` count the rows of the list from 1), then
    the list's other columns. `urls.find_text_copies` defines a copy. Calls `progress` with the number of rows newly
    done.
    """
    urls = frame[url_column].tolist()
    earlier = list(before or {})
    copies = find_text_copies(
        urls,
        before=earlier,
        ignore_path_case=ignore_path_case,
        drop_query_parameters=drop_query_parameters,
        progress=progress,
    )
    firsts = [(urls if copy.first_row >= 0 else earlier)[copy.first_row] for copy in copies]
    rows = [copy.row for copy in copies]
    columns = {
        "url": pd.Series([urls[copy.row] for copy in copies], dtype="str"),
        "duplicate_of": pd.Series(firsts, dtype="str"),
        "rule": pd.Series([copy.rule for copy in copies], dtype="str"),
        "row": pd.Series([copy.row + 1 for copy in copies], dtype="int64"),
        "first_row": pd.Series([copy.first_row + 1 if copy.first_row >= 0 else None for copy in copies], dtype="Int64"),
        "read_by": pd.Series(
            [(before or {})[first] if copy.first_row < 0 else "" for first, copy in zip(firsts, copies, strict=True)],
            dtype="str",
        ),
    }
    copied = frame.iloc[rows].reset_index(drop=True).drop(columns=[url_column])
    taken = {*REPORT_COLUMNS, *copied.columns}
    renamed = {name: _free_name(name, taken) for name in copied.columns if name in REPORT_COLUMNS}
    report = pd.concat(
        [pd.DataFrame({name: columns[name] for name in REPORT_COLUMNS}), copied.rename(columns=renamed)], axis=1
    )
    is_first = pd.Series(True, index=range(len(frame)))
    is_first.iloc[rows] = False
    return frame[is_first.to_numpy()].reset_index(drop=True), report
