"""Do two videos show the same frames at the same times? Known offsets and speeds, and what always holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import STEP_S, copy_of, draw_clip, times, title_card

from dedup_lib.features.perceptual_hash import (
    HASH_BITS,
    ORIENTATIONS,
    Hashes,
    count_differing_bits,
    hash_frames,
    hash_orientations,
)
from dedup_lib.match.alignment import AlignedSegment, align
from dedup_lib.match.temporal_votes import OFFSET_TOLERANCE_S
from dedup_lib.match.verify import MAX_DISTANCE_BITS
from dedup_lib.records import Frames


def turn(frames: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Frames (N, 64, 64) in one of the `ORIENTATIONS`, by what these say."""
    if orientation & 1:
        frames = frames[:, :, ::-1]
    if orientation & 2:
        frames = frames[:, ::-1]
    return frames.transpose(0, 2, 1) if orientation & 4 else frames


def hashes(frames: list[Frames]) -> Hashes:
    """Of frames as they are."""
    small = [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA) for frame in frames
    ]
    return hash_frames(np.stack(small).astype(np.uint8))


def compare(
    first: list[Frames],
    second: list[Frames],
    *,
    first_times_s: list[float] | None = None,
    second_times_s: list[float] | None = None,
) -> AlignedSegment | None:
    """Both are scanned at the same step unless times are given."""
    return align(
        hashes(first),
        hashes(second),
        first_times_s=np.array(first_times_s or times(len(first)), np.float32),
        second_times_s=np.array(second_times_s or times(len(second)), np.float32),
        max_distance=MAX_DISTANCE_BITS,
    )


def found(segment: AlignedSegment | None) -> AlignedSegment:
    assert segment is not None
    return segment


def play(frames: list[Frames], speed: float) -> list[Frames]:
    """What a scan at the same step takes of a clip that runs so much faster."""
    count = int((len(frames) - 1) / speed) + 1
    return [frames[min(round(index * speed), len(frames) - 1)] for index in range(count)]


CLIP = draw_clip(11, count=60, shots=8)
OTHER = draw_clip(12, count=60, shots=8)


# --- hashes


