"""Which videos are the same: candidates, pairs, groups, and what another threshold would decide. Pure.

Similarity is a cosine; a pair at or above the threshold is a match (`is_match`, the only place that says so).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import ListError
from dedup_lib.records import Group, Hit, Pair, SweepPoint, Vectors, VideoVectors
from dedup_lib.vectors import DECIMALS, cosines

Search = Callable[[Vectors, int], list[list[Hit]]]
"""Vectors (N, D) and a number of neighbours to the neighbours of each, best first."""

Choose = Callable[[Sequence[int]], int]
"""Rows that are alike, in list order, to the one that is kept."""

Node = TypeVar("Node", int, str)

_SLACK = 1e-4
"""A store computes in float32: candidates this far below the floor are computed again before they are dropped."""

_PAIRS_AT_ONCE = 20_000
_HITS_AT_ONCE = 100_000


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All pairs of a list from `floor` up, and how near each video's nearest one is.

    `nearest` is float64 (N,), NaN for a video without a vector or without a neighbour. `searched_deeper` counts
    the vectors whose list of neighbours came back full of matches and was asked for again.
    """

    pairs: tuple[Pair, ...]
    nearest: NDArray[np.float64]
    floor: float
    searched_deeper: int

    @property
    def similarities(self) -> NDArray[np.float64]:
        """Of every pair, in the order of `pairs`."""
        return np.array([pair.similarity for pair in self.pairs], dtype=np.float64)


def is_match(similarity: float, threshold: float) -> bool:
    """Whether two videos so alike count as the same."""
    return similarity >= threshold


def video_similarity(first: VideoVectors, second: VideoVectors) -> float:
    """How alike two videos are: the mean cosine of frames at the same position.

    A position that one of them lacks (its frame was flat) counts as 0, so that a single shared frame does not
    make two videos alike.
    """
    return float(_similarities([first, second], np.array([[0, 1]]))[0])


def score_pairs(
    videos: Sequence[VideoVectors | None], *, search: Search, floor: float, top_k: int, largest_top_k: int
) -> Scored:
    """Compare every video with every other by a store's search, and give the pairs at `floor` or above.

    A list of neighbours that is full of candidates may have been cut: it is asked for again, four times as long,
    until its end lies below the floor. At `largest_top_k` the vector is compared with all others directly.
    Rows of `videos` that are None have no vector and no pair. No pair is missed where `floor` is above 0; below it,
    videos that lack positions can be more alike than any two of their frames, and such pairs may be.
    """
    rows: dict[str, list[int]] = {}
    for row, video in enumerate(videos):
        if video is not None:
            rows.setdefault(video.key, []).append(row)
    present = [video for video in videos if video is not None]
    candidates: set[tuple[int, int]] = set()
    deepened = 0
    if present:
        vectors = np.concatenate([video.vectors for video in present])
        owners = np.array([row for row, video in enumerate(videos) if video is not None for _ in video.positions])
        waiting, limit = np.arange(len(vectors)), top_k
        while len(waiting):
            cut = []
            for index, hits in _search_in_parts(vectors, waiting, search, limit):
                owner = int(owners[index])
                candidates.update(_candidates_of(owner, hits, rows, floor))
                if len(hits) == limit and hits[-1].cosine >= floor - _SLACK:
                    cut.append(index)
            if limit < largest_top_k:
                deepened += len(cut)
                waiting, limit = np.array(cut, dtype=int), min(limit * 4, largest_top_k)
                continue
            for index in cut:
                near = np.flatnonzero(vectors @ vectors[index] >= floor - _SLACK)
                owner = int(owners[index])
                candidates.update(_ordered(owner, int(owners[other])) for other in near if owners[other] != owner)
            break
    ordered = np.array(sorted(candidates), dtype=int).reshape(-1, 2)
    similarities = _similarities(videos, ordered)
    nearest = np.full(len(videos), np.nan)
    for side in (0, 1):
        np.fmax.at(nearest, ordered[:, side], similarities)
    pairs = tuple(
        Pair(first=int(first), second=int(second), similarity=float(similarity))
        for (first, second), similarity in zip(ordered, similarities, strict=True)
        if is_match(similarity, floor)
    )
    return Scored(pairs=pairs, nearest=nearest, floor=floor, searched_deeper=deepened)


