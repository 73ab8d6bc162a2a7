"""The protocol of an encoder: frames in, unit vectors out.

An encoder works in two steps. `prepare` reduces one frame to the data that is encoded. It runs where the frame was
decoded, in many processes. `encode_prepared` turns many prepared frames into vectors at once. It runs in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.vectors import normalise_rows
from dedup_lib.records import Frames, Vectors

Prepared = NDArray[np.uint8]
"""The data of one frame that an encoder needs."""


class Encoder(ABC):
    """Turns frames into unit vectors. The inner product of two vectors is the similarity of their frames. Can be
    pickled."""

    name: str
    model: str
    dimension: int
    uses_gpu = False
    """Whether it uses a GPU if there is one."""
    prepare: Callable[[Frames], Prepared]
    """Prepares a frame, RGB uint8 (H, W, 3) of any size. Can be pickled."""

    def encode_prepared(self, prepared: Sequence[Prepared]) -> Vectors:
        """Vectors float32 (N, D) of N prepared frames."""
        if not prepared:
            return np.zeros((0, self.dimension), np.float32)
        return normalise_rows(self._embed(prepared))

    @abstractmethod
    def _embed(self, prepared: Sequence[Prepared]) -> NDArray[np.floating]:
        """Vectors (N, D), of any length, of N prepared frames, one or more."""

    def encode_frames(self, frames: Sequence[Frames]) -> Vectors:
        """Vectors float32 (N, D) of N frames, each RGB uint8 (H, W, 3) of any size."""
        return self.encode_prepared([self.prepare(frame) for frame in frames])
