"""Which videos are the same: candidates, pairs, groups, and what another threshold would decide. Pure.

Similarity is a cosine; a pair at or above the threshold is a match (`is_match`, the only place that says so).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import ListError
from dedup_lib.joins import CROWD, Proposal, VectorTable, check_pairs
from dedup_lib.records import Group, Pair, SweepPoint
from dedup_lib.vectors import DECIMALS

Choose = Callable[[Sequence[int]], int]
"""Rows that are alike, in list order, to the one that is kept."""

Node = TypeVar("Node", int, str)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All pairs of a list from `floor` up, and how near each video's nearest one is.

    `nearest` is float64 (N,), NaN for a video without a vector or without a neighbour. `searched_deeper` counts
    the vectors whose list of neighbours came back full of matches and was asked for again. `crowds` are rows, rising,
    of very many videos with the very same vectors: all pairs of such rows have a similarity of 1, and only the first
    row stands in `pairs`.
    """

    pairs: tuple[Pair, ...]
    nearest: NDArray[np.float64]
    floor: float
    searched_deeper: int
    crowds: tuple[tuple[int, ...], ...] = ()

    @property
    def similarities(self) -> NDArray[np.float64]:
        """Of every pair, in the order of `pairs`."""
        return np.array([pair.similarity for pair in self.pairs], dtype=np.float64)


def is_match(similarity: float, threshold: float) -> bool:
    """Whether two videos so alike count as the same."""
    return similarity >= threshold


