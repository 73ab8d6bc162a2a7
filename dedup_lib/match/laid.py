"""The frames of two videos, laid on one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class LaidFrames:
    """Frames of two videos that are shown at the same times and lie on one another: `tiny_frames` grey
    (N, 64, 64) and `stills` grey uint8 (K, 256, 256), of the first video and of the second."""

    tiny_frames: tuple[NDArray[np.generic], NDArray[np.generic]]
    stills: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    only_changes: bool
    """Whether nothing but the movement of both speaks for them, so that also what moves must show the same."""
    is_simultaneous: bool
    """Whether both videos begin at the same time, so that their moments are the same and not only nearly so."""
    apart_s: NDArray[np.floating]
    """(K,): how much later or earlier the still of the second video is shown than the first one's, infinite where that
    is not known."""
