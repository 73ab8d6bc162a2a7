"""Temporal alignment: the segments of time in which two videos show the same frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.features.perceptual_hash import Hashes, count_differing_bits
from dedup_lib.match.temporal_votes import OFFSET_STEP_S, OFFSET_TOLERANCE_S, FrameMatches

SAME_SCENE_BITS = 40
"""Maximum Hamming distance, in bits, between two frames of one scene."""

CLOSE_BITS = 28
"""Maximum median distance, in bits, of close frames. Others may show two people in front of one wall, who are nearly as
similar as a copy with a logo. Frames that prove a match are varied or close. Unless they are both, motion must not
contradict them."""

MIN_SCENES = 3
"""Minimum number of scenes of varied frames: frames of a scene that hardly changes agree at any time."""

MIN_DENSITY = 0.25
"""Minimum share of agreeing frames in an aligned segment."""

MAX_PARTS = 6
"""Maximum number of parts of an aligned segment, for a video that was cut in another order."""

MIN_IN_PART = 6
"""Minimum number of agreeing frames in each further part."""

MIN_PART_AGREEMENT = 0.5
"""Minimum share of agreeing frames in each further part."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part that two videos share: its start and end in each video."""

    first_start_s: float
    first_end_s: float
    second_start_s: float
    second_end_s: float

    def exchanged(self) -> Self:
        """The same with the two videos exchanged."""
        return replace(
            self,
            first_start_s=self.second_start_s,
            first_end_s=self.second_end_s,
            second_start_s=self.first_start_s,
            second_end_s=self.first_end_s,
        )


