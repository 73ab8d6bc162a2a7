"""The fingerprint of the sound of a video: in which bands it grows louder, several times a second.

J. Haitsma, T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: the signs of differences of energy
between neighbouring bands and points in time hardly change with volume, equalising or encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.records import SOUND_RATE_HZ, Samples

HOP_S = 0.125
"""Seconds between two sub-fingerprints. The paper has one every 11.6 ms, to find a song by three seconds of it; here
the frames have found where two videos belong together."""

WINDOW_S = 0.375
"""Seconds of sound whose energy is measured at once."""

STEP_HOPS = 2
"""Hops from one energy to that which it is compared with. The paper takes one; two are less sensitive to sound that
begins between two hops."""

BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 300.0, 2000.0
"""The bands have equal ratios of frequencies, as in the paper. Even telephones transmit this range."""

SILENT_DB = -70
"""Level, in decibels below full scale, that stands for silence and less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """Sub-fingerprints every `HOP_S` seconds from the first frame of a video on.

    `bits` uint32 (M,): bit m is whether the energy of band m has grown against that of band m + 1 in the last
    `STEP_HOPS`; 0 in the first ones. `levels_db` int8 (M,): the energy of all bands in decibels below full scale, at
    least `SILENT_DB`.
    """

    bits: NDArray[np.uint32]
    levels_db: NDArray[np.int8]

    def __post_init__(self) -> None:
        if self.bits.ndim != 1 or self.bits.shape != self.levels_db.shape:
            raise ValueError("a fingerprint of sound needs one level a sub-fingerprint")

    def pack(self) -> NDArray[np.uint8]:
        """The same as uint8 (M, 5), for storing: 2.4 kB a minute."""
        codes = self.bits.astype("<u4").view(np.uint8).reshape(-1, 4)
        return np.concatenate([codes, self.levels_db.view(np.uint8)[:, None]], axis=1)

    @classmethod
    def unpack(cls, packed: NDArray[np.uint8]) -> Sound:
        """The fingerprint from `pack`. Raises ValueError for another array."""
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != 5:
            raise ValueError("this is no fingerprint of sound")
        bits = np.ascontiguousarray(packed[:, :4]).view("<u4")[:, 0]
        return cls(bits=bits.astype(np.uint32), levels_db=packed[:, 4].astype(np.int8))


def fingerprint_sound(samples: Samples) -> Sound | None:
    """The fingerprint of sound at `SOUND_RATE_HZ`; None where nothing is heard."""
    hop, window = round(HOP_S * SOUND_RATE_HZ), round(WINDOW_S * SOUND_RATE_HZ)
    if len(samples) < window + STEP_HOPS * hop:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    shape = np.hanning(window).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * shape)) ** 2 / (shape.sum() / 2) ** 2
    edges_hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(BANDS + 1) / BANDS)
    edges = np.round(edges_hz * WINDOW_S).astype(int)
    energy = np.add.reduceat(power, edges, axis=1)[:, :BANDS]
    levels_db = 10 * np.log10(np.maximum(energy.sum(axis=1), 1e-12))
    if levels_db.max() <= SILENT_DB:
        return None
    apart = np.diff(energy, axis=1)
    grows = apart[STEP_HOPS:] < apart[:-STEP_HOPS]
    codes = np.packbits(grows, axis=1, bitorder="little").view("<u4")[:, 0]
    return Sound(
        bits=np.append(np.zeros(STEP_HOPS, np.uint32), codes.astype(np.uint32)),
        levels_db=np.clip(np.round(levels_db), SILENT_DB, 0).astype(np.int8),
    )
