"""Which moments of two videos show the same: offsets finer than the steps of a scan, by what moves.

In a scene that hardly moves, frames agree at any time. Only what moves says which frame of one video corresponds
to which frame of the other. And a frame that stays for several steps of the scan shows the moment at which it appeared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.perceptual_hash import Hashes, count_differing_bits, hash_changes
from dedup_lib.match.alignment import CLOSE_BITS, SAME_SCENE_BITS, AlignedSegment, align_videos
from dedup_lib.match.blocks import shrink
from dedup_lib.match.motion import correlate_changes
from dedup_lib.match.temporal_votes import OFFSET_STEP_S

MAX_DISTANCE_BITS = 56
"""Maximum Hamming distance, in bits, of two frames that differ alike from the mean of their videos."""

SAME_MOMENT_S = 0.02
"""Maximum distance in time, in seconds, of frames of the same moment. Only they show the same where something moves."""

OFFSET_PRECISION_S = 0.01
"""Step, in seconds, in which the offset of frames of the same moment is searched."""

IDENTICAL_BITS = 8
"""Maximum Hamming distance, in bits, of changing frames that are of the same moment."""

MIN_TELLING = 2
"""Minimum number of changing frames that tell the offset."""

UNLIKE_BITS = 75
"""Minimum Hamming distance, in bits, of frames that show something else."""

MIN_UNLIKE = 3
MIN_UNLIKE_SHARE = 0.1
"""Minimum number, and share, of unlike frames at the same moments of two videos that are not copies. Single frames may
be damaged."""

MIN_AGREEMENT = 0.5
"""Minimum share of frames whose changes agree where two videos are aligned by what moves."""

MIN_COMPARED_SHARE = 0.5
"""Such an alignment counts if it compares at least this share of the frames that the known one compares."""

MIN_SLOW_S = 1.5 * OFFSET_STEP_S
"""Minimum time, in seconds, between any two new frames of a video that has fewer frames than the scan takes."""

SHIFT_S = 0.04
"""Step, in seconds, of the shifts that are tried, up to a step of the scan: one frame of 25 frames a second."""

MIN_TO_SHIFT = 4
"""Minimum number of frames by which a shift is measured."""

MIN_GAIN = 0.002
"""Minimum gain in correlation for which the frames are shifted."""


@dataclass(frozen=True, kw_only=True)
class SameMoments:
    """The frames of two videos that show the same moments: `unlike` of the `compared` ones show something else.
    `distance_bits` is the median Hamming distance of those that agree."""

    compared: int
    unlike: int
    distance_bits: float

    @property
    def is_other(self) -> bool:
        """Whether the two videos show other things at times, while they are nearly identical for the rest."""
        # Under a large logo, some frames hardly agree, and others no longer do.
        is_close = self.distance_bits <= CLOSE_BITS
        return is_close and self.unlike >= max(MIN_UNLIKE, MIN_UNLIKE_SHARE * self.compared)


def find_moments(one: Fingerprint) -> NDArray[np.float32]:
    """The moment that each frame shows, float32 (N,): when it appeared. In a video of fewer frames a second than the
    scan takes, each frame is repeated until the next one appears."""
    is_new = np.ones(len(one.times_s), bool)
    is_new[1:] = (one.tiny_frames[1:] != one.tiny_frames[:-1]).any(axis=(1, 2))
    gaps_s = np.diff(one.times_s[is_new])
    # Where frames also change from one step to the next, those that repeat show a scene that stands still.
    if not len(gaps_s) or gaps_s.min() < MIN_SLOW_S:
        return one.times_s
    return one.times_s[np.maximum.accumulate(np.where(is_new, np.arange(len(is_new)), 0))]


def align_changes(
    own: NDArray[np.uint8], others: NDArray[np.uint8], first: Fingerprint, second: Fingerprint, known: AlignedSegment
) -> AlignedSegment | None:
    """The alignment in time by what moves in the frames `own` and `others`, (N, 64, 64) and (M, 64, 64), which are
    aligned by geometry; None if it explains less than half of what the `known` one compares."""
    found = align_videos(hash_changes(own), hash_changes(others), first, second, max_distance=MAX_DISTANCE_BITS)
    if found is None or found.agreement < MIN_AGREEMENT or found.compared < MIN_COMPARED_SHARE * known.compared:
        return None
    return found


def show_at(at_s: NDArray[np.float32], frames: NDArray[np.uint8], times_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a video shows at these times, interpolated between two frames: the frames of two copies are not from the
    same moments."""
    after = np.clip(np.searchsorted(times_s, at_s), 1, max(1, len(times_s) - 1)).clip(max=len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    gaps_s = np.maximum(times_s[after] - times_s[before], 1e-6)
    share = np.clip((at_s - times_s[before]) / gaps_s, 0, 1)[:, None, None]
    return np.asarray(frames[before] * (1 - share) + frames[after] * share, np.float32)


def find_shift(
    own: NDArray[np.uint8], at_s: NDArray[np.float32], frames: NDArray[np.uint8], times_s: NDArray[np.float32]
) -> float:
    """How many seconds later than `at_s` a video with `frames` at `times_s` shows what `own` shows, by what moves:
    two copies are scanned at different phases. 0 if no shift fits better, or if there are too few frames."""
    if len(own) < MIN_TO_SHIFT:
        return 0.0
    steps = round(OFFSET_STEP_S / SHIFT_S)
    small = shrink(own)
    correlations = {
        step: correlate_changes(small, shrink(show_at(at_s + np.float32(step * SHIFT_S), frames, times_s)))
        for step in range(-steps, steps + 1)
    }
    best = max(correlations, key=correlations.__getitem__)
    return best * SHIFT_S if correlations[best] > correlations[0] + MIN_GAIN else 0.0


def compare_same_moments(
    own: Hashes, others: Hashes, first: Fingerprint, second: Fingerprint, segment: AlignedSegment, *, max_distance: int
) -> SameMoments | None:
    """Compare the frames of an aligned segment that show the same moments, by the hashes of all frames, which agree
    within `max_distance` bits. A frame is unlike if the other video shows nothing similar at the moment, a step before
    or a step after. Only dense parts are compared.

    Two scans lie between each other. Where the camera moves fast, frames a tenth of a second apart have nothing in
    common. So the offset must be known to a hundredth of a second, and only frames that change can tell it. None if too
    few of them do, at another speed, and in a video that was cut in another order.
    """
    if segment.speed != 1.0 or segment.further:
        return None
    moments_s, other_moments_s = find_moments(first), find_moments(second)
    distances = count_differing_bits(own, others)
    later_s = other_moments_s[None] - segment.shown_in_second(moments_s)[:, None]
    later_s[(first.weights > 1)[:, None] | (second.weights > 1)[None]] = np.inf
    is_near = np.abs(later_s) <= OFFSET_STEP_S + OFFSET_PRECISION_S
    (changes, stands), (others_change, others_stand) = _find_changes(own), _find_changes(others)
    telling = later_s[is_near & (distances <= IDENTICAL_BITS) & changes[:, None] & others_change]
    steps = round(OFFSET_STEP_S / OFFSET_PRECISION_S)
    shifts_s = np.arange(-steps, steps + 1) * OFFSET_PRECISION_S
    votes = (np.abs(telling[None] - shifts_s[:, None]) <= SAME_MOMENT_S).sum(axis=1)
    if votes.max() < MIN_TELLING:
        return None
    # Neighbouring shifts have the same votes: the middle one is the best estimate.
    best = np.flatnonzero(votes == votes.max())
    later_s -= shifts_s[best[len(best) // 2]]
    # What stands still shows all moments around.
    is_same = (np.abs(later_s) <= SAME_MOMENT_S) | (
        (np.abs(later_s) <= OFFSET_STEP_S / 2) & (stands[:, None] | others_stand)
    )
    if not is_same.any():
        return None
    shown = np.where(is_near, distances, np.inf)
    # Counted in the video where more frames are unlike: the order of the two must not change the result.
    ways = [shown.min(axis=axis)[is_same.any(axis=axis)] for axis in (0, 1)]
    nearest = max(ways, key=lambda way: (float((way >= UNLIKE_BITS).mean()), len(way)))
    agreeing = nearest[nearest <= max_distance]
    return SameMoments(
        compared=len(nearest),
        unlike=int((nearest >= UNLIKE_BITS).sum()),
        distance_bits=float(np.median(agreeing)) if len(agreeing) else float(max_distance),
    )


def _find_changes(hashes: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which frames differ both from the one before and from the one after, and which are the same as both."""
    bits = np.bitwise_count(hashes[1:] ^ hashes[:-1]).sum(axis=1)
    changes, stands = bits > SAME_SCENE_BITS, bits <= IDENTICAL_BITS
    return tuple(np.concatenate([[False], one]) & np.concatenate([one, [False]]) for one in (changes, stands))
