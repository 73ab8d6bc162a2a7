"""What changed from one run over a list to another.

Only the URLs that both runs looked at are compared. Two videos are joined when one is listed as a copy of the other, or
both are listed as copies of the same video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice, product
from math import comb
from typing import Any

from dedup_lib.errors import SettingError
from dedup_lib.run.folder import Record, RunFolder
from dedup_lib.settings import ExtractSettings, SearchSettings

KEPT, DUPLICATE, KNOWN = "kept", "duplicate", "already known"

NOTEBOOKS = "notebooks"

MAX_PAIRS = 100_000
"""Most pairs of each kind that are listed; their count is always complete."""

Pairs = tuple[tuple[str, str], ...]
"""Pairs of URLs, the first before the second."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The result of a run over its list."""

    name: str
    rows: Mapping[str, int]
    """Number of rows in the list and in each output."""
    fates: Mapping[str, str]
    """For each URL: `kept`, `duplicate`, `already known` from an earlier run, or the status for which it was set
    aside."""
    kept_of: Mapping[str, str]
    """For each duplicate, the video that is kept in its place."""
    settings: Mapping[str, Any]
    """Settings by notebook and parameter, such as `03_extract: encoder`; and `notebooks`, the numbers of those that
    have run."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A thing with its value in the earlier run and in the later one; None when it has no value there."""

    what: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Pairs of videos that only one of the two runs joined."""

    count: int
    pairs: Pairs
    """At most `MAX_PAIRS` of them."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed from the run `before` to the run `after`."""

    before: str
    after: str
    in_both: int
    """Number of URLs that both runs looked at; `only_before` and `only_after` count those of one run only."""
    only_before: int
    only_after: int
    rows: tuple[Change, ...]
    """The rows of each output, changed or not."""
    settings: tuple[Change, ...]
    """Parameters that differ, each with its notebook and name, of the notebooks that both ran; and `notebooks`."""
    fates: tuple[Change, ...]
    """URLs with another output or status than before."""
    keepers: Pairs
    """For groups that both runs join: the video kept before, and the video kept after."""
    joined_before: Joined
    """Pairs joined before, but not after."""
    joined_after: Joined
    """Pairs joined after, but not before."""

    @property
    def is_empty(self) -> bool:
        """Whether both runs gave the same result for the same URLs."""
        changes = (self.only_before, self.only_after, self.fates, self.keepers)
        return not any((*changes, self.joined_before.count, self.joined_after.count))

    @property
    def headline(self) -> str:
        """What changed, in words."""
        if self.is_empty:
            return "Nothing changed"
        counts = (
            (self.joined_after.count, "newly joined pair", "newly joined pairs"),
            (self.joined_before.count, "pair no longer joined", "pairs no longer joined"),
            (len(self.keepers), "other video kept", "other videos kept"),
            (len(self.fates), "URL with another outcome", "URLs with another outcome"),
        )
        changed = [f"{count:,} {one if count == 1 else more}" for count, one, more in counts if count]
        return ", ".join(changed) or "Different lists, and the same outcome for the URLs they share"


def load_outcome(run: RunFolder) -> RunOutcome:
    """Reads the result of a finished run from its files.

    Raises RunFolderError when 06_search_and_clean has not finished, and ListError for an output that cannot be read.
    """
    # Imported here, because it imports pandas, which the help of the command line does not need.
    from dedup_lib.lists.tables import load_table

    record = run.require_record(SearchSettings.stage)
    records = run.read_records()
    url_column = records.get(ExtractSettings.stage, {}).get("url_column", "url")
    fates = dict.fromkeys(_load_known(run, record), KNOWN)
    for name in ("failed_urls", "invalid_urls"):
        table = load_table(run.recorded_path(record, name), columns=("url", "status"))
        fates |= dict(zip(table["url"], table["status"], strict=True))
    copies = load_table(run.recorded_path(record, "duplicates"), columns=("url", "duplicate_of"))
    kept_of = dict(zip(copies["url"], copies["duplicate_of"], strict=True))
    fates |= dict.fromkeys(kept_of, DUPLICATE)
    # Last, because a list may hold a kept URL twice.
    final = load_table(run.recorded_path(record, "FINAL_RESULT"), columns=(str(url_column),))
    fates |= dict.fromkeys(final[str(url_column)], KEPT)
    return RunOutcome(
        name=run.path.name,
        rows=record["counts"],
        fates=fates,
        kept_of={copy: keeper for copy, keeper in kept_of.items() if fates[copy] == DUPLICATE},
        settings={NOTEBOOKS: ", ".join(stage[:2] for stage in records)}
        | {
            f"{stage}: {name}": value
            for stage, found in records.items()
            for name, value in found["settings"].items()
            if name != "run_dir"
        },
    )


