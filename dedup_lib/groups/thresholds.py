"""What other thresholds would decide, and which pairs lie nearest to one."""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dedup_lib.groups.grouping import Choose, Units, components, group_copies, neighbours
from dedup_lib.groups.scored import is_match
from dedup_lib.records import Group, Pair, SweepPoint

ROUND_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, kw_only=True)
class Regrouping:
    """The groups of one connected component of videos, at every threshold of a sweep.

    `steps` are indexes of thresholds, rising from 0, each with the groups from there up to the next step. Groups are
    numbered within the component.
    """

    steps: tuple[tuple[int, tuple[Group, ...]], ...]

    def at(self, index: int) -> tuple[Group, ...]:
        """The groups at the threshold with this index."""
        return self.steps[bisect.bisect_right(self.steps, index, key=lambda step: step[0]) - 1][1]

    def spans(self, count: int) -> Iterator[tuple[tuple[int, tuple[Group, ...]], int]]:
        """Each step with the index where the next one begins, of `count` thresholds."""
        return zip(self.steps, [*(start for start, _ in self.steps[1:]), count], strict=True)


def round_thresholds(low: float, *, threshold: float, most: int) -> list[float]:
    """Thresholds from `low` to 1, rising, in round steps: `most` of them, and `threshold`, the one that decides."""
    step = next((step for step in ROUND_STEPS if (1 - low) / step <= most), ROUND_STEPS[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(1 / step + 1e-9)
    even = {round(step * index, 4) for index in range(first, last + 1)}
    return sorted({one for one in even if low <= one <= 1} | {low, threshold})


def regroup(
    pairs: Sequence[Pair],
    *,
    thresholds: Sequence[float],
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
    identical: Sequence[Sequence[int]] = (),
) -> list[Regrouping]:
    """What `group_copies` decides at each of the rising `thresholds`, for each connected component at the lowest one.
    Groups are decided again only where a threshold separates or joins some of the videos.

    Raises ListError if rows joined by `same` are `different`.
    """
    Units(same, different)
    # For each pair, the number of thresholds at which it is a match.
    ends = [bisect.bisect_right(thresholds, pair.similarity) for pair in pairs]
    linked = [(pair.first, pair.second) for pair, end in zip(pairs, ends, strict=True) if end]
    crowded = ((alike_rows[0], row) for alike_rows in identical for row in alike_rows[1:])
    sets = list(components(neighbours([*linked, *same, *crowded])))
    set_of = {row: place for place, rows in enumerate(sets) for row in rows}

    def share_out(rows: Iterable[tuple[int, int]]) -> list[list[int]]:
        """For each component, the indexes of the pairs of rows that touch it."""
        found: list[list[int]] = [[] for _ in sets]
        for index, both in enumerate(rows):
            for place in {set_of[row] for row in both if row in set_of}:
                found[place].append(index)
        return found

    told_same, told_different = list(same), list(different)
    regrouped: list[Regrouping] = []
    if not thresholds:
        return regrouped
    # A pair below all thresholds may lie between two components, where it changes nothing.
    for inside, joined, apart, crowding in zip(
        share_out((pair.first, pair.second) for pair in pairs),
        share_out(told_same),
        share_out(told_different),
        share_out((alike_rows[0], alike_rows[1]) for alike_rows in identical),
        strict=True,
    ):
        own = [pairs[index] for index in inside]
        steps: list[tuple[int, tuple[Group, ...]]] = []
        for start in sorted({0, *(ends[index] for index in inside)} - {len(thresholds)}):
            groups = group_copies(
                own,
                threshold=thresholds[start],
                choose=choose,
                same=[told_same[index] for index in joined],
                different=[told_different[index] for index in apart],
                identical=[identical[index] for index in crowding],
            )
            if not steps or steps[-1][1] != tuple(groups):
                steps.append((start, tuple(groups)))
        regrouped.append(Regrouping(steps=tuple(steps)))
    return regrouped


def count_sweep(
    regrouped: Sequence[Regrouping], *, num_videos: int, thresholds: Sequence[float], new_rows: int | None = None
) -> list[SweepPoint]:
    """What each of the `thresholds` would decide, from the groups of all components there. `num_videos` is the number
    of compared videos. Rows from `new_rows` on do not count."""
    duplicates, groups, largest = ([0] * len(thresholds) for _ in range(3))
    for one in regrouped:
        for (start, found), end in one.spans(len(thresholds)):
            sizes = [group.size for group in found]
            copies = sum(new_rows is None or copy < new_rows for group in found for copy in group.copies)
            for index in range(start, end):
                groups[index] += len(sizes)
                duplicates[index] += copies
                largest[index] = max(largest[index], *sizes, 0)
    return [
        SweepPoint(
            threshold=float(threshold),
            kept=num_videos - duplicates[index],
            duplicates=duplicates[index],
            groups=groups[index],
            largest_group=largest[index],
        )
        for index, threshold in enumerate(thresholds)
    ]


class Borderline:
    """Pairs sorted by similarity, to find those nearest to a threshold again and again."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._rising = sorted(pairs, key=lambda pair: (pair.similarity, pair.first, pair.second))
        self._falling = sorted(self._rising, key=lambda pair: (-pair.similarity, pair.first, pair.second))

    def at(self, threshold: float, *, count: int) -> tuple[list[Pair], list[Pair]]:
        """The `count` pairs at or just above the threshold and the `count` just below it, each nearest to it first."""
        above = bisect.bisect_left(self._rising, True, key=lambda pair: is_match(pair.similarity, threshold))
        below = bisect.bisect_left(self._falling, True, key=lambda pair: not is_match(pair.similarity, threshold))
        return self._rising[above : above + count], self._falling[below : below + count]
