"""Which pairs are worth comparing: copies among many unlike videos, hubs, and lists of any size and order."""

from __future__ import annotations

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
from dedup_lib.match.visual_words import MIN_TO_CORRECT, find_candidates

SMALL_PX = (144, 80)
MAX_IDENTICAL = 64


def short_clip(seed: int) -> list[np.ndarray]:
    return draw_clip(seed, count=2, shots=2, size_px=SMALL_PX)


@pytest.fixture(scope="module")
def alike_rows() -> list[Fingerprint]:
    """Short clips that are all unlike."""
    return [fingerprint(short_clip(seed)) for seed in range(MAX_IDENTICAL)]


def noise(seed: int, *, keypoints: int = 300) -> Fingerprint:
    """A video whose keypoints, all in one frame, look like no other's."""
    codes = np.random.default_rng(seed).integers(0, 256, (keypoints, 32), np.uint8)
    return replace(
        copy_of(1),
        keypoints=np.zeros((keypoints, 2), np.float32),
        descriptors=codes,
        keypoint_stills=np.zeros(keypoints, np.int32),
        still_times_s=np.zeros(1, np.float32),
    )


def mixed(*parts: Fingerprint) -> Fingerprint:
    """A video with the keypoints of several."""
    return replace(
        parts[0],
        keypoints=np.concatenate([part.keypoints for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        keypoint_stills=np.concatenate([part.keypoint_stills for part in parts]),
    )


def spoilt(made: Fingerprint, seed: int, *, share: float = 0.4) -> Fingerprint:
    """A copy in which that share of the keypoints looks different."""
    generator = np.random.default_rng(seed)
    other = generator.random(len(made.keypoints)) < share
    codes = made.descriptors.copy()
    codes[other] = generator.integers(0, 256, (int(other.sum()), 32), np.uint8)
    return replace(made, descriptors=codes)


@pytest.mark.parametrize("name", ["itself", "crop 10 %", "crop 20 %", "caption", "mirrored", "turned by 5°"])
def test_a_copy_is_proposed_among_many(alike_rows: list[Fingerprint], name: str) -> None:
    copy = fingerprint(COPIES[name](short_clip(7)))
    assert (7, MAX_IDENTICAL) in find_candidates([*alike_rows, copy], max_candidates=5)


def test_unlike_videos_are_hardly_proposed(alike_rows: list[Fingerprint]) -> None:
    everything = MAX_IDENTICAL * (MAX_IDENTICAL - 1) / 2
    assert len(find_candidates(alike_rows, max_candidates=5)) < 0.05 * everything


def test_a_shared_title_card_proposes_little() -> None:
    card = title_card(size_px=SMALL_PX)
    videos = [fingerprint([card, *short_clip(seed)]) for seed in range(MIN_TO_CORRECT)]
    copy = fingerprint([card, *COPIES["crop 10 %"](short_clip(4))])
    found = find_candidates([*videos, copy], max_candidates=10)
    assert (4, MIN_TO_CORRECT) in found
    assert len(found) < 2 * MIN_TO_CORRECT


def first_keypoints(made: Fingerprint, count: int) -> Fingerprint:
    return replace(
        made,
        keypoints=made.keypoints[:count],
        descriptors=made.descriptors[:count],
        keypoint_stills=made.keypoint_stills[:count],
    )


def test_a_compilation_is_compared_with_what_it_holds_and_with_nothing_else() -> None:
    held, others = [noise(seed) for seed in range(4)], [noise(seed) for seed in range(10, 46)]
    compilation = mixed(*(first_keypoints(one, 150) for one in held))
    found = find_candidates([*held, *others, compilation], max_candidates=5)
    assert found == [(row, 40) for row in range(4)]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_small_lists(count: int) -> None:
    """Where every video is a copy, what they share is in all of them, and says something all the same."""
    copies = [spoilt(noise(0), seed) for seed in range(count)]
    assert find_candidates(copies, max_candidates=5) == list(combinations(range(count), 2))
    assert find_candidates([noise(seed) for seed in range(count)], max_candidates=5) == []


@pytest.mark.parametrize("count", [2, 3])
def test_identical_videos_in_a_small_list(count: int) -> None:
    assert find_candidates([noise(0)] * count, max_candidates=5) == list(combinations(range(count), 2))


def test_lists_without_anything_to_compare() -> None:
    empty = first_keypoints(noise(0), 0)
    assert find_candidates([], max_candidates=5) == []
    assert find_candidates([None], max_candidates=5) == []
    assert find_candidates([noise(0)], max_candidates=5) == []
    assert find_candidates([None, noise(0), None], max_candidates=5) == []
    other = first_keypoints(replace(noise(0), tiny_frames=copy_of(2).tiny_frames), 0)
    assert find_candidates([empty, other], max_candidates=5) == []


@pytest.mark.parametrize("keypoints", [0, 30])
def test_coarse_shapes_propose_where_there_are_few_points(keypoints: int) -> None:
    """A blurred copy has hardly a local feature, and its coarse shapes are still there."""
    frames = short_clip(7)
    blurred = replace(
        fingerprint([np.asarray(cv2.GaussianBlur(frame, (0, 0), 6), np.uint8) for frame in frames]),
        keypoints=np.zeros((keypoints, 2), np.float32),
        descriptors=np.random.default_rng(0).integers(0, 256, (keypoints, 32), np.uint8),
        keypoint_stills=np.zeros(keypoints, np.int32),
    )
    others = [fingerprint(short_clip(seed)) for seed in range(12)]
    found = find_candidates([*others, blurred], max_candidates=2)
    assert (7, 12) in found
    assert len([rows for rows in found if rows[1] == 12]) <= 2


def test_rows_without_a_fingerprint_keep_their_numbers() -> None:
    assert find_candidates([None, noise(0), None, noise(1), noise(0), None], max_candidates=5) == [(1, 4)]


@pytest.mark.parametrize("most", [1, 4])
def test_more_copies_than_are_asked_for(most: int) -> None:
    """Each has some of the others; the comparison with the kept one closes the gaps."""
    copies = [spoilt(noise(0), seed, share=0.2) for seed in range(20)]
    found = find_candidates([*copies, *(noise(seed) for seed in range(100, 160))], max_candidates=most)
    assert found
    assert {row for rows in found for row in rows} == set(range(20))
    # Pairs that either side asks for count: no row asks for more than it may, as it is and mirrored.
    assert len(found) <= 2 * most * 20


def test_a_mirrored_copy_among_copies_is_found() -> None:
    copies = [noise(0)] * 40
    mirrored = replace(noise(0), descriptors=mirror_descriptors(noise(0).descriptors))
    found = find_candidates([*copies, mirrored, *(noise(seed) for seed in range(1, 60))], max_candidates=5)
    assert [rows for rows in found if rows[1] == 40]


def test_candidates_come_in_order_and_once() -> None:
    found = find_candidates([spoilt(noise(seed % 6), seed) for seed in range(30)], max_candidates=4)
    assert found == sorted(set(found))
    assert all(first < second for first, second in found)


@given(order=st.permutations(range(26)))
def test_the_order_of_the_list_does_not_matter(order: list[int]) -> None:
    videos: list[Fingerprint | None] = [spoilt(noise(seed // 3), seed, share=0.3) for seed in range(24)]
    videos += [None, replace(noise(0), descriptors=mirror_descriptors(noise(0).descriptors))]
    moved = find_candidates([videos[row] for row in order], max_candidates=6)
    found = sorted((min(order[one], order[other]), max(order[one], order[other])) for one, other in moved)
    assert found == find_candidates(videos, max_candidates=6)


def test_the_same_list_gives_the_same_answer() -> None:
    videos = [spoilt(noise(seed % 5), seed) for seed in range(20)]
    assert find_candidates(videos, max_candidates=3) == find_candidates(videos, max_candidates=3)


def test_a_still_video_and_its_frame() -> None:
    """How often a video shows a word does not count."""
    still = make_fingerprint(short_clip(3)[:1] * 40, times_s=[0.25 * index for index in range(40)])
    once = fingerprint(short_clip(3)[:1])
    assert still is not None
    assert find_candidates([still, once], max_candidates=5) == [(0, 1)]


def test_words_lie_in_a_folder_and_leave_nothing(tmp_path: Path) -> None:
    videos = [*(noise(seed) for seed in range(MIN_TO_CORRECT + 5)), noise(3)]
    beside = find_candidates(videos, max_candidates=3, folder=tmp_path)
    assert beside == find_candidates(videos, max_candidates=3)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match=r"the visual words of the list cannot be written to .*gone"):
        find_candidates(videos, max_candidates=3, folder=tmp_path / "gone")
