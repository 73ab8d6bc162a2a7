"""Motion: whether two videos change alike, whatever stands still in them.

A copy that was blurred, shrunk to a stamp or filled with noise keeps its coarse shapes and how they move, and a camera
in motion shows nearly the same ones a twentieth of a second later. Two takes of one scene share all that stands
still, and nothing of what moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.perceptual_hash import find_frequencies, turn_frequencies
from dedup_lib.match.alignment import AlignedSegment
from dedup_lib.match.temporal_votes import OFFSET_STEP_S

FREQUENCIES = 8
"""The lowest 8 × 8 frequencies of a frame are its coarse shapes."""

MIN_COMPARED = 8
"""Of fewer frames, unlike videos may change alike by chance."""

MIN_TO_CORRELATE = 3

MIN_OVERLAP = 0.5
"""Share of the longer video that must lie beside the other one: for a short part of it some place always fits."""

ALIKE = 0.55
"""Correlation from which frames, and whole videos, change alike. Of unlike videos it stays below 0.47."""

ALIKE_IN_HALF = 0.4
"""Correlation of either half by itself: one cut or one fade at the same time is not enough."""

STILL_ENERGY = 0.001
"""Mean square by which frames differ from their mean: less than this is what encoders make of a still picture."""

SPEEDS = (24 / 25, 25 / 24, 1 / 1.05, 1.05, 0.8, 1.25, 2 / 3, 1.5, 0.5, 2.0)
"""How much faster the second video may run: film shown as television and back, and what people choose."""

WORTH_OTHER_SPEEDS = 0.2
"""At its own speed a faster copy still reaches this."""

OTHER_SPEED_GAINS = 0.03
"""Another speed must explain so much more."""


@dataclass(frozen=True, kw_only=True)
class MotionTrack:
    """The coarse shapes of a video over time: `shapes` float32 (N, 64), rows of unit length, shown at `times_s`."""

    shapes: NDArray[np.float32]
    times_s: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    """What each frame stands for (`Fingerprint`); None: one step."""

    def turned(self, orientation: int) -> MotionTrack:
        """The same in one of the `perceptual_hash.ORIENTATIONS`."""
        waves = self.shapes.reshape(-1, FREQUENCIES, FREQUENCIES)
        return replace(self, shapes=turn_frequencies(waves, orientation).reshape(self.shapes.shape))

    @cached_property
    def timeline(self) -> _Timeline:
        """In steps, at its own speed."""
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
        """How much of the video that is."""
        return 1.0 if self.weights is None else len(self.dense.times_s) / float(self.weights.sum(dtype=float))


def extract_motion(
    tiny_frames: NDArray[np.uint8], *, times_s: NDArray[np.float32], weights: NDArray[np.float32] | None = None
) -> MotionTrack:
    """The course of frames (N, 64, 64) that are shown at `times_s`, which rise."""
    waves = find_frequencies(tiny_frames)[:, :FREQUENCIES, :FREQUENCIES].reshape(len(tiny_frames), -1)
    # Light and contrast are no part of a shape.
    lengths = np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1e-6)
    return MotionTrack(shapes=(waves / lengths).astype(np.float32), times_s=times_s, weights=weights)


@dataclass(frozen=True, kw_only=True)
class MotionMatch:
    """How alike two videos change where one lies beside the other. `stretch` is that part; of its frames those agree
    that differ from the mean of the part alike. `weaker_half` is the correlation in the half of it where it is lower;
    `energy` says how much the video that changes less does change there.
    """

    stretch: AlignedSegment
    weaker_half: float
    energy: float

    @property
    def is_alike(self) -> bool:
        """Whether that is enough to call the videos the same."""
        return (
            self.moves
            and self.stretch.compared >= MIN_COMPARED
            and self.stretch.correlation >= ALIKE
            and self.weaker_half >= ALIKE_IN_HALF
            and self.stretch.agreement >= 0.5
        )

    @property
    def moves(self) -> bool:
        """Whether there is a movement in both that could be alike or not."""
        return self.energy >= STILL_ENERGY

    def exchanged(self) -> MotionMatch:
        """The same, with the second video taken for the first."""
        return replace(self, stretch=self.stretch.exchanged())


def compare_motion(
    first: MotionTrack, second: MotionTrack, *, lowest: float = -1.0, known_speed: float = 1.0
) -> MotionMatch | None:
    """Lay one video beside the other at every offset, at their own speed, at the one that is known of their frames,
    and where these give hope at the `SPEEDS`, and see where they change most alike; None where they are too short for
    that, or their correlation stays below `lowest`. Only their dense parts are asked."""
    shares = first.dense_share, second.dense_share
    first, second = first.dense, second.dense
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
    if best is None or best[0] < lowest:
        return None
    _, offset, speed, other = best
    changes = _compare_at(own, other, offset=offset, speed=speed)
    stretch = replace(
        changes.stretch,
        first_coverage=changes.stretch.first_coverage * shares[0],
        second_coverage=changes.stretch.second_coverage * shares[1],
    )
    return replace(changes, stretch=stretch)


def correlate_stretch(first: MotionTrack, second: MotionTrack, stretch: AlignedSegment) -> float:
    """How alike two videos change in a stretch that they share, -1 to 1; NaN for too few frames."""
    own, others = stretch.frame_correspondences(first.times_s, second.times_s)
    if len(own) < MIN_TO_CORRELATE:
        return float("nan")
    return _correlate(first.shapes[own], second.shapes[others])


@dataclass(frozen=True, kw_only=True)
class _Timeline:
    """A course in steps of `OFFSET_STEP_S`: `shapes` float32 (T, 64), zero where `shown`, bool (T,), says that there is
    no frame, and where each frame was shown."""

    shapes: NDArray[np.float32]
    shown: NDArray[np.bool_]
    times_s: NDArray[np.float32]

    @classmethod
    def of(cls, course: MotionTrack, *, speed: float = 1.0) -> _Timeline:
        """When it is played `speed` times as slowly."""
        steps = np.round(course.times_s * speed / OFFSET_STEP_S).astype(int)
        shapes = np.zeros((steps[-1] + 1, course.shapes.shape[1]), np.float32)
        shown = np.zeros(len(shapes), bool)
        times_s = np.zeros(len(shapes), np.float32)
        shapes[steps], shown[steps], times_s[steps] = course.shapes, True, course.times_s
        return cls(shapes=shapes, shown=shown, times_s=times_s)

    @cached_property
    def frames(self) -> int:
        return int(self.shown.sum())

    @cached_property
    def changes(self) -> NDArray[np.float32]:
        """How each frame differs from the mean."""
        mean = self.shapes.sum(axis=0) / self.frames
        return np.asarray((self.shapes - mean) * self.shown[:, None])

    @cached_property
    def energy(self) -> NDArray[np.float32]:
        """By how much, squared: (T,)."""
        return np.asarray((self.changes**2).sum(axis=1))

    def find_offset(self, other: _Timeline) -> tuple[float, int] | None:
        """The highest correlation of what changes, and by how many steps the other one is later there; None where no
        offset leaves enough of them beside each other."""
        own, others = self.changes, other.changes
        # A correlation at every offset is a sum over each diagonal of their products.
        products = own[::-1] @ others.T
        width = len(self.shown) + len(other.shown)
        sheared = np.zeros((len(own), width), np.float32)
        sheared[:, : len(others)] = products
        sums = sheared.ravel()[: len(own) * (width - 1)].reshape(len(own), width - 1).sum(axis=0)
        shown, others_shown = self.shown[::-1].astype(np.float32), other.shown.astype(np.float32)
        compared = np.convolve(shown, others_shown)
        energies = np.convolve(self.energy[::-1], others_shown) * np.convolve(shown, other.energy)
        wanted = max(MIN_TO_CORRELATE, MIN_OVERLAP * max(self.frames, other.frames))
        possible = (compared >= wanted - 0.5) & (energies > 1e-9)
        if not possible.any():
            return None
        correlations = np.where(possible, sums / np.sqrt(np.maximum(energies, 1e-9)), -1.0)
        best = int(correlations.argmax())
        return float(correlations[best]), best - (len(own) - 1)


def _compare_at(first: _Timeline, second: _Timeline, *, offset: int, speed: float) -> MotionMatch:
    """What is to be said of two timelines when the second one is `offset` steps later."""
    start, end = max(0, -offset), min(len(first.shown), len(second.shown) - offset)
    beside = start + np.flatnonzero(first.shown[start:end] & second.shown[start + offset : end + offset])
    own, others = first.shapes[beside], second.shapes[beside + offset]
    own_changes, other_changes = own - own.mean(axis=0), others - others.mean(axis=0)
    lengths = np.linalg.norm(own_changes, axis=1) * np.linalg.norm(other_changes, axis=1)
    alike = (own_changes * other_changes).sum(axis=1) / np.maximum(lengths, 1e-9)
    halves = [_correlate(*parts) for parts in zip(np.array_split(own, 2), np.array_split(others, 2), strict=True)]
    return MotionMatch(
        stretch=AlignedSegment(
            agreeing=int((alike >= ALIKE).sum()),
            compared=len(beside),
            first_start_s=float(first.times_s[beside[0]]),
            first_end_s=float(first.times_s[beside[-1]]),
            second_start_s=float(second.times_s[beside[0] + offset]),
            second_end_s=float(second.times_s[beside[-1] + offset]),
            first_coverage=len(beside) / first.frames,
            second_coverage=len(beside) / second.frames,
            speed=speed,
            correlation=_correlate(own, others),
        ),
        weaker_half=min(halves),
        energy=min(float((changes**2).sum(axis=1).mean()) for changes in (own_changes, other_changes)),
    )


def _correlate(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Of what changes in the rows of two arrays (N, D), -1 to 1; 0 where nothing does."""
    if not len(first):
        return 0.0
    own, others = first - first.mean(axis=0), second - second.mean(axis=0)
    energies = float((own**2).sum()) * float((others**2).sum())
    return float((own * others).sum()) / energies**0.5 if energies > 1e-9 else 0.0
