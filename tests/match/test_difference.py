"""Copies of a clip in which little moves: what moves says which moments are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from scenes import SIZE_PX, add_grain, draw_canvas, each, encoded, fingerprint

from dedup_lib.match.evidence import MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import Frames

RULES = MatchThresholds(min_score=0.5, review_from=0.03)

Change = Callable[[list[Frames]], list[Frames]]

SAME_MOMENTS: dict[str, Change] = {
    "two frames a second": lambda frames: [frames[index - index % 2] for index in range(len(frames))],
    "the second half first": lambda frames: frames[len(frames) // 2 :] + frames[: len(frames) // 2],
    "twice as fast": lambda frames: frames[::2],
}


def draw_signer(seed: int, *, count: int = 32) -> list[Frames]:
    """Two hands that move before a wall which is the same for every seed, four frames a second."""
    wall = draw_canvas(np.random.default_rng(1), size_px=SIZE_PX)
    paths = np.random.default_rng(1000 + seed).uniform(-1, 1, (4, count // 2 + 4))
    frames = []
    for index in range(count):
        places = [float(np.interp(index / 2, np.arange(len(path)), path)) for path in paths]
        frame: Any = wall.copy()
        for side, across, down in ((-1, *places[:2]), (1, *places[2:])):
            hand = round(128 + side * 30 + 18 * across), round(90 + 18 * down)
            cv2.line(frame, (128 + side * 24, 144), hand, (230, 190, 170), 6, cv2.LINE_AA)
            cv2.circle(frame, hand, 7, (230, 190, 170), -1, cv2.LINE_AA)
        frames.append(np.asarray(frame, np.uint8))
    return frames


def judge(draw: Callable[[Any], list[Frames]], first: Any, second: Any, *, change: Change) -> Verdict:
    """The verdict on one encoding of what is drawn first, and a changed one of the second."""
    frames = draw(second)
    changed = change(add_grain(frames, seed=1))
    own, other = encoded(draw, first, grain=0), fingerprint(changed)
    return compare_pair(own, other, durations_s=(len(frames) / 4, len(changed) / 4)).judge(RULES)[0]


@pytest.mark.parametrize("change", SAME_MOMENTS.values(), ids=SAME_MOMENTS)
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_of_a_signer_differs_nowhere(change: Change, seed: int) -> None:
    assert judge(draw_signer, seed, seed, change=change) == Verdict.DUPLICATE


@pytest.mark.parametrize("change", SAME_MOMENTS.values(), ids=SAME_MOMENTS)
@pytest.mark.parametrize("seed", range(4))
def test_another_sign_before_the_same_wall_is_another_video(change: Change, seed: int) -> None:
    assert judge(draw_signer, seed, seed + 10, change=change) == Verdict.REVIEW


def draw_poster(price: str) -> list[Frames]:
    """A still poster, full of small words."""
    poster: Any = np.full((288, 512, 3), (240, 235, 220), np.uint8)
    for row in range(9):
        cv2.putText(
            poster, "Fresh bread and cakes every day", (12, 26 + 30 * row), 0, 0.55, (20, 20, 30), 1, cv2.LINE_AA
        )
    cv2.putText(poster, price, (360, 160), 0, 1.1, (160, 0, 0), 3, cv2.LINE_AA)
    return [np.asarray(poster, np.uint8)] * 24


def blur(frames: list[Frames]) -> list[Frames]:
    return each(lambda frame: cv2.GaussianBlur(frame, (0, 0), 3.0), frames)


def test_blur_is_no_difference() -> None:
    assert judge(draw_poster, "4.95", "4.95", change=blur) == Verdict.DUPLICATE


def test_another_price_differs_in_a_blurred_copy_too() -> None:
    assert judge(draw_poster, "4.95", "7.20", change=blur) in (Verdict.REVIEW, Verdict.DIFFERENT)
