"""The part of the frame that differs throughout: another price, product, presenter.

Two copies agree everywhere except where something was laid over one of them. Two advertisements from one template, or
two takes of one scene, agree nearly everywhere. But they differ in one part of the frame from the first moment to the
last: the product, the price, the presenter, the hands. So even strong agreement is checked against the part that
differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.aligned_frames import AlignedFrames, Box, map_box, spread
from dedup_lib.match.blocks import (
    BLOCK_SIDE,
    BLOCKS,
    BlockMap,
    correlate,
    equalise_sharpness,
    gradients,
    mean_and_variance,
    mean_of_blocks,
    shift,
    shrink,
    soften,
)
from dedup_lib.match.details import MIN_CONTRAST, find_details
from dedup_lib.match.fades import equalise_fades
from dedup_lib.match.moments import SAME_MOMENT_S
from dedup_lib.match.motion import correlate_changes
from dedup_lib.match.outlines import MAX_OVERLAY, is_overlaid

SHIFTS_PX = (0, -2, 2)
"""Shifts, in pixels, of a block in the other still that are tried: bars are cut and sizes rounded differently."""

MIN_CORRELATION = 0.8
"""Correlation from which a block shows the same in two stills."""

MAX_LOSS = 0.12
"""If a lower correlation is expected, a block shows the same from this much below it. The expected correlation is the
lower one of the median over all blocks and the one that noise leaves."""

NOISE_QUANTILE = 0.25
"""Quantile of the blocks' differences that counts as noise."""

MIN_USUAL = 0.95
"""Minimum median correlation of the blocks of two stills in which moving parts are compared."""

MAX_DETAILED = 6
"""Maximum number of stills in which details are compared: those nearest in time."""

MIN_DETAILED = 0.5
"""A block differs in detail if it does in more than this share of these stills."""

MAX_MOTION = 3.0
"""Maximum deviation over time (of 255) of a block that stands still in both videos."""

MIN_PERSISTING = 0.95
"""Minimum correlation of a block with the same block of the stills before and after, if it stands still."""

MIN_STILLS = 2
"""Minimum number of stills in which a block must differ to differ throughout."""

MIN_DIFFERING = 0.4
"""A block must also differ in more than this share of the stills in which it can be compared: what slides or fades in
is not there yet in the first ones."""

MIN_MOTION = 3.0
"""Minimum deviation over time (of 255) of a block that moves."""

MIN_MOTION_CORRELATION = 0.3
"""Minimum correlation of a block that moves alike, if it moves in both videos."""

MAX_REST = 0.25
"""A block moves in one video only if its deviation in the other is less than this share of it."""

ALIKE_MOTION = 0.6
"""Minimum correlation of a block that moves alike, if it moves in one video only."""

MIN_STANDING_BLOCKS = 6
"""Minimum number of connected blocks of a region that stands still."""

MIN_MOVING_BLOCKS = 8
"""Minimum number of connected blocks of a region that moves. Blocks overlap: one cell that differs spoils nine."""

COVERED_MOTION = 0.25
"""Maximum motion of a covered part, as a share of its motion in the other copy."""

MAX_MOTION_LEFT = 0.85
"""Maximum motion that an overlay leaves of a film that moves less, as a share of its motion in the other copy."""

MARGIN = 0.1
"""Height of the upper and of the lower margin, as a share of the frame."""

MIN_MOTION_AROUND = 1.0
"""Minimum steady motion (of 255) outside a part around which the film moves."""

MUCH_MOTION = 5.0
"""Steady motion (of 255) outside a part from which on the film moves so much that no edge of its own stays."""

MAX_SAMPLED = 64
"""Maximum number of frames from which the motion most of the time is estimated."""

