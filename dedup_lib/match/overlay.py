"""Which of two copies bears a logo, a caption or a clock that the other lacks.

Where something was laid over a frame, the covered part moves in the other copy only.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_FRAMES = 4
"""Minimum number of frames in which an overlay is found."""

MAX_DIFFERENCE = 8.0
"""Maximum median difference (of 255) of the pixels of two copies, after brightness and contrast are equalised. With
more, the copies are not aligned, and every edge looks like an overlay."""

MIN_MOTION = 8.0
"""Minimum standard deviation over time (of 255) of a pixel that moves."""
STANDS_STILL = 0.35
"""A pixel is covered if its deviation over time is less than this share of that in the other copy, where it moves."""

MIN_CONTRAST = 12.0
"""Minimum average difference (of 255) between an overlay and what it covers."""

MIN_OVERLAY_PX = 24
"""Minimum number of connected pixels of an overlay, of the 64 × 64 pixels of a tiny_frame."""
MAX_OPPOSITE_PX = 8
"""Maximum number of connected pixels that look covered in the other copy."""

MIN_SURROUNDINGS = 0.15
"""Minimum share of the frame that lies around an inset video."""

Side = Literal["first", "second", ""]


def find_overlay(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Side:
    """Which of two copies has an overlay; "" if neither or both have one, or if this is unclear. The tiny_frames
    (N, 64, 64) of both are aligned and shown at the same times."""
    if len(first) < MIN_FRAMES:
        return ""
    own, other = first.astype(np.float32), second.astype(np.float32)
    # Equalise contrast by the median motion and brightness by the median pixel: an overlay is not most of a frame.
    gain = (np.median(own.std(axis=0)) + 1) / (np.median(other.std(axis=0)) + 1)
    other = other * gain + np.median(own.mean(axis=0) - gain * other.mean(axis=0))
    if np.median(np.abs(own - other).mean(axis=0)) > MAX_DIFFERENCE:
        return ""
    deviations = own.std(axis=0), other.std(axis=0)
    differs = np.abs(own.mean(axis=0) - other.mean(axis=0)) >= MIN_CONTRAST
    covered_px = [
        _largest_component((covered < STANDS_STILL * moving) & (moving >= MIN_MOTION) & differs)
        for covered, moving in (deviations, deviations[::-1])
    ]
    if max(covered_px) < MIN_OVERLAY_PX or min(covered_px) > MAX_OPPOSITE_PX:
        return ""
    return "first" if covered_px[0] > covered_px[1] else "second"


def is_inset_frame(frames: NDArray[np.uint8], inside: tuple[float, float, float, float]) -> bool:
    """Whether the surroundings of a part of the tiny_frames (N, 64, 64) stand still while that part moves: a video
    beside plots, or within a frame. `inside` is the part, (left, top, right, bottom) as shares of the sides.

    If the other video is a crop to that part, the film continues around it and moves there, too.
    """
    side = frames.shape[1]
    left, top, right, bottom = (round(share * side) for share in inside)
    around = np.ones((side, side), bool)
    around[top:bottom, left:right] = False
    if around.mean() < MIN_SURROUNDINGS or around.all():
        return False
    motion = frames.astype(np.float32).std(axis=0)
    moving = float(np.median(motion[~around]))
    return moving >= MIN_MOTION and float(np.median(motion[around])) < STANDS_STILL * moving


def _largest_component(mask: NDArray[np.bool_]) -> int:
    """Number of pixels in the largest connected component of a mask."""
    count, _, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return int(facts[1:, cv2.CC_STAT_AREA].max()) if count > 1 else 0
