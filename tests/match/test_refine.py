"""Refined alignment: copies that no single affine map fits, and fades, differ nowhere; another product does."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from scenes import add_grain, draw_canvas, draw_clip, each, encoded, fingerprint

from dedup_lib.evaluate.edits import Clip, Edit, fade, shake, tilt, zoom_in
from dedup_lib.evaluate.edits import each as per_frame
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.match.evidence import Criterion, Evidence, MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import Frames

RULES = MatchThresholds(min_score=0.5, review_from=0.03)

Change = Callable[[list[Frames]], list[Frames]]


def warp(frame: Frames, corners: list[tuple[float, float]]) -> Frames:
    """The frame in a quadrangle with these corners, as shares of the frame; black around it."""
    height, width = frame.shape[:2]
    to_pixels = np.array([width, height], np.float32)
    source = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * to_pixels
    matrix = cv2.getPerspectiveTransform(source, np.array(corners, np.float32) * to_pixels)
    return np.asarray(cv2.warpPerspective(frame, matrix, (width, height)), np.uint8)


def edited(edit: Edit) -> Change:
    """An edit of `evaluate.edits`, for the frames of a clip."""

    def change(frames: list[Frames]) -> list[Frames]:
        clip = Clip(frames=tuple(frames))
        return [frame for _, frame in edit(clip, clip)]

    return change


def film_from_a_screen(frames: list[Frames]) -> list[Frames]:
    return [warp(frame, [(0.05, 0.04), (0.96, 0.08), (0.97, 0.94), (0.03, 0.97)]) for frame in frames]


def fade_to_white(frames: list[Frames]) -> list[Frames]:
    """In and out, an eighth of the frames each: a fade of the negative to black."""
    return each(lambda frame: 255 - frame, edited(fade)(each(lambda frame: 255 - frame, frames)))


CHANGES: dict[str, Change] = {
    "tilted": edited(per_frame(tilt)),
    "filmed from a screen": film_from_a_screen,
    "shaken": edited(shake),
    "zoomed into": edited(zoom_in),
    "faded to black": edited(fade),
    "faded to white": fade_to_white,
}


def draw_advertisement(product: int) -> list[Frames]:
    """A shop in which a banner moves, with one of several products in the middle."""
    shop = draw_canvas(np.random.default_rng(1), size_px=(256, 144))
    shown = draw_canvas(np.random.default_rng(50 + product), size_px=(72, 72))
    frames = []
    for index in range(40):
        frame = shop.copy()
        frame[36:108, 92:164] = shown
        left = 6 * index % 200
        frame[6:22, left : left + 50] = (240, 60, 60)
        frames.append(frame)
    return frames


def compare(own: Fingerprint, second: list[Frames]) -> Evidence:
    return compare_pair(own, fingerprint(add_grain(second, seed=1)), durations_s=(10.0, 10.0))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_differs_nowhere(change: Change, seed: int) -> None:
    found = compare(encoded(draw_clip, seed, grain=0), change(draw_clip(seed)))
    assert found.difference is None
    assert found.judge(RULES)[0] == Verdict.DUPLICATE


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_product_still_differs(change: Change) -> None:
    found = compare(encoded(draw_advertisement, 0, grain=0), change(draw_advertisement(1)))
    verdict, criterion = found.judge(RULES)
    assert verdict != Verdict.DUPLICATE
    if criterion == Criterion.DIFFERS:
        assert found.difference is not None
        assert found.difference.left < 0.5 < found.difference.right
        assert found.difference.top < 0.5 < found.difference.bottom
