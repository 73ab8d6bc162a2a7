"""Frames compared block by block: how alike they are, and their edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STILL_PX = 256
"""Side, in pixels, of the squares as which the stills of two videos are compared."""

BLOCKS = 32
"""Number of cells along each side of the frame."""

BLOCK_SIDE = 3
"""Side of a block in cells: a block is 3/32 of the frame's sides, and one begins every 1/32."""

STILL_BLUR_PX = 1.0

SHARPER = 1.5
"""A still with more than this many times the detail of the other is blurred before they are compared."""

BLURS_PX = (2.0, 4.0, 8.0, 16.0)
"""Blurs to try, as standard deviations in pixels."""

Map = NDArray[np.float32]
"""One number for each block: (B, B)."""


def soften(still: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The frame without the noise of an encoder."""
    return np.asarray(cv2.GaussianBlur(still.astype(np.float32), (0, 0), STILL_BLUR_PX), np.float32)


def sharpen_equally(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two stills, the sharper one blurred until its detail is at most `SHARPER` times that of the other."""
    everywhere = np.ones(first.shape, bool)
    # Relative to contrast: lower contrast is not blur.
    sharpness = [edges(one, everywhere) / (float(one.std()) + 1) for one in (first, second)]
    blunt, frames = min(sharpness), [first, second]
    sharper = int(sharpness[1] > sharpness[0])
    if sharpness[sharper] <= SHARPER * blunt:
        return first, second
    for blur_px in BLURS_PX:
        blurred = np.asarray(cv2.GaussianBlur(frames[sharper], (0, 0), blur_px), np.float32)
        if edges(blurred, everywhere) / (float(blurred.std()) + 1) <= SHARPER * blunt:
            break
    frames[sharper] = blurred
    return frames[0], frames[1]


def correlate(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[Map, Map, Map]:
    """Correlation of two frames in each block, and the variance of each frame there."""
    (mean, variance), (other_mean, other_variance) = mean_and_variance(first), mean_and_variance(second)
    covariance = mean_of_blocks(first * second) - mean * other_mean
    correlation = covariance / np.sqrt(np.maximum(variance * other_variance, 1e-3))
    return np.asarray(correlation, np.float32), variance, other_variance


def mean_and_variance(frame: NDArray[np.float32]) -> tuple[Map, Map]:
    """Mean and variance of each block of a frame."""
    mean = mean_of_blocks(frame)
    return mean, np.maximum(mean_of_blocks(frame * frame) - mean**2, 0)


def mean_of_blocks(frame: NDArray[np.float32]) -> Map:
    """The mean of each block of a frame (H, W)."""
    sums = cv2.integral(frame, sdepth=cv2.CV_64F)
    step = len(frame) // BLOCKS
    # The sums up to the corners of the cells.
    corners = sums[::step, ::step][: BLOCKS + 1, : BLOCKS + 1]
    starts, ends = slice(None, -BLOCK_SIDE), slice(BLOCK_SIDE, None)
    inside = corners[ends, ends] - corners[starts, ends] - corners[ends, starts] + corners[starts, starts]
    return np.asarray(inside / (BLOCK_SIDE * step) ** 2, np.float32)


def edges(frame: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """Average difference of neighbouring pixels in a part of the frame."""
    return float(slopes(frame)[where].mean())


def slopes(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel differs from its neighbours."""
    slopes = [cv2.Sobel(frame, cv2.CV_32F, across, 1 - across, ksize=3) for across in (0, 1)]
    return np.asarray(np.hypot(*slopes) / 8, np.float32)
