"""Frames compared block by block: how alike they are, and their edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

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

BlockMap = NDArray[np.float32]
"""One number for each block: (B, B)."""

Average = Callable[[NDArray[np.float32]], BlockMap]
"""The means of a frame (H, W) in parts of it."""


def shrink(frames: NDArray[np.generic], side_px: int = BLOCKS) -> NDArray[np.float32]:
    """Square frames (N, H, H) in larger pixels, averages of the smaller ones: (N, side_px, side_px)."""
    step = frames.shape[1] // side_px
    return np.asarray(frames.reshape(-1, side_px, step, side_px, step).mean(axis=(2, 4), dtype=np.float32))


def soften(still: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The frame without the noise of an encoder."""
    return np.asarray(cv2.GaussianBlur(still.astype(np.float32), (0, 0), STILL_BLUR_PX), np.float32)


def equalise_sharpness(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two stills, the sharper one blurred until its detail is at most `SHARPER` times that of the other."""
    everywhere = np.ones(first.shape, bool)
    # Relative to contrast: lower contrast is not blur.
    sharpness = [mean_gradient(one, everywhere) / (float(one.std()) + 1) for one in (first, second)]
    blunt, frames = min(sharpness), [first, second]
    sharper = int(sharpness[1] > sharpness[0])
    if sharpness[sharper] <= SHARPER * blunt:
        return first, second
    for blur_px in BLURS_PX:
        blurred = np.asarray(cv2.GaussianBlur(frames[sharper], (0, 0), blur_px), np.float32)
        if mean_gradient(blurred, everywhere) / (float(blurred.std()) + 1) <= SHARPER * blunt:
            break
    frames[sharper] = blurred
    return frames[0], frames[1]


def mean_of_blocks(frame: NDArray[np.float32]) -> BlockMap:
    """The mean of each block of a frame (H, W)."""
    cells = cv2.resize(frame, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    around = BLOCK_SIDE // 2
    return np.asarray(cv2.blur(cells, (BLOCK_SIDE, BLOCK_SIDE))[around:-around, around:-around], np.float32)


def mean_and_variance(frame: NDArray[np.float32], average: Average = mean_of_blocks) -> tuple[BlockMap, BlockMap]:
    """Mean and variance of each block of a frame."""
    mean = average(frame)
    return mean, np.maximum(average(frame * frame) - mean**2, 0)


def correlate(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    *,
    of_first: tuple[BlockMap, BlockMap] | None = None,
    average: Average = mean_of_blocks,
    noise: float = 1e-3,
) -> tuple[BlockMap, BlockMap, BlockMap]:
    """Correlation of two frames in each block, and the variance of each frame there. `of_first` is the mean and
    variance of the first one, if known. `average` gives the mean around each place, instead of in each block. `noise`
    is the least product of both variances that counts."""
    mean, variance = of_first or mean_and_variance(first, average)
    other_mean, other_variance = mean_and_variance(second, average)
    covariance = average(first * second) - mean * other_mean
    correlation = covariance / np.sqrt(np.maximum(variance * other_variance, noise))
    return np.asarray(correlation, np.float32), variance, other_variance


def shift(frame: NDArray[np.float32], shifts_px: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """The frame shifted by each of these distances, across and down. What leaves it at one side returns at the
    other."""
    most = max(map(abs, shifts_px))
    wider = np.asarray(cv2.copyMakeBorder(frame, most, most, most, most, cv2.BORDER_WRAP), np.float32)
    for across, down in product(shifts_px, shifts_px):
        yield wider[most - down : most - down + len(frame), most - across : most - across + frame.shape[1]]


def mean_gradient(frame: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """Average difference of neighbouring pixels in a part of the frame."""
    return float(gradients(frame)[where].mean())


def gradients(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel differs from its neighbours."""
    gradients = [cv2.Sobel(frame, cv2.CV_32F, across, 1 - across, ksize=3) for across in (0, 1)]
    return np.asarray(cv2.magnitude(*gradients) / 8, np.float32)
