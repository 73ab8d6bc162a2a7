"""Which of two copies bears a logo, a caption or a clock that the other lacks.

Where something was laid over a frame, what is under it moves in the other copy only.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_PICTURES = 4

MAX_DIFFERENCE = 8.0
"""Half of the pixels of two copies, of equal brightness and contrast, differ by no more than this (of 255): otherwise
they do not lie on one another, and every edge looks like an overlay."""

MIN_MOTION = 8.0
STANDS_STILL = 0.35
"""A pixel is covered where its deviation over time is less than this share of what it is in the other copy, which
deviates by `MIN_MOTION` or more."""

MIN_CONTRAST = 12.0
"""An overlay differs so much, on average, from what it covers."""

MIN_OVERLAY_PX = 24
MAX_OPPOSITE_PX = 8
"""Of the 64 × 64 pixels of a tiny_frame, so many hang together in an overlay, and no more in the other copy."""

MIN_FRAME = 0.15
"""Share of the frame around a video that makes it one inside another picture."""

Side = Literal["first", "second", ""]


def find_overlay(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Side:
    """Which of two copies bears an overlay, by tiny_frames (N, 64, 64) of either that are shown at the same times and
    lie on one another; "" where neither does, both do, or that cannot be told."""
    if len(first) < MIN_PICTURES:
        return ""
    own, other = first.astype(np.float32), second.astype(np.float32)
    # Contrast by how much most pixels move, brightness by most pixels: an overlay is not most of a frame.
    gain = (np.median(own.std(axis=0)) + 1) / (np.median(other.std(axis=0)) + 1)
    other = other * gain + np.median(own.mean(axis=0) - gain * other.mean(axis=0))
    if np.median(np.abs(own - other).mean(axis=0)) > MAX_DIFFERENCE:
        return ""
    deviations = own.std(axis=0), other.std(axis=0)
    differs = np.abs(own.mean(axis=0) - other.mean(axis=0)) >= MIN_CONTRAST
    covered_px = [
        _largest_patch((covered < STANDS_STILL * moving) & (moving >= MIN_MOTION) & differs)
        for covered, moving in (deviations, deviations[::-1])
    ]
    if max(covered_px) < MIN_OVERLAY_PX or min(covered_px) > MAX_OPPOSITE_PX:
        return ""
    return "first" if covered_px[0] > covered_px[1] else "second"


def is_inset_frame(frames: NDArray[np.uint8], inside: tuple[float, float, float, float]) -> bool:
    """Whether what lies around a part of the tiny_frames (N, 64, 64) stands still while that part moves: a video shown
    beside plots, or within a frame. `inside` is the part, (left, top, right, bottom) as shares of the sides.

    Around a part that another video was cropped to, the same film goes on.
    """
    side = frames.shape[1]
    left, top, right, bottom = (round(share * side) for share in inside)
    around = np.ones((side, side), bool)
    around[top:bottom, left:right] = False
    if around.mean() < MIN_FRAME or around.all():
        return False
    motion = frames.astype(np.float32).std(axis=0)
    moving = float(np.median(motion[~around]))
    return moving >= MIN_MOTION and float(np.median(motion[around])) < STANDS_STILL * moving


def _largest_patch(mask: NDArray[np.bool_]) -> int:
    """Pixels of the largest part of a mask that hangs together."""
    count, _, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return int(facts[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
