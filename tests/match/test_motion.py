"""Videos that change alike: copies at any offset and speed, two takes of one scene, frames that stand still."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import STEP_S, add_grain, draw_clip, draw_take, each, fingerprint

from dedup_lib.features.perceptual_hash import ORIENTATIONS
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.motion import (
    ALIKE,
    FREQUENCIES,
    MIN_COMPARED,
    MIN_TO_CORRELATE,
    MotionMatch,
    MotionTrack,
    compare_motion,
    correlate_segment,
    extract_motion,
)
from dedup_lib.records import Frames


def track(frames: Sequence[Frames], *, speed: float = 1.0) -> MotionTrack:
    made = fingerprint(frames, speed=speed)
    return extract_motion(made.tiny_frames, times_s=made.times_s)


def compare(first: MotionTrack, second: MotionTrack) -> MotionMatch:
    found = compare_motion(first, second)
    assert found is not None
    return found


def made_up(seed: int, frames: int) -> MotionTrack:
    """Shapes that change at random."""
    shapes = np.random.default_rng(seed).normal(size=(frames, FREQUENCIES**2)).astype(np.float32)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    return MotionTrack(shapes=shapes, times_s=np.arange(frames, dtype=np.float32) * STEP_S)


def agreeing(first_s: float, second_s: float, *, lasts_s: float = 1.0, speed: float = 1.0) -> AlignedSegment:
    """A segment in which a few frames agree."""
    return AlignedSegment(
        agreeing=3,
        compared=3,
        first_start_s=first_s,
        first_end_s=first_s + lasts_s,
        second_start_s=second_s,
        second_end_s=second_s + lasts_s / speed,
        first_coverage=0.1,
        second_coverage=0.3,
        speed=speed,
    )


def test_an_excerpt_is_compared_where_its_frames_agree() -> None:
    film = made_up(0, 80)
    excerpt = MotionTrack(shapes=film.shapes[30:46], times_s=film.times_s[:16])
    assert compare_motion(film, excerpt) is None, "less than half of the longer one"
    for known in (agreeing(7.5, 0.0), agreeing(9.0, 1.5), agreeing(8.75, 1.0)):
        for found in (
            compare_motion(film, excerpt, known=known),
            compare_motion(excerpt, film, known=known.exchanged()),
        ):
            assert found is not None and found.is_alike
            assert found.segment.correlation == pytest.approx(1.0)
            assert max(found.segment.first_coverage, found.segment.second_coverage) == 1.0
    assert compare_motion(film, excerpt, known=agreeing(3.0, 0.0)) is None, "it does not change alike there"
    assert compare_motion(film, made_up(1, 16), known=agreeing(7.5, 0.0)) is None
    short = MotionTrack(shapes=film.shapes[30:36], times_s=film.times_s[:6])
    assert compare_motion(film, short, known=agreeing(7.5, 0.0)) is None, "too few frames"


def test_a_video_changes_like_itself() -> None:
    found = compare(track(draw_take(1)), track(draw_take(1)))
    assert found.is_alike
    assert found.moves
    assert found.segment.correlation == pytest.approx(1.0)
    assert found.weaker_half == pytest.approx(1.0)
    assert (found.segment.agreeing, found.segment.compared) == (40, 40)
    assert (found.segment.first_coverage, found.segment.second_coverage) == (1.0, 1.0)
    assert found.segment.offset_s == 0.0


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: cv2.GaussianBlur(frame, (0, 0), 12),
        lambda frame: cv2.resize(frame, (14, 8), interpolation=cv2.INTER_AREA),
        lambda frame: np.clip(frame * 0.6 + 60, 0, 255),
        lambda frame: np.clip(frame + np.random.default_rng(0).normal(0, 40, frame.shape), 0, 255),
    ],
    ids=["blurred", "a stamp", "other light", "noise"],
)
def test_a_poor_copy_changes_alike(change: object) -> None:
    frames = draw_take(1)
    found = compare(track(frames), track(each(change, frames)))  # type: ignore[arg-type]
    assert found.is_alike
    assert found.segment.correlation > 0.8


@pytest.mark.parametrize("scene", [1, 2, 3])
def test_two_takes_of_one_scene_do_not_change_alike(scene: int) -> None:
    takes = [track(draw_take(seed, scene=scene)) for seed in range(4)]
    for first, second in combinations(takes, 2):
        found = compare(first, second)
        assert found.moves
        assert not found.is_alike


def test_a_cut_start_moves_everything() -> None:
    frames = draw_clip(1)
    found = compare(track(frames), track(frames[8:]))
    assert found.is_alike
    assert found.segment.offset_s == pytest.approx(-2.0, abs=STEP_S)
    assert (found.segment.first_coverage, found.segment.second_coverage) == (32 / 40, 1.0)
    assert found.segment.first_start_s == pytest.approx(2.0)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_another_speed(speed: float) -> None:
    frames = draw_clip(1)
    found = compare(track(frames), track(frames, speed=speed))
    assert found.is_alike
    assert found.segment.speed == pytest.approx(speed, rel=0.02)


@pytest.mark.parametrize("speed", [0.25, 0.3])
def test_a_speed_that_the_frames_say(speed: float) -> None:
    frames = draw_clip(1, count=80)
    played = [frames[min(int(index * speed), 79)] for index in range(round(80 / speed))]
    first, second = track(frames), track(played)
    assert compare_motion(first, second) is None, "less than half of the longer one"
    found = compare_motion(first, second, known=agreeing(0.0, 0.0, speed=speed))
    assert found is not None and found.is_alike
    assert found.segment.speed == speed


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned_frames(orientation: int) -> None:
    made = fingerprint(draw_take(1))
    turned = made.tiny_frames
    if orientation & 1:
        turned = turned[:, :, ::-1]
    if orientation & 2:
        turned = turned[:, ::-1]
    if orientation & 4:
        turned = turned.transpose(0, 2, 1)
    own, other = (extract_motion(one, times_s=made.times_s) for one in (made.tiny_frames, turned))
    assert np.allclose(own.oriented(orientation).shapes, other.shapes, atol=1e-4)


def test_a_picture_that_stands_still_says_nothing() -> None:
    still = draw_take(1)[:1] * 40
    found = compare(track(add_grain(still, seed=0)), track(add_grain(still, seed=1)))
    assert not found.moves
    assert not found.is_alike


def test_one_shared_cut_is_not_enough() -> None:
    """Two takes that are both cut to the same frame in the middle."""
    card = draw_clip(9, count=1, shots=1)
    found = compare(
        track(add_grain(draw_take(1)[:20] + card * 20, seed=0)),
        track(add_grain(draw_take(2)[:20] + card * 20, seed=1)),
    )
    assert found.segment.correlation > ALIKE
    assert not found.is_alike


def test_short_videos() -> None:
    one, long = made_up(0, 1), made_up(1, 60)
    assert compare_motion(one, one) is None
    assert compare_motion(one, long) is None
    assert compare_motion(made_up(0, 20), long) is None, "less than half of the longer one"
    fewest = made_up(0, MIN_COMPARED)
    assert compare(fewest, fewest).is_alike
    assert not compare(made_up(0, MIN_COMPARED - 1), made_up(0, MIN_COMPARED - 1)).is_alike


def test_a_gap_in_the_frames() -> None:
    """Flat frames have no tiny_frame."""
    whole = made_up(0, 40)
    kept = np.r_[0:10, 18:40]
    found = compare(whole, MotionTrack(shapes=whole.shapes[kept], times_s=whole.times_s[kept]))
    assert found.is_alike
    assert (found.segment.compared, found.segment.second_coverage) == (32, 1.0)


@given(seed=st.integers(0, 50), frames=st.tuples(st.integers(1, 40), st.integers(1, 40)), cut=st.integers(0, 12))
def test_changes_hold_together(seed: int, frames: tuple[int, int], cut: int) -> None:
    first, second = made_up(seed, frames[0]), made_up(seed + 1, frames[1])
    for one, other in ((first, second), (first, MotionTrack(shapes=first.shapes[cut:], times_s=first.times_s[cut:]))):
        if not len(other.times_s):
            continue
        found = compare_motion(one, other)
        if found is None:
            continue
        assert -1.001 <= found.segment.correlation <= 1.001
        assert -1.001 <= found.weaker_half <= 1.001
        assert 0 <= found.segment.agreeing <= found.segment.compared <= min(len(one.times_s), len(other.times_s))
        assert 0 < found.segment.first_coverage <= 1
        assert 0 < found.segment.second_coverage <= 1
        assert found.exchanged().exchanged() == found


def test_a_stretch_is_correlated_by_itself() -> None:
    """Where only a part is shared, what lies outside of it does not count."""
    shared = draw_clip(3, count=16, shots=2)
    first, second = track(draw_clip(1, count=12) + shared), track(draw_clip(2, count=12) + shared)
    inside = compare(first, first).segment
    part = MotionTrack(shapes=first.shapes[12:], times_s=first.times_s[12:])
    segment = compare(part, part).segment
    assert correlate_segment(first, second, segment) == pytest.approx(1.0, abs=1e-3)
    assert correlate_segment(first, second, inside) < 0.9


def test_few_frames_are_not_correlated() -> None:
    few = made_up(0, MIN_TO_CORRELATE - 1)
    (segment,) = [compare(made_up(0, 10), made_up(0, 10)).segment]
    assert np.isnan(correlate_segment(few, few, segment))
