"""Groups of copies from matching pairs, each with the video that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import TypeVar

from dedup_lib.errors import ListError
from dedup_lib.groups.scored import is_match, make_pair
from dedup_lib.records import Group, Pair

Choose = Callable[[Sequence[int]], int]
"""From similar rows, in list order, to the one that is kept."""

Node = TypeVar("Node", int, str)


def group_copies(
    pairs: Sequence[Pair],
    *,
    threshold: float,
    choose: Choose = min,
    same: Collection[tuple[int, int]] = (),
    different: Collection[tuple[int, int]] = (),
    identical: Sequence[Sequence[int]] = (),
) -> list[Group]:
    """Decide which videos are kept. In each connected component of matches, `choose` names one video to keep, and all
    videos that match it are its copies. This repeats with the videos that are left.

    So every copy matches a kept video, no two kept videos match, and no chain of look-alikes joins unlike videos. A
    copy that matches several kept videos goes to the most similar of those that `choose` prefers to it. Groups are
    numbered from 1 in the order of their kept videos. A video without copies makes no group. The default keeps the
    first in the list.

    A person's decisions take precedence. Rows joined by `same`, directly or through others, are one unit: it is in one
    group, and matches whatever one of its rows matches. Two rows of `different` never share a group: their units do not
    match, and if both match the same kept video, only the more similar one is its copy. An excerpt is not kept in place
    of a longer video that it matches, whatever `choose` says.

    Of rows with identical vectors, `pairs` holds only the first (see `Scored`). All these rows go to one group, except
    those that a person decided about.

    Raises ListError if rows joined by `same` are `different`.
    """
    pairs, identical = _show_decided(pairs, identical, {row for pair in (*same, *different) for row in pair})
    crowd_of = {row: alike_rows[0] for alike_rows in identical for row in alike_rows}
    units = Units([*same, *((alike_rows[0], row) for alike_rows in identical for row in alike_rows[1:])], different)
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
        """The row to keep of these units: no excerpt, unless each of them is an excerpt of another."""
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
        # A unit that is different from another one stays: it may be the reason why that one is not in this group.
        if not units.apart_from(unit):
            rivals = {
                kept for kept in matches[unit].keys() & keepers.keys() if units.of(choose_among({kept, unit})) == kept
            }
            # Among equals, the first to claim it wins, so that copies of one video stay together.
            best = max(rivals | {claimant}, key=lambda kept: (matches[unit][kept], kept == claimant, -keepers[kept]))
            members[claimant].remove(unit)
            members[best].add(unit)

    def similarity(keeper: int, copy: int) -> float:
        kept, unit = units.of(keeper), units.of(copy)
        if kept in units.joined or unit in units.joined:
            one, other = crowd_of.get(keeper, keeper), crowd_of.get(copy, copy)
            return 1.0 if one == other else told.get((min(one, other), max(one, other)), math.nan)
        return matches[kept][unit]

    groups: list[Group] = []
    for kept, keeper in sorted(keepers.items(), key=lambda item: item[1]):
        copies = tuple(sorted(row for unit in members[kept] for row in units.rows(unit) if row != keeper))
        if copies:
            similarities = tuple(similarity(keeper, copy) for copy in copies)
            groups.append(Group(number=len(groups) + 1, kept=keeper, copies=copies, similarities=similarities))
    return groups


def _show_decided(
    pairs: Sequence[Pair], identical: Sequence[Sequence[int]], decided: Collection[int]
) -> tuple[Sequence[Pair], list[Sequence[int]]]:
    """The pairs, repeated for rows with identical vectors that a person decided about; and the other identical rows."""
    shown: dict[int, list[int]] = {}
    left: list[Sequence[int]] = []
    for alike_rows in identical:
        rest = [row for row in alike_rows if row not in decided]
        shown[alike_rows[0]] = [row for row in alike_rows if row in decided] + rest[:1]
        left += [rest] if len(rest) > 1 else []
    if all(rows == [first] for first, rows in shown.items()):
        return pairs, left
    spread = [
        replace(pair, first=min(rows), second=max(rows))
        for pair in pairs
        for rows in product(shown.get(pair.first, [pair.first]), shown.get(pair.second, [pair.second]))
    ]
    return [*spread, *(make_pair(*rows, 1.0) for of in shown.values() for rows in combinations(of, 2))], left


class Units:
    """Units of rows that a person called the same, each named by its first row. Any other row is its own unit.

    Raises ListError if two rows of a unit are called different.
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
        """The units that a person called different from this one."""
        return self._apart.get(unit, ())


def neighbours(pairs: Iterable[tuple[Node, Node]]) -> dict[Node, set[Node]]:
    """From each node to the nodes that it is paired with."""
    found: dict[Node, set[Node]] = {}
    for first, second in pairs:
        found.setdefault(first, set()).add(second)
        found.setdefault(second, set()).add(first)
    return found


def components(graph: Mapping[Node, Collection[Node]]) -> Iterator[set[Node]]:
    """The connected components of a graph."""
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
