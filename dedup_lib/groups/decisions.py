"""What people decided about pairs, kept beside the list so that no run asks twice.

Each decision adds a line to `decisions.csv`, and the last line about a pair is valid. The file is plain CSV: a person
may read it, correct it, and copy it to another list. Its cells are written and read like those of every table
(`cells.protect_cell`).
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from dedup_lib.errors import ListError
from dedup_lib.groups.grouping import components, neighbours
from dedup_lib.lists.cells import bare_cell, protect_cell
from dedup_lib.lists.urls import decode_url, normalise_url
from dedup_lib.records import utc_now

if sys.platform != "win32":
    import fcntl

DECISIONS_NAME = "decisions.csv"
COLUMNS = ("first_url", "second_url", "decision", "decided_at")

_NO_LETTERS = re.compile(r"^\w+:|:(?:80|443)?(?=[/?]|$)|[\W_]+")
"""What two spellings of a URL need not have in common: the scheme, a default port, and all but letters and digits."""


class Decision(StrEnum):
    """What a person said about two videos."""

    SAME = "same"
    DIFFERENT = "different"
    VERSION = "version"
    """The same film, with another price, language or product; the setting `versions` says what becomes of both."""
    KEEP_FIRST = "keep first"
    """The same; the first of the two is kept."""
    KEEP_SECOND = "keep second"

    @property
    def is_same(self) -> bool:
        """Whether the two show the same video, whichever is kept."""
        return self in (Decision.SAME, Decision.KEEP_FIRST, Decision.KEEP_SECOND)

    @property
    def reversed(self) -> Decision:
        """The decision about the same two videos in the other order."""
        other = {Decision.KEEP_FIRST: Decision.KEEP_SECOND, Decision.KEEP_SECOND: Decision.KEEP_FIRST}
        return other.get(self, self)


Memory = Mapping[frozenset[str], Decision]
"""The valid decision about each pair of URLs. The first URL of a pair is the one that sorts first."""

RowPairs = set[tuple[int, int]]
"""Pairs of rows of a list, the first before the second."""


@dataclass(frozen=True, kw_only=True)
class RowDecisions:
    """What people decided about pairs of rows of a list, and what follows from it."""

    same: RowPairs
    different: RowPairs
    kept: RowPairs
    """Pairs of which the first row is to be kept rather than the second; here the first need not come first."""


def decisions_path(list_path: Path) -> Path:
    """Path of the decisions about a list: in the folder of the list."""
    return list_path.with_name(DECISIONS_NAME)


def load_decisions(path: Path) -> dict[frozenset[str], Decision]:
    """The valid decision about each pair in a file; empty if there is no such file.

    A last line that was cut off while it was written does not count. Raises ListError for a file that cannot be read or
    understood.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ListError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error
    return _parse(_without_torn_line(data), path)


