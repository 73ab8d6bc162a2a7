"""What two videos show at the same moments: two recordings of one program, a replaced scene, a fast camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from scenes import SIZE_PX, STEP_S, add_grain, draw_canvas, draw_clip, fingerprint

from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint
from dedup_lib.match.evidence import Criterion, Evidence, MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import Frames

RULES = MatchThresholds(min_score=0.5, review_from=0.03)


def compare(first: Fingerprint, second: Fingerprint) -> Evidence:
    found = compare_pair(first, second, durations_s=[float(one.times_s[-1]) + STEP_S for one in (first, second)])
    assert compare_pair(second, first, durations_s=[10.0, 10.0]).moments == found.moments
    return found


def record_program(places: Sequence[float], *, dark: bool = True) -> list[Frames]:
    """A recording of a list that is scrolled to these places, from 0 to 1, one a frame."""
    page: Any = np.full((900, SIZE_PX[0], 3), 245, np.uint8)
    for row in range(25):
        if row % 3 == 0:
            cv2.rectangle(page, (0, row * 36), (SIZE_PX[0], row * 36 + 30), (60, 60, 70) if dark else (90, 140, 90), -1)
        ink = (250, 250, 250) if row % 3 == 0 else (20, 20, 20)
        cv2.putText(page, f"Item {row * 7 % 25}", (8 + row * 11 % 90, 24 + row * 36), 0, 0.7, ink, 2, cv2.LINE_AA)
    tops = [round(place * (len(page) - SIZE_PX[1])) for place in places]
    return [np.ascontiguousarray(page[top : top + SIZE_PX[1]]) for top in tops]


def scrolled(turn: float) -> list[float]:
    """Places of a list that is scrolled down, stands, is scrolled on to `turn` for two seconds, and goes back."""
    return [*np.linspace(0, 0.5, 10), *[0.5] * 10, *[turn] * 8, *[0.5] * 6, *[0.0] * 6]


def test_two_recordings_of_one_program_are_no_copies() -> None:
    first = fingerprint(add_grain(record_program(scrolled(0.9)), seed=0))
    other = compare(first, fingerprint(add_grain(record_program(scrolled(0.7)), seed=1)))
    assert other.judge(RULES) == (Verdict.REVIEW, Criterion.MOMENTS)
    assert other.moments is not None and other.moments.unlike == 8
    again = compare(first, fingerprint(add_grain(record_program(scrolled(0.9)), seed=1)))
    assert again.judge(RULES) == (Verdict.DUPLICATE, Criterion.FRAMES)


@pytest.mark.parametrize(
    ("versions", "verdict"),
    [("review", Verdict.REVIEW), ("remove", Verdict.DUPLICATE), ("keep", Verdict.DIFFERENT)],
)
def test_the_setting_for_versions_says_what_becomes_of_a_film_with_another_scene(
    versions: Any, verdict: Verdict
) -> None:
    frames, others = draw_clip(1), draw_clip(2)
    found = compare(fingerprint(frames), fingerprint(frames[:12] + others[12:18] + frames[18:]))
    rules = MatchThresholds(min_score=0.5, review_from=0.03, versions=versions)
    assert found.judge(rules) == (verdict, Criterion.MOMENTS)


@pytest.mark.parametrize("damaged", [1, 2])
def test_single_damaged_frames_make_no_other_video(damaged: int) -> None:
    frames, others = draw_clip(3), draw_clip(4)
    broken = frames[:20] + others[20 : 20 + damaged] + frames[20 + damaged :]
    assert compare(fingerprint(frames), fingerprint(broken)).judge(RULES)[0] == Verdict.DUPLICATE


def pan(at_s: float) -> Frames:
    """What a camera shows that stands still, turns fast, stands still, and so on: 400 pixels a second."""
    canvas = draw_canvas(np.random.default_rng(5), size_px=(2400, SIZE_PX[1]))
    turned_s = sum(np.clip(at_s - start_s, 0, 1) for start_s in (1.5, 4.0, 6.5))
    left = round(400 * float(turned_s))
    return np.ascontiguousarray(canvas[:, left : left + SIZE_PX[0]])


@pytest.mark.parametrize("phase_s", [0.03, 0.08, 0.125, 0.2])
def test_a_copy_scanned_between_the_frames_of_a_fast_camera_is_a_copy(phase_s: float) -> None:
    """A tenth of a second later such a camera shows something else, but that is another moment."""
    scans = []
    for start_s in (0.0, phase_s):
        times_s = [index * STEP_S for index in range(36)]
        made = make_fingerprint([pan(start_s + time_s) for time_s in times_s], times_s=times_s)
        assert made is not None
        scans.append(made)
    found = compare(*scans)
    assert found.judge(RULES)[0] == Verdict.DUPLICATE
    assert found.moments is None


MOMENTS_UNKNOWN: dict[str, Callable[[list[Frames]], list[Frames]]] = {
    "twice as fast": lambda frames: frames[::2],
    "the second half first": lambda frames: frames[len(frames) // 2 :] + frames[: len(frames) // 2],
}


@pytest.mark.parametrize("change", MOMENTS_UNKNOWN.values(), ids=MOMENTS_UNKNOWN)
def test_moments_are_compared_only_where_they_are_known(change: Callable[[list[Frames]], list[Frames]]) -> None:
    frames = draw_clip(6, count=64)
    assert compare(fingerprint(frames), fingerprint(change(frames))).moments is None
