"""Motion block by block: how much two videos move in each part of the frame, and whether they move alike there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.aligned_frames import spread
from dedup_lib.match.blocks import BlockMap, mean_of_blocks, shrink
from dedup_lib.match.motion import correlate_changes
from dedup_lib.match.outlines import MAX_OVERLAY

MAX_MOTION = 3.0
"""Maximum deviation over time (of 255) of a block that stands still in both videos."""

MIN_MOTION = 3.0
"""Minimum deviation over time (of 255) of a block that moves."""

MIN_MOTION_CORRELATION = 0.3
"""Minimum correlation of a block that moves alike, if it moves in both videos."""

MAX_REST = 0.25
"""A block moves in one video only if its deviation in the other is less than this share of it."""

ALIKE_MOTION = 0.6
"""Minimum correlation of a block that moves alike, if it moves in one video only."""

COVERED_MOTION = 0.25
"""Maximum motion of a covered part, as a share of its motion in the other copy."""

MAX_MOTION_LEFT = 0.85
"""Maximum motion that an overlay leaves of a film that moves less, as a share of its motion in the other copy."""

MAX_SAMPLED = 64
"""Maximum number of frames from which the motion most of the time is estimated."""

MAD_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution, as a multiple of its median absolute deviation."""

MIN_FRAMES = 4
"""Minimum number of frames from which motion is compared."""


@dataclass(frozen=True, kw_only=True)
class BlockMotion:
    """How much each video moves in each block, as a standard deviation over time, and how similarly they move."""

    first: BlockMap
    second: BlockMap
    steady: BlockMap
    """How much both move most of the time: that is little where they only fade or slide in."""
    is_still: NDArray[np.bool_]
    correlation: BlockMap
    overall: float
    """Correlation over all blocks."""
    frames: int

    @classmethod
    def of(cls, first: NDArray[np.generic], second: NDArray[np.generic]) -> BlockMotion:
        fine = [_deviations(one) for one in (first, second)]
        largest = np.maximum(*(mean_of_blocks((one**2).mean(axis=0)) for one in fine))
        own, other = (_smooth(one) for one in fine)
        # The mean of a block is a difference of large sums, so rounding may make it slightly negative.
        own_energy, other_energy = (np.maximum(mean_of_blocks((one**2).mean(axis=0)), 0) for one in (own, other))
        shared = mean_of_blocks((own * other).mean(axis=0))
        return cls(
            first=np.sqrt(own_energy),
            second=np.sqrt(other_energy),
            steady=np.minimum(np.sqrt(np.minimum(own_energy, other_energy)), np.minimum(*map(_steady_motion, fine))),
            is_still=largest < MAX_MOTION**2,
            overall=correlate_changes(*fine),
            correlation=shared / np.sqrt(np.maximum(own_energy * other_energy, 1e-6)),
            frames=len(first),
        )

    def differs(self, *, shows_moments: bool) -> NDArray[np.bool_]:
        """The blocks that move in one of the videos, but not alike in the other one."""
        both = np.minimum(self.first, self.second) >= MIN_MOTION
        # Frames of nearly the same moment are only roughly similar, but not if nothing moves alike on the whole.
        lowest = MIN_MOTION_CORRELATION if shows_moments or self.overall < MIN_MOTION_CORRELATION else 0.0
        # Lower contrast reduces all motion.
        ratio = float(np.median(self.first + 1)) / float(np.median(self.second + 1))
        evened = self.second * ratio
        less, more = np.minimum(self.first, evened), np.maximum(self.first, evened)
        only_one = (more >= MIN_MOTION) & (less < MAX_REST * more) & (self.correlation < ALIKE_MOTION)
        differs = (both & (self.correlation < lowest)) | only_one
        return np.asarray(differs & (self.frames >= MIN_FRAMES))

    @property
    def is_everywhere(self) -> bool:
        """Whether most of the frame moves steadily, as when the camera does."""
        return bool(np.quantile(self.steady, 0.25) >= MIN_MOTION)

    def around(self, component: NDArray[np.bool_]) -> float:
        """How much both videos move steadily outside this part."""
        return float(np.median(self.steady[~component])) if not component.all() else 0.0

    def _within(self, component: NDArray[np.bool_]) -> tuple[float, float]:
        """How much the two videos move in this part, the lower value first."""
        own, other = (float(np.median(one[component])) for one in (self.first, self.second))
        return min(own, other), max(own, other)

    def hides(self, component: NDArray[np.bool_]) -> bool:
        """Whether one video moves less in this part than the other: an overlay hides some of the film's motion, even if
        one can see through it."""
        less, more = self._within(component)
        return less < MAX_MOTION_LEFT * more

    def covers(self, component: NDArray[np.bool_]) -> bool:
        """Whether one video stands still in this part, while the other one moves there as both do around it: an overlay
        hides the motion of the film."""
        if component.mean() > MAX_OVERLAY or self.around(component) < MIN_MOTION:
            return False
        less, more = self._within(component)
        return more >= MIN_MOTION and less <= COVERED_MOTION * more


def _deviations(frames: NDArray[np.generic]) -> NDArray[np.float32]:
    """Difference from the mean over time, in pixels of 1/32 of the side."""
    small = shrink(frames)
    return np.asarray(small - small.mean(axis=0), np.float32)


def _steady_motion(deviations: NDArray[np.float32]) -> BlockMap:
    """The standard deviation over time of each block, (B, B), estimated by the median absolute deviation (MAD)."""
    sampled = deviations[spread(len(deviations), MAX_SAMPLED)]
    typical = np.median(np.abs(sampled - np.median(sampled, axis=0)), axis=0)
    return mean_of_blocks(np.asarray(MAD_TO_DEVIATION * typical, np.float32))


def _smooth(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """The frames, slightly blurred: an object moves on between frames that two copies show at slightly different
    times."""
    blurred = [cv2.GaussianBlur(frame, (5, 5), 0, borderType=cv2.BORDER_REPLICATE) for frame in frames]
    return np.asarray(blurred, np.float32).reshape(frames.shape)