class DecisionFile:
    """The decisions in the file at `path`. Others may write to it at the same time.

    `decisions` are those that were valid when this object last read or changed the file. Raises ListError, with the
    remedy, for a file that cannot be understood or written. It then changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decisions = load_decisions(path)
        self._made: list[tuple[frozenset[str], bytes]] = []

    def decide(self, first_url: str, second_url: str, decision: Decision) -> None:
        """Add a decision. It is on the disk when this returns."""
        with _locked(self.path, "a+b") as file:
            file.seek(0)
            data = file.read()
            whole = _without_torn_line(data)
            line = _line(first_url, second_url, decision, utc_now(), delimiter=_find_delimiter(whole))
            gap = b"" if whole.endswith(b"\n") else b"\n" if whole else _line(*COLUMNS)
            # Parse before writing: no decision may make the file unreadable.
            decisions = _parse(whole + gap + line, self.path)
            if whole != data:
                file.truncate(len(whole))
            try:
                if file.write(gap + line) < len(gap + line):
                    raise OSError("the disk is full")
                os.fsync(file)
            except OSError:
                file.truncate(len(whole))
                raise
        self.decisions = decisions
        self._made.append((frozenset((first_url, second_url)), line))

    def undo(self) -> frozenset[str] | None:
        """Undo the last decision made here. An earlier decision about its pair is valid again.

        Returns the pair, or None when there is nothing to undo.
        """
        if not self._made:
            return None
        pair, line = self._made[-1]
        with _locked(self.path, "r+b") as file:
            data = file.read()
            start = data.rfind(b"\n" + line) + 1
            if not start:
                raise ListError(
                    f"{self.path}: the decision about {' and '.join(sorted(pair))} was changed by someone else and "
                    "cannot be undone here: change it in the file"
                )
            end = start + len(line)
            # Later lines, written by others, must keep their places. So blank it: empty lines are ignored.
            blank = b"\n" * len(line) if end < len(data) else b""
            decisions = _parse(_without_torn_line(data[:start] + blank + data[end:]), self.path)
            if blank:
                file.seek(start)
                file.write(blank)
            else:
                file.truncate(start)
            os.fsync(file)
        self.decisions = decisions
        self._made.pop()
        return pair


class TransitiveDecisions:
    """What a memory says about any two URLs: the decisions, and what follows from them.

    Two videos that are each the same as a third one are the same. A video that differs from one of them differs from
    the other, too. `units` are the sets of URLs that are the same, each under its first URL. Versions of one film
    count as different, unless `are_versions_same`. `same` and `different` are the pairs that were decided, each sorted.
    """

    def __init__(self, memory: Memory, *, are_versions_same: bool = False) -> None:
        self._memory = memory
        self.same, self.different = _split_pairs(memory, are_versions_same=are_versions_same)
        self.units = {min(urls): urls for urls in components(neighbours(self.same))}
        self._unit = {url: unit for unit, urls in self.units.items() for url in urls}
        self.apart = {(self.unit(a), self.unit(b)) for a, b in self.different}

    def unit(self, url: str) -> str:
        """The first of the URLs that are the same as this one; the URL itself if there are none."""
        return self._unit.get(url, url)

    def about(self, first_url: str, second_url: str) -> Decision | None:
        """The decision about two URLs, or None if nothing is known."""
        if decided := self._memory.get(frozenset((first_url, second_url))):
            return decided
        first, second = self.unit(first_url), self.unit(second_url)
        if first == second:
            return Decision.SAME
        return Decision.DIFFERENT if {(first, second), (second, first)} & self.apart else None


def spell_as(memory: Memory, urls: Iterable[str]) -> Memory:
    """The decisions, each URL spelled as among `urls` if it counts as the same URL there (see `normalise_url`).

    A decision in the spelling of `urls` comes before one that was spelled otherwise.
    """
    known = set(urls)
    others = {url for pair in memory for url in pair} - known
    if not others:
        return memory
    bare = {url: decode_url(url) for url in others}
    tails = set(map(_tail, bare.values()))
    # Making a URL canonical takes long, and the list may have millions.
    near = sorted((url for url in known if _tail(url) in tails), reverse=True)
    spelled = {normalise_url(url).key: url for url in near}
    as_known = {url: spelled.get(normalise_url(bare[url]).key, url) for url in others}
    found: dict[frozenset[str], Decision] = {}
    for pair, said in memory.items():
        first, second = (as_known.get(url, url) for url in (min(pair), max(pair)))
        renamed = frozenset((first, second))
        if first != second and (renamed == pair or renamed not in memory):
            found[renamed] = said if first < second else said.reversed
    return found


def _tail(url: str) -> str:
    """The last letters and digits of a URL, which spellings of it have in common."""
    return _NO_LETTERS.sub("", unquote(url.partition("#")[0]))[-6:].lower()


def list_pairs(memory: Memory, decision: Decision) -> list[tuple[str, str]]:
    """The pairs with this decision, sorted."""
    return sorted((min(pair), max(pair)) for pair, said in memory.items() if said is decision)


def _split_pairs(memory: Memory, *, are_versions_same: bool) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs that count as the same, and those that count as different, each sorted."""
    sides: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for pair, said in memory.items():
        is_same = said.is_same or (said is Decision.VERSION and are_versions_same)
        sides[is_same].append((min(pair), max(pair)))
    return sorted(sides[True]), sorted(sides[False])


