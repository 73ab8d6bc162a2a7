"""The frames of two videos, laid on one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class LaidFrames:
    """Aligned frames of two videos, shown at the same times: `tiny_frames` grey (N, 64, 64) and `stills` grey uint8
    (K, 256, 256), of the first video and of the second."""

    tiny_frames: tuple[NDArray[np.generic], NDArray[np.generic]]
    stills: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    only_changes: bool
    """Whether only motion supports the pair. Moving parts must then show the same, too."""
    is_simultaneous: bool
    """Whether both videos begin at the same time. Their moments are then identical, not only close."""
    apart_s: NDArray[np.floating]
    """(K,): seconds by which the second video shows its still later (or earlier, if negative) than the first one;
    infinite if unknown."""
