"""Fades: frames of one video that are darker or paler for a while than those of the other.

A fade changes every pixel, and would pass for motion of the whole frame and for other colours. So aligned frames are
compared with the contrast and the brightness that they have elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_FADED = 1.25
"""Minimum change of contrast of a frame that fades."""

MAX_FADED = 3.0
"""A frame with a larger change of contrast shows too little to compare."""

MIN_SHIFT = 8.0
"""Minimum change of the mean brightness (of 255) of a frame that fades. Blur changes the contrast, too, but not the
brightness."""


def find_fades(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.float32]:
    """How much more contrast each frame of the second video has than the corresponding frame of the first one, as a
    multiple of the usual ratio of the two videos: float32 (N,) for frames (N, H, W). 1 where neither fades."""
    if not len(first):
        return np.ones(0, np.float32)
    own, other = (one.std(axis=(1, 2), dtype=np.float32) + 1 for one in (first, second))
    fades = other / own
    fades /= np.median(fades)
    shift = second.mean(axis=(1, 2), dtype=np.float32) - first.mean(axis=(1, 2), dtype=np.float32)
    is_faded = (np.maximum(fades, 1 / fades) >= MIN_FADED) & (np.abs(shift - np.median(shift)) >= MIN_SHIFT)
    return np.where(is_faded, fades, np.float32(1))


def equalise_fades(
    first: NDArray[np.generic], second: NDArray[np.generic]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """The frames (N, H, W) of two videos without those of which a fade leaves little. Other frames that fade get, in
    the second video, the contrast and the brightness that it has elsewhere in relation to the first one."""
    fades = find_fades(first, second)
    if (fades == 1).all():
        return first, second
    kept = is_visible(fades)
    first, second, fades = first[kept], second[kept].astype(np.float32), fades[kept]
    own, other = (one.mean(axis=(1, 2), dtype=np.float32) for one in (first, second))
    usual_shift = np.median(other - own)
    for place in np.flatnonzero(fades != 1):
        second[place] = (second[place] - other[place]) / fades[place] + own[place] + usual_shift
    return first, second


def is_visible(fades: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames show enough to compare, of `fades` as from `find_fades`."""
    return np.asarray(np.maximum(fades, 1 / fades) <= MAX_FADED)
