"""How one frame lies in another: maps that are known, and points that agree on none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import COPIES, SIZE_PX, copy_of, draw_clip, each, fingerprint

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.perceptual_hash import count_differing_bits, hash_frames
from dedup_lib.match.evidence import MIN_REGISTERED_INLIERS, MIN_REGISTERED_SHARE
from dedup_lib.match.geometry import MIN_INLIERS, Registration, register, warp_tiny_frames
from dedup_lib.match.verify import MAX_REGISTERED_DISTANCE_BITS
from dedup_lib.records import Frames

WIDTH, HEIGHT = SIZE_PX
CORNERS = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], float)

TURN = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 5, 1.0)
MAPPED: dict[str, NDArray[np.float64]] = {
    "itself": CORNERS,
    "logo": CORNERS,
    "smaller": CORNERS / 2,
    "crop 10 %": CORNERS - (round(WIDTH * 0.05), round(HEIGHT * 0.05)),
    "crop 20 %": CORNERS - (round(WIDTH * 0.1), round(HEIGHT * 0.1)),
    "caption": CORNERS,
    "turned by 5°": CORNERS @ TURN[:, :2].T + TURN[:, 2],
    "picture in picture": (CORNERS - (WIDTH / 2, HEIGHT / 2)) * 0.7 + (WIDTH / 2, HEIGHT / 2),
    "mirrored": CORNERS,
}
"""Where the corners of the clip come to lie in each of its copies, in pixels of the copy."""


def register_copy(name: str) -> Registration:
    """A clip in one of its copies."""
    found = register(copy_of(1), copy_of(1, name), mirrored=name == "mirrored")
    assert found is not None
    return found


def with_keypoints(made: Fingerprint, count: int) -> Fingerprint:
    """The same with its first keypoints only."""
    return replace(
        made,
        keypoints=made.keypoints[:count],
        descriptors=made.descriptors[:count],
        keypoint_stills=made.keypoint_stills[:count],
    )


def scattered(seed: int, count: int, *, frames: int = 8) -> Fingerprint:
    """A fingerprint with keypoints and descriptors drawn at random."""
    generator = np.random.default_rng(seed)
    return replace(
        copy_of(1),
        keypoints=generator.uniform(0, 120, (count, 2)).astype(np.float32),
        descriptors=generator.integers(0, 256, (count, 32), np.uint8),
        keypoint_stills=np.sort(generator.integers(0, frames, count)).astype(np.int32),
    )


def test_every_copy_is_mapped_somewhere() -> None:
    assert MAPPED.keys() == COPIES.keys()


@pytest.mark.parametrize("name", COPIES)
def test_known_maps_are_found(name: str) -> None:
    found = register_copy(name)
    assert found.mirrored == (name == "mirrored")
    assert found.inliers >= MIN_REGISTERED_INLIERS
    assert MIN_INLIERS <= found.inliers <= found.matches
    mapped = CORNERS @ found.matrix[:, :2].T + found.matrix[:, 2]
    # A fingerprint looks at every frame at one size.
    enlarged = copy_of(1, name).size_px[0] / COPIES[name](draw_clip(1, count=1, shots=1))[0].shape[1]
    assert np.abs(mapped - MAPPED[name] * enlarged).max() < 3.0


@pytest.mark.parametrize("name", COPIES)
def test_the_region_lies_within_the_frame(name: str) -> None:
    found = register_copy(name)
    left, top, right, bottom = found.region
    width, height = copy_of(1, name).size_px
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert found.second_share == pytest.approx((right - left) * (bottom - top) / (width * height))
    assert 0 < found.first_share <= 1
    assert max(found.first_share, found.second_share) > 0.75


def test_shares_say_how_much_of_either_frame_is_seen() -> None:
    cropped, framed = register_copy("crop 20 %"), register_copy("picture in picture")
    assert cropped.second_share > 0.9
    assert cropped.first_share == pytest.approx(0.64, abs=0.06)
    assert framed.first_share > 0.9
    assert framed.second_share == pytest.approx(0.49, abs=0.06)


def test_a_caption_is_left_out_of_the_region() -> None:
    # A little of it may be in the margin around the points.
    made = copy_of(1, "caption")
    assert register_copy("caption").region[3] <= HEIGHT - HEIGHT // 7 + 0.06 * made.size_px[1] + 1
    assert register_copy("caption").second_share < register_copy("itself").second_share


def test_a_caption_on_top_is_left_out_of_the_region() -> None:
    def turn_over(frames: list[Frames]) -> list[Frames]:
        return each(lambda frame: frame[::-1, ::-1], frames)

    clip = draw_clip(1)
    captioned = fingerprint(turn_over(COPIES["caption"](turn_over(clip))))
    found = register(copy_of(1), captioned, mirrored=False)
    assert found is not None
    assert found.region[1] >= captioned.size_px[1] - HEIGHT + HEIGHT // 7 - 0.06 * captioned.size_px[1] - 1


def test_a_picture_in_a_picture_is_found_where_it_is() -> None:
    left, top, right, bottom = register_copy("picture in picture").region
    assert (left, top) == pytest.approx((WIDTH * 0.15, HEIGHT * 0.15), abs=6)
    assert (right, bottom) == pytest.approx((WIDTH * 0.85, HEIGHT * 0.85), abs=6)


def test_mirrored_codes_find_a_mirrored_frame() -> None:
    """Discs look the same in a mirror, so that a few points agree without them too."""
    other_way = register(copy_of(1), copy_of(1, "mirrored"), mirrored=False)
    mirrored, itself = register_copy("mirrored"), register_copy("itself")
    assert other_way is None or (other_way.inliers < 0.3 * mirrored.inliers and other_way.matrix[0, 0] < 0)
    turned_away = register(copy_of(1), copy_of(1), mirrored=True)
    assert turned_away is None or (turned_away.inliers < 0.3 * itself.inliers and turned_away.matrix[0, 0] < 0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(2, 6))
def test_unlike_clips_agree_on_no_map(seed: int, mirrored: bool) -> None:
    found = register(copy_of(1), copy_of(seed), mirrored=mirrored)
    assert found is None or found.inliers < MIN_REGISTERED_INLIERS


def badge(frame: Any) -> Any:
    """A corner mark full of detail, a quarter of the frame wide and a third high."""
    marked = frame.copy()
    cv2.rectangle(marked, (4, 4), (60, 44), (250, 250, 250), -1)
    for row, word in enumerate(("NEWS", "24h", "LIVE")):
        cv2.putText(marked, word, (7, 16 + 12 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (200, 20, 30), 1, cv2.LINE_AA)
    return marked


def test_a_shared_logo_covers_too_little() -> None:
    first, second = (fingerprint(each(badge, draw_clip(seed))) for seed in (21, 22))
    found = register(first, second, mirrored=False)
    assert found is not None, "the badge is there to be found"
    assert max(found.first_share, found.second_share) < MIN_REGISTERED_SHARE


@pytest.mark.parametrize("name", ["crop 20 %", "caption", "turned by 5°", "picture in picture", "mirrored"])
def test_frames_laid_on_one_another_agree(name: str) -> None:
    first, second = copy_of(1), copy_of(1, name)
    warped_first, warped_second = warp_tiny_frames(first, second, register_copy(name))
    assert warped_first.shape == warped_second.shape == (40, 64, 64)
    assert warped_first.dtype == warped_second.dtype == np.uint8
    distances = np.diag(count_differing_bits(hash_frames(warped_first), hash_frames(warped_second)))
    assert distances.max() <= MAX_REGISTERED_DISTANCE_BITS


def test_laying_does_not_make_unlike_frames_alike() -> None:
    """Of the same geometry, but another film."""
    unlike = replace(copy_of(1, "crop 20 %"), tiny_frames=copy_of(2, "crop 20 %").tiny_frames)
    warped_first, warped_second = warp_tiny_frames(copy_of(1), unlike, register_copy("crop 20 %"))
    distances = count_differing_bits(hash_frames(warped_first), hash_frames(warped_second))
    assert distances.min() > MAX_REGISTERED_DISTANCE_BITS


def test_laying_keeps_the_number_of_frames() -> None:
    short = replace(
        copy_of(1),
        tiny_frames=copy_of(1).tiny_frames[:1],
        times_s=copy_of(1).times_s[:1],
        weights=copy_of(1).weights[:1],
    )
    warped_first, warped_second = warp_tiny_frames(short, copy_of(1, "crop 20 %"), register_copy("crop 20 %"))
    assert (len(warped_first), len(warped_second)) == (1, 40)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, MIN_INLIERS - 1])
def test_few_points_agree_on_nothing(count: int) -> None:
    few = with_keypoints(copy_of(1), count)
    for first, second in ((few, copy_of(1)), (copy_of(1), few), (few, few)):
        for mirrored in (False, True):
            assert register(first, second, mirrored=mirrored) is None


def test_points_of_one_frame_are_enough() -> None:
    one = with_keypoints(copy_of(1), 100)
    assert set(one.keypoint_stills.tolist()) == {0}
    found = register(one, copy_of(1), mirrored=False)
    assert found is not None
    assert found.matrix == pytest.approx(np.eye(2, 3), abs=0.05)


def test_identical_codes_everywhere_do_no_harm() -> None:
    """A chessboard looks the same at each of its corners."""
    same = replace(scattered(0, 1200), descriptors=np.full((1200, 32), 77, np.uint8))
    found = register(same, replace(same, keypoints=scattered(1, 1200).keypoints), mirrored=False)
    assert found is None


@pytest.mark.parametrize("slope", [0.0, 0.7, 1.0])
def test_points_on_one_line_do_no_harm(slope: float) -> None:
    """Text in one line: how high the frame is cannot be known."""
    points = np.stack([np.linspace(5, 200, 120), 20 + slope * np.linspace(5, 100, 120)], axis=1).astype(np.float32)
    line = replace(scattered(2, 120), keypoints=points)
    found = register(line, replace(line, keypoints=points + np.float32(3.0)), mirrored=False)
    if slope == 0:
        assert found is None or max(found.first_share, found.second_share) < MIN_REGISTERED_SHARE
    else:
        assert found is None or np.isfinite(found.matrix).all()


def test_points_in_one_place_tell_no_map() -> None:
    spot = replace(scattered(3, 60), keypoints=np.full((60, 2), 50, np.float32))
    assert register(spot, spot, mirrored=False) is None
    assert register(spot, scattered(3, 60), mirrored=False) is None


@pytest.mark.parametrize("scale", [0.1, 8.0])
def test_what_would_be_far_too_large_is_no_copy(scale: float) -> None:
    points = scattered(4, 300)
    scaled = replace(points, keypoints=points.keypoints * np.float32(scale))
    assert register(points, scaled, mirrored=False) is None


def test_what_would_be_squeezed_is_no_copy() -> None:
    points = scattered(5, 300)
    squeezed = replace(points, keypoints=points.keypoints * np.array([3.0, 1.0], np.float32))
    assert register(points, squeezed, mirrored=False) is None
    stretched = replace(points, keypoints=points.keypoints * np.array([1.5, 1.0], np.float32))
    assert register(points, stretched, mirrored=False) is not None


@given(seed=st.integers(0, 1000), first=st.integers(0, 60), second=st.integers(0, 60), frames=st.integers(1, 16))
def test_noise_agrees_on_no_map(seed: int, first: int, second: int, frames: int) -> None:
    left, right = scattered(seed, first, frames=frames), scattered(seed + 1, second, frames=frames)
    assert register(left, right, mirrored=False) is None


def test_the_same_answer_each_time() -> None:
    one, other = (register(copy_of(1), copy_of(1, "turned by 5°"), mirrored=False) for _ in range(2))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.matrix, other.matrix)
    assert replace(one, matrix=other.matrix) == other