def test_hashes_are_balanced_and_their_own() -> None:
    own = hashes(CLIP)
    assert (own.shape, own.dtype) == ((60, HASH_BITS // 8), np.uint8)
    assert (np.bitwise_count(own).sum(axis=1) == HASH_BITS // 2).all()
    assert (np.diag(count_differing_bits(own, own)) == 0).all()


def test_hashes_do_not_mind_brightness_and_contrast() -> None:
    darker = [(frame * 0.6 + 10).astype(np.uint8) for frame in CLIP[:8]]
    assert np.diag(count_differing_bits(hashes(CLIP[:8]), hashes(darker))).max() < 20


def test_hashes_of_unlike_frames_lie_far_apart() -> None:
    assert count_differing_bits(hashes(CLIP), hashes(OTHER)).min() > MAX_DISTANCE_BITS


def test_a_hash_does_not_depend_on_its_neighbours() -> None:
    assert np.array_equal(hashes(CLIP)[7:9], hashes(CLIP[7:9]))


def test_orientations_are_the_eight_ways_to_lay_a_square() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
    ways = [turn(frame, orientation) for orientation in ORIENTATIONS]
    assert len({way.tobytes() for way in ways}) == 8
    wanted: list[NDArray[Any]] = [
        np.stack([np.rot90(one, quarter) for one in way]) for way in (frame, frame[:, :, ::-1]) for quarter in range(4)
    ]
    assert {way.tobytes() for way in ways} == {way.tobytes() for way in wanted}


def test_frames_are_hashed_in_each_orientation_at_once() -> None:
    frames = np.stack([copy_of(1).tiny_frames[0], *np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)])
    found = hash_orientations(frames)
    assert found.shape == (len(ORIENTATIONS), 3, 32)
    for orientation in ORIENTATIONS:
        # Rounding turns a bit at the median.
        assert np.diag(count_differing_bits(found[orientation], hash_frames(turn(frames, orientation)))).max() <= 2


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_one_orientation_finds_a_turned_copy(quarter: int, mirrored: bool) -> None:
    frame = copy_of(1).tiny_frames[:20]
    copy = np.stack([np.rot90(one[:, ::-1] if mirrored else one, quarter) for one in frame])
    at = np.array(times(20), np.float32)
    segments = [
        align(
            own,
            hash_frames(copy),
            first_times_s=at,
            second_times_s=at,
            max_distance=MAX_DISTANCE_BITS,
        )
        for own in hash_orientations(frame)
    ]
    assert [segment.agreeing for segment in segments if segment is not None] == [20]


# --- where the frames of a video lie seconds apart

FILM = draw_clip(13, count=240, shots=40)
"""A minute; all but its first ten seconds are looked at every one and a half."""


def film(frames: list[Frames], *, first: int = 40, shift: int = 0, later_s: float = 0.0) -> dict[str, Any]:
    """Hashes, times and weights of what a scan takes of a film; what comes after its dense part is shown `later_s`
    later."""
    kept = [index for index in range(len(frames)) if index < first or (index + shift) % 6 == 0]
    return {
        "hashes": hashes([frames[index] for index in kept]),
        "times_s": np.array([index * STEP_S + (later_s if index >= first else 0) for index in kept], np.float32),
        "weights": np.array([1 if index < first else 6 for index in kept], np.float32),
    }


def align_films(first: dict[str, Any], second: dict[str, Any]) -> AlignedSegment | None:
    return align(
        first["hashes"],
        second["hashes"],
        first_times_s=first["times_s"],
        second_times_s=second["times_s"],
        first_weights=first["weights"],
        second_weights=second["weights"],
        max_distance=MAX_DISTANCE_BITS,
    )


@pytest.mark.parametrize("start", [60, 121, 150, 197])
@pytest.mark.parametrize("later_s", [0.0, 7200.0])
def test_an_excerpt_is_found_where_few_frames_lie(start: int, later_s: float) -> None:
    excerpt = film(FILM[start : start + 40], first=40)
    segment = found(align_films(excerpt, film(FILM, later_s=later_s)))
    assert segment.offset_s == pytest.approx(start * STEP_S + later_s, abs=OFFSET_TOLERANCE_S)
    assert 5 <= segment.agreeing == segment.compared <= 8
    assert (segment.agreement, segment.first_coverage) == (1.0, 1.0)
    assert segment.second_coverage == pytest.approx(segment.compared * 6 / 240, abs=0.01)
    own, others = segment.frame_correspondences(excerpt["times_s"], film(FILM, later_s=later_s)["times_s"])
    # Each frame of the film stands beside one.
    assert len(own) == len(others) == segment.compared == len(set(others.tolist()))
    exchanged = found(align_films(film(FILM, later_s=later_s), excerpt))
    assert (exchanged.exchanged().agreeing, exchanged.second_coverage) == (segment.agreeing, 1.0)


def test_a_clip_of_which_half_is_in_a_film_is_covered_by_half() -> None:
    clip = film([*FILM[120:140], *OTHER[:20]], first=40)
    segment = found(align_films(clip, film(FILM)))
    assert segment.first_coverage == pytest.approx(0.5, abs=0.1)


def test_films_that_share_only_their_dense_part_share_little() -> None:
    other = draw_clip(14, count=240, shots=40)
    segment = found(align_films(film(FILM), film([*FILM[:40], *other[40:]])))
    assert segment.agreeing == 40
    assert (segment.first_coverage, segment.second_coverage) == (pytest.approx(40 / 240, abs=0.02),) * 2
    # What they share at the end does not bring together what differs in between.
    ends_alike = [*FILM[:40], *other[40:210], *FILM[210:]]
    assert found(align_films(film(FILM), film(ends_alike))).first_coverage < 0.3


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_copies_of_a_film_need_not_be_looked_at_at_the_same_moments(shift: int) -> None:
    segment = found(align_films(film(FILM), film(FILM, shift=shift)))
    assert segment.offset_s == 0 and segment.agreement > 0.9
    assert min(segment.first_coverage, segment.second_coverage) == 1.0


# --- offsets and speeds


def test_a_video_agrees_with_itself() -> None:
    segment = found(compare(CLIP, CLIP))
    assert (segment.agreeing, segment.compared, segment.agreement) == (60, 60, 1.0)
    assert (segment.offset_s, segment.speed) == (0.0, 1.0)
    assert (segment.first_coverage, segment.second_coverage) == (1.0, 1.0)
    assert (segment.first_start_s, segment.first_end_s) == (0.0, 59 * STEP_S)
    assert segment.strength == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_short_videos_agree_with_themselves(count: int) -> None:
    segment = found(compare(CLIP[:count], CLIP[:count]))
    assert (segment.agreeing, segment.compared, segment.offset_s, segment.speed) == (count, count, 0.0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_a_still_picture_agrees_with_itself(count: int) -> None:
    segment = found(compare(CLIP[:1] * count, CLIP[:1] * count))
    assert (segment.agreeing, segment.compared, segment.offset_s, segment.speed) == (count, count, 0.0, 1.0)


@pytest.mark.parametrize("cut", [1, 3, 8, 20, 45])
def test_a_trimmed_start_gives_the_offset(cut: int) -> None:
    segment = found(compare(CLIP, CLIP[cut:]))
    assert segment.offset_s == pytest.approx(-cut * STEP_S, abs=OFFSET_TOLERANCE_S)
    assert segment.agreement > 0.95
    assert segment.second_coverage == pytest.approx(1.0, abs=0.1)
    assert segment.first_coverage == pytest.approx((60 - cut) / 60, abs=0.04)
    assert segment.first_end_s == 59 * STEP_S


def test_a_foreign_intro_gives_the_offset() -> None:
    segment = found(compare(CLIP, OTHER[:8] + CLIP))
    assert segment.offset_s == pytest.approx(2.0, abs=0.01)
    assert (segment.agreeing, segment.compared) == (60, 60)
    assert segment.first_coverage == 1.0
    assert segment.second_coverage == pytest.approx(60 / 68)
    assert segment.second_start_s == pytest.approx(2.0, abs=0.01)


def test_a_still_foreign_intro_gives_the_offset() -> None:
    segment = found(compare(CLIP, [title_card()] * 8 + CLIP))
    assert segment.offset_s == pytest.approx(2.0, abs=0.01)


def test_something_foreign_in_the_middle() -> None:
    """Commercials of two seconds: the two halves have different offsets, and both are found."""
    segment = found(compare(CLIP, CLIP[:20] + OTHER[:8] + CLIP[20:]))
    assert segment.offset_s == pytest.approx(2.0, abs=OFFSET_TOLERANCE_S)
    assert segment.first_start_s == pytest.approx(20 * STEP_S, abs=0.5)
    assert segment.agreement > 0.9
    assert len(segment.further) == 1
    assert segment.first_coverage == pytest.approx(1.0, abs=0.05)
    assert segment.second_coverage == pytest.approx(60 / 68, abs=0.05)


@pytest.mark.parametrize("order", [(1, 0), (2, 0, 3, 1)])
def test_another_order_is_found(order: tuple[int, ...]) -> None:
    quarters = [CLIP[round(60 * part / len(order)) : round(60 * (part + 1) / len(order))] for part in range(len(order))]
    again = [frame for part in order for frame in quarters[part]]
    segment = found(compare(CLIP, again))
    assert len(segment.further) == len(order) - 1
    assert segment.agreement > 0.9
    assert min(segment.first_coverage, segment.second_coverage) > 0.9
    at = np.array(times(60), np.float32)
    places, others = segment.frame_correspondences(at, at)
    assert len(places) > 54
    same = [np.array_equal(CLIP[place], again[other]) for place, other in zip(places, others, strict=True)]
    assert np.mean(same) > 0.9
    turned = segment.exchanged()
    assert np.array_equal(turned.frame_correspondences(at, at)[0], np.unique(others))


def test_what_is_shown_twice_counts_once() -> None:
    segment = found(compare(CLIP[:20], CLIP[:20] * 3))
    assert (segment.agreeing, segment.compared, segment.further) == (20, 20, ())
    assert segment.second_coverage == pytest.approx(1 / 3)


def test_a_short_part_elsewhere_is_no_further_one() -> None:
    """Half a second of one studio at another time proves nothing."""
    segment = found(compare(CLIP, [*CLIP[:40], *OTHER[:20], *CLIP[50:53]]))
    assert segment.further == ()


def test_a_replaced_middle_is_held_against_it() -> None:
    segment = found(compare(CLIP, CLIP[:26] + OTHER[26:34] + CLIP[34:]))
    assert (segment.first_coverage, segment.second_coverage) == (1.0, 1.0)
    assert segment.agreement == pytest.approx(52 / 60, abs=0.04)


@pytest.mark.parametrize("speed", [1.05, 1.25, 0.8, 25 / 24, 24 / 25, 0.25, 0.35, 0.6, 1.7, 2.5, 3.3, 4])
def test_another_speed_is_found(speed: float) -> None:
    clip = draw_clip(13, count=160 if speed > 0.7 else 60, shots=20)
    fast = play(clip, speed)
    segment = found(compare(clip, fast))
    assert segment.speed == pytest.approx(speed, rel=0.015)
    assert segment.agreement > 0.9
    assert min(segment.first_coverage, segment.second_coverage) > 0.9
    assert segment.offset_s == pytest.approx(0.0, abs=0.5)


def test_frames_that_stay_and_frames_that_are_missing() -> None:
    """Every two seconds the copy stalls for half a second, or leaves it out."""
    stalled = [frame for index, frame in enumerate(CLIP) for _ in range(3 if index % 8 == 7 else 1)]
    dropped = [frame for index, frame in enumerate(CLIP) if index % 8 < 6]
    for copy in (stalled, dropped):
        segment = found(compare(CLIP, copy))
        assert segment.agreement > 0.6
        assert min(segment.first_coverage, segment.second_coverage) > 0.9


def test_far_ends_of_long_videos_meet() -> None:
    clip = draw_clip(15, count=240, shots=30)
    segment = found(compare(clip, play(clip, 1.06)))
    assert segment.speed == pytest.approx(1.06, rel=0.005)
    assert min(segment.first_coverage, segment.second_coverage) > 0.95


def test_a_shared_intro_covers_little() -> None:
    intro = draw_clip(14, count=8, shots=1)
    segment = found(compare(intro + CLIP, intro + OTHER))
    assert segment.agreement > 0.85
    assert segment.first_coverage == pytest.approx(8 / 68, abs=0.04)
    assert segment.second_coverage == pytest.approx(8 / 68, abs=0.04)


def test_unlike_videos_share_nothing() -> None:
    assert compare(CLIP, OTHER) is None


def test_a_single_shared_frame_is_a_weak_segment() -> None:
    segment = found(compare(CLIP, [*OTHER[:30], CLIP[3], *OTHER[30:]]))
    assert segment.strength < 0.05
    assert segment.first_coverage < 0.1


def test_a_slower_scan_still_agrees() -> None:
    """A video with one frame a second, against all of them."""
    slow = CLIP[::4]
    for first, second in ((CLIP, slow), (slow, CLIP)):
        rate = [STEP_S * (4 if one is slow else 1) for one in (first, second)]
        segment = found(
            compare(
                first,
                second,
                first_times_s=[rate[0] * index for index in range(len(first))],
                second_times_s=[rate[1] * index for index in range(len(second))],
            )
        )
        assert segment.speed == 1.0
        assert segment.offset_s == pytest.approx(0.0, abs=0.51)
        assert segment.agreement > 0.6
        assert min(segment.first_coverage, segment.second_coverage) > 0.9


def test_times_that_jitter_do_not_matter() -> None:
    jitter = np.sort(np.random.default_rng(0).uniform(-0.06, 0.06, 60) + np.arange(60) * STEP_S)
    segment = found(compare(CLIP, CLIP, second_times_s=[float(time_s) + 3 for time_s in jitter]))
    assert (segment.agreeing, segment.compared) == (60, 60)
    assert segment.offset_s == pytest.approx(3.0, abs=0.1)


def test_equal_times_do_no_harm() -> None:
    """A damaged file may give all its frames one time."""
    segment = found(compare(CLIP[:6], CLIP[:6], first_times_s=[0.5] * 6, second_times_s=[0.5] * 6))
    assert 0 < segment.agreeing <= segment.compared <= 6


def test_gaps_in_time_do_no_harm() -> None:
    """Flat frames are left out, so that times may jump."""
    at = [time_s + (30.0 if index >= 20 else 0.0) for index, time_s in enumerate(times(60))]
    segment = found(compare(CLIP, CLIP, first_times_s=at, second_times_s=at))
    assert (segment.agreeing, segment.compared, segment.offset_s) == (60, 60, 0.0)


# --- what always holds

POOL = hash_frames(np.random.default_rng(5).integers(0, 256, (12, 64, 64), np.uint8))
SEQUENCE = st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=30)


@st.composite
def timed(draw: st.DrawFn, *, steps_s: Sequence[float]) -> tuple[Hashes, NDArray[np.float32]]:
    """Frames of a small pool, so that many are alike, at times that never fall."""
    shown = draw(SEQUENCE)
    steps = draw(st.lists(st.sampled_from(steps_s), min_size=len(shown), max_size=len(shown)))
    return POOL[shown], np.cumsum(steps).astype(np.float32)


ANY_STEPS_S = (0.0, 0.2, 0.25, 0.3, 2.0)


@given(first=timed(steps_s=ANY_STEPS_S), second=timed(steps_s=ANY_STEPS_S))
def test_a_stretch_lies_within_both_videos(
    first: tuple[Hashes, NDArray[np.float32]], second: tuple[Hashes, NDArray[np.float32]]
) -> None:
    segment = align(
        first[0], second[0], first_times_s=first[1], second_times_s=second[1], max_distance=MAX_DISTANCE_BITS
    )
    are_alike = bool((count_differing_bits(first[0], second[0]) == 0).any())
    assert (segment is not None) == are_alike
    if segment is None:
        return
    assert 0 < segment.agreeing <= segment.compared <= max(len(first[0]), len(second[0]))
    assert 0 < segment.agreement <= 1
    assert 0 < segment.first_coverage <= 1
    assert 0 < segment.second_coverage <= 1
    assert 0 < segment.strength <= 1
    assert first[1][0] <= segment.first_start_s <= segment.first_end_s <= first[1][-1]
    assert second[1][0] <= segment.second_start_s <= segment.second_end_s <= second[1][-1]


@given(shown=timed(steps_s=(0.25, 0.5, 2.0)))
def test_every_video_agrees_wholly_with_itself(shown: tuple[Hashes, NDArray[np.float32]]) -> None:
    bits, at = shown
    segment = found(align(bits, bits, first_times_s=at, second_times_s=at, max_distance=MAX_DISTANCE_BITS))
    assert segment.agreement == 1.0
    assert (segment.first_coverage, segment.second_coverage, segment.offset_s) == (1.0, 1.0, 0.0)


@given(
    start=st.integers(0, 30),
    length=st.integers(8, 30),
    intro=st.integers(0, 12),
    speed=st.sampled_from([1.0, 1.25, 0.8]),
)
def test_exchanging_the_videos_exchanges_the_answer(start: int, length: int, intro: int, speed: float) -> None:
    first = hashes(CLIP)
    second = np.concatenate([hashes(OTHER)[:intro], hashes(play(CLIP[start : start + length], speed))])
    at = [np.array(times(len(one)), np.float32) for one in (first, second)]
    there = found(align(first, second, first_times_s=at[0], second_times_s=at[1], max_distance=MAX_DISTANCE_BITS))
    back = found(align(second, first, first_times_s=at[1], second_times_s=at[0], max_distance=MAX_DISTANCE_BITS))
    assert there.agreement == pytest.approx(back.agreement, abs=0.15)
    assert there.first_coverage == pytest.approx(back.second_coverage, abs=0.1)
    assert there.second_coverage == pytest.approx(back.first_coverage, abs=0.15)
    assert there.first_start_s == pytest.approx(back.second_start_s, abs=0.8)
    assert there.second_start_s == pytest.approx(back.first_start_s, abs=0.8)


@given(shift_s=st.floats(-500, 500))
def test_only_differences_of_times_matter(shift_s: float) -> None:
    bits, at = hashes(CLIP), np.array(times(60), np.float32)
    second = bits[10:50]
    plain = found(align(bits, second, first_times_s=at, second_times_s=at[:40], max_distance=MAX_DISTANCE_BITS))
    moved = found(
        align(
            bits,
            second,
            first_times_s=at,
            second_times_s=(at[:40] + shift_s).astype(np.float32),
            max_distance=MAX_DISTANCE_BITS,
        )
    )
    assert moved.agreeing == pytest.approx(plain.agreeing, abs=2)
    assert moved.offset_s == pytest.approx(plain.offset_s + shift_s, abs=0.3)
