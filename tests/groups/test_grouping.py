"""Decisions: pairs against brute force, groups against their rules."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dedup_lib.errors import ListError
from dedup_lib.groups.grouping import Choose, group_copies
from dedup_lib.groups.scored import is_match
from dedup_lib.groups.thresholds import Borderline, count_sweep, regroup
from dedup_lib.records import Pair, SweepPoint

# Groups


@st.composite
def lists_of_pairs(draw: st.DrawFn) -> list[Pair]:
    places = draw(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1])))
    similarities = st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
    return [Pair(first=a, second=b, similarity=draw(similarities)) for a, b in sorted(places)]


thresholds = st.sampled_from([0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 1.0, 1.1])


@given(pairs=lists_of_pairs(), threshold=thresholds)
def test_every_copy_matches_the_video_kept_in_its_place(pairs: list[Pair], threshold: float) -> None:
    similarity = {(pair.first, pair.second): pair.similarity for pair in pairs}
    groups = group_copies(pairs, threshold=threshold)
    kept = [group.kept for group in groups]
    copies = [copy for group in groups for copy in group.copies]
    assert len({*kept, *copies}) == len(kept) + len(copies), "a row stands in one place"
    assert kept == sorted(kept)
    assert [group.number for group in groups] == list(range(1, len(groups) + 1))
    for group in groups:
        assert group.copies == tuple(sorted(group.copies))
        assert group.size == 1 + len(group.copies) >= 2
        for copy, said in zip(group.copies, group.similarities, strict=True):
            assert group.kept < copy
            assert threshold <= said == similarity[group.kept, copy]
    for (first, second), value in similarity.items():
        if value >= threshold and first not in copies:
            assert second in copies, "two kept videos never match"
            of = next(group for group in groups if second in group.copies)
            assert similarity[of.kept, second] >= value, "a copy goes to the most alike"
            assert similarity[of.kept, second] > value or of.kept <= first, "and of these to the earliest"


@given(pairs=lists_of_pairs(), threshold=thresholds, random=st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_decides_nothing(pairs: list[Pair], threshold: float, random: Random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert group_copies(shuffled, threshold=threshold) == group_copies(pairs, threshold=threshold)
    assert group_copies([*shuffled, *pairs], threshold=1.1) == []


def test_a_chain_of_look_alikes_is_not_one_group() -> None:
    chain = [Pair(first=0, second=1, similarity=0.96), Pair(first=1, second=2, similarity=0.97)]
    (group,) = group_copies(chain, threshold=0.95)
    assert (group.kept, group.copies, group.similarities) == (0, (1,), (0.96,))


def test_a_copy_goes_to_the_most_alike_of_those_kept() -> None:
    pairs = [
        Pair(first=0, second=2, similarity=0.95),
        Pair(first=1, second=2, similarity=0.99),
        Pair(first=0, second=3, similarity=0.97),
        Pair(first=1, second=3, similarity=0.97),
        Pair(first=2, second=3, similarity=1.0),
    ]
    first, second = group_copies(pairs, threshold=0.95)
    assert (first.kept, first.copies) == (0, (3,))
    assert (second.kept, second.copies) == (1, (2,))


# What a person said


@st.composite
def lists_of_decisions(draw: st.DrawFn) -> tuple[list[Pair], set[tuple[int, int]], set[tuple[int, int]]]:
    """Pairs, some of them excerpts, and decisions that follow from which rows truly are the same."""
    pairs = [
        replace(pair, excerpt=draw(st.sampled_from(["", "", "", "first", "second"]))) for pair in draw(lists_of_pairs())
    ]
    truth = draw(st.lists(st.integers(0, 3), min_size=10, max_size=10))
    decided = draw(st.sets(st.sampled_from(list(combinations(range(10), 2))), max_size=12))
    same = {(i, j) for i, j in decided if truth[i] == truth[j]}
    return pairs, same, decided - same


def units_of(same: set[tuple[int, int]]) -> dict[int, set[int]]:
    """Each of ten rows to all that are joined with it."""
    units = {row: {row} for row in range(10)}
    for first, second in same:
        joined = units[first] | units[second]
        units.update(dict.fromkeys(joined, joined))
    return units


chooses = st.sampled_from([min, max, lambda rows: rows[len(rows) // 2]])


@given(case=lists_of_decisions(), threshold=thresholds, choose=chooses)
def test_what_a_person_said_outweighs_similarity(
    case: tuple[list[Pair], set[tuple[int, int]], set[tuple[int, int]]], threshold: float, choose: Choose
) -> None:
    pairs, same, different = case
    groups = group_copies(pairs, threshold=threshold, choose=choose, same=same, different=different)
    place = {row: group.number for group in groups for row in (group.kept, *group.copies)}
    assert len(place) == sum(group.size for group in groups), "a row stands in one place"
    for first, second in same:
        assert place[first] == place[second]
    for first, second in different:
        assert first not in place or place[first] != place.get(second)

    units = units_of(same)
    similarity = {(pair.first, pair.second): pair.similarity for pair in pairs}
    apart = {(i, j) for first, second in different for i, j in product(units[first], units[second])}
    apart |= {(j, i) for i, j in apart}

    def match(first: int, second: int) -> bool:
        """Whether two units hold rows that are alike, and nobody called them different."""
        around = [(min(i, j), max(i, j)) for i, j in product(units[first], units[second])]
        return (first, second) not in apart and any(similarity.get(pair, -1) >= threshold for pair in around)

    for group in groups:
        for copy, said in zip(group.copies, group.similarities, strict=True):
            assert copy in units[group.kept] or match(copy, group.kept)
            known = similarity.get((min(copy, group.kept), max(copy, group.kept)))
            assert said == known or (known is None and math.isnan(said))
    copies = {copy for group in groups for copy in group.copies}
    for first, second in combinations(sorted(set(range(10)) - copies), 2):
        # Of two that match, both stay only where each group holds something that the other one is not.
        if match(first, second):
            assert any(
                (row, other) in apart
                for kept, other in ((first, second), (second, first))
                for row in place
                if place[row] == place.get(kept)
            )


@given(case=lists_of_decisions(), threshold=thresholds, random=st.randoms(use_true_random=False))
def test_the_order_of_decisions_decides_nothing(
    case: tuple[list[Pair], set[tuple[int, int]], set[tuple[int, int]]], threshold: float, random: Random
) -> None:
    pairs, same, different = case
    shuffled, mixed = list(pairs), [(j, i) for i, j in sorted(same)]
    random.shuffle(shuffled)
    random.shuffle(mixed)
    groups = group_copies(pairs, threshold=threshold, same=same, different=different)
    assert group_copies(shuffled, threshold=threshold, same=mixed, different=sorted(different)[::-1]) == groups


@given(pairs=lists_of_pairs(), threshold=thresholds, looser=thresholds, choose=chooses)
def test_a_looser_threshold_loses_no_match(pairs: list[Pair], threshold: float, looser: float, choose: Choose) -> None:
    assume(looser <= threshold)
    copies = {row for group in group_copies(pairs, threshold=looser, choose=choose) for row in group.copies}
    for pair in pairs:
        if is_match(pair.similarity, threshold):
            assert {pair.first, pair.second} & copies, "two videos that match are not both kept"


def test_a_word_joins_what_is_not_alike() -> None:
    pairs = [Pair(first=1, second=2, similarity=0.97), Pair(first=0, second=1, similarity=0.4)]
    (group,) = group_copies(pairs, threshold=0.95, same=[(0, 1), (4, 1)])
    assert (group.kept, group.copies) == (0, (1, 2, 4))
    np.testing.assert_array_equal(group.similarities, [0.4, np.nan, np.nan])


def test_a_word_parts_what_is_alike() -> None:
    pairs = [Pair(first=i, second=j, similarity=0.96 + 0.01 * i) for i, j in combinations(range(3), 2)]
    assert group_copies(pairs[:1], threshold=0.9, different=[(1, 0)]) == []
    (group,) = group_copies(pairs, threshold=0.9, different=[(0, 1)])
    assert (group.kept, group.copies) == (1, (2,)), "the copy of both goes to the more alike"


def test_of_two_that_differ_the_more_alike_is_the_copy() -> None:
    pairs = [Pair(first=0, second=1, similarity=0.96), Pair(first=0, second=2, similarity=0.98)]
    (group,) = group_copies(pairs, threshold=0.9, different=[(1, 2)])
    assert (group.kept, group.copies) == (0, (2,))


def test_what_differs_from_one_differs_from_its_like() -> None:
    pairs = [Pair(first=0, second=2, similarity=1.0)]
    (group,) = group_copies(pairs, threshold=0.9, same=[(0, 1)], different=[(1, 2)])
    assert (group.kept, group.copies) == (0, (1,))


def test_decisions_that_contradict_each_other_name_the_rows() -> None:
    with pytest.raises(ListError, match="rows 1 and 3 of the list were decided to be different, but other decisions"):
        group_copies([], threshold=0.9, same=[(0, 1), (1, 2)], different=[(0, 2)])


# Excerpts


@pytest.mark.parametrize("choose", [min, max])
def test_the_longer_one_is_kept_whatever_the_policy(choose: Choose) -> None:
    for excerpt, kept, copy in (("first", 1, 0), ("second", 0, 1)):
        pair = Pair(first=0, second=1, similarity=0.96, excerpt=excerpt)  # type: ignore[arg-type]  # of two literals
        (group,) = group_copies([pair], threshold=0.95, choose=choose)
        assert (group.kept, group.copies) == (kept, (copy,))
        assert group_copies([pair], threshold=0.97, choose=choose) == [], "no match, no excerpt"
        assert group_copies([pair], threshold=0.95, choose=choose, different=[(0, 1)]) == []
        (group,) = group_copies([pair], threshold=0.97, choose=choose, same=[(0, 1)])
        assert (group.kept, group.copies) == (kept, (copy,))


def test_an_excerpt_is_kept_once_its_whole_is_a_copy_itself() -> None:
    pairs = [
        Pair(first=0, second=1, similarity=0.99),
        Pair(first=1, second=2, similarity=0.99, excerpt="second"),
        Pair(first=2, second=3, similarity=0.96),
    ]
    first, second = group_copies(pairs, threshold=0.95)
    assert (first.kept, first.copies) == (0, (1,))
    assert (second.kept, second.copies) == (2, (3,))


def test_who_is_the_same_as_an_excerpt_does_not_take_the_place_of_its_whole() -> None:
    pairs = [Pair(first=1, second=2, similarity=0.99, excerpt="first")]
    (group,) = group_copies(pairs, threshold=0.95, same=[(0, 1)])
    assert (group.kept, group.copies) == (2, (0, 1))


def test_where_each_is_an_excerpt_of_another_the_policy_decides() -> None:
    pairs = [
        Pair(first=0, second=1, similarity=0.99, excerpt="first"),
        Pair(first=1, second=2, similarity=0.99, excerpt="first"),
        Pair(first=0, second=2, similarity=0.99, excerpt="second"),
    ]
    (group,) = group_copies(pairs, threshold=0.95, choose=max)
    assert (group.kept, group.copies) == (2, (0, 1))
    assert group_copies(pairs, threshold=0.95, same=[(0, 1), (1, 2)])[0].kept == 0


@given(pairs=lists_of_pairs(), threshold=thresholds, choose=chooses, data=st.data())
def test_no_excerpt_is_kept_before_its_whole(
    pairs: list[Pair], threshold: float, choose: Choose, data: st.DataObject
) -> None:
    length = data.draw(st.lists(st.integers(1, 3), min_size=10, max_size=10))
    cut = [
        replace(pair, excerpt="first" if length[pair.first] < length[pair.second] else "second")
        if length[pair.first] != length[pair.second]
        else pair
        for pair in pairs
    ]
    wholes = {
        (pair.first, pair.second) if pair.excerpt == "first" else (pair.second, pair.first)
        for pair in cut
        if pair.excerpt
    }
    groups = group_copies(cut, threshold=threshold, choose=choose)
    for group in groups:
        assert not {(group.kept, copy) for copy in group.copies} & wholes


# Sweep


def sweep(pairs: list[Pair], *, num_videos: int, thresholds: list[float], **told: Any) -> list[SweepPoint]:
    return count_sweep(regroup(pairs, thresholds=thresholds, **told), num_videos=num_videos, thresholds=thresholds)


@given(pairs=lists_of_pairs(), extra=st.integers(0, 3))
def test_a_sweep_says_what_each_threshold_would_decide(pairs: list[Pair], extra: int) -> None:
    num_videos = 10 + extra
    at = [0.4, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0, 1.01]
    points = sweep(pairs, num_videos=num_videos, thresholds=at)
    assert [point.threshold for point in points] == at
    for point in points:
        groups = group_copies(pairs, threshold=point.threshold)
        assert point.kept + point.duplicates == num_videos
        assert (point.groups, point.duplicates) == (len(groups), sum(len(group.copies) for group in groups))
        assert point.largest_group == max((group.size for group in groups), default=0)
        # A higher threshold may well find more copies, once the video they match is kept itself. It never finds
        # more than there are videos that match an earlier one.
        assert point.duplicates <= len({p.second for p in pairs if p.similarity >= point.threshold})
    assert (points[-1].duplicates, points[-1].groups) == (0, 0)


@given(case=lists_of_decisions(), choose=chooses)
def test_regrouping_part_by_part_decides_what_the_whole_decides(
    case: tuple[list[Pair], set[tuple[int, int]], set[tuple[int, int]]], choose: Choose
) -> None:
    pairs, same, different = case
    at = [0.4, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0]
    regrouped = regroup(pairs, thresholds=at, choose=choose, same=same, different=different)
    for index, threshold in enumerate(at):
        whole = group_copies(pairs, threshold=threshold, choose=choose, same=same, different=different)
        parts = [group for one in regrouped for group in one.at(index)]
        # As texts, for what was never compared is not a number, and equals nothing.
        assert sorted(str(replace(group, number=0)) + str(group.similarities) for group in parts) == sorted(
            str(replace(group, number=0)) + str(group.similarities) for group in whole
        )


def test_a_higher_threshold_may_find_more_copies() -> None:
    pairs = [Pair(first=0, second=1, similarity=0.9)]
    pairs += [Pair(first=1, second=copy, similarity=0.96) for copy in (2, 3, 4)]
    low, high = sweep(pairs, num_videos=5, thresholds=[0.9, 0.95])
    assert (low.duplicates, high.duplicates) == (1, 3)


def test_a_sweep_over_nothing() -> None:
    (point,) = sweep([], num_videos=0, thresholds=[0.5])
    assert (point.kept, point.duplicates, point.groups, point.largest_group) == (0, 0, 0, 0)
    assert sweep([], num_videos=3, thresholds=[]) == []
    assert sweep([], num_videos=3, thresholds=[], same=[(0, 1)]) == []


# Borderline


@given(pairs=lists_of_pairs(), threshold=thresholds, count=st.integers(0, 5))
def test_borderline_pairs_are_the_nearest_on_either_side(pairs: list[Pair], threshold: float, count: int) -> None:
    assume(pairs)
    above, below = Borderline(pairs).at(threshold, count=count)
    matching = sum(pair.similarity >= threshold for pair in pairs)
    assert (len(above), len(below)) == (min(count, matching), min(count, len(pairs) - matching))
    assert all(pair.similarity >= threshold for pair in above)
    assert all(pair.similarity < threshold for pair in below)
    for shown in (above, below):
        distances = [abs(pair.similarity - threshold) for pair in shown]
        assert distances == sorted(distances)
        same_side = [pair for pair in pairs if (pair.similarity >= threshold) == (shown is above)]
        assert all(abs(p.similarity - threshold) >= max(distances, default=0) for p in set(same_side) - set(shown))
    assert Borderline(pairs[::-1]).at(threshold, count=count) == (above, below)
