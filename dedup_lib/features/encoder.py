"""The protocol of an encoder: frames in, unit vectors out.

An encoder works in two steps. `prepare` makes of one frame the little that is encoded, and runs where the frame was
decoded, in many processes; `encode_prepared` makes vectors of many at once, and runs in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.vectors import normalise_rows
from dedup_lib.records import Frames, Vectors

Prepared = NDArray[np.uint8]
"""What an encoder needs of one frame."""


class Encoder(ABC):
    """Turns frames into unit vectors whose inner product says how alike two frames are. Can be pickled."""

    name: str
    model: str
    dimension: int
    uses_gpu = False
    """Where there is one."""
    prepare: Callable[[Frames], Prepared]
    """Of a frame RGB uint8 (H, W, 3) of any size. Can be pickled."""

    def encode_prepared(self, prepared: Sequence[Prepared]) -> Vectors:
        """Vectors float32 (N, D) of N prepared frames."""
        if not prepared:
            return np.zeros((0, self.dimension), np.float32)
        return normalise_rows(self._embed(prepared))

    @abstractmethod
    def _embed(self, prepared: Sequence[Prepared]) -> NDArray[np.floating]:
        """Of N prepared frames, one or more, vectors (N, D) of any length."""

    def encode_frames(self, frames: Sequence[Frames]) -> Vectors:
        """Vectors float32 (N, D) of N frames, each RGB uint8 (H, W, 3) of any size."""
        return self.encode_prepared([self.prepare(frame) for frame in frames])
