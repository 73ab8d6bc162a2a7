"""Which copy is kept, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.keepers import BEST_OF_ALL, CHOSEN, FIRST_IN_LIST, KeeperPolicy, Traits
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.records import Marks, Outcome, Pair, Status

PLAIN = Traits(duration_s=30.0, pixels=640 * 360, codec="h264", bits_per_pixel=2.0)

some_traits = st.builds(
    Traits,
    duration_s=st.sampled_from([0.0, 10.0, 10.3, 10.6, 11.0, 30.0]),
    pixels=st.sampled_from([0, 1000, 1040, 1080, 4000]),
    codec=st.sampled_from(["h264", "vp9"]),
    bits_per_pixel=st.sampled_from([0.0, 1.0, 1.15, 1.4]),
    is_overlaid=st.booleans(),
    is_inset=st.booleans(),
    is_https=st.booleans(),
)


def best(*traits: Traits) -> KeeperPolicy:
    return KeeperPolicy(name="best", traits=traits)


def test_traits_are_read_off_an_outcome() -> None:
    outcome = Outcome(
        url="HTTPS://h/a.mp4",
        status=Status.OK,
        duration_s=10.0,
        width_px=100,
        height_px=100,
        picture_fraction=0.5,
        codec="vp9",
        size_bytes=12_500,
    )
    assert Traits.of(outcome) == Traits(duration_s=10.0, pixels=5000, codec="vp9", bits_per_pixel=2.0, is_https=True)
    assert Traits.of(Outcome(url="a.mp4", status=Status.TIMEOUT)) == Traits()


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        (Traits(duration_s=30.0, pixels=100), Traits(duration_s=28.0, pixels=9000), "longer"),
        (Traits(duration_s=28.9, pixels=9000), Traits(duration_s=30.0, pixels=100), "larger frame"),
        (Traits(codec="vp9", bits_per_pixel=2.0), Traits(codec="vp9", bits_per_pixel=1.5), "better encoding"),
        (
            Traits(codec="vp9", bits_per_pixel=2.0),
            Traits(codec="vp9", bits_per_pixel=2.0, is_overlaid=True, is_https=True),
            "without overlay",
        ),
        (Traits(codec="vp9", is_https=True), Traits(codec="h264", bits_per_pixel=9.0), "https"),
    ],
)
def test_each_criterion_decides_where_those_before_it_tie(better: Traits, worse: Traits, reason: str) -> None:
    policy = best(worse, better)
    assert policy.choose([0, 1]) == 1
    assert policy.why(1, 0) == reason


def test_a_policy_is_told_of_overlays() -> None:
    policy = best(PLAIN, PLAIN, PLAIN)
    told = policy.knowing(Marks(overlaid={0, 2}))
    assert told.choose([0, 1, 2]) == 1
    assert told.why(1, 0) == "without overlay"
    assert policy.choose([0, 1, 2]) == 0


def test_slow_motion_is_not_longer_and_fast_motion_not_better_encoded() -> None:
    slow = replace(PLAIN, duration_s=60.0, bits_per_pixel=1.0)
    fast = replace(PLAIN, duration_s=15.0, bits_per_pixel=4.0)
    policy = best(PLAIN, slow, fast)
    assert policy.choose([0, 1]) == 1 and policy.choose([0, 2]) == 0, "nothing is known of their speeds"
    told = policy.knowing(Marks(tempo={0: 1.0, 1: 0.5, 2: 2.0}))
    assert told.choose([0, 1, 2]) == 0
    assert (told.why(0, 1), told.why(0, 2)) == (FIRST_IN_LIST, FIRST_IN_LIST)
    # The speed of the first row says nothing: only how they differ counts.
    assert policy.knowing(Marks(tempo={0: 4.0, 1: 2.0, 2: 8.0})).choose([0, 1, 2]) == 0
    # What is cut out of a copy in slow motion is missing at any speed.
    cut = best(replace(PLAIN, duration_s=28.0), slow).knowing(Marks(tempo={1: 0.5}))
    assert cut.choose([0, 1]) == 1 and cut.why(1, 0) == "longer"


def test_true_ties_go_to_the_first_in_the_list() -> None:
    policy = best(PLAIN, PLAIN, PLAIN)
    assert policy.choose([2, 1]) == 1
    assert policy.why(1, 2) == FIRST_IN_LIST


def test_what_is_not_known_of_each_decides_nothing() -> None:
    policy = best(Traits(pixels=100), Traits(duration_s=30.0, pixels=100))
    assert policy.choose([0, 1]) == 0


def test_first_seen_looks_at_nothing_else() -> None:
    policy = KeeperPolicy(name="first_seen", traits=[Traits(), PLAIN])
    assert policy.choose([1, 0]) == 0
    assert policy.why(0, 1) == FIRST_IN_LIST


def test_what_a_person_chose_comes_before_the_criteria() -> None:
    policy = replace(best(Traits(duration_s=9), Traits(duration_s=30), Traits(duration_s=30)), chosen={(0, 1), (0, 2)})
    assert policy.choose([0, 1, 2]) == 0 and policy.why(0, 2) == CHOSEN
    # Of videos that nobody compared, the criteria decide as before.
    assert policy.choose([1, 2]) == 1 and policy.why(1, 2) == FIRST_IN_LIST
    circle = replace(policy, chosen={(0, 1), (1, 2), (2, 0)})
    assert circle.choose([0, 1, 2]) == 1, "a circle says nothing, and the criteria decide"
    assert circle.choose([0, 1]) == 0 and circle.choose([2, 0]) == 2


@pytest.mark.parametrize("chosen", [(0, 1), (1, 0)])
def test_a_person_may_keep_an_excerpt(chosen: tuple[int, int]) -> None:
    pair = Pair(first=0, second=1, similarity=0.9, excerpt="first")
    compared = ComparedPairs(pairs=(pair,), nearest=np.full(2, 0.9), floor=0.1, expanded_queries=0, evidence={})
    policy = replace(best(Traits(duration_s=9), Traits(duration_s=30)), chosen={chosen})
    told = compared.without_excerpts(policy.chosen)
    (group,) = group_copies(told.pairs, threshold=0.5, choose=policy.choose, same={(0, 1)})
    assert group.kept == chosen[0]
    assert compared.without_excerpts(()) is compared


@pytest.mark.parametrize("name", ["best", "first_seen"])
def test_a_teaser_that_a_person_chose_over_a_film_is_kept_rather_than_its_copies_too(
    name: Literal["best", "first_seen"],
) -> None:
    film, copy, teaser = 0, 1, 2
    pairs = (
        Pair(first=film, second=copy, similarity=0.97),
        Pair(first=film, second=teaser, similarity=0.97, excerpt="second"),
        Pair(first=copy, second=teaser, similarity=0.97, excerpt="second"),
    )
    compared = ComparedPairs(pairs=pairs, nearest=np.full(3, 0.97), floor=0.1, expanded_queries=0, evidence={})
    traits = (Traits(duration_s=30, pixels=9000), Traits(duration_s=30, pixels=100), Traits(duration_s=9))
    policy = KeeperPolicy(name=name, traits=traits, chosen={(teaser, film)})
    told = compared.without_excerpts(policy.chosen)
    (group,) = group_copies(told.pairs, threshold=0.5, choose=policy.choose, same={(film, teaser)})
    assert (group.kept, group.copies) == (teaser, (film, copy))
    assert policy.why(teaser, film) == policy.why(teaser, copy) == CHOSEN


def test_near_ties_do_not_add_up() -> None:
    # The longest and the shortest differ by more than the tolerance, each from the one between by less.
    longest, between, shortest = (
        Traits(duration_s=10.8, pixels=1000),
        Traits(duration_s=10.4, pixels=2000),
        Traits(duration_s=10.0, pixels=4000),
    )
    policy = best(longest, between, shortest)
    assert policy.choose([0, 1, 2]) == 1
    assert policy.why(1, 0) == "larger frame"
    assert policy.why(1, 2) == BEST_OF_ALL


@st.composite
def alike(draw: st.DrawFn) -> tuple[list[Traits], list[Pair]]:
    """Traits of a list without two rows alike, and pairs of its rows."""
    traits = draw(st.lists(some_traits, min_size=2, max_size=7, unique=True))
    places = [(i, j) for j in range(len(traits)) for i in range(j)]
    chosen = draw(st.lists(st.sampled_from(places), unique=True))
    return traits, [Pair(first=i, second=j, similarity=draw(st.sampled_from([0.8, 0.9, 1.0]))) for i, j in chosen]


def kept_and_copies(pairs: Sequence[Pair], traits: Sequence[Traits]) -> tuple[set[int], dict[int, int]]:
    groups = group_copies(pairs, threshold=0.85, choose=best(*traits).choose)
    return {group.kept for group in groups}, {copy: group.kept for group in groups for copy in group.copies}


@given(alike())
def test_every_copy_matches_its_kept_video_and_kept_ones_do_not_match(case: tuple[list[Traits], list[Pair]]) -> None:
    traits, pairs = case
    _, copies = kept_and_copies(pairs, traits)
    matches = {(pair.first, pair.second) for pair in pairs if pair.similarity >= 0.85}
    for copy, kept in copies.items():
        assert (min(copy, kept), max(copy, kept)) in matches
    for first, second in matches:
        assert first in copies or second in copies


@given(alike(), st.randoms(use_true_random=False))
def test_the_order_of_the_list_matters_for_true_ties_only(
    case: tuple[list[Traits], list[Pair]], random: Random
) -> None:
    traits, pairs = case
    # Rows that no criterion tells apart are told apart by their place: leave such lists out.
    for i, first in enumerate(traits):
        for second in traits[:i]:
            if best(first, second).why(0, 1) == best(second, first).why(0, 1) == FIRST_IN_LIST:
                return
    order = list(range(len(traits)))
    random.shuffle(order)
    place = {row: new for new, row in enumerate(order)}
    moved = [
        Pair(
            first=min(place[pair.first], place[pair.second]),
            second=max(place[pair.first], place[pair.second]),
            similarity=pair.similarity,
        )
        for pair in pairs
    ]
    _, copies = kept_and_copies(pairs, traits)
    _, shuffled = kept_and_copies(moved, [traits[row] for row in order])
    assert set(shuffled) == {place[copy] for copy in copies}