def describe_decisions(counts: Mapping[str, Any]) -> str:
    """Number of pairs that people decided, by decision, in words; empty if there are none."""
    said = {decision: int(counts.get(decision, 0)) for decision in Decision}
    total = sum(said.values())
    if not total:
        return ""
    numbers = {
        "same": sum(count for decision, count in said.items() if decision.is_same),
        "different": said[Decision.DIFFERENT],
        "versions": said[Decision.VERSION],
    }
    words = ", ".join(f"{count:,} {name}" for name, count in numbers.items() if count or name != "versions")
    return f"{total:,} {'pair' if total == 1 else 'pairs'} decided by people ({words})"


def rows_of_decisions(
    memory: Memory, urls: Sequence[str | None], *, are_versions_same: bool = False, place: object = DECISIONS_NAME
) -> RowDecisions:
    """The decisions about rows of a list, and what follows from them.

    A URL stands for all its rows, and may link others even if it is not in the list. None is a row that takes no part,
    such as a video that was not read. Raises ListError, naming the URLs and `place`, the file of the decisions, if
    decisions about videos of the list contradict each other.
    """
    conclusions = TransitiveDecisions(memory, are_versions_same=are_versions_same)
    rows: dict[str, list[int]] = {}
    for row, url in enumerate(urls):
        if url is not None:
            rows.setdefault(conclusions.unit(url), []).append(row)
    for first_url, second_url in conclusions.different:
        unit = conclusions.unit(first_url)
        if unit == conclusions.unit(second_url) and len(rows.get(unit, ())) > 1:
            links = ", ".join(_find_links(conclusions.same, first_url, second_url))
            is_version = memory[frozenset((first_url, second_url))] is Decision.VERSION
            counted = " (with versions: remove, versions count as the same)" if are_versions_same else ""
            raise ListError(
                f"{place} contradicts itself: it calls {first_url} and {second_url} "
                f"{'versions' if is_version else 'different'}, but also the same by way of {links}{counted}. Change "
                "one of these decisions"
            )
    same = {pair for unit in conclusions.units for pair in combinations(rows.get(unit, ()), 2)}
    different = {
        (min(pair), max(pair))
        for first, second in conclusions.apart
        if first != second
        for pair in product(rows.get(first, ()), rows.get(second, ()))
    }
    return RowDecisions(same=same, different=different, kept=_rows_to_keep(memory, urls))


def _rows_to_keep(memory: Memory, urls: Sequence[str | None]) -> RowPairs:
    """Each row that a person wants to keep, with each row that it is kept in place of."""
    rows: dict[str, list[int]] = {}
    for row, url in enumerate(urls):
        if url is not None:
            rows.setdefault(url, []).append(row)
    chosen = list_pairs(memory, Decision.KEEP_FIRST)
    chosen += [(second, first) for first, second in list_pairs(memory, Decision.KEEP_SECOND)]
    return {pair for kept, other in chosen for pair in product(rows.get(kept, ()), rows.get(other, ()))}


def _find_links(same_urls: Sequence[tuple[str, str]], first_url: str, second_url: str) -> list[str]:
    """The shortest chain of URLs by which two URLs are the same, without the two."""
    graph = neighbours(same_urls)
    links: dict[str, list[str]] = {first_url: []}
    waiting = deque(links)
    while second_url not in links:
        url = waiting.popleft()
        for new in sorted(graph[url] - links.keys()):
            links[new] = [*links[url], url]
            waiting.append(new)
    return links[second_url][1:]


