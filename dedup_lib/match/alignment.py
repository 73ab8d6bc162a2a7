"""Temporal alignment: the segments of time in which two videos show the same frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.perceptual_hash import Hashes, count_differing_bits
from dedup_lib.match.temporal_votes import OFFSET_STEP_S, OFFSET_TOLERANCE_S, FrameMatches

SAME_SCENE_BITS = 40
"""Frames of one video this near show nothing new."""

MIN_DENSITY = 0.25
"""Of the frames in a stretch that two videos share, at least this share agrees."""

MAX_PARTS = 6

MIN_IN_PART = 6

MIN_PART_AGREEMENT = 0.5
"""Of a video that was cut in another order, further parts are found where so many frames, and this share of them,
agree."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One more part that two videos share: where it begins and ends in either."""

    first_start_s: float
    first_end_s: float
    second_start_s: float
    second_end_s: float

    def exchanged(self) -> Part:
        """The same, with the second video taken for the first."""
        return Part(
            first_start_s=self.second_start_s,
            first_end_s=self.second_end_s,
            second_start_s=self.first_start_s,
            second_end_s=self.first_end_s,
        )


@dataclass(frozen=True, kw_only=True)
class AlignedSegment:
    """What two videos share: `agreeing` of the `compared` frames there, counted in the one where they are the smaller
    share; from `first_start_s` to `first_end_s` in the first and the same in the second, and which share of either
    that is. Where one was cut in another order, this is the longest part that stayed whole, and the `further` ones
    count for all numbers."""

    agreeing: int
    compared: int
    first_start_s: float
    first_end_s: float
    second_start_s: float
    second_end_s: float
    first_coverage: float
    second_coverage: float
    speed: float
    distance_bits: float = 0.0
    """Median distance of the frames that agree."""
    scenes: int = 1
    """How many of them show something else than the one before."""
    agreeing_share: float | None = None
    """Share of the frames that agree, each counted by the time that it stands for; None: all stand for as much."""
    beside: tuple[NDArray[np.intp], NDArray[np.intp]] | None = field(default=None, compare=False, repr=False)
    """Which frame of the first video stands beside which one of the second, where those of one of them are seconds
    apart in a part of it; None: those shown at the same time."""
    correlation: float = math.nan
    """How alike both videos change in it, -1 to 1 (`motion`); NaN where that was not asked."""
    further: tuple[Part, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of the frames that agree."""
        return self.agreeing / self.compared if self.agreeing_share is None else self.agreeing_share

    @property
    def is_sparse(self) -> bool:
        """Whether a part of it lies where the frames of one of the videos are seconds apart."""
        return self.beside is not None

    @property
    def offset_s(self) -> float:
        """How much later the second video shows the beginning, give or take the tolerance."""
        return self.second_start_s - self.first_start_s

    @property
    def strength(self) -> float:
        """What to choose the better of two stretches by: few frames agree easily."""
        return self.agreement * min(1.0, self.agreeing / 4) * max(self.first_coverage, self.second_coverage)

    def frame_correspondences(
        self, first_times_s: NDArray[np.float32], second_times_s: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The frames of the first video in the stretch, and for each the one of the second that stands beside it;
        those without any are left out."""
        return self.beside or self.correspondences_at(first_times_s, second_times_s)

    def correspondences_at(
        self,
        first_times_s: NDArray[np.float32],
        second_times_s: NDArray[np.float32],
        *,
        tolerance_s: float = OFFSET_STEP_S,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """What the first video shows at some times in the stretch, and for each what the second one shows then, give or
        take the tolerance; that without any is left out."""
        wanted_s = self.shown_in_second(first_times_s)
        inside = np.flatnonzero(np.isfinite(wanted_s))
        apart_s = np.abs(second_times_s[None] - wanted_s[inside, None])
        nearest = apart_s.argmin(axis=1)
        is_near = apart_s[np.arange(len(nearest)), nearest] <= tolerance_s
        return inside[is_near], nearest[is_near]

    def shown_in_second(self, first_times_s: NDArray[np.float32]) -> NDArray[np.float32]:
        """When the second video shows what the first one does at these times; NaN outside the stretch."""
        shown_s = np.full(len(first_times_s), np.nan, np.float32)
        parts: tuple[Part | AlignedSegment, ...] = (*self.further, self)
        for part in parts:
            inside = (first_times_s >= part.first_start_s) & (first_times_s <= part.first_end_s)
            shown_s[inside] = part.second_start_s + (first_times_s[inside] - part.first_start_s) / self.speed
        return shown_s

    def exchanged(self) -> AlignedSegment:
        """The same, with the second video taken for the first."""
        return replace(
            self,
            first_start_s=self.second_start_s,
            first_end_s=self.second_end_s,
            second_start_s=self.first_start_s,
            second_end_s=self.first_end_s,
            first_coverage=self.second_coverage,
            second_coverage=self.first_coverage,
            speed=1 / self.speed,
            beside=self.beside and self.beside[::-1],
            further=tuple(part.exchanged() for part in self.further),
        )


def align(
    first: Hashes,
    second: Hashes,
    *,
    first_times_s: NDArray[np.float32],
    second_times_s: NDArray[np.float32],
    max_distance: int,
    first_weights: NDArray[np.float32] | None = None,
    second_weights: NDArray[np.float32] | None = None,
) -> AlignedSegment | None:
    """The stretch that two videos share, None when no two frames are within `max_distance` bits. Times rise; the
    weights are those of a `Fingerprint`, None where all are one.

    Every two frames that are so alike vote for the offset between their times; those near the winning offset agree.
    The stretch is where they lie densely: the run of frames with the largest sum, each one that agrees counting one
    and each other one taking away what leaves a run at `MIN_DENSITY` without gain. What is left of both videos is
    asked for further parts at the same speed. All that is counted by what the frames stand for; where those of one
    video are seconds apart, those of the other that lie between them are not asked.
    """
    distances = count_differing_bits(first, second)
    is_near = distances <= max_distance
    own, others = (
        np.ones(len(times_s)) if weights is None else weights.astype(float)
        for weights, times_s in ((first_weights, first_times_s), (second_weights, second_times_s))
    )
    speed: float | None = None
    parts: list[AlignedSegment] = []
    nearest = np.full(len(first), np.inf)
    shown, second_shown = np.zeros(len(first), bool), np.zeros(len(second), bool)
    while is_near.any() and len(parts) < MAX_PARTS:
        matches = FrameMatches.of(distances, is_near, first_times_s, second_times_s, max_distance=max_distance)
        speed, offset_s = matches.find_line() if speed is None else (speed, matches.find_offset(speed))
        second_as_first_s = second_times_s * speed - offset_s
        agrees = is_near & (np.abs(second_as_first_s - first_times_s[:, None]) <= OFFSET_TOLERANCE_S * min(1.0, speed))
        asked = _Asked.of(distances, first_times_s, second_as_first_s, own, others, max_distance=max_distance)
        second_agrees = agrees.any(axis=0) & (asked.second > 0)
        agrees[asked.first == 0] = False
        if not (agrees.any() and second_agrees.any()):
            break
        part, (here, there) = _find_segment(
            first_times_s,
            second_times_s,
            asked=asked,
            first_agrees=agrees.any(axis=1),
            second_agrees=second_agrees,
            is_taken=shown,
            offset_s=offset_s,
            speed=speed,
        )
        is_poor = part.agreeing < MIN_IN_PART or part.agreement < MIN_PART_AGREEMENT
        if parts and (is_poor or second_shown[there].any()):
            break
        parts.append(replace(part, beside=asked.beside(part, first_times_s, second_times_s)))
        nearest[here] = np.where(agrees[here], distances[here], np.inf).min(axis=1)
        shown[here], second_shown[there] = True, True
        is_near[here], is_near[:, there] = False, False
    if not parts:
        return None
    agreed = np.isfinite(nearest)
    joined = replace(_join(parts), distance_bits=float(np.median(nearest[agreed])), scenes=_count_scenes(first[agreed]))
    if not any(part.is_sparse for part in parts):
        return joined
    pairs = np.concatenate(
        [np.stack(part.frame_correspondences(first_times_s, second_times_s), axis=1) for part in parts]
    )
    places, other_places = np.unique(pairs, axis=0).T
    return replace(joined, beside=(places, other_places))


def _join(parts: Sequence[AlignedSegment]) -> AlignedSegment:
    if len(parts) == 1:
        return parts[0]
    longest = max(parts, key=lambda part: part.agreeing)
    compared = sum(part.compared for part in parts)
    return replace(
        longest,
        agreeing=sum(part.agreeing for part in parts),
        compared=compared,
        agreeing_share=sum(part.agreement * part.compared for part in parts) / compared,
        # Thirds of a video may add up to a little more than one.
        first_coverage=min(1.0, sum(part.first_coverage for part in parts)),
        second_coverage=min(1.0, sum(part.second_coverage for part in parts)),
        further=tuple(
            Part(
                first_start_s=part.first_start_s,
                first_end_s=part.first_end_s,
                second_start_s=part.second_start_s,
                second_end_s=part.second_end_s,
            )
            for part in parts
            if part is not longest
        ),
    )


def _count_scenes(hashes: Hashes) -> int:
    """How often a frame differs from the last one that was counted, the first one included."""
    distances = count_differing_bits(hashes, hashes)
    count, last = 1, 0
    for index in range(1, len(hashes)):
        if distances[last, index] > SAME_SCENE_BITS:
            count, last = count + 1, index
    return count


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What each frame of two videos counts once both are shown by one clock, (N,) and (M,): 0 where the frames of
    the other video around it are seconds apart, and none of them is its counterpart. And these counterparts, (K, 2)."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    counterparts: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        distances: NDArray[np.uint16],
        first_s: NDArray[np.floating],
        second_s: NDArray[np.floating],
        own: NDArray[np.float64],
        others: NDArray[np.float64],
        *,
        max_distance: int,
    ) -> _Asked:
        of_second = _find_counterparts(distances, first_s, second_s, own, others, max_distance=max_distance)
        of_first = _find_counterparts(distances.T, second_s, first_s, others, own, max_distance=max_distance)
        return cls(
            first=_weigh_asked(first_s, second_s, own, others, of_second),
            second=_weigh_asked(second_s, first_s, others, own, of_first),
            counterparts=np.concatenate([np.stack(of_second, axis=1), np.stack(of_first[::-1], axis=1)]),
        )

    def beside(
        self, part: AlignedSegment, first_times_s: NDArray[np.float32], second_times_s: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """What stands beside what in a part, None where no frame in it stands for several."""
        counterpart_s = first_times_s[self.counterparts[:, 0]]
        pairs = self.counterparts[(counterpart_s >= part.first_start_s) & (counterpart_s <= part.first_end_s)]
        if not len(pairs):
            return None
        dense = np.stack(part.correspondences_at(first_times_s, second_times_s), axis=1)
        dense = dense[(self.first[dense[:, 0]] == 1) & (self.second[dense[:, 1]] == 1)]
        places, other_places = np.unique(np.concatenate([dense, pairs]), axis=0).T
        return places, other_places


def _find_counterparts(
    distances: NDArray[np.uint16],
    own_s: NDArray[np.floating],
    others_s: NDArray[np.floating],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    max_distance: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each frame of the other video that stands for several, the most alike of the own ones that are shown then
    by one clock (N,), and which frame that is (N,). Those without any are left out.

    Key frames often stand at a cut, and the nearest frame before it shows another shot.
    """
    sparse = np.flatnonzero(others > 1)
    apart_s = np.abs(own_s[:, None] - others_s[None, sparse])
    # Of two sparse videos no other frame can be chosen where a cut lies between.
    tolerances_s = np.where(own > 1, OFFSET_STEP_S / 2, OFFSET_STEP_S)
    costs = np.where(apart_s <= tolerances_s[:, None], distances[:, sparse] + apart_s, np.inf)
    lowest = costs.min(axis=0, initial=np.inf)
    # What is shown where this video begins or is over may lie before or behind it.
    is_within = (others_s[sparse] >= own_s[0] + OFFSET_STEP_S / 2) & (others_s[sparse] <= own_s[-1] - OFFSET_STEP_S / 2)
    found = np.isfinite(lowest) & (is_within | (lowest <= max_distance))
    return costs.argmin(axis=0)[found], sparse[found]


def _weigh_asked(
    own_s: NDArray[np.floating],
    others_s: NDArray[np.floating],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    counterparts: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    if others.max() <= 1:
        return own
    after = np.searchsorted(others_s, own_s)
    following = np.minimum(after, len(others_s) - 1)
    # Behind its last frame, the other video may go on for as long as before it.
    reaches_s = others_s[-1] + (others_s[-1] - others_s[-2] if len(others_s) > 1 else 0)
    lies_open = (others[following] > 1) & (after > 0) & (own_s <= reaches_s)
    asked = np.where(lies_open, 0.0, own)
    places, other_places = counterparts
    asked[places] = np.maximum(own[places], others[other_places])
    return asked


def _find_segment(
    first_times_s: NDArray[np.float32],
    second_times_s: NDArray[np.float32],
    *,
    asked: _Asked,
    first_agrees: NDArray[np.bool_],
    second_agrees: NDArray[np.bool_],
    is_taken: NDArray[np.bool_],
    offset_s: float,
    speed: float,
) -> tuple[AlignedSegment, tuple[slice, slice]]:
    """The densest part, without frames of the first video that are taken, and where it lies in both."""
    start, end = _densest_run(first_agrees, asked.first, is_taken)
    # In the first it begins and ends with a frame that agrees, and so it does in the second.
    agreeing_seconds = np.flatnonzero(second_agrees)
    second_as_first_s = second_times_s[agreeing_seconds] * speed - offset_s
    second_start = int(agreeing_seconds[np.abs(second_as_first_s - first_times_s[start]).argmin()])
    second_end = int(agreeing_seconds[::-1][np.abs(second_as_first_s - first_times_s[end])[::-1].argmin()])
    own, others = slice(start, end + 1), slice(second_start, second_end + 1)
    counted = (asked.first[own], first_agrees[own]), (asked.second[others], second_agrees[others])
    if speed != 1.0:
        # Between two frames of the video that runs faster, the other one shows what is not known of it.
        counted = _group(*counted, first_times_s[own] + offset_s, second_times_s[others] * speed, speed=speed)
    share, agreeing, compared = min(
        (float(weights[agrees].sum() / weights.sum()), int(agrees.sum()), int((weights > 0).sum()))
        for weights, agrees in counted
    )
    stretch = AlignedSegment(
        agreeing=agreeing,
        compared=compared,
        first_start_s=float(first_times_s[start]),
        first_end_s=float(first_times_s[end]),
        second_start_s=float(second_times_s[second_start]),
        second_end_s=float(second_times_s[second_end]),
        first_coverage=float(asked.first[own].sum() / asked.first.sum()),
        second_coverage=float(asked.second[others].sum() / asked.second.sum()),
        speed=speed,
        agreeing_share=share,
    )
    return stretch, (own, others)


_Counted = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""What each frame counts, and whether it agrees."""


def _group(
    first: _Counted, second: _Counted, first_s: NDArray[np.floating], second_s: NDArray[np.floating], *, speed: float
) -> tuple[_Counted, _Counted]:
    """Frames of the video that runs slower, as one those that are nearest to the same one of the other; times are
    those of the same moments."""
    if speed < 1.0:
        return _group(second, first, second_s, first_s, speed=1 / speed)[::-1]
    nearest = np.abs(first_s[:, None] - second_s[None]).argmin(axis=1)
    begins = np.flatnonzero(np.diff(nearest, prepend=-1))
    weights, agrees = first
    return (np.maximum.reduceat(weights, begins), np.logical_or.reduceat(agrees, begins)), second


def _densest_run(
    agrees: NDArray[np.bool_], weights: NDArray[np.float64], is_taken: NDArray[np.bool_]
) -> tuple[int, int]:
    """First and last index of the run with the largest sum (J. Bentley, "Programming Pearls", 1984: Kadane), which no
    frame that is taken interrupts."""
    gains = weights * np.where(agrees, 1.0, -MIN_DENSITY / (1 - MIN_DENSITY))
    gains[is_taken] = -weights.sum()
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    lowest = np.minimum.accumulate(sums[:-1])
    end = int(np.argmax(sums[1:] - lowest))
    # Those that are not asked change no sum.
    inside = np.flatnonzero(agrees[: end + 1])
    return int(inside[np.searchsorted(inside, np.argmin(sums[: end + 1]))]), int(inside[-1])
