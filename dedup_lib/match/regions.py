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

from dedup_lib.match.aligned_frames import AlignedFrames, Box, map_box
from dedup_lib.match.block_motion import BlockMotion
from dedup_lib.match.blocks import (
    BLOCK_SIDE,
    BLOCKS,
    BlockMap,
    correlate,
    equalise_sharpness,
    gradients,
    mean_and_variance,
    shift,
    soften,
)
from dedup_lib.match.details import MIN_CONTRAST, find_details
from dedup_lib.match.fades import equalise_fades
from dedup_lib.match.moments import SAME_MOMENT_S
from dedup_lib.match.outlines import MAX_OVERLAY, is_overlaid, shows_own_colours, trace_outlines

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

MIN_PERSISTING = 0.95
"""Minimum correlation of a block with the same block of the stills before and after, if it stands still."""

MIN_STILLS = 2
"""Minimum number of stills in which a block must differ to differ throughout."""

MIN_DIFFERING = 0.4
"""A block must also differ in more than this share of the stills in which it can be compared: what slides or fades in
is not there yet in the first ones."""

MIN_STANDING_BLOCKS = 6
"""Minimum number of connected blocks of a region that stands still."""

MIN_MOVING_BLOCKS = 8
"""Minimum number of connected blocks of a region that moves. Blocks overlap: one cell that differs spoils nine."""

MAX_ROWS = 7
"""Maximum number of rows of blocks of a logo or a line of text. A presenter is taller."""

MIN_KNOWN = 0.5
"""A part belongs to such an overlay if more than this share of its blocks does: around letters, details differ too."""

MAX_GAP = 6
"""Maximum number of blocks between two parts of a line, such as the words of a caption."""

MIN_IN_LINE = 0.5
"""A part lies in line with an overlay if more than this share of its blocks does."""

MARGIN = 0.1
"""Height of the upper and of the lower margin, as a share of the frame."""

MIN_MOTION_AROUND = 1.0
"""Minimum steady motion (of 255) outside a part around which the film moves."""

MUCH_MOTION = 5.0
"""Steady motion (of 255) outside a part from which on the film moves so much that no edge of its own stays."""

MIN_SIMILARITY = 0.5
"""Minimum correlation of two frames that show the same on the whole."""


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
    motion = BlockMotion.of(*equalise_fades(*(one[shown_together] for one in aligned.tiny_frames)))
    stills = [equalise_sharpness(soften(first), soften(second)) for first, second in zip(*aligned.stills, strict=True)]
    whole = _differs_standing(stills, aligned, motion)
    parts = [(one, False) for one in find_components(whole, MIN_STANDING_BLOCKS)]
    moving = motion.differs(shows_moments=aligned.shows_moments)
    parts += [(one, True) for one in find_components(moving, MIN_MOVING_BLOCKS)]
    are_overlaid = [
        _is_moving_overlay(one, aligned, motion) if moves else _is_standing_overlay(one, whole, aligned, motion)
        for one, moves in parts
    ]
    overlays = [one for (one, _), is_overlay in zip(parts, are_overlaid, strict=True) if is_overlay]
    found = [
        _region(one, aligned, moves=moves)
        for (one, moves), is_overlay in zip(parts, are_overlaid, strict=True)
        if not (is_overlay or _extends_overlay(one, overlays, whole, aligned, motion))
    ]
    if not found:
        # In a caption, whole blocks find the line and details find single letters. Together they give its outline.
        detailed = find_components(whole | _differs_in_detail(stills, aligned, motion), MIN_STANDING_BLOCKS)
        found = [
            _region(one, aligned, moves=False)
            for one in detailed
            if not _is_standing_overlay(one, whole, aligned, motion)
            and not _extends_overlay(one, overlays, whole, aligned, motion)
        ]
    return max(found, key=lambda region: region.share, default=None)


def _extends_overlay(
    component: NDArray[np.bool_],
    overlays: Sequence[NDArray[np.bool_]],
    whole: NDArray[np.bool_],
    aligned: AlignedFrames,
    motion: BlockMotion,
) -> bool:
    """Whether a part belongs to one of the overlays, which is a logo or a line: either most of the part is known to be
    that overlay, or the part lies in line with it, as words of a caption do, and both together are an overlay."""
    for overlay in overlays:
        down, across = (np.flatnonzero(overlay.any(axis=axis)) for axis in (1, 0))
        if down[-1] - down[0] >= MAX_ROWS:
            continue
        if overlay[component].mean() > MIN_KNOWN:
            return True
        in_line = np.zeros(overlay.shape, bool)
        in_line[max(0, down[0] - 1) : down[-1] + 2, max(0, across[0] - MAX_GAP) : across[-1] + MAX_GAP + 1] = True
        is_in_line = in_line[component].mean() > MIN_IN_LINE
        if is_in_line and _is_standing_overlay(overlay | component, whole, aligned, motion):
            return True
    return False


def _is_moving_overlay(component: NDArray[np.bool_], aligned: AlignedFrames, motion: BlockMotion) -> bool:
    """Whether a part that moves in another way is an overlay, such as a ticker."""
    # Both may show a window in which something else moves: only a clear outline in one of them shows an overlay.
    is_at_edge = _region(component, aligned, moves=True).is_at_edge
    return motion.covers(component) or (is_at_edge and _is_laid_over(component, aligned, around_moves=False))


def _is_standing_overlay(
    component: NDArray[np.bool_], whole: NDArray[np.bool_], aligned: AlignedFrames, motion: BlockMotion
) -> bool:
    """Whether a part that stands still is an overlay. `whole` are the blocks that differ as a whole."""
    if motion.covers(component):
        return True
    is_at_edge = _region(component, aligned, moves=False).is_at_edge
    # If the whole frame moves, an overlay stands out anywhere, not only at the edge.
    if (component & whole).mean() > MAX_OVERLAY or not (is_at_edge or motion.is_everywhere):
        return False
    around = motion.around(component)
    around_moves = around >= MUCH_MOTION or (around >= MIN_MOTION_AROUND and motion.hides(component))
    return _is_laid_over(component, aligned, around_moves=around_moves)


def _is_laid_over(component: NDArray[np.bool_], aligned: AlignedFrames, *, around_moves: bool) -> bool:
    """Whether a part has an outline in one video only, and the other video shows no object of its own there. Under a
    line of text, which is wide, other colours may begin."""
    outlines = trace_outlines(component, aligned)
    if not is_overlaid(outlines, around_moves=around_moves):
        return False
    rows = np.flatnonzero(component.any(axis=1))
    return bool(rows[-1] - rows[0] < MAX_ROWS) or not shows_own_colours(outlines, aligned.chroma)


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


_Stills = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""The stills of two videos, softened and equally sharp."""


def _differs_standing(stills: _Stills, aligned: AlignedFrames, motion: BlockMotion) -> NDArray[np.bool_]:
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


def _differs_in_detail(stills: _Stills, aligned: AlignedFrames, motion: BlockMotion) -> NDArray[np.bool_]:
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
