"""PDQ: the perceptual hash of a frame as its vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pdqhash
from numpy.typing import NDArray

from dedup_lib.features.encoder import Encoder, Prepared
from dedup_lib.records import Frames


def hash_frame(frame: Frames) -> Prepared:
    """The PDQ hash of a frame: 256 bits, uint8 (256,)."""
    return np.asarray(pdqhash.compute(frame)[0], np.uint8)


class PdqEncoder(Encoder):
    """PDQ, a 256-bit perceptual hash (github.com/facebook/ThreatExchange/tree/main/pdq), as a unit vector.

    A set bit is +1/16 and a clear bit is -1/16, so that cosine = 1 - 2 * hamming / 256.
    """

    name = "pdq"
    model = ""
    dimension = 256
    prepare = staticmethod(hash_frame)

    def _embed(self, prepared: Sequence[Prepared]) -> NDArray[np.floating]:
        return np.stack(prepared) * 2.0 - 1.0
