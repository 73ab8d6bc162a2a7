"""Speed and offset of two videos: frames that are alike vote for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SPEEDS = tuple(2.0 ** (sign * step / 6) for step in range(1, 13) for sign in (1, -1))
"""Speeds to try for the second video, relative to the first, besides 1: a quarter to four times, in steps of 12 %. The
line through the matches then gives the exact speed."""

EXPLAINED = 0.9
"""Minimum share of the matching frames that the same speed must explain; then no other speed is tried."""

OTHER_SPEED_GAIN = 1.05
"""Minimum factor by which another speed must explain more. Each doubling or halving of the speed adds such a factor."""

OFFSETS_TRIED = 64
"""Number of offset steps over a long part. At a speed that is only approximate, the ends of a long part do not meet, so
its steps are wider."""

SIMILARITY_STEP = 0.125
"""Matches whose weights differ by less count as equal: encoding changes one frame by this much."""

FITS = 4
"""Number of times a line is fitted to the matches near the last line."""

MIN_FITTED = 3
"""Minimum number of matches for such a fit."""

SIGNIFICANT = 3.0
"""Minimum difference, in standard errors, for which the speed of the fitted line replaces the known one."""

MAX_CORRECTION = 0.2
"""Maximum difference for which it does, as a share of the known speed."""

OFFSET_STEP_S = 0.25

OFFSET_TOLERANCE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class FrameMatches:
    """All pairs of similar frames, (N,): their times since `middle_s`; the `voters`, rising, which are the frames of
    the video with fewer frames; and how much each match counts."""

    first_s: NDArray[np.float64]
    second_s: NDArray[np.float64]
    middle_s: tuple[float, float]
    voters: NDArray[np.intp]
    is_first_voting: bool
    weights: NDArray[np.float64]

    @cached_property
    def similarity(self) -> NDArray[np.float64]:
        """The weights in steps of `SIMILARITY_STEP`."""
        return np.round(self.weights / SIMILARITY_STEP)

    @classmethod
    def of(
        cls,
        distances: NDArray[np.uint16],
        is_near: NDArray[np.bool_],
        first_times_s: NDArray[np.float32],
        second_times_s: NDArray[np.float32],
        *,
        max_distance: int,
    ) -> FrameMatches:
        is_first_voting = distances.shape[0] <= distances.shape[1]
        voters, others = np.nonzero(is_near if is_first_voting else is_near.T)
        rows, columns = (voters, others) if is_first_voting else (others, voters)
        first_s, second_s = first_times_s[rows].astype(float), second_times_s[columns].astype(float)
        # Measured from its beginning, an approximate speed would displace the end of a one-minute video far.
        middles_s = [round(float(times_s.mean()) / OFFSET_STEP_S) * OFFSET_STEP_S for times_s in (first_s, second_s)]
        return cls(
            first_s=first_s - middles_s[0],
            second_s=second_s - middles_s[1],
            middle_s=(middles_s[0], middles_s[1]),
            voters=voters,
            is_first_voting=is_first_voting,
            weights=0.2 + 1 - distances[rows, columns] / max_distance,
        )

    def find_line(self) -> tuple[float, float]:
        """The speed of the second video, and how much later it shows the beginning, in seconds of the first."""
        speed, step_s = 1.0, OFFSET_STEP_S
        best, offset_s = self._count_votes(speed, step_s=step_s)
        if not self._is_explained(offset_s):
            first_s, second_s = (float(np.ptp(times_s)) for times_s in (self.first_s, self.second_s))
            # Wider steps let more frames find a slightly more similar one at any speed, so speed 1 may use them too.
            widest_s = max(OFFSET_STEP_S, max(first_s, second_s) / OFFSETS_TRIED)
            best = max(best, self._count_votes(speed, step_s=widest_s)[0])
            for faster in SPEEDS:
                span_s = min(first_s, second_s * faster) / min(1.0, faster)
                wider_s = max(OFFSET_STEP_S, span_s / OFFSETS_TRIED)
                gain, offset = self._count_votes(faster, step_s=wider_s)
                gain /= OTHER_SPEED_GAIN ** (1 + abs(math.log2(faster)))
                if gain > best:
                    best, speed, offset_s, step_s = gain, faster, offset, wider_s
        # The votes for a step include those on both sides of it.
        return self._refine(speed, offset_s, within_s=max(2 * OFFSET_TOLERANCE_S, 2 * step_s))

    def find_offset(self, speed: float) -> float:
        """The offset as in `find_line`, for a known speed."""
        return self._since_start(speed, self._count_votes(speed, step_s=OFFSET_STEP_S)[1])

    def _since_start(self, speed: float, offset_s: float) -> float:
        return offset_s * min(1.0, speed) + self.middle_s[1] * speed - self.middle_s[0]

    def _offsets_s(self, speed: float) -> NDArray[np.float64]:
        """The offset of each match, in seconds of the slower video."""
        return (self.second_s * speed - self.first_s) / min(1.0, speed)

    def _is_explained(self, offset_s: float) -> bool:
        """Whether frames match at this offset, at the same speed, nearly as well as anywhere."""
        near = np.abs(self._offsets_s(1.0) - offset_s) <= OFFSET_STEP_S / 2
        explained, most = (
            np.maximum.reduceat(weights, np.flatnonzero(np.diff(voters, prepend=-1))).sum()
            for voters, weights in ((self.voters[near], self.weights[near]), (self.voters, self.weights))
        )
        return bool(explained >= EXPLAINED * most)

    def _count_votes(self, speed: float, *, step_s: float) -> tuple[float, float]:
        """The votes for the offset with the most votes, and that offset. Each frame has one vote for an offset, however
        many frames of the other video are similar: where nothing moves, all are."""
        steps = np.rint(self._offsets_s(speed) / step_s).astype(np.intp)
        lowest = steps.min()
        steps -= lowest
        # The matches of a frame are sorted by offset.
        begins = np.flatnonzero((np.diff(steps, prepend=-1) != 0) | (np.diff(self.voters, prepend=-1) != 0))
        votes = np.bincount(steps[begins], np.maximum.reduceat(self.weights, begins))
        sums = np.convolve(votes, (0.5, 1.0, 0.5))[1:-1]
        return float(sums.max()), float(sums.argmax() + lowest) * step_s

    def _refine(self, speed: float, offset_s: float, *, within_s: float) -> tuple[float, float]:
        """The line through the matches near this one. Its speed stays unless they clearly show another one."""
        found = speed
        for near_s in np.linspace(within_s, OFFSET_TOLERANCE_S, FITS):
            away_s = np.abs(self._offsets_s(found) - offset_s)
            near = np.flatnonzero(away_s <= near_s)
            # For each frame the most similar match, and of several equal ones the nearest to the last line.
            near = near[np.lexsort((away_s[near], -self.similarity[near], self.voters[near]))]
            near = near[np.diff(self.voters[near], prepend=-1) != 0]
            if len(near) >= MIN_FITTED:
                found = self._fit_speed(near, speed)
            # The lower median is the offset of a match, so some match always lies on the line.
            offset_s = float(np.sort(self._offsets_s(found)[near])[(len(near) - 1) // 2])
        return found, self._since_start(found, offset_s)

    def _fit_speed(self, chosen: NDArray[np.intp], speed: float) -> float:
        """Speed by least squares, from one match per frame; `speed` unless the result clearly differs from it."""
        own_s, other_s = self.first_s[chosen], self.second_s[chosen]
        expected = 1 / speed
        if not self.is_first_voting:
            own_s, other_s, expected = other_s, own_s, speed
        weights = self.weights[chosen] / self.weights[chosen].sum()
        own_s, other_s = own_s - weights @ own_s, other_s - weights @ other_s
        spread = weights @ own_s**2
        if spread <= 0:
            return speed
        slope = float(weights @ (own_s * other_s) / spread)
        # The frames of the other video are taken in steps, which is an error too.
        variance = max(float(weights @ (other_s - slope * own_s) ** 2), OFFSET_STEP_S**2 / 12)
        error = math.sqrt(variance / (spread * (len(chosen) - 2)))
        if not SIGNIFICANT * error < abs(slope - expected) <= MAX_CORRECTION * expected:
            return speed
        fitted = slope if not self.is_first_voting else 1 / slope
        return 1.0 if abs(slope - 1) * float(np.ptp(own_s)) <= OFFSET_STEP_S else fitted
