"""Which pairs a person should look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.records import Group


def find_doubtful(
    compared: ComparedPairs,
    *,
    rules: MatchThresholds,
    groups: Sequence[Group],
    decided: Collection[tuple[int, int]] = (),
) -> list[tuple[int, int]]:
    """Pairs of rows for a person to look at: first pairs whose criteria contradict each other, then excerpts that were
    not removed, each with the most uncertain first. Pairs within a group and `decided` pairs are left out."""
    group_of = {row: group.number for group in groups for row in (group.kept, *group.copies)}
    doubtful = []
    for rows, evidence in compared.evidence.items():
        verdict, _ = evidence.judge(rules)
        # A row without a group is its own group.
        first, second = (group_of.get(row, -row) for row in rows)
        if verdict not in (Verdict.REVIEW, Verdict.EXCERPT) or rows in decided or first == second:
            continue
        doubtful.append((verdict != Verdict.REVIEW, abs(evidence.score - rules.min_score), rows))
    return [rows for *_, rows in sorted(doubtful)]