def score_pairs(
    table: VectorTable, proposal: Proposal, *, rows: int, floor: float, max_pairs: int, own_rows: int | None = None
) -> Scored:
    """Compute how alike the proposed pairs are, and give those at `floor` or above as pairs of rows of a list.

    Rows that are not in the table have no vector and no pair, and neither have two rows from `own_rows` on, which were
    compared before. Raises SettingError for more than `max_pairs` pairs.
    """
    similarities = table.compare(proposal.first, proposal.second)
    found = np.full(len(table), np.nan)
    for side in (proposal.first, proposal.second):
        np.fmax.at(found, side, similarities)
    found = np.where(np.isnan(found), np.round(np.clip(proposal.nearest.astype(np.float64), -1, 1), DECIMALS), found)
    nearest = np.full(rows, np.nan)
    for line, members in enumerate(table.rows):
        nearest[members] = found[line] if len(members) == 1 else 1.0
    shown = [members if len(members) <= CROWD else members[:1] for members in table.rows]
    sizes = np.array([len(members) for members in shown], dtype=int)
    kept = np.array([is_match(similarity, floor) for similarity in similarities], dtype=bool)
    first, second = proposal.first[kept], proposal.second[kept]
    check_pairs(int(sizes[first] @ sizes[second] + (sizes * (sizes - 1) // 2).sum()), floor=floor, most=max_pairs)
    pairs = [
        _pair(int(one), int(other), float(similarity))
        for left, right, similarity in zip(first, second, similarities[kept], strict=True)
        for one in shown[left]
        for other in shown[right]
    ]
    pairs += [
        _pair(one, other, 1.0)
        for members in shown
        if len(members) > 1
        for one, other in combinations(members.tolist(), 2)
    ]
    if own_rows is not None:
        pairs = [pair for pair in pairs if pair.first < own_rows]
    return Scored(
        pairs=tuple(sorted(pairs)),
        nearest=nearest,
        floor=floor,
        searched_deeper=proposal.searched_deeper,
        crowds=tuple(tuple(members.tolist()) for members in table.rows if len(members) > CROWD),
    )


def _pair(one: int, other: int, similarity: float) -> Pair:
    return Pair(first=min(one, other), second=max(one, other), similarity=similarity)


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (first, second) if first < second else (second, first)


def group_copies(
    pairs: Sequence[Pair],
    *,
    threshold: float,
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
    crowds: Sequence[Sequence[int]] = (),
) -> list[Group]:
    """Decide which videos are kept: among videos that hang together by matches, `choose` names one to keep, all that
    match it are its copies, and so on with those that are left.

    So every copy matches a kept video, no two kept videos match, and no chain of look-alikes joins unlike ones. A
    copy that matches several kept videos is listed under the most alike of those that `choose` prefers to it. Groups
    are numbered from 1 in the order of their kept videos; a video that stands alone makes no group. The default keeps
    the first in the list.

    What a person said outweighs all this. Rows joined by `same`, directly or through others, are one unit: it stands
    in one group, and matches whatever one of its rows matches. Two rows of `different` never share a group: their
    units do not match, and of two that match the same kept video the more alike is its copy. A video that is an
    excerpt of another one that it matches is not kept in its place, whatever `choose` would say.

    Of the rows of a crowd, which are the same by their vectors, `pairs` holds the first (see `Scored`): they go to one
    group, but for those that a person decided about.

    Raises ListError where rows joined by `same` are `different`.
    """
    pairs, crowds = _show_decided(pairs, crowds, {row for pair in (*same, *different) for row in pair})
    crowd_of = {row: crowd[0] for crowd in crowds for row in crowd}
    units = _Units([*same, *((crowd[0], row) for crowd in crowds for row in crowd[1:])], different)
    matches: dict[int, dict[int, float]] = {unit: {} for unit in units.joined}
    told: dict[tuple[int, int], float] = {}
    cut_inside: set[int] = set()
    wholes: dict[int, set[int]] = {}
    for pair in pairs:
        first, second = units.of(pair.first), units.of(pair.second)
        if first in units.joined or second in units.joined:
            told[pair.first, pair.second] = pair.similarity
        if first == second:
            if pair.excerpt:
                cut_inside.add(pair.first if pair.excerpt == "first" else pair.second)
        elif is_match(pair.similarity, threshold) and second not in units.apart_from(first):
            matches.setdefault(first, {})[second] = max(pair.similarity, matches.get(first, {}).get(second, -math.inf))
            matches.setdefault(second, {})[first] = matches[first][second]
            if pair.excerpt:
                excerpt, whole = (first, second) if pair.excerpt == "first" else (second, first)
                wholes.setdefault(excerpt, set()).add(whole)

    uncut = {unit: set(rows) - cut_inside or set(rows) for unit, rows in units.joined.items()}

    def choose_among(candidates: set[int]) -> int:
        """The row to keep of these units: no excerpt, unless each is one of another."""
        excerpts = {unit for unit in wholes.keys() & candidates if not candidates.isdisjoint(wholes[unit])}
        whole = (candidates - excerpts) or candidates
        rows = whole.difference(uncut).union(*(uncut[unit] for unit in uncut.keys() & whole)) if uncut else whole
        return choose(sorted(rows))

    keepers: dict[int, int] = {}
    members: dict[int, set[int]] = {}
    claimed_by: dict[int, int] = {}
    for left in components(matches):
        while left:
            keeper = choose_among(left)
            kept = units.of(keeper)
            keepers[kept], members[kept] = keeper, {kept}
            for unit in sorted(left & matches[kept].keys(), key=lambda unit: (-matches[kept][unit], unit)):
                if members[kept].isdisjoint(units.apart_from(unit)):
                    members[kept].add(unit)
                    claimed_by[unit] = kept
            left -= members[kept]
    for unit, claimant in sorted(claimed_by.items()):
        # One that is apart from another stays: it may be why that one is not in this group.
        if not units.apart_from(unit):
            rivals = {
                kept for kept in matches[unit].keys() & keepers.keys() if units.of(choose_among({kept, unit})) == kept
            }
            # Among equals the first to claim it: copies of one video stay together.
            best = max(rivals | {claimant}, key=lambda kept: (matches[unit][kept], kept == claimant, -keepers[kept]))
            members[claimant].remove(unit)
            members[best].add(unit)

    def similarity(keeper: int, copy: int) -> float:
        kept, unit = units.of(keeper), units.of(copy)
        if kept in units.joined or unit in units.joined:
            one, other = crowd_of.get(keeper, keeper), crowd_of.get(copy, copy)
            return 1.0 if one == other else told.get(_ordered(one, other), math.nan)
        return matches[kept][unit]

    groups: list[Group] = []
    for kept, keeper in sorted(keepers.items(), key=lambda item: item[1]):
        copies = tuple(sorted(row for unit in members[kept] for row in units.rows(unit) if row != keeper))
        if copies:
            similarities = tuple(similarity(keeper, copy) for copy in copies)
            groups.append(Group(number=len(groups) + 1, kept=keeper, copies=copies, similarities=similarities))
    return groups


def _show_decided(
    pairs: Sequence[Pair], crowds: Sequence[Sequence[int]], decided: Collection[int]
) -> tuple[Sequence[Pair], list[Sequence[int]]]:
    """The pairs with those of every row of a crowd that a person decided about, and the crowds without these rows."""
    shown: dict[int, list[int]] = {}
    left: list[Sequence[int]] = []
    for crowd in crowds:
        rest = [row for row in crowd if row not in decided]
        shown[crowd[0]] = [row for row in crowd if row in decided] + rest[:1]
        left += [rest] if len(rest) > 1 else []
    if all(rows == [first] for first, rows in shown.items()):
        return pairs, left
    spread = [
        replace(pair, first=min(rows), second=max(rows))
        for pair in pairs
        for rows in product(shown.get(pair.first, [pair.first]), shown.get(pair.second, [pair.second]))
    ]
    return [*spread, *(_pair(*rows, 1.0) for of in shown.values() for rows in combinations(of, 2))], left


class _Units:
    """The rows that a person called the same, each such unit named by its first row; any other row is its own unit.

    Raises ListError where two rows of a unit are called different.
    """

    def __init__(self, same: Collection[tuple[int, int]], different: Collection[tuple[int, int]]) -> None:
        self.joined = {min(rows): tuple(sorted(rows)) for rows in components(neighbours(same))}
        self._unit = {row: unit for unit, rows in self.joined.items() for row in rows}
        for first, second in different:
            if self.of(first) == self.of(second):
                raise ListError(
                    f"rows {first + 1} and {second + 1} of the list were decided to be different, but other decisions "
                    "make them the same: change one of these decisions"
                )
        self._apart = neighbours((self.of(first), self.of(second)) for first, second in different)

    def of(self, row: int) -> int:
        return self._unit.get(row, row)

    def rows(self, unit: int) -> tuple[int, ...]:
        return self.joined.get(unit, (unit,))

    def apart_from(self, unit: int) -> Collection[int]:
        """The units that are not the same as this one."""
        return self._apart.get(unit, ())


def neighbours(pairs: Iterable[tuple[Node, Node]]) -> dict[Node, set[Node]]:
    """Each node of the pairs to those that it stands in a pair with."""
    found: dict[Node, set[Node]] = {}
    for first, second in pairs:
        found.setdefault(first, set()).add(second)
        found.setdefault(second, set()).add(first)
    return found


def components(graph: Mapping[Node, Collection[Node]]) -> Iterator[set[Node]]:
    """The nodes that hang together, directly or through others."""
    seen: set[Node] = set()
    for start in sorted(graph):
        if start in seen:
            continue
        found, waiting = {start}, [start]
        while waiting:
            new = set(graph[waiting.pop()]) - found
            found |= new
            waiting.extend(new)
        seen |= found
        yield found


@dataclass(frozen=True, kw_only=True)
class Regrouping:
    """Videos that hang together, and the groups that they make at every threshold of a sweep.

    `steps` are indexes of thresholds, rising from 0, each with the groups from there up to the next step; these are
    numbered within the videos that hang together.
    """

    steps: tuple[tuple[int, tuple[Group, ...]], ...]

    def at(self, index: int) -> tuple[Group, ...]:
        """The groups at one of the thresholds."""
        return self.steps[bisect.bisect_right(self.steps, index, key=lambda step: step[0]) - 1][1]


def regroup(
    pairs: Sequence[Pair],
    *,
    thresholds: Sequence[float],
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
    crowds: Sequence[Sequence[int]] = (),
) -> list[Regrouping]:
    """What `group_copies` decides at each of the `thresholds`, which rise, for each set of videos that hang together
    at the lowest. Only where a threshold parts or joins some of them is anything decided anew.

    Raises ListError where rows joined by `same` are `different`.
    """
    _Units(same, different)
    # Of each pair, up to which threshold it is a match.
    ends = [bisect.bisect_right(thresholds, pair.similarity) for pair in pairs]
    linked = [(pair.first, pair.second) for pair, end in zip(pairs, ends, strict=True) if end]
    crowded = ((crowd[0], row) for crowd in crowds for row in crowd[1:])
    sets = list(components(neighbours([*linked, *same, *crowded])))
    set_of = {row: place for place, rows in enumerate(sets) for row in rows}

    def share_out(rows: Iterable[tuple[int, int]]) -> list[list[int]]:
        """Of each set, which of these touch it."""
        found: list[list[int]] = [[] for _ in sets]
        for index, both in enumerate(rows):
            for place in {set_of[row] for row in both if row in set_of}:
                found[place].append(index)
        return found

    told_same, told_different = list(same), list(different)
    regrouped: list[Regrouping] = []
    if not thresholds:
        return regrouped
    # A pair below all thresholds may lie between two sets, where it changes nothing.
    for inside, joined, apart, crowding in zip(
        share_out((pair.first, pair.second) for pair in pairs),
        share_out(told_same),
        share_out(told_different),
        share_out((crowd[0], crowd[1]) for crowd in crowds),
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
                crowds=[crowds[index] for index in crowding],
            )
            if not steps or steps[-1][1] != tuple(groups):
                steps.append((start, tuple(groups)))
        regrouped.append(Regrouping(steps=tuple(steps)))
    return regrouped


def sweep_thresholds(
    pairs: Sequence[Pair],
    *,
    num_videos: int,
    thresholds: Sequence[float],
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
    crowds: Sequence[Sequence[int]] = (),
    own_rows: int | None = None,
) -> list[SweepPoint]:
    """What each threshold would decide over the same pairs; `thresholds` rise, `num_videos` is the number of videos
    compared, `same` and `different` are what a person said, `crowds` as in `group_copies`. Rows from `own_rows` on do
    not count."""
    regrouped = regroup(pairs, thresholds=thresholds, choose=choose, same=same, different=different, crowds=crowds)
    return count_sweep(regrouped, num_videos=num_videos, thresholds=thresholds, own_rows=own_rows)


def count_sweep(
    regrouped: Sequence[Regrouping], *, num_videos: int, thresholds: Sequence[float], own_rows: int | None = None
) -> list[SweepPoint]:
    """The same, of what is regrouped already."""
    duplicates, groups, largest = ([0] * len(thresholds) for _ in range(3))
    for one in regrouped:
        ends = [start for start, _ in one.steps[1:]] + [len(thresholds)]
        for (start, found), end in zip(one.steps, ends, strict=True):
            sizes = [group.size for group in found]
            copies = sum(own_rows is None or copy < own_rows for group in found for copy in group.copies)
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
    """Pairs in the order of their similarity, to be asked again and again which lie nearest to a threshold."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._rising = sorted(pairs, key=lambda pair: (pair.similarity, pair.first, pair.second))
        self._falling = sorted(self._rising, key=lambda pair: (-pair.similarity, pair.first, pair.second))

    def at(self, threshold: float, *, count: int) -> tuple[list[Pair], list[Pair]]:
        """The `count` pairs just above the threshold and those just below it, nearest to it first."""
        above = bisect.bisect_left(self._rising, True, key=lambda pair: is_match(pair.similarity, threshold))
        below = bisect.bisect_left(self._falling, True, key=lambda pair: not is_match(pair.similarity, threshold))
        return self._rising[above : above + count], self._falling[below : below + count]


def borderline_pairs(pairs: Iterable[Pair], *, threshold: float, count: int) -> tuple[list[Pair], list[Pair]]:
    """The same, asked once."""
    return Borderline(pairs).at(threshold, count=count)
