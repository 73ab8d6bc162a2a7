"""What every threshold of a fine sweep would decide, for the slider of the report.

The overview has no kernel. So everything that its slider shows is decided here, by the code that 06_search_and_clean
decides with.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup_lib.groups.columns import find_criterion
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.thresholds import Regrouping
from dedup_lib.match.evidence import Criterion, MatchThresholds
from dedup_lib.records import Group, video_key
from dedup_lib.sanitise import sanitise_line

NEAREST_BIN = 0.02
"""Width of a bin of both histograms, in units of the score."""

MAX_MEMBERS = 15_000
"""Maximum number of group members that are named, over all groups and thresholds: a page has to hold them. Counts are
always complete."""

Grouping = dict[int, frozenset[int]]
"""From kept rows to the rows of their copies."""


def describe_sweep(matches: Matches) -> dict[str, Any]:
    """What each threshold of the sweep would decide, for a JSON file.

    `points` and `changes` hold a number for each threshold: the rows kept and removed, and the groups that appear,
    vanish, or gain and lose copies compared with the decision at `threshold`. `parts` describes the connected
    components that some threshold separates, nearest to the decision first. Each component has its steps: the index of
    the first threshold at which a step holds, and its groups, each as the kept row and its copies with similarity and
    rule. `videos` has the key and the shown URL of these rows.
    """
    compared, urls, thresholds = matches.compared, matches.urls, matches.plan.sweep()
    num_videos, decided = len(matches.compared_rows), bisect.bisect_left(thresholds, matches.plan.threshold)
    regrouped, points = matches.regrouped, matches.sweep()
    moving = sorted(
        (one for one in regrouped if len(one.steps) > 1),
        key=lambda one: min(abs(start - decided) for start, _ in one.steps[1:]),
    )
    named, members = [], 0
    for one in moving:
        members += sum(group.size for _, groups in one.steps for group in groups)
        if members > MAX_MEMBERS:
            break
        named.append(one)
    rules = list(Criterion)

    def describe_group(group: Group, under: MatchThresholds) -> list[Any]:
        copies = [
            [
                copy,
                None if math.isnan(similarity) else similarity,
                rules.index(find_criterion(compared, kept=group.kept, copy=copy, similarity=similarity, rules=under)),
            ]
            for copy, similarity in zip(group.copies, group.similarities, strict=True)
        ]
        return [group.kept, copies]

    def describe_steps(one: Regrouping) -> Iterator[list[Any]]:
        for (start, groups), end in one.spans(len(thresholds)):
            # The groups are those of several thresholds. What the decision says of them is also in duplicates.csv.
            at = thresholds[min(max(start, decided), end - 1)]
            under = replace(matches.plan.rules, min_score=at)
            yield [start, [describe_group(group, under) for group in groups]]

    parts = [list(describe_steps(one)) for one in named]
    rows = sorted(
        {row for one in named for _, groups in one.steps for group in groups for row in (group.kept, *group.copies)}
    )
    return {
        "threshold": matches.plan.threshold,
        "thresholds": list(thresholds),
        "compared": num_videos,
        "points": {
            name: [getattr(point, name) for point in points]
            for name in ("kept", "duplicates", "groups", "largest_group")
        },
        "changes": _count_changes(moving, decided=decided, count=len(thresholds)),
        "nearest": _count_nearest(compared.nearest[: matches.new_rows], num_videos=num_videos),
        "rules": [str(rule) for rule in rules],
        "videos": {str(row): [video_key(urls[row]), sanitise_line(urls[row])] for row in rows},
        "parts": parts,
        "parts_left_out": len(moving) - len(named),
    }


def _grouping(groups: Sequence[Group]) -> Grouping:
    return {group.kept: frozenset(group.copies) for group in groups}


def _count_changes(moving: Sequence[Regrouping], *, decided: int, count: int) -> dict[str, list[int]]:
    changes = {name: [0] * count for name in ("appear", "vanish", "change")}
    for one in moving:
        before = _grouping(one.at(decided))
        for (start, groups), end in one.spans(count):
            after = _grouping(groups)
            changed = {
                "appear": after.keys() - before.keys(),
                "vanish": before.keys() - after.keys(),
                "change": {kept for kept in before.keys() & after.keys() if before[kept] != after[kept]},
            }
            for name, kept in changed.items():
                for index in range(start, end):
                    changes[name][index] += len(kept)
    return changes


def count_scores(by_verdict: Mapping[str, NDArray[np.floating[Any]]]) -> dict[str, Any]:
    """Histograms of the scores of all compared pairs, one per verdict: shared `edges`, and `counts` by verdict."""
    every = np.concatenate([*by_verdict.values(), np.zeros(1)]).astype(np.float64)
    low = min(0.0, math.floor(float(every.min()) / NEAREST_BIN) * NEAREST_BIN)
    edges = np.round(np.arange(low, 1 + NEAREST_BIN * 1.5, NEAREST_BIN), 4)
    # Rounding may leave a score just above the last edge: it counts in the last bin.
    counts = {name: np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] for name, scores in by_verdict.items()}
    return {"edges": edges.tolist(), "counts": {name: count.tolist() for name, count in counts.items()}}


def _count_nearest(nearest: NDArray[np.float64], *, num_videos: int) -> dict[str, Any]:
    """Histogram of each video's similarity to its nearest other one, and the number of videos that have none."""
    known = nearest[np.isfinite(nearest)]
    found = count_scores({"": known})
    return {"edges": found["edges"], "counts": found["counts"][""], "without": num_videos - len(known)}
