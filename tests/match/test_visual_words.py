"""Which pairs are worth comparing: copies among many unlike videos, hubs, and lists of any size and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import COPIES, copy_of, draw_clip, fingerprint, title_card

from dedup_lib.errors import RunFolderError
from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint, mirror_descriptors
from dedup_lib.match.visual_words import MIN_TO_CORRECT, Candidate, propose_pairs

SMALL_PX = (144, 80)
MAX_IDENTICAL = 64


def short_clip(seed: int) -> list[np.ndarray]:
    return draw_clip(seed, count=2, shots=2, size_px=SMALL_PX)


@pytest.fixture(scope="module")
def alike_rows() -> list[Fingerprint]:
    """Short clips that are all unlike."""
    return [fingerprint(short_clip(seed)) for seed in range(MAX_IDENTICAL)]


def noise(seed: int, *, points: int = 300) -> Fingerprint:
    """A video whose points, all in one frame, look like no other's."""
    codes = np.random.default_rng(seed).integers(0, 256, (points, 32), np.uint8)
    return replace(
        copy_of(1),
        points=np.zeros((points, 2), np.float32),
        descriptors=codes,
        frames=np.zeros(points, np.int32),
        still_times_s=np.zeros(1, np.float32),
    )


def mixed(*parts: Fingerprint) -> Fingerprint:
    """A video with the points of several."""
    return replace(
        parts[0],
        points=np.concatenate([part.points for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
    )


def spoilt(made: Fingerprint, seed: int, *, share: float = 0.4) -> Fingerprint:
    """A copy in which that share of the points looks different."""
    generator = np.random.default_rng(seed)
    other = generator.random(len(made.points)) < share
    codes = made.descriptors.copy()
    codes[other] = generator.integers(0, 256, (int(other.sum()), 32), np.uint8)
    return replace(made, descriptors=codes)


def pairs_of(candidates: Sequence[Candidate]) -> set[tuple[int, int]]:
    return {(one.first, one.second) for one in candidates}


@pytest.mark.parametrize("name", ["itself", "crop 10 %", "crop 20 %", "caption", "mirrored", "turned by 5°"])
def test_a_copy_is_proposed_among_many(alike_rows: list[Fingerprint], name: str) -> None:
    copy = fingerprint(COPIES[name](short_clip(7)))
    found = propose_pairs([*alike_rows, copy], most=5)
    (candidate,) = [one for one in found if (one.first, one.second) == (7, MAX_IDENTICAL)]
    assert candidate.score == max(one.score for one in found)
    assert 0 < candidate.score <= 1


def test_unlike_videos_are_hardly_proposed(alike_rows: list[Fingerprint]) -> None:
    everything = MAX_IDENTICAL * (MAX_IDENTICAL - 1) / 2
    assert len(propose_pairs(alike_rows, most=5)) < 0.05 * everything
    assert len(propose_pairs(alike_rows, most=5, correct_hubness=False)) > 2 * len(propose_pairs(alike_rows, most=5))


def test_a_shared_title_card_proposes_little() -> None:
    card = title_card(size_px=SMALL_PX)
    videos = [fingerprint([card, *short_clip(seed)]) for seed in range(MIN_TO_CORRECT)]
    copy = fingerprint([card, *COPIES["crop 10 %"](short_clip(4))])
    damped = pairs_of(propose_pairs([*videos, copy], most=10))
    plain = pairs_of(propose_pairs([*videos, copy], most=10, correct_hubness=False))
    assert (4, MIN_TO_CORRECT) in damped
    assert len(damped) < 0.2 * len(plain)
    assert len(plain) > 4 * MIN_TO_CORRECT


def first_points(made: Fingerprint, count: int) -> Fingerprint:
    return replace(made, points=made.points[:count], descriptors=made.descriptors[:count], frames=made.frames[:count])


@pytest.mark.parametrize("correct_hubness", [False, True])
def test_a_compilation_is_compared_with_what_it_holds_and_with_nothing_else(correct_hubness: bool) -> None:
    held, others = [noise(seed) for seed in range(4)], [noise(seed) for seed in range(10, 46)]
    compilation = mixed(*(first_points(one, 150) for one in held))
    found = propose_pairs([*held, *others, compilation], most=5, correct_hubness=correct_hubness)
    assert pairs_of(found) == {(row, 40) for row in range(4)}


@pytest.mark.parametrize("correct_hubness", [False, True])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_small_lists(count: int, correct_hubness: bool) -> None:
    """Where every video is a copy, what they share is in all of them, and says something all the same."""
    copies = [spoilt(noise(0), seed) for seed in range(count)]
    found = propose_pairs(copies, most=5, correct_hubness=correct_hubness)
    assert pairs_of(found) == set(combinations(range(count), 2))
    assert propose_pairs([noise(seed) for seed in range(count)], most=5, correct_hubness=correct_hubness) == []


@pytest.mark.parametrize("count", [2, 3])
def test_identical_videos_in_a_small_list(count: int) -> None:
    found = propose_pairs([noise(0)] * count, most=5)
    assert found == [
        Candidate(first=first, second=second, score=1.0) for first, second in combinations(range(count), 2)
    ]


def test_lists_without_anything_to_compare() -> None:
    empty = first_points(noise(0), 0)
    assert propose_pairs([], most=5) == []
    assert propose_pairs([None], most=5) == []
    assert propose_pairs([noise(0)], most=5) == []
    assert propose_pairs([None, noise(0), None], most=5) == []
    other = first_points(replace(noise(0), tiny_frames=copy_of(2).tiny_frames), 0)
    assert propose_pairs([empty, other], most=5) == []


@pytest.mark.parametrize("points", [0, 30])
def test_coarse_shapes_propose_where_there_are_few_points(points: int) -> None:
    """A blurred copy has hardly a local feature, and its coarse shapes are still there."""
    frames = short_clip(7)
    blurred = replace(
        fingerprint([np.asarray(cv2.GaussianBlur(frame, (0, 0), 6), np.uint8) for frame in frames]),
        points=np.zeros((points, 2), np.float32),
        descriptors=np.random.default_rng(0).integers(0, 256, (points, 32), np.uint8),
        frames=np.zeros(points, np.int32),
    )
    others = [fingerprint(short_clip(seed)) for seed in range(12)]
    found = propose_pairs([*others, blurred], most=2)
    by_shape = [one for one in found if one.score == 0.0]
    assert (7, 12) in pairs_of(by_shape)
    assert [one.score for one in by_shape if (one.first, one.second) == (7, 12)] == [0.0]
    assert len([one for one in by_shape if one.second == 12]) <= 2


def test_rows_without_a_fingerprint_keep_their_numbers() -> None:
    found = propose_pairs([None, noise(0), None, noise(1), noise(0), None], most=5)
    assert pairs_of(found) == {(1, 4)}


@pytest.mark.parametrize("most", [1, 4])
def test_more_copies_than_are_asked_for(most: int) -> None:
    """Each has some of the others; the comparison with the kept one closes the gaps."""
    copies = [spoilt(noise(0), seed, share=0.2) for seed in range(20)]
    found = pairs_of(propose_pairs([*copies, *(noise(seed) for seed in range(100, 160))], most=most))
    assert found
    assert {row for rows in found for row in rows} == set(range(20))
    # Pairs that either side asks for count: no row asks for more than it may, as it is and mirrored.
    assert len(found) <= 2 * most * 20


def test_a_mirrored_copy_among_copies_has_no_score_above_one() -> None:
    copies = [noise(0)] * 40
    mirrored = replace(noise(0), descriptors=mirror_descriptors(noise(0).descriptors))
    found = propose_pairs([*copies, mirrored, *(noise(seed) for seed in range(1, 60))], most=5)
    assert [one for one in found if one.second == 40], "the mirrored one is found"
    assert all(one.score <= 1 for one in found if one.second == 40)
    assert all(0 < one.score <= 1 for one in found)


def test_candidates_come_in_order_and_once() -> None:
    found = propose_pairs([spoilt(noise(seed % 6), seed) for seed in range(30)], most=4)
    rows = [(one.first, one.second) for one in found]
    assert rows == sorted(set(rows))
    assert all(first < second for first, second in rows)


@given(order=st.permutations(range(26)), correct_hubness=st.booleans())
def test_the_order_of_the_list_does_not_matter(order: list[int], correct_hubness: bool) -> None:
    videos: list[Fingerprint | None] = [spoilt(noise(seed // 3), seed, share=0.3) for seed in range(24)]
    videos += [None, replace(noise(0), descriptors=mirror_descriptors(noise(0).descriptors))]
    plain = {
        frozenset((one.first, one.second)): one.score
        for one in propose_pairs(videos, most=6, correct_hubness=correct_hubness)
    }
    moved = {
        frozenset((order[one.first], order[one.second])): one.score
        for one in propose_pairs([videos[row] for row in order], most=6, correct_hubness=correct_hubness)
    }
    assert plain.keys() == moved.keys()
    for rows, score in plain.items():
        assert moved[rows] == pytest.approx(score, abs=2e-6)


def test_the_same_list_gives_the_same_answer() -> None:
    videos = [spoilt(noise(seed % 5), seed) for seed in range(20)]
    assert propose_pairs(videos, most=3) == propose_pairs(videos, most=3)


def test_a_still_video_is_no_hub() -> None:
    """Of a frame that is shown again and again, each word counts by the root of how often."""
    still = make_fingerprint(short_clip(3)[:1] * 40, times_s=[0.25 * index for index in range(40)])
    once = fingerprint(short_clip(3)[:1])
    assert still is not None
    (found,) = propose_pairs([still, once], most=5)
    assert found.score > 0.95


def test_words_lie_in_a_folder_and_leave_nothing(tmp_path: Path) -> None:
    videos = [*(noise(seed) for seed in range(MIN_TO_CORRECT + 5)), noise(3)]
    assert propose_pairs(videos, most=3, folder=tmp_path) == propose_pairs(videos, most=3)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match=r"the visual words of the list cannot be written to .*gone"):
        propose_pairs(videos, most=3, folder=tmp_path / "gone")
