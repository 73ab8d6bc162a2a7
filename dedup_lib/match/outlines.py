"""Whether what differs was laid over: then only one of two frames shows its outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import CHROMA_PX
from dedup_lib.match.aligned_frames import AlignedFrames
from dedup_lib.match.blocks import BLOCK_SIDE, BLOCKS, STILL_PX, mean_gradient, soften

MIN_DIFFERENCE = 10.0
"""Minimum difference (of 255) of a pixel that differs."""

NOISE_FACTOR = 6.0
"""Such a pixel must also differ by more than this many times the median pixel elsewhere."""

MAX_OVERLAY = 0.14
"""Maximum share of the frame that an overlay takes: no more than a caption does."""

MAX_CONTINUED_EDGE = 1.3
"""Maximum ratio, in the clean frame, of the gradients along the outline of an overlay to those around it."""

MIN_EDGE_RATIO = 1.7
"""Minimum factor by which that ratio is larger in the marked frame."""

MAX_CONTINUED_EDGE_IN_MOTION = 2.1
"""As `MAX_CONTINUED_EDGE`, if the film around the overlay moves: fewer edges are conclusive then."""

MIN_EDGE_RATIO_IN_MOTION = 1.2
"""As `MIN_EDGE_RATIO`, if the film around the overlay moves."""

MAX_OUTLINES = 4
"""Maximum number of stills; the median of their ratios decides."""

MIN_OWN_COLOUR = 12.0
"""Minimum median distance, in units of Cr and Cb, of the colours of an object from the nearest colour around it. Under
a logo or a caption it is below 10 in all of 83 pairs of copies."""

MIN_COVERED = 0.6
"""A cell of the colours belongs to a part if it covers more than this share of the cell."""

MIN_CELLS_INSIDE, MIN_CELLS_AROUND = 10, 6
"""Minimum numbers of cells, of 1024, whose colours are compared."""


@dataclass(frozen=True)
class Outline:
    """The outline of what differs in one pair of stills."""

    still: int
    """Number of the still."""
    shape: NDArray[np.uint8]
    """(256, 256), 1 for a pixel that differs."""
    ratios: tuple[float, float]
    """For both frames, the gradients along the outline as a multiple of those around it."""


def is_overlaid(outlines: Sequence[Outline], *, around_moves: bool) -> bool:
    """Whether something, such as a logo or a caption, was laid over one of the videos there. Its outline is an edge in
    that video. In the other one, the frame continues across the outline as it does everywhere around.

    With two different products or prices, both videos show the edges.
    """
    if not outlines:
        return False
    low, high = np.median([sorted(outline.ratios) for outline in outlines], axis=0)
    # What both videos were made with stands still only if the film around it does. If that moves, little but an overlay
    # is left.
    if around_moves:
        return bool(low <= MAX_CONTINUED_EDGE_IN_MOTION and high >= MIN_EDGE_RATIO_IN_MOTION * low)
    return bool(low <= MAX_CONTINUED_EDGE and high >= MIN_EDGE_RATIO * low)


def shows_own_colours(outlines: Sequence[Outline], chroma: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None) -> bool:
    """Whether the frame that shows the weaker outline has colours there that it has nowhere around: a presenter, or a
    product, who is as bright as the wall behind. If nothing but the background were there, it would continue.

    `chroma` as in `AlignedFrames`. False if the colours are not known.
    """
    if chroma is None:
        return False
    found = []
    for outline in outlines:
        first_ratio, second_ratio = outline.ratios
        colours = chroma[int(second_ratio < first_ratio)][outline.still].astype(np.float32)
        covered = cv2.resize(outline.shape.astype(np.float32), (CHROMA_PX, CHROMA_PX), interpolation=cv2.INTER_AREA)
        touched = (covered > 0).astype(np.uint8)
        inside = covered > MIN_COVERED
        around = (cv2.dilate(touched, np.ones((9, 9))) > 0) & (cv2.dilate(touched, np.ones((3, 3))) == 0)
        if inside.sum() < MIN_CELLS_INSIDE or around.sum() < MIN_CELLS_AROUND:
            continue
        apart = np.linalg.norm(colours[:, inside][:, :, None] - colours[:, around][:, None], axis=0)
        found.append(float(np.median(apart.min(axis=1))))
    return bool(found) and float(np.median(found)) >= MIN_OWN_COLOUR


def trace_outlines(component: NDArray[np.bool_], aligned: AlignedFrames) -> list[Outline]:
    """The outlines in the stills that are nearest in time, of those in which the difference has one."""
    nearest = np.argsort(np.abs(aligned.apart_s), kind="stable")[:MAX_OUTLINES]
    found = [_trace_outline(component, int(index), *(stills[index] for stills in aligned.stills)) for index in nearest]
    return [outline for outline in found if outline is not None]


def _trace_outline(
    component: NDArray[np.bool_], index: int, first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> Outline | None:
    """The outline in the stills with this number. None if the difference has no outline."""
    own, other = (soften(still) for still in (first, second))
    step = STILL_PX // BLOCKS
    around = np.zeros((STILL_PX, STILL_PX), bool)
    for row, column in np.argwhere(component):
        around[row * step : (row + BLOCK_SIDE) * step, column * step : (column + BLOCK_SIDE) * step] = True
    # Give the second still the brightness and contrast of the first, as measured elsewhere.
    elsewhere = ~around if not around.all() else around
    gain = (own[elsewhere].std() + 1) / (other[elsewhere].std() + 1)
    other = (other - other[elsewhere].mean()) * gain + own[elsewhere].mean()
    apart = np.abs(own - other)
    differs = around & (apart > max(MIN_DIFFERENCE, NOISE_FACTOR * float(np.median(apart[elsewhere]))))
    shape = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    if not shape.any() or shape.mean() > MAX_OVERLAY:
        return None
    outline = (cv2.dilate(shape, np.ones((3, 3))) - cv2.erode(shape, np.ones((3, 3)))) > 0
    near = (cv2.dilate(shape, np.ones((41, 41))) > 0) & (cv2.dilate(shape, np.ones((7, 7))) == 0)
    if not near.any():
        return None
    first_ratio, second_ratio = (mean_gradient(one, outline) / (mean_gradient(one, near) + 1) for one in (own, other))
    return Outline(index, shape.astype(np.uint8, copy=False), (first_ratio, second_ratio))
