"""Motion: whether two videos change alike, whatever stands still in them.

A copy that was blurred, shrunk to a stamp or filled with noise keeps its coarse shapes and their motion. A moving
camera shows nearly the same shapes a twentieth of a second later. Two takes of one scene share everything that stands
still, and nothing that moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.perceptual_hash import find_frequencies, orient_frequencies
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.temporal_votes import OFFSET_STEP_S

FREQUENCIES = 8
"""The lowest 8 × 8 frequencies of a frame describe its coarse shapes."""

MIN_COMPARED = 8
"""Minimum number of compared frames: with fewer, unlike videos may change alike by chance."""

MIN_TO_CORRELATE = 3

MIN_OVERLAP = 0.5
"""Minimum share of the longer video that overlaps the other: a short part fits somewhere in any video. An excerpt may
be shorter if its frames agree: then it is compared only where they do."""

MAX_STEPS_AWAY = 1
"""Maximum distance, in steps of the scan, of an excerpt from where its frames agree."""

ALIKE = 0.55
"""Minimum correlation of frames, and of whole videos, that change alike. Unlike videos stay below 0.47."""

ALIKE_IN_HALF = 0.4
"""Minimum correlation of each half by itself: one cut or fade at the same time is not enough."""

STILL_ENERGY = 0.001
"""Minimum mean square difference of moving frames from their mean: encoders make less than this of a still video."""

SPEEDS = (24 / 25, 25 / 24, 1 / 1.05, 1.05, 0.8, 1.25, 2 / 3, 1.5, 0.5, 2.0)
"""Speeds to try for the second video, relative to the first: film shown as television and back, and common choices."""

WORTH_OTHER_SPEEDS = 0.2
"""Minimum correlation at its own speed for which other speeds are tried: a faster copy still reaches this."""

OTHER_SPEED_GAINS = 0.03
"""Minimum gain in correlation for which another speed is chosen."""


@dataclass(frozen=True, kw_only=True)
class MotionTrack:
    """The coarse shapes of a video over time: `shapes` float32 (N, 64), rows of unit length, shown at `times_s`."""

    shapes: NDArray[np.float32]
    times_s: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    """Number of steps that each frame stands for (`Fingerprint`); None: one step each."""

    def oriented(self, orientation: int) -> MotionTrack:
        """The same track in one of the `perceptual_hash.ORIENTATIONS`."""
        coefficients = self.shapes.reshape(-1, FREQUENCIES, FREQUENCIES)
        return replace(self, shapes=orient_frequencies(coefficients, orientation).reshape(self.shapes.shape))

    @cached_property
    def timeline(self) -> _Timeline:
        """The track in steps, at its own speed."""
        return _Timeline.of(self)

    @cached_property
    def dense(self) -> MotionTrack:
        """The part whose frames are a step apart."""
        if self.weights is None:
            return self
        count = int((self.weights <= 1).sum())
        return MotionTrack(shapes=self.shapes[:count], times_s=self.times_s[:count])

    @property
    def dense_share(self) -> float:
        """Share of the video that the dense part covers."""
        return 1.0 if self.weights is None else len(self.dense.times_s) / float(self.weights.sum(dtype=float))


def extract_motion(
    tiny_frames: NDArray[np.uint8], *, times_s: NDArray[np.float32], weights: NDArray[np.float32] | None = None
) -> MotionTrack:
    """The motion track of frames (N, 64, 64), shown at rising `times_s`."""
    coefficients = find_frequencies(tiny_frames)[:, :FREQUENCIES, :FREQUENCIES].reshape(len(tiny_frames), -1)
    # Brightness and contrast are not part of a shape.
    lengths = np.maximum(np.linalg.norm(coefficients, axis=1, keepdims=True), 1e-6)
    return MotionTrack(shapes=(coefficients / lengths).astype(np.float32), times_s=times_s, weights=weights)


@dataclass(frozen=True, kw_only=True)
class MotionMatch:
    """How similarly two videos change where they overlap. `segment` is the overlap; its frames agree if they differ
    similarly from its mean. `weaker_half` is the lower correlation of its two halves. `energy` is how much the video
    that changes less changes there.
    """

    segment: AlignedSegment
    weaker_half: float
    energy: float

    @property
    def is_alike(self) -> bool:
        """Whether the similarity suffices to call the videos the same."""
        return (
            self.moves
            and self.segment.compared >= MIN_COMPARED
            and self.segment.correlation >= ALIKE
            and self.weaker_half >= ALIKE_IN_HALF
            and self.segment.agreement >= 0.5
        )

    @property
    def moves(self) -> bool:
        """Whether both videos move, so that their motion can be compared."""
        return self.energy >= STILL_ENERGY

    def exchanged(self) -> MotionMatch:
        """The same match with the two videos exchanged."""
        return replace(self, segment=self.segment.exchanged())


def compare_motion(
    first: MotionTrack, second: MotionTrack, *, lowest: float = -1.0, known: AlignedSegment | None = None
) -> MotionMatch | None:
    """Find the offset and speed at which two videos change most alike. Their own speed and that of `known`, where their
    frames agree, are tried first, then the `SPEEDS` if these are promising. None if the videos are too short, or if
    their correlation stays below `lowest`. An excerpt is compared where its frames agree; None if it does not change
    alike there. Only dense parts are compared."""
    shares = first.dense_share, second.dense_share
    first, second = first.dense, second.dense
    known_speed = known.speed if known is not None else 1.0
    if not (len(first.times_s) and len(second.times_s)):
        return None
    own = first.timeline
    best: tuple[float, int, float, _Timeline] | None = None
    for speed in dict.fromkeys((1.0, known_speed, *SPEEDS)):
        if speed not in (1.0, known_speed) and (best is None or best[0] < WORTH_OTHER_SPEEDS):
            break
        other = _Timeline.of(second, speed=speed) if speed != 1.0 else second.timeline
        found = own.find_offset(other)
        if found is not None and (best is None or found[0] > best[0] + OTHER_SPEED_GAINS):
            best = *found, speed, other
    if best is None and known is not None:
        other = _Timeline.of(second, speed=known.speed)
        later_s = known.second_start_s * known.speed - known.first_start_s
        found = own.find_offset(other, near=round(later_s / OFFSET_STEP_S))
        if found is not None and found[0] >= ALIKE:
            best = *found, known.speed, other
    if best is None or best[0] < lowest:
        return None
    _, offset, speed, other = best
    changes = _compare_at(own, other, offset=offset, speed=speed)
    segment = replace(
        changes.segment,
        first_coverage=changes.segment.first_coverage * shares[0],
        second_coverage=changes.segment.second_coverage * shares[1],
    )
    return replace(changes, segment=segment)


def correlate_segment(first: MotionTrack, second: MotionTrack, segment: AlignedSegment) -> float:
    """How similarly two videos change in an aligned segment, -1 to 1; NaN for too few frames."""
    own, others = segment.frame_correspondences(first.times_s, second.times_s)
    if len(own) < MIN_TO_CORRELATE:
        return float("nan")
    return correlate_changes(first.shapes[own], second.shapes[others])


@dataclass(frozen=True, kw_only=True)
class _Timeline:
    """A motion track in steps of `OFFSET_STEP_S`: `shapes` float32 (T, 64), `shown` bool (T,) and the times of the
    frames. `shown` says which steps have a frame; the others are zero."""

    shapes: NDArray[np.float32]
    shown: NDArray[np.bool_]
    times_s: NDArray[np.float32]

    @classmethod
    def of(cls, track: MotionTrack, *, speed: float = 1.0) -> _Timeline:
        """The timeline of a track that is played `speed` times as slowly."""
        steps = np.round(track.times_s * speed / OFFSET_STEP_S).astype(int)
        shapes = np.zeros((steps[-1] + 1, track.shapes.shape[1]), np.float32)
        shown = np.zeros(len(shapes), bool)
        times_s = np.zeros(len(shapes), np.float32)
        shapes[steps], shown[steps], times_s[steps] = track.shapes, True, track.times_s
        return cls(shapes=shapes, shown=shown, times_s=times_s)

    @cached_property
    def frames(self) -> int:
        return int(self.shown.sum())

    @cached_property
    def changes(self) -> NDArray[np.float32]:
        """Difference of each frame from the mean."""
        mean = self.shapes.sum(axis=0) / self.frames
        return np.asarray((self.shapes - mean) * self.shown[:, None])

    @cached_property
    def energy(self) -> NDArray[np.float32]:
        """Squared length of each difference: (T,)."""
        return np.asarray((self.changes**2).sum(axis=1))

    def find_offset(self, other: _Timeline, *, near: int | None = None) -> tuple[float, int] | None:
        """The highest correlation of the changes, and the number of steps by which `other` is later there; None if no
        offset leaves enough overlap. `near`: only offsets near this one, whatever the overlap."""
        own, others = self.changes, other.changes
        # The correlation at each offset is the sum of one diagonal of the products.
        products = own[::-1] @ others.T
        width = len(self.shown) + len(other.shown)
        sheared = np.zeros((len(own), width), np.float32)
        sheared[:, : len(others)] = products
        sums = sheared.ravel()[: len(own) * (width - 1)].reshape(len(own), width - 1).sum(axis=0)
        shown, others_shown = self.shown[::-1].astype(np.float32), other.shown.astype(np.float32)
        compared = np.convolve(shown, others_shown)
        energies = np.convolve(self.energy[::-1], others_shown) * np.convolve(shown, other.energy)
        wanted = max(MIN_TO_CORRELATE, MIN_OVERLAP * max(self.frames, other.frames)) if near is None else MIN_COMPARED
        possible = (compared >= wanted - 0.5) & (energies > 1e-9)
        if near is not None:
            offsets = np.arange(len(compared)) - (len(own) - 1)
            possible &= np.abs(offsets - near) <= MAX_STEPS_AWAY
        if not possible.any():
            return None
        correlations = np.where(possible, sums / np.sqrt(np.maximum(energies, 1e-9)), -1.0)
        best = int(correlations.argmax())
        return float(correlations[best]), best - (len(own) - 1)


def _compare_at(first: _Timeline, second: _Timeline, *, offset: int, speed: float) -> MotionMatch:
    """The match of two timelines when the second one is `offset` steps later."""
    start, end = max(0, -offset), min(len(first.shown), len(second.shown) - offset)
    common = start + np.flatnonzero(first.shown[start:end] & second.shown[start + offset : end + offset])
    own, others = first.shapes[common], second.shapes[common + offset]
    own_changes, other_changes = own - own.mean(axis=0), others - others.mean(axis=0)
    lengths = np.linalg.norm(own_changes, axis=1) * np.linalg.norm(other_changes, axis=1)
    alike = (own_changes * other_changes).sum(axis=1) / np.maximum(lengths, 1e-9)
    halves = [
        correlate_changes(*parts) for parts in zip(np.array_split(own, 2), np.array_split(others, 2), strict=True)
    ]
    return MotionMatch(
        segment=AlignedSegment(
            agreeing=int((alike >= ALIKE).sum()),
            compared=len(common),
            first_start_s=float(first.times_s[common[0]]),
            first_end_s=float(first.times_s[common[-1]]),
            second_start_s=float(second.times_s[common[0] + offset]),
            second_end_s=float(second.times_s[common[-1] + offset]),
            first_coverage=len(common) / first.frames,
            second_coverage=len(common) / second.frames,
            speed=speed,
            correlation=correlate_changes(own, others),
        ),
        weaker_half=min(halves),
        energy=min(float((changes**2).sum(axis=1).mean()) for changes in (own_changes, other_changes)),
    )


def correlate_changes(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation of the changes in the rows of two arrays (N, ...), -1 to 1; 0 if nothing changes."""
    if not len(first):
        return 0.0
    own, others = first - first.mean(axis=0), second - second.mean(axis=0)
    energies = float((own**2).sum()) * float((others**2).sum())
    return float((own * others).sum()) / energies**0.5 if energies > 1e-9 else 0.0