def _search_in_parts(
    vectors: Vectors, wanted: NDArray[np.int_], search: Search, limit: int
) -> Iterator[tuple[int, Sequence[Hit]]]:
    """The neighbours of each wanted vector; those of all vectors at once would fill the memory."""
    step = max(1, _HITS_AT_ONCE // limit)
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        yield from zip(part, search(vectors[part], limit), strict=True)


def _candidates_of(owner: int, hits: Sequence[Hit], rows: dict[str, list[int]], floor: float) -> set[tuple[int, int]]:
    """Pairs worth computing: every neighbour near the floor, and the nearest one however far it is."""
    found: set[tuple[int, int]] = set()
    for hit in hits:
        if found and hit.cosine < floor - _SLACK:
            break
        found.update(_ordered(owner, other) for other in rows.get(hit.video, ()) if other != owner)
    return found


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (first, second) if first < second else (second, first)


def _similarities(videos: Sequence[VideoVectors | None], pairs: NDArray[np.int_]) -> NDArray[np.float64]:
    """Similarity of each pair of rows (N, 2), float64 (N,)."""
    result = np.zeros(len(pairs))
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = pairs[start : start + _PAIRS_AT_ONCE]
        lefts, rights, places, counts = [], [], [], np.ones(len(chunk))
        for place, (first, second) in enumerate(chunk):
            left, right = videos[first], videos[second]
            assert left is not None
            assert right is not None
            counts[place] = max(len(left.positions), len(right.positions))
            at = {position: index for index, position in enumerate(right.positions)}
            for index, position in enumerate(left.positions):
                if position in at:
                    lefts.append(left.vectors[index])
                    rights.append(right.vectors[at[position]])
                    places.append(place)
        if places:
            sums = np.bincount(places, weights=cosines(np.stack(lefts), np.stack(rights)), minlength=len(chunk))
            result[start : start + len(chunk)] = np.round(sums / counts, DECIMALS)
    return result


def group_copies(
    pairs: Sequence[Pair],
    *,
    threshold: float,
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
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

    Raises ListError where rows joined by `same` are `different`.
    """
    units = _Units(same, different)
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
            return told.get(_ordered(keeper, copy), math.nan)
        return matches[kept][unit]

    groups: list[Group] = []
    for kept, keeper in sorted(keepers.items(), key=lambda item: item[1]):
        copies = tuple(sorted(row for unit in members[kept] for row in units.rows(unit) if row != keeper))
        if copies:
            similarities = tuple(similarity(keeper, copy) for copy in copies)
            groups.append(Group(number=len(groups) + 1, kept=keeper, copies=copies, similarities=similarities))
    return groups


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
                    f"rows {first + 1} and {second + 1} of the list are called different, and other decisions make "
                    "them the same: change one of these decisions"
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


def sweep_thresholds(
    pairs: Sequence[Pair],
    *,
    num_videos: int,
    thresholds: Sequence[float],
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
) -> list[SweepPoint]:
    """What each threshold would decide over the same pairs; `num_videos` is the number of videos compared, `same` and
    `different` are what a person said."""
    points = []
    for threshold in thresholds:
        groups = group_copies(pairs, threshold=threshold, choose=choose, same=same, different=different)
        duplicates = sum(len(group.copies) for group in groups)
        points.append(
            SweepPoint(
                threshold=float(threshold),
                kept=num_videos - duplicates,
                duplicates=duplicates,
                groups=len(groups),
                largest_group=max((group.size for group in groups), default=0),
            )
        )
    return points


def borderline_pairs(pairs: Sequence[Pair], *, threshold: float, count: int) -> tuple[list[Pair], list[Pair]]:
    """The `count` pairs just above the threshold and those just below it, nearest to it first."""
    above = sorted((p for p in pairs if is_match(p.similarity, threshold)), key=lambda p: (p.similarity, p))
    below = sorted((p for p in pairs if not is_match(p.similarity, threshold)), key=lambda p: (-p.similarity, p))
    return above[:count], below[:count]
