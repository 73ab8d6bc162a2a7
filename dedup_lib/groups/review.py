"""Which pairs a person should look at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.records import Group


def find_doubtful(compared: ComparedPairs, *, rules: MatchThresholds, groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Pairs of rows for a person to look at: first pairs whose criteria contradict each other, then excerpts that were
    not removed, each with the most uncertain first. Pairs within a group are left out."""
    group_of = _find_groups(groups)
    removed = {copy for group in groups for copy in group.copies}
    doubtful = []
    for rows, evidence in compared.evidence.items():
        verdict, _ = evidence.judge(rules)
        if verdict not in (Verdict.REVIEW, Verdict.EXCERPT) or len(group_of(rows)) == 1:
            continue
        if verdict == Verdict.EXCERPT and rows[evidence.excerpt == "second"] in removed:
            continue
        doubtful.append((verdict != Verdict.REVIEW, abs(evidence.score_under(rules.versions) - rules.min_score), rows))
    return [rows for *_, rows in sorted(doubtful)]


def ask_once(
    pairs: Sequence[tuple[int, int]], *, groups: Sequence[Group], decided: Collection[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Of these pairs of rows, the first one between each two groups: its answer is that of all pairs between them. Two
    groups are left out if a person has decided about a pair between them."""
    group_of = _find_groups(groups)
    asked = {group_of(rows) for rows in decided}
    once = []
    for rows in pairs:
        if (both := group_of(rows)) not in asked:
            asked.add(both)
            once.append(rows)
    return once


def _find_groups(groups: Sequence[Group]) -> Callable[[tuple[int, int]], frozenset[int]]:
    """Returns a function that gives the groups of two rows. A row without a group is its own group."""
    number_of = {row: group.number for group in groups for row in (group.kept, *group.copies)}
    # Numbers of groups begin at 1.
    return lambda rows: frozenset(number_of.get(row, -row) for row in rows)
