"""Refined alignment by geometry: a homography for each frame.

One affine map for a whole video does not fit a copy that was tilted, filmed from a screen, shaken, or slowly zoomed
into. What is left between its frames and those of the original looks like parts that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.aligned_frames import AffineMap, AlignedFrames, spread

SIDE_PX = 64
"""Side of the frames from which a homography is estimated."""

MAX_ITERATIONS = 30
PRECISION = 1e-3
BLUR_PX = 5

MIN_ALIKE = 0.9
"""Minimum correlation of two frames that a homography lays on one another."""

MIN_MOVED = 0.02
MAX_MOVED = 0.2
"""Distances, as shares of the side, by which a homography moves at least one corner, and at most. Where frames fit
already, a still smaller change would bend one product into another."""

MAX_SAMPLED = 5
"""Number of stills, spread over all, that show whether frames can be refined."""

MIN_GAIN = 0.04
"""Minimum gain in `AlignedFrames.fit` for which the refined alignment is used."""

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
_Homography = NDArray[np.float32]
_Number = TypeVar("_Number", bound=np.generic)


def refine(aligned: AlignedFrames) -> AlignedFrames | None:
    """The same frames, each one of the first video moved by the homography with which it fits that of the second best;
    None if they fit hardly better then."""
    places = spread(len(aligned.stills[0]), MAX_SAMPLED)
    sampled = list(_find_homographies(*(stills[places] for stills in aligned.stills)))
    found = sorted((one for one in sampled if one is not None), key=_measure_move)
    if 2 * len(found) <= len(sampled) or _measure_move(found[len(found) // 2]) < MIN_MOVED:
        return None
    tiny_frames = _move(*aligned.tiny_frames, list(_find_homographies(*aligned.tiny_frames)))
    of_stills = list(_find_homographies(*aligned.stills))
    chroma = aligned.chroma
    if chroma is not None:
        planes = [_move(chroma[0][:, plane], chroma[1][:, plane], of_stills) for plane in (0, 1)]
        chroma = np.stack([own for own, _ in planes], axis=1), np.stack([other for _, other in planes], axis=1)
    refined = replace(
        aligned,
        tiny_frames=tiny_frames,
        stills=_move(*aligned.stills, of_stills),
        chroma=chroma,
        maps=(_combine(aligned.maps[0], found[len(found) // 2]), aligned.maps[1]),
    )
    return refined if refined.fit >= aligned.fit + MIN_GAIN else None


def _find_homographies(first: NDArray[np.generic], second: NDArray[np.generic]) -> Iterator[_Homography | None]:
    """For each pair of frames, the homography from places in the second one to those in the first, as shares of the
    side; None if there is none. By their enhanced correlation coefficient (G. Evangelidis and E. Psarakis, 2008)."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, MAX_ITERATIONS, PRECISION)
    to_pixels = np.diag([SIDE_PX, SIDE_PX, 1]).astype(np.float32)
    start = np.eye(3, dtype=np.float32)
    for pair in zip(first, second, strict=True):
        own, other = (
            cv2.resize(np.asarray(one, np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for one in pair
        )
        try:
            alike, found = cv2.findTransformECC(
                other, own, start.copy(), cv2.MOTION_HOMOGRAPHY, criteria, np.ones_like(own, np.uint8), BLUR_PX
            )
        except cv2.error:
            # It does not converge, or a frame shows nothing.
            alike, found = 0.0, start
        homography = np.asarray(np.linalg.inv(to_pixels) @ found @ to_pixels, np.float32)
        is_found = alike >= MIN_ALIKE and _measure_move(homography) <= MAX_MOVED
        # The next pair often lies nearly as this one does.
        start = np.asarray(found, np.float32) if is_found else np.eye(3, dtype=np.float32)
        yield homography if is_found else None


def _measure_move(homography: _Homography) -> float:
    """The largest distance by which a corner moves, as a share of the side."""
    return float(np.abs(cv2.perspectiveTransform(_CORNERS[None], homography)[0] - _CORNERS).max())


def _combine(matrix: AffineMap, homography: _Homography) -> AffineMap:
    """The affine map that comes nearest to the homography, followed by `matrix`."""
    moved = cv2.perspectiveTransform(_CORNERS[None], homography)[0]
    nearest, *_ = np.linalg.lstsq(np.column_stack([_CORNERS, np.ones(4)]), moved, rcond=None)
    return np.asarray(matrix @ np.vstack([nearest.T, [0, 0, 1]]), np.float64)


def _move(
    first: NDArray[_Number], second: NDArray[_Number], homographies: Sequence[_Homography | None]
) -> tuple[NDArray[_Number], NDArray[_Number]]:
    """The frames of both videos, those of the first one moved. Outside of what both show, both are evenly grey."""
    own, other = np.array(first), np.array(second)
    side_px = own.shape[-1]
    # Coordinates are those of pixel centres.
    to_shares = np.array([[1 / side_px, 0, 0.5 / side_px], [0, 1 / side_px, 0.5 / side_px], [0, 0, 1]])
    for place, homography in enumerate(homographies):
        if homography is not None:
            in_pixels = np.linalg.inv(to_shares) @ homography @ to_shares
            size = (side_px, side_px)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            moved = cv2.warpPerspective(own[place], in_pixels, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            shown = cv2.warpPerspective(np.ones_like(own[place]), in_pixels, size, flags=flags) > 0
            own[place] = np.where(shown, moved, own[place].mean())
            other[place] = np.where(shown, other[place], other[place].mean())
    return own, other