@dataclass(frozen=True, kw_only=True)
class AlignedSegment(Part):
    """The segment of time that two videos share, and its share of each video.

    `agreeing` of the `compared` frames agree, counted in the video where this share is smaller. If one video was cut in
    another order, the times are those of the longest part, `further` holds the other parts, and all other numbers
    cover all parts.
    """

    agreeing: int
    compared: int
    first_coverage: float
    second_coverage: float
    speed: float
    distance_bits: float = 0.0
    """Median Hamming distance of the agreeing frames."""
    scenes: int = 1
    """Number of scenes that the agreeing frames show."""
    agreeing_share: float | None = None
    """Share of agreeing frames, each weighted by the time that it stands for. None: all stand for the same time."""
    correspondences: tuple[NDArray[np.intp], NDArray[np.intp]] | None = field(default=None, compare=False, repr=False)
    """Corresponding frames of the first and the second video, if the frames of one video are seconds apart in some
    part. None: frames shown at the same time correspond."""
    correlation: float = math.nan
    """How similarly both videos change in it, -1 to 1 (`motion`); NaN if not computed."""
    further: tuple[Part, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of agreeing frames."""
        return self.agreeing / self.compared if self.agreeing_share is None else self.agreeing_share

    @property
    def is_close(self) -> bool:
        """Whether the agreeing frames are nearly identical."""
        return self.distance_bits <= CLOSE_BITS

    @property
    def is_varied(self) -> bool:
        """Whether the agreeing frames show several scenes."""
        return self.scenes >= MIN_SCENES

    @property
    def is_sparse(self) -> bool:
        """Whether the frames of one video are seconds apart in some part of it."""
        return self.correspondences is not None

    @property
    def offset_s(self) -> float:
        """How much later the second video shows the beginning, within the tolerance."""
        return self.second_start_s - self.first_start_s

    @property
    def strength(self) -> float:
        """The better of two segments is stronger. Few frames agree easily, so fewer than four count less."""
        return self.agreement * min(1.0, self.agreeing / 4) * max(self.first_coverage, self.second_coverage)

    def frame_correspondences(
        self, first_times_s: NDArray[np.float32], second_times_s: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Frames of the first video in the segment, and the corresponding frame of the second for each. Frames without
        one are left out."""
        return self.correspondences or self.correspondences_at(first_times_s, second_times_s)

    def correspondences_at(
        self,
        first_times_s: NDArray[np.float32],
        second_times_s: NDArray[np.float32],
        *,
        tolerance_s: float = OFFSET_STEP_S,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of first times in the segment, and for each the index of the second time that corresponds within the
        tolerance. Times without one are left out."""
        wanted_s = self.shown_in_second(first_times_s)
        inside = np.flatnonzero(np.isfinite(wanted_s))
        apart_s = np.abs(second_times_s[None] - wanted_s[inside, None])
        nearest = apart_s.argmin(axis=1)
        is_near = apart_s[np.arange(len(nearest)), nearest] <= tolerance_s
        return inside[is_near], nearest[is_near]

    def shown_in_second(self, first_times_s: NDArray[np.float32]) -> NDArray[np.float32]:
        """When the second video shows what the first one shows at these times; NaN outside the segment."""
        shown_s = np.full(len(first_times_s), np.nan, np.float32)
        for part in (*self.further, self):
            inside = (first_times_s >= part.first_start_s) & (first_times_s <= part.first_end_s)
            shown_s[inside] = part.second_start_s + (first_times_s[inside] - part.first_start_s) / self.speed
        return shown_s

    def exchanged(self) -> Self:
        return replace(
            super().exchanged(),
            first_coverage=self.second_coverage,
            second_coverage=self.first_coverage,
            speed=1 / self.speed,
            correspondences=self.correspondences and self.correspondences[::-1],
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
    """The segment that two videos share; None when no two frames are within `max_distance` bits. Times rise. The
    weights are those of a `Fingerprint`; None: all are 1.

    Each pair of frames within `max_distance` votes for the offset between their times. Pairs near the winning offset
    agree. The segment is the run of frames with the largest sum: an agreeing frame adds one, and any other frame
    subtracts so much that a run at `MIN_DENSITY` sums to zero. The rest of both videos is then searched for further
    parts at the same speed. Each frame counts with its weight. Where the frames of one video are seconds apart, the
    frames of the other video between them do not count.
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
        weighed = _FrameWeights.of(distances, first_times_s, second_as_first_s, own, others, max_distance=max_distance)
        second_agrees = agrees.any(axis=0) & (weighed.second > 0)
        agrees[weighed.first == 0] = False
        if not (agrees.any() and second_agrees.any()):
            break
        part, (here, there) = _find_segment(
            first_times_s,
            second_times_s,
            weighed=weighed,
            first_agrees=agrees.any(axis=1),
            second_agrees=second_agrees,
            is_taken=shown,
            offset_s=offset_s,
            speed=speed,
        )
        is_poor = part.agreeing < MIN_IN_PART or part.agreement < MIN_PART_AGREEMENT
        if parts and (is_poor or second_shown[there].any()):
            break
        parts.append(replace(part, correspondences=weighed.find_correspondences(part, first_times_s, second_times_s)))
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
    return replace(joined, correspondences=(places, other_places))


def align_videos(
    own: Hashes, others: Hashes, first: Fingerprint, second: Fingerprint, *, max_distance: int
) -> AlignedSegment | None:
    """`align` for one hash of each frame of two fingerprints, at the times and with the weights of these frames."""
    return align(
        own,
        others,
        first_times_s=first.times_s,
        second_times_s=second.times_s,
        first_weights=first.weights,
        second_weights=second.weights,
        max_distance=max_distance,
    )


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
        # By rounding, three thirds of a video may add up to slightly more than one.
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
    """Number of scenes: the first frame, and each frame that differs from the last counted one."""
    distances = count_differing_bits(hashes, hashes)
    count, last = 1, 0
    for index in range(1, len(hashes)):
        if distances[last, index] > SAME_SCENE_BITS:
            count, last = count + 1, index
    return count


@dataclass(frozen=True, kw_only=True)
class _FrameWeights:
    """Weights of the frames of two videos on one time axis, (N,) and (M,), and the `correspondences`, (K, 2), of those
    that are seconds apart. A frame between such frames of the other video has weight 0, unless it is in one of them."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    correspondences: NDArray[np.intp]

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
    ) -> _FrameWeights:
        of_second = _find_correspondences(distances, first_s, second_s, own, others, max_distance=max_distance)
        of_first = _find_correspondences(distances.T, second_s, first_s, others, own, max_distance=max_distance)
        return cls(
            first=_weigh_frames(first_s, second_s, own, others, of_second),
            second=_weigh_frames(second_s, first_s, others, own, of_first),
            correspondences=np.concatenate([np.stack(of_second, axis=1), np.stack(of_first[::-1], axis=1)]),
        )

    def find_correspondences(
        self, part: AlignedSegment, first_times_s: NDArray[np.float32], second_times_s: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Corresponding frames in a part; None where no frame in it stands for several."""
        counterpart_s = first_times_s[self.correspondences[:, 0]]
        pairs = self.correspondences[(counterpart_s >= part.first_start_s) & (counterpart_s <= part.first_end_s)]
        if not len(pairs):
            return None
        dense = np.stack(part.correspondences_at(first_times_s, second_times_s), axis=1)
        dense = dense[(self.first[dense[:, 0]] == 1) & (self.second[dense[:, 1]] == 1)]
        places, other_places = np.unique(np.concatenate([dense, pairs]), axis=0).T
        return places, other_places


def _find_correspondences(
    distances: NDArray[np.uint16],
    own_s: NDArray[np.floating],
    others_s: NDArray[np.floating],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    max_distance: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each frame of the other video that stands for several, the corresponding own frame: the most similar one
    shown at that time. Returns own frames (N,) and frames of the other video (N,). Frames without one are left out.

    The nearest frame is not enough: key frames often lie at a cut, and the frame just before it shows another shot.
    """
    sparse = np.flatnonzero(others > 1)
    apart_s = np.abs(own_s[:, None] - others_s[None, sparse])
    # If both videos are sparse and a cut lies between two frames, there is no other frame to choose.
    tolerances_s = np.where(own > 1, OFFSET_STEP_S / 2, OFFSET_STEP_S)
    costs = np.where(apart_s <= tolerances_s[:, None], distances[:, sparse] + apart_s, np.inf)
    lowest = costs.min(axis=0, initial=np.inf)
    # A frame near the start or end of this video may lie outside it, so it must also agree.
    is_within = (others_s[sparse] >= own_s[0] + OFFSET_STEP_S / 2) & (others_s[sparse] <= own_s[-1] - OFFSET_STEP_S / 2)
    found = np.isfinite(lowest) & (is_within | (lowest <= max_distance))
    return costs.argmin(axis=0)[found], sparse[found]


def _weigh_frames(
    own_s: NDArray[np.floating],
    others_s: NDArray[np.floating],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    correspondences: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    if others.max() <= 1:
        return own
    after = np.searchsorted(others_s, own_s)
    following = np.minimum(after, len(others_s) - 1)
    # After its last frame, the other video may continue for as long as the gap before that frame.
    reaches_s = others_s[-1] + (others_s[-1] - others_s[-2] if len(others_s) > 1 else 0)
    lies_open = (others[following] > 1) & (after > 0) & (own_s <= reaches_s)
    weights = np.where(lies_open, 0.0, own)
    places, other_places = correspondences
    weights[places] = np.maximum(own[places], others[other_places])
    return weights


def _find_segment(
    first_times_s: NDArray[np.float32],
    second_times_s: NDArray[np.float32],
    *,
    weighed: _FrameWeights,
    first_agrees: NDArray[np.bool_],
    second_agrees: NDArray[np.bool_],
    is_taken: NDArray[np.bool_],
    offset_s: float,
    speed: float,
) -> tuple[AlignedSegment, tuple[slice, slice]]:
    """The densest part without taken frames of the first video, and its slices of both videos."""
    start, end = _densest_run(first_agrees, weighed.first, is_taken)
    # The part begins and ends with an agreeing frame in the first video, and so it must in the second.
    agreeing_seconds = np.flatnonzero(second_agrees)
    second_as_first_s = second_times_s[agreeing_seconds] * speed - offset_s
    second_start = int(agreeing_seconds[np.abs(second_as_first_s - first_times_s[start]).argmin()])
    second_end = int(agreeing_seconds[::-1][np.abs(second_as_first_s - first_times_s[end])[::-1].argmin()])
    own, others = slice(start, end + 1), slice(second_start, second_end + 1)
    counted = (weighed.first[own], first_agrees[own]), (weighed.second[others], second_agrees[others])
    if speed != 1.0:
        # The slower video has frames at moments between two frames of the faster one.
        counted = _group(*counted, first_times_s[own] + offset_s, second_times_s[others] * speed, speed=speed)
    share, agreeing, compared = min(
        (float(weights[agrees].sum() / weights.sum()), int(agrees.sum()), int((weights > 0).sum()))
        for weights, agrees in counted
    )
    segment = AlignedSegment(
        agreeing=agreeing,
        compared=compared,
        first_start_s=float(first_times_s[start]),
        first_end_s=float(first_times_s[end]),
        second_start_s=float(second_times_s[second_start]),
        second_end_s=float(second_times_s[second_end]),
        first_coverage=float(weighed.first[own].sum() / weighed.first.sum()),
        second_coverage=float(weighed.second[others].sum() / weighed.second.sum()),
        speed=speed,
        agreeing_share=share,
    )
    return segment, (own, others)


_Counted = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""The weight of each frame, and whether it agrees."""


def _group(
    first: _Counted, second: _Counted, first_s: NDArray[np.floating], second_s: NDArray[np.floating], *, speed: float
) -> tuple[_Counted, _Counted]:
    """Merge frames of the slower video that are nearest to the same frame of the faster one. Both times are on one
    axis."""
    if speed < 1.0:
        return _group(second, first, second_s, first_s, speed=1 / speed)[::-1]
    nearest = np.abs(first_s[:, None] - second_s[None]).argmin(axis=1)
    begins = np.flatnonzero(np.diff(nearest, prepend=-1))
    weights, agrees = first
    return (np.maximum.reduceat(weights, begins), np.logical_or.reduceat(agrees, begins)), second


def _densest_run(
    agrees: NDArray[np.bool_], weights: NDArray[np.float64], is_taken: NDArray[np.bool_]
) -> tuple[int, int]:
    """First and last index of the run with the largest sum and without taken frames (Kadane's algorithm; J. Bentley,
    "Programming Pearls", 1984)."""
    gains = weights * np.where(agrees, 1.0, -MIN_DENSITY / (1 - MIN_DENSITY))
    gains[is_taken] = -weights.sum()
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    lowest = np.minimum.accumulate(sums[:-1])
    end = int(np.argmax(sums[1:] - lowest))
    # Frames of weight 0 change no sum, so they may surround the run: cut it to agreeing frames.
    inside = np.flatnonzero(agrees[: end + 1])
    return int(inside[np.searchsorted(inside, np.argmin(sums[: end + 1]))]), int(inside[-1])
