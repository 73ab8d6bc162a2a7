"""Whether what differs was laid over: then only one of two frames shows its outline."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.blocks import BLOCK_SIDE, BLOCKS, STILL_PX, edges, soften
from dedup_lib.match.laid import LaidFrames

MIN_DIFFERENCE = 10.0

NOISE_FACTOR = 6.0
"""A pixel differs by more than this (of 255), and than so many times what the median pixel elsewhere does."""

MAX_OVERLAY = 0.14

MAX_CONTINUED_EDGE = 1.3

MIN_EDGE_RATIO = 1.7

MAX_CONTINUED_EDGE_IN_MOTION = 2.1

MIN_EDGE_RATIO_IN_MOTION = 1.2

MAX_OUTLINES = 4
"""An overlay reaches so near to the upper or lower edge, and takes no more of it than a caption does. Along its outline
the slopes of the clean frame are no more than so many times those around it, and those of the marked one so many
times larger; in a film that moves around it, fewer edges tell. This is the median of so many stills."""


def _is_overlaid(part: NDArray[np.bool_], laid: LaidFrames, *, around_moves: bool) -> bool:
    """Whether something was laid over one of the videos there: a logo, a caption. Its outline is an edge in that video,
    and in the other one the frame goes on across it as it does everywhere around.

    Of two products or two prices, both videos show the edges.
    """
    nearest = np.argsort(np.abs(laid.apart_s), kind="stable")[:MAX_OUTLINES]
    found = [_trace_outline(part, *(stills[index] for stills in laid.stills)) for index in nearest]
    outlines = [outline for outline in found if outline is not None]
    if not outlines:
        return False
    low, high = np.median(outlines, axis=0)
    # What both videos were made with stands still where the film around it does; where that moves, little else is left.
    if around_moves:
        return bool(low <= MAX_CONTINUED_EDGE_IN_MOTION and high >= MIN_EDGE_RATIO_IN_MOTION * low)
    return bool(low <= MAX_CONTINUED_EDGE and high >= MIN_EDGE_RATIO * low)


def _trace_outline(
    part: NDArray[np.bool_], first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> tuple[float, float] | None:
    """The slopes along the outline of what differs there, as a share of those around it: in the frame that has less
    of them, and in the other one. None where the two differ in nothing that has an outline."""
    own, other = (soften(still) for still in (first, second))
    step = STILL_PX // BLOCKS
    around = np.zeros((STILL_PX, STILL_PX), bool)
    for row, column in np.argwhere(part):
        around[row * step : (row + BLOCK_SIDE) * step, column * step : (column + BLOCK_SIDE) * step] = True
    # Light and contrast of the other one as in this one, by what lies elsewhere.
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
    low, high = sorted(edges(one, outline) / (edges(one, near) + 1) for one in (own, other))
    return low, high