MAD_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution, as a multiple of its median absolute deviation."""

MIN_SIMILARITY = 0.5
"""Minimum correlation of two frames that show the same on the whole."""

MIN_FRAMES = 4
"""Minimum number of frames from which motion is compared."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the frame that differs throughout, as shares of the frame that both videos show, measured from its
    upper left corner. `share` is its area, and `moves` says whether it moves. `only_colour`: only its colour differs.
    `in_first` and `in_second` are the boxes around it in the frames of the two fingerprints, which have no bars."""

    left: float
    top: float
    right: float
    bottom: float
    moves: bool
    in_first: Box
    in_second: Box
    only_colour: bool = False

    def exchanged(self) -> Region:
        """The same region with the roles of the two videos exchanged."""
        return replace(self, in_first=self.in_second, in_second=self.in_first)

    @property
    def share(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def is_at_edge(self) -> bool:
        """Whether it reaches into the upper or lower margin of the frame, where logos and captions lie."""
        return min(self.top, 1 - self.bottom) <= MARGIN

    def __str__(self) -> str:
        across = _place((self.left + self.right) / 2, ("left", "middle", "right"))
        down = _place((self.top + self.bottom) / 2, ("top", "middle", "bottom"))
        place = "middle" if across == down else f"{down} {across}"
        return f"{place}, {self.share:.0%}" + (", only its colour" if self.only_colour else "")


def _place(middle: float, names: tuple[str, str, str]) -> str:
    return names[min(2, int(middle * 3))]


def find_region(aligned: AlignedFrames) -> Region | None:
    """The largest part of the frame that differs throughout and is not an overlay; None if there is none."""
    shown_together = show_the_same(*aligned.tiny_frames)
    motion = _Motion.of(*equalise_fades(*(one[shown_together] for one in aligned.tiny_frames)))
    moving = find_components(motion.differs(shows_moments=aligned.shows_moments), MIN_MOVING_BLOCKS)
    found = [region for component in moving if (region := _find_moving(component, aligned, motion)) is not None]
    stills = [equalise_sharpness(soften(first), soften(second)) for first, second in zip(*aligned.stills, strict=True)]
    whole = _differs_standing(stills, aligned, motion)
    found += _find_standing(whole, whole, aligned, motion)
    if not found:
        # In a caption, whole blocks find the line and details find single letters. Together they give its outline.
        found = _find_standing(whole | _differs_in_detail(stills, aligned, motion), whole, aligned, motion)
    return max(found, key=lambda region: region.share, default=None)


def _find_moving(component: NDArray[np.bool_], aligned: AlignedFrames, motion: _Motion) -> Region | None:
    """The region of a part that moves in another way; None if it is an overlay, such as a ticker."""
    region = _region(component, aligned, moves=True)
    # Both may show a window in which something else moves: only a clear outline in one of them shows an overlay.
    if motion.covers(component) or (region.is_at_edge and is_overlaid(component, aligned, around_moves=False)):
        return None
    return region


def _find_standing(
    differs: NDArray[np.bool_], whole: NDArray[np.bool_], aligned: AlignedFrames, motion: _Motion
) -> list[Region]:
    """The parts that stand still, differ and are not overlays. `whole` are the blocks that differ as a whole."""
    found = []
    for component in find_components(differs, MIN_STANDING_BLOCKS):
        region = _region(component, aligned, moves=False)
        # If the whole frame moves, an overlay stands out anywhere, not only at the edge.
        may_be_overlay = (component & whole).mean() <= MAX_OVERLAY and (region.is_at_edge or motion.is_everywhere)
        around = motion.around(component)
        around_moves = around >= MUCH_MOTION or (around >= MIN_MOTION_AROUND and motion.hides(component))
        is_overlay = may_be_overlay and is_overlaid(component, aligned, around_moves=around_moves)
        if not (is_overlay or motion.covers(component)):
            found.append(region)
    return found


def show_the_same(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which frames show the same on the whole. Where one video was cut differently, its motion differs too."""
    alike = _correlate_frames(first, second) >= MIN_SIMILARITY
    return alike if alike.any() else np.ones(len(first), bool)


def _correlate_frames(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.float32]:
    """Correlation of each frame of one video with the same frame of the other, float32 (N,)."""
    own, other = (np.asarray(one, np.float32).reshape(len(one), math.prod(one.shape[1:])) for one in (first, second))
    own, other = (one - one.mean(axis=1, keepdims=True) for one in (own, other))
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((own * other).sum(axis=1) / np.maximum(lengths, 1e-6), np.float32)


@dataclass(frozen=True, kw_only=True)
class _Motion:
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
    def of(cls, first: NDArray[np.generic], second: NDArray[np.generic]) -> _Motion:
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


