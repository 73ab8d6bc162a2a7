"""Details: whether two stills differ in something smaller than a block, such as one digit of a price."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.blocks import BLOCK_SIDE, BLOCKS, STILL_PX, mean_gradient, shift

MIN_CONTRAST = 8.0
"""Minimum standard deviation (of 255) of a block that shows something."""

DETAIL_PX = 13
"""Side, in pixels, of the squares for details: a price is smaller than a block. One still is subtracted from the other,
and the standard deviation (of 255) of the rest in a square is its residual."""

DETAIL_SHIFTS_PX = (0, -1, 1)
"""Shifts, in pixels, of the other still; the one with the smallest residual counts."""

MAX_MOVED_PX = 2.5
"""Maximum distance, in pixels, by which a still is moved so that it fits closely."""

STEPS = 2
"""Number of steps by which that move is found."""

OUTLIER_FACTOR = 3.0
"""A pixel does not count for that move if it differs by more than this many times the median pixel."""

MIN_DETAIL = 4.0
"""Minimum residual of a detail that differs. A copy encoded again leaves little, and leaves it everywhere, so the
limits by `DETAIL_FACTOR` and `DETAIL_SHARE` apply as well."""

USUAL_DETAIL = 0.5
"""Added to the median residual before it is multiplied by `DETAIL_FACTOR`."""

DETAIL_FACTOR = 11.0
"""Minimum ratio of the residual of a detail that differs to the median residual."""

DETAIL_SHARE = 0.35
"""Minimum ratio of the residual of a detail that differs to the larger deviation of the two stills there."""

MIN_SHARPER = 1.05
"""Minimum ratio of the edges of two stills, of which one is then blurred before details are said to differ."""

DETAIL_BLURS_PX = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Blurs to try, as standard deviations in pixels."""

MIN_LIT = 64
"""Minimum number of pixels, neither black nor white, that give the brightness, contrast and blur of a still."""