def _load_known(run: RunFolder, record: Record) -> list[str]:
    """The URLs that 02_dedupe_urls set aside because an earlier run has read them. Raises ListError as `load_outcome`
    does."""
    from dedup_lib.lists.tables import load_table

    # A run without 02_dedupe_urls has no such file, one of an earlier version no such column.
    if "text_duplicates" not in record["files"] or not (path := run.recorded_path(record, "text_duplicates")).exists():
        return []
    table = load_table(path)
    return list(table.loc[table["read_by"] != "", "url"]) if {"url", "read_by"} <= set(table) else []


def compare_runs(before: RunOutcome, after: RunOutcome) -> Comparison:
    """What changed from one run to the other. Raises SettingError when they have no URL in common."""
    both = before.fates.keys() & after.fates.keys()
    if not both and (before.fates or after.fates):
        raise SettingError(
            "RUN_B",
            after.name,
            f"it cleaned another list: none of its {len(after.fates):,} URLs is among the {len(before.fates):,} of "
            f"{before.name}. Compare runs that share URLs",
        )
    kept_before, kept_after = _kept_of(before, both), _kept_of(after, both)
    ran_before, ran_after = ({what.partition(":")[0] for what in run.settings} for run in (before, after))
    return Comparison(
        before=before.name,
        after=after.name,
        in_both=len(both),
        only_before=len(before.fates) - len(both),
        only_after=len(after.fates) - len(both),
        rows=tuple(_list_changes(before.rows, after.rows)),
        settings=tuple(
            change
            for change in _list_changes(before.settings, after.settings)
            if change.before != change.after and change.what.partition(":")[0] in ran_before & ran_after
        ),
        fates=tuple(
            Change(what=url, before=before.fates[url], after=after.fates[url])
            for url in sorted(both)
            if before.fates[url] != after.fates[url]
        ),
        keepers=tuple(sorted(_other_keepers(kept_before, kept_after))),
        joined_before=_find_joined(kept_before, kept_after),
        joined_after=_find_joined(kept_after, kept_before),
    )


def _list_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for what in dict.fromkeys((*before, *after)):
        yield Change(what=what, before=before.get(what), after=after.get(what))


def _kept_of(run: RunOutcome, urls: Collection[str]) -> dict[str, str]:
    """Maps each of these videos to the video kept in its place, which may be itself."""
    return {url: run.kept_of.get(url, url) for url in urls if run.fates[url] in (KEPT, DUPLICATE)}


def _other_keepers(before: Mapping[str, str], after: Mapping[str, str]) -> set[tuple[str, str]]:
    return {
        (old, new)
        for url in before.keys() & after.keys()
        if (old := before[url]) != (new := after[url]) and before.get(new) == old and after.get(old) == new
    }


def _find_joined(here: Mapping[str, str], there: Mapping[str, str]) -> Joined:
    """The pairs that `here` joins and `there` does not. Each of the two maps a video to the video kept in its place."""
    groups: dict[str, dict[str, list[str]]] = {}
    for url in sorted(here):
        # A video that the other run did not compare is joined with nothing.
        groups.setdefault(here[url], {}).setdefault(there.get(url, url), []).append(url)
    count = sum(
        comb(sum(map(len, parts.values())), 2) - sum(comb(len(part), 2) for part in parts.values())
        for parts in groups.values()
    )
    pairs = (
        (min(pair), max(pair))
        for kept in sorted(groups)
        for first, second in combinations(groups[kept].values(), 2)
        for pair in product(first, second)
    )
    return Joined(count=count, pairs=tuple(sorted(islice(pairs, MAX_PAIRS))))
