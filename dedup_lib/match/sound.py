"""Whether two videos sound alike where their frames agree. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.sound import BANDS, HOP_S, STEP_HOPS, Sound
from dedup_lib.match.alignment import AlignedSegment

SPEED_TOLERANCE = 0.01
"""Maximum deviation from the same speed at which sound is compared: another speed often shifts the pitch too."""

MAX_SHIFT_HOPS = 3
"""Maximum number of hops by which sound may deviate from the offset of the frames, either way."""

MIN_S = 5.0
MIN_SHORT_S = 3.0
MIN_SHARE = 0.75
"""Sound is compared if both are heard for at least `MIN_S` of what both show, or for `MIN_SHARE` of it where that is
less, but never for less than `MIN_SHORT_S`."""

QUIET_DB = -60
MAX_BELOW_LOUD_DB = 30
"""Sound is heard if its level is at least `QUIET_DB`, and no more than `MAX_BELOW_LOUD_DB` below the loud moments of
its video."""

MAX_OTHER = 0.15
"""Maximum correlation of other sound. docs/decisions/019-sound.md has the figures."""

MIN_SAME_ELSEWHERE = 0.3
"""Minimum correlation, at any offset, of sound that is the same there. Frames of a picture that stands still agree at
any offset, and the sound of some copies lags."""


@dataclass(frozen=True, kw_only=True)
class SoundMatch:
    """How alike two videos sound over `compared_s` seconds in which both are heard."""

    correlation: float
    """Mean product of the bits of both, as ±1: 1 for the same file, 0 as by chance."""
    compared_s: float

    @property
    def is_other(self) -> bool:
        """Whether both sound no more alike than any two videos."""
        return self.correlation <= MAX_OTHER


def compare_sound(first: Sound | None, second: Sound | None, segment: AlignedSegment) -> SoundMatch | None:
    """How alike two videos sound in an aligned segment; None where too little is heard of both there, or their speed
    differs."""
    if first is None or second is None or abs(segment.speed - 1) > SPEED_TOLERANCE:
        return None
    own, others = _find_heard(first), _find_heard(second)
    hops = np.arange(len(own))
    shown_s = segment.shown_in_second((hops * HOP_S).astype(np.float32))
    inside = np.flatnonzero(np.isfinite(shown_s))
    there = np.round(shown_s[inside] / HOP_S).astype(int)
    shared_s = float(((there >= 0) & (there < len(others))).sum() * HOP_S)
    least_s = max(MIN_SHORT_S, min(MIN_S, MIN_SHARE * shared_s))
    found = []
    for shift in range(-MAX_SHIFT_HOPS, MAX_SHIFT_HOPS + 1):
        at = there + shift
        is_inside = (at >= 0) & (at < len(others))
        here, at = inside[is_inside], at[is_inside]
        both = own[here] & others[at]
        if both.sum() * HOP_S >= least_s:
            differing = np.bitwise_count(first.bits[here[both]] ^ second.bits[at[both]])
            found.append(SoundMatch(correlation=_as_correlation(differing), compared_s=float(both.sum() * HOP_S)))
    best = max(found, key=lambda match: match.correlation, default=None)
    if best is None or not best.is_other:
        return best
    elsewhere = _find_elsewhere(first, second, own, others, least_s=least_s)
    return elsewhere if elsewhere.correlation >= MIN_SAME_ELSEWHERE else best


def _find_heard(sound: Sound) -> NDArray[np.bool_]:
    """Which sub-fingerprints are of something that is heard: bool (M,)."""
    loud_db = float(np.percentile(sound.levels_db, 95))
    heard = sound.levels_db >= max(QUIET_DB, loud_db - MAX_BELOW_LOUD_DB)
    heard[:STEP_HOPS] = False
    return np.asarray(heard)


def _as_correlation(differing: NDArray[np.uint8]) -> float:
    return float(1 - 2 * differing.mean() / (BANDS - 1))


def _find_elsewhere(
    first: Sound, second: Sound, own: NDArray[np.bool_], others: NDArray[np.bool_], *, least_s: float
) -> SoundMatch:
    """The offset at which both sound most alike, whatever they show."""
    length = 1 << (len(own) + len(others)).bit_length()
    # The last column counts the sub-fingerprints that meet.
    signs = [
        np.column_stack([_as_signs(one) * heard[:, None], heard]) for one, heard in ((first, own), (second, others))
    ]
    spectra = [np.fft.rfft(one, length, axis=0) for one in signs]
    meeting = np.fft.irfft(spectra[0].conj() * spectra[1], length, axis=0)
    counts = np.round(meeting[:, -1])
    correlation = meeting[:, :-1].sum(axis=1) / (BANDS - 1) / np.maximum(counts, 1)
    correlation[counts * HOP_S < least_s] = -1.0
    best = int(correlation.argmax())
    return SoundMatch(correlation=float(correlation[best]), compared_s=float(counts[best] * HOP_S))


def _as_signs(sound: Sound) -> NDArray[np.float64]:
    bits = np.unpackbits(sound.bits.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    return np.asarray(bits[:, : BANDS - 1] * 2.0 - 1.0)