def find_details(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The blocks with a square whose residual is large when one still is subtracted from the other."""
    own, other = _equalise_lighting(first, second)
    differs = _differ_in_squares(own, other)
    if differs.any():
        other = _align_closely(own, other)
        differs &= _differ_in_squares(own, other)
    if differs.any() and (blurred := _equalise_blur(own, other)) is not None:
        differs = _differ_in_squares(*blurred)
    cells = np.asarray(differs.reshape(BLOCKS, STILL_PX // BLOCKS, BLOCKS, -1).any(axis=(1, 3)))
    # At the edge, bars end and copies are cropped.
    cells[[0, -1]] = cells[:, [0, -1]] = False
    side = BLOCKS - BLOCK_SIDE + 1
    starts = product(range(BLOCK_SIDE), range(BLOCK_SIDE))
    return np.asarray(np.any([cells[down : down + side, across : across + side] for down, across in starts], axis=0))


def _differ_in_squares(own: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels around which a residual is large, (256, 256)."""
    left = np.full(own.shape, np.inf, np.float32)
    for moved in shift(other, DETAIL_SHIFTS_PX):
        left = np.minimum(left, _deviation_around(own - moved))
        # Further shifts only lower the residuals, which are low enough already, as in most copies.
        if left.max() <= max(MIN_DETAIL, DETAIL_FACTOR * USUAL_DETAIL):
            return np.zeros(own.shape, bool)
    shown = np.maximum(_deviation_around(own), _deviation_around(other))
    usual = float(np.median(left))
    return np.asarray(
        (left > max(MIN_DETAIL, DETAIL_FACTOR * (USUAL_DETAIL + usual))) & (left > DETAIL_SHARE * (MIN_DETAIL + shown))
    )


def _align_closely(own: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The other still, moved by the affine map by which it fits best. Copies are cropped and scaled by parts of pixels,
    and at a sharp edge that leaves as much as another digit does. By the steps of B. Lucas and T. Kanade (1981)."""
    places = np.linspace(-1, 1, len(own), dtype=np.float32)
    across, down = places[None, :], places[:, None]
    # A shift, and how much more or less of it across and down the frame. A quarter of the pixels tells it.
    by = np.float32(1), across[:, ::2], down[::2]
    columns, rows = np.meshgrid(*(np.arange(len(own), dtype=np.float32),) * 2)
    moved, ways = other, np.zeros((2, 3), np.float32)
    for _ in range(STEPS):
        mean = (own + moved) / 2
        slopes = [cv2.Sobel(mean, cv2.CV_32F, 1 - axis, axis, ksize=3)[::2, ::2] / 8 for axis in (0, 1)]
        terms = np.stack([slope * one for slope in slopes for one in by]).reshape(6, -1)
        rest = (own - moved)[::2, ::2].ravel()
        # What differs must not move the rest.
        usual = np.abs(rest) <= OUTLIER_FACTOR * np.median(np.abs(rest)) + 1
        step = np.linalg.solve(terms[:, usual] @ terms[:, usual].T + np.eye(6), terms[:, usual] @ rest[usual])
        ways += step.reshape(2, 3).astype(np.float32)
        if np.abs(ways).sum(axis=1).max() > MAX_MOVED_PX:
            return other
        from_columns, from_rows = (
            grid + way[0] + way[1] * across + way[2] * down for grid, way in zip((columns, rows), ways, strict=True)
        )
        moved = np.asarray(
            cv2.remap(other, from_columns, from_rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32
        )
    return moved


def _equalise_blur(
    own: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Two stills, the sharper one blurred until the median residual of all that they show is lowest: at an edge, blur
    leaves as much as another digit. None if both are equally sharp, or show next to nothing."""
    everywhere = np.ones(own.shape, bool)
    sharpness = [mean_gradient(one, everywhere) for one in (own, other)]
    if max(sharpness) < MIN_SHARPER * min(sharpness):
        return None
    sharp, blunt = (own, other) if sharpness[0] > sharpness[1] else (other, own)
    shows = _deviation_around(blunt) >= MIN_CONTRAST
    if shows.sum() < MIN_LIT:
        return None
    blurred = [np.asarray(cv2.GaussianBlur(sharp, (0, 0), blur_px), np.float32) for blur_px in DETAIL_BLURS_PX]
    sharp = min([sharp, *blurred], key=lambda one: float(np.median(_deviation_around(one - blunt)[shows])))
    return sharp, blunt


def _equalise_lighting(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two stills, one of them with the brightness and contrast of the other. If one was brightened until it is white,
    only the darker one shows what was there. So both directions are tried, and the smaller difference counts."""
    ways = [(_match_lighting(first, second), second), (first, _match_lighting(second, first))]
    return min(ways, key=lambda way: float(np.median(np.abs(way[0] - way[1])) / (way[0].std() + 1)))


def _match_lighting(frame: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """A frame with the brightness and contrast of another one, by a line through all pixels except outliers."""
    levels, targets = frame[::4, ::4].ravel(), wanted[::4, ::4].ravel()
    near = np.ones(len(levels), bool)
    for _ in range(4):
        (variance, shared), _ = np.cov(levels[near], targets[near])
        gain = shared / max(variance, 1e-3)
        start = targets[near].mean() - gain * levels[near].mean()
        apart = np.abs(np.clip(gain * levels + start, 0, 255) - targets)
        near = (apart <= max(1.0, 3 * float(np.median(apart)))) & (targets > 3) & (targets < 252)
        if near.sum() < MIN_LIT:
            break
    return np.asarray(np.clip(gain * frame + start, 0, 255), np.float32)


def _deviation_around(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """The standard deviation in the square around each pixel."""
    side = (DETAIL_PX, DETAIL_PX)
    mean = cv2.boxFilter(frame, -1, side)
    return np.asarray(np.sqrt(np.maximum(cv2.boxFilter(frame * frame, -1, side) - mean**2, 0)), np.float32)
