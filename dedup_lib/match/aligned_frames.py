"""The frames of two videos, aligned in space and time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.blocks import correlate

MAX_FITTED = 16
"""Maximum number of frames, spread over all, by which the alignment is measured."""

AffineMap = NDArray[np.float64]
"""An affine map of points of a frame, float64 (2, 3)."""
AffineMaps = tuple[AffineMap, AffineMap]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a frame, as shares of it."""


def map_box(box: Box, matrix: AffineMap) -> Box:
    """The upright box around a box that is mapped, as far as it lies in the frame there."""
    left, top, right, bottom = box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ matrix[:, :2].T + matrix[:, 2]
    low, high = corners.min(axis=0).clip(0, 1).round(4), corners.max(axis=0).clip(0, 1).round(4)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` places, spread over `count` frames."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


@dataclass(frozen=True, kw_only=True)
class AlignedFrames:
    """Aligned frames of two videos, shown at the same times: `tiny_frames` grey (N, 64, 64) and `stills` grey uint8
    (K, 256, 256), of the first video and of the second. `maps` lead from these frames to those of the two fingerprints:
    float64 (2, 3) each, both ends as shares of the frame."""

    tiny_frames: tuple[NDArray[np.generic], NDArray[np.generic]]
    stills: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    maps: AffineMaps
    only_changes: bool
    """Whether only motion supports the pair. Moving parts must then show the same, too."""
    is_simultaneous: bool
    """Whether both videos begin at the same time. Their moments are then identical, not only close."""
    shows_moments: bool
    """Whether the `tiny_frames` of both videos are of identical moments."""
    apart_s: NDArray[np.floating]
    """(K,): seconds by which the second video shows its still later (or earlier, if negative) than the first one;
    infinite if unknown."""
    chroma: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None
    """The colours of the stills, uint8 (K, 2, 32, 32) as `Fingerprint.unpack_chroma`; None if they are not known."""

    @cached_property
    def fit(self) -> float:
        """How well the frames are aligned, up to 1: the median correlation over all blocks, averaged over frames. The
        median ignores an overlay on some of the blocks."""
        places = spread(len(self.tiny_frames[0]), MAX_FITTED)
        pairs = zip(*(np.asarray(one, np.float32)[places] for one in self.tiny_frames), strict=True)
        correlations = np.array([correlate(own, other)[0].ravel() for own, other in pairs])
        return float(np.median(correlations, axis=1).mean())