_Stills = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""The stills of two videos, softened and equally sharp."""


def _differs_standing(stills: _Stills, aligned: AlignedFrames, motion: _Motion) -> NDArray[np.bool_]:
    """The blocks that differ throughout: in enough of the stills in which both videos can be compared there."""
    shape = motion.first.shape
    compared, agreed, loosely_compared, loosely_agreed = (np.zeros(shape, int) for _ in range(4))
    for place, (both, apart_s) in enumerate(zip(stills, aligned.apart_s, strict=True)):
        shows, agrees, usual = _compare_stills(*both)
        # If most of a frame agrees poorly, it shows another moment, or its encoding is too coarse to compare.
        is_same_moment = abs(apart_s) <= SAME_MOMENT_S and usual >= MIN_USUAL
        surely = shows & (motion.is_still | (is_same_moment and aligned.is_simultaneous))
        if usual >= MIN_USUAL and (shows & ~agrees & ~surely).any():
            surely |= shows & _persists(stills, aligned, place)
        loosely = shows & ~surely & (is_same_moment or aligned.only_changes)
        compared += surely
        agreed += surely & agrees
        loosely_compared += loosely
        loosely_agreed += loosely & agrees
    fewest = min(MIN_STILLS, len(aligned.apart_s))
    differing = compared - agreed
    differs = (differing >= fewest) & (differing > MIN_DIFFERING * compared) & (loosely_agreed == 0)
    differs_loosely = (agreed + loosely_agreed == 0) & (compared + loosely_compared >= fewest)
    return np.asarray(differs | differs_loosely)


def _persists(stills: _Stills, aligned: AlignedFrames, place: int) -> NDArray[np.bool_]:
    """The blocks that each video shows in this still, in the one before it and in the one after it. They stand for so
    long that stills of slightly different moments show the same. None if it is not known how different these are."""
    beside = [other for other in (place - 1, place + 1) if 0 <= other < len(stills)]
    if not beside or not np.isfinite(aligned.apart_s[place]):
        return np.zeros((BLOCKS - BLOCK_SIDE + 1,) * 2, bool)
    lowest = [correlate(stills[place][video], stills[other][video])[0] for video in (0, 1) for other in beside]
    return np.asarray(np.min(lowest, axis=0) >= MIN_PERSISTING)


def _compare_stills(
    own: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """The blocks in which both stills show something, the blocks in which both show the same, and the median
    correlation of the former, or a lower one that reaches `MIN_USUAL`."""
    # A still with less contrast shows no less, so equalise it.
    other = other * np.float32((own.std() + 1) / (other.std() + 1))
    own_gradients, other_gradients = gradients(own), gradients(other)
    of_own, of_own_gradients = mean_and_variance(own), mean_and_variance(own_gradients)
    best: BlockMap | None = None
    for moved, moved_gradients in zip(shift(other, SHIFTS_PX), shift(other_gradients, SHIFTS_PX), strict=True):
        correlation, *variances = correlate(own, moved, of_first=of_own)
        contrast = np.sqrt(variances[0] * variances[1])
        spread = variances[0] + variances[1] - 2 * correlation * contrast
        # A change of colours leaves the edges in place.
        correlation = np.maximum(correlation, correlate(own_gradients, moved_gradients, of_first=of_own_gradients)[0])
        if best is None:
            shows = np.sqrt(np.stack(variances)).min(axis=0) >= MIN_CONTRAST
            best, rest = correlation, spread
        best, rest = np.maximum(best, correlation), np.minimum(rest, spread)
        # Further shifts only raise the correlations, which are high enough already, as in most copies.
        if (best[shows] >= MIN_CORRELATION).all() and (usual := _median_where(shows, best)) >= MIN_USUAL:
            return shows, shows, usual
    assert best is not None
    # Noise over the whole frame lowers the correlation more in blocks of low contrast.
    noise = float(np.quantile(rest, NOISE_QUANTILE))
    expected = 1 - noise / (2 * np.maximum(contrast, 1e-3))
    usual = _median_where(shows, best)
    wanted = np.minimum(MIN_CORRELATION, np.minimum(expected, usual) - MAX_LOSS)
    return shows, best >= wanted, usual


def _median_where(shows: NDArray[np.bool_], correlation: BlockMap) -> float:
    """The median correlation of the blocks that show something; 1 if none does."""
    return float(np.median(correlation[shows])) if shows.any() else 1.0


def _differs_in_detail(stills: _Stills, aligned: AlignedFrames, motion: _Motion) -> NDArray[np.bool_]:
    """The blocks with a small detail that differs in most of the stills."""
    nearest = np.argsort(np.abs(aligned.apart_s), kind="stable")[:MAX_DETAILED]
    compared, differing = (np.zeros(motion.first.shape, int) for _ in range(2))
    for index in nearest:
        is_same_moment = aligned.is_simultaneous and abs(aligned.apart_s[index]) <= SAME_MOMENT_S
        comparable = motion.is_still | is_same_moment
        details = find_details(*stills[index])
        if (details & ~comparable).any():
            comparable = comparable | _persists(stills, aligned, index)
        compared += comparable
        differing += comparable & details
    return np.asarray((differing >= min(MIN_STILLS, len(nearest))) & (differing > MIN_DETAILED * compared))


def find_components(mask: NDArray[np.bool_], fewest: int) -> list[NDArray[np.bool_]]:
    """The connected components of a mask, those with at least `fewest` cells."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [labels == component for component in range(1, count) if facts[component, cv2.CC_STAT_AREA] >= fewest]


def _region(component: NDArray[np.bool_], aligned: AlignedFrames, *, moves: bool) -> Region:
    down, across = (np.flatnonzero(component.any(axis=axis)) for axis in (1, 0))
    # The outer blocks of a part reach beyond what differs.
    (left, right), (top, bottom) = (
        ((places[0] + 1) / BLOCKS, (places[-1] + BLOCK_SIDE - 1) / BLOCKS) for places in (across, down)
    )
    return outline_region((float(left), float(top), float(right), float(bottom)), aligned, moves=moves)


def outline_region(box: Box, aligned: AlignedFrames, *, moves: bool = False, only_colour: bool = False) -> Region:
    """The region in a box of aligned frames."""
    left, top, right, bottom = box
    in_first, in_second = (map_box(box, one) for one in aligned.maps)
    return Region(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        moves=moves,
        in_first=in_first,
        in_second=in_second,
        only_colour=only_colour,
    )