def _find_delimiter(data: bytes) -> str:
    """What divides the cells of a file: in many languages Excel reads and writes semicolons."""
    header = re.match(rb'(?:\xef\xbb\xbf)?\s*"?first_url"?([;\t])', data)
    return header[1].decode() if header else ","


def _line(*cells: str, delimiter: str = ",") -> bytes:
    # The csv module quotes a carriage return only if its own line end contains one.
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(map(protect_cell, cells))
    return (text.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "surrogatepass")


def _without_torn_line(data: bytes) -> bytes:
    """The file without a last line that a crash cut off before its decision was complete.

    Only the beginning of a line of this program counts as cut off. Any other last line is a person's, and is read.
    """
    before, end, last = data.rpartition(b"\n")
    text = last.decode("utf-8", "replace").removeprefix("\ufeff")
    if not end:
        return b"" if ",".join(COLUMNS).startswith(text) else data
    cells = next(csv.reader([text], delimiter=_find_delimiter(before)), [])
    is_torn = len(cells) < 3 or (len(cells) == 3 and any(d != cells[2] and d.startswith(cells[2]) for d in Decision))
    return before + end if is_torn else data


def _parse(data: bytes, path: Path) -> dict[frozenset[str], Decision]:
    """The valid decision about each pair, from its last line."""
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ListError(
            f"{path} is not valid UTF-8 (byte 0x{data[error.start]:02X} on line {line}): save the file as UTF-8 (in "
            "Excel: CSV UTF-8)"
        ) from error
    lines = io.StringIO(text.removeprefix("\ufeff"), newline="")
    reader = csv.reader(lines, delimiter=_find_delimiter(data), strict=True)
    decisions: dict[frozenset[str], Decision] = {}
    has_header = False
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                if has_header:
                    place = f"{path}: line {line}"
                    pair, decision = _parse_line(cells, place)
                    decisions[pair] = decision
                    # People leave blanks around a URL; a list that was not cleaned may have them too.
                    bare = [cell.strip() for cell in cells]
                    if bare != cells and bare[0] != bare[1]:
                        pair, decision = _parse_line(bare, place)
                        decisions[pair] = decision
                elif tuple(map(str.strip, cells)) != COLUMNS:
                    raise ListError(
                        f"{path}: line {line} is {','.join(cells)!r}, and must be the header {','.join(COLUMNS)}"
                    )
                has_header = True
            line = reader.line_num + 1
    except csv.Error as error:
        raise ListError(
            f"{path}: the row that starts on line {line} cannot be split into cells ({error}). Close the quote, and "
            'double every quote inside a quoted cell ("")'
        ) from error
    return decisions


def _parse_line(cells: Sequence[str], place: str) -> tuple[frozenset[str], Decision]:
    if not 3 <= len(cells) <= len(COLUMNS):
        raise ListError(
            f"{place} has {len(cells)} cells ({','.join(cells)!r}): write {','.join(COLUMNS)}, and put quotes around "
            "a URL that contains a comma"
        )
    first_url, second_url, decision = map(bare_cell, (*cells[:2], cells[2].strip()))
    if decision not in set(Decision):
        *others, last = Decision
        raise ListError(f"{place} has the decision {decision!r}: write {', '.join(others)} or {last}")
    if not first_url or not second_url or first_url == second_url:
        raise ListError(f"{place} names {first_url!r} and {second_url!r}: name two different URLs, or delete the line")
    said = Decision(decision)
    return frozenset((first_url, second_url)), said if first_url < second_url else said.reversed


@contextmanager
def _locked(path: Path, mode: Literal["a+b", "r+b"]) -> Iterator[FileIO]:
    """The file, locked against other writers of decisions until the block ends."""
    try:
        with path.open(mode, buffering=0) as file:
            if sys.platform != "win32":
                # Some network folders do not support locks. A line is still added in one piece there.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise ListError(
            f"{path} cannot be written ({error.strerror or error}): free space, or move the list to a folder that can "
            "be written to"
        ) from error
