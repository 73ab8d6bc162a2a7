"""Does a part of the picture differ throughout? OpenCV.

Two copies agree everywhere, but for what was laid over one of them. Two advertisements of one template, and two takes
of one scene, agree nearly everywhere, and differ in one part of the picture from the first moment to the last: the
product, the price, the presenter, the hands. So what agrees, however much, is held against the part that does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

STILL_PX = 256
"""Stills of two videos are laid on one another as squares of this side."""

BLOCKS = 32
BLOCK_SIDE = 3
"""The picture is looked at in blocks of 3/32 of its sides, one every 1/32."""

SHIFTS_PX = (0, -2, 2)
"""What a block shows may lie so far off in the other still: bars are cut and sizes rounded differently."""

STILL_BLUR_PX = 1.0
SHARPER = 1.5
BLURS_PX = (2.0, 4.0, 8.0, 16.0)
"""Of two stills, one that has so many times the detail of the other is blurred before they are compared."""

LEAST_CONTRAST = 8.0
"""Standard deviation (of 255) from which a block shows something; at less than half of it, it shows nothing."""

LOWEST_CORRELATION = 0.85
LARGEST_LOSS = 0.12
"""A block shows the same in two stills from this correlation on, and where most blocks reach less, from so much below
the median of them: blur and coarse encoding spoil all blocks alike."""

LARGEST_MOTION = 3.0
SAME_MOMENT_S = 0.02
"""A block that deviates over time by more than this (of 255) in one of the videos does not stand still, and shows the
same only in stills of the very same moment."""

LEAST_MOTION = 3.0
LOWEST_MOTION_CORRELATION = 0.3
"""A block in which both videos deviate so much over time moves alike from this correlation on."""

FEWEST_STANDING_BLOCKS = 8
FEWEST_MOVING_BLOCKS = 8
"""So many blocks that hang together make a region. Blocks overlap: one that shows something else spoils nine."""

COVERED_MOTION = 0.5
"""Where something covers a film, it moves less than this share of what it does in the other copy."""

LEAST_DIFFERENCE = 10.0
NOISE_FACTOR = 6.0
"""A pixel differs by more than this (of 255), and than so many times what the median pixel elsewhere does."""

MARGIN = 0.1
LARGEST_OVERLAY = 0.11
LARGEST_CONTINUED_EDGE = 1.4
LEAST_EDGE_RATIO = 1.5
"""An overlay reaches so near to the upper or lower edge, and takes no more of it than a caption does. Along its outline
the slopes of the clean picture are no more than so many times those around it, and those of the marked one so many
times larger."""

LOWEST_LIKENESS = 0.5
"""Two pictures that correlate with less show something else altogether."""

FEWEST_PICTURES = 7
"""Of fewer pictures it cannot be said how they move."""

Map = NDArray[np.float32]
"""One number for each block: (B, B)."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the picture that differs throughout, as shares of the picture that both videos show, from its upper
    left corner. `share` is its area, and `moves` whether it moves."""

    left: float
    top: float
    right: float
    bottom: float
    moves: bool

    @property
    def share(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def is_at_edge(self) -> bool:
        """Whether it reaches into the upper or lower margin of the picture, where logos and captions lie."""
        return min(self.top, 1 - self.bottom) <= MARGIN

    def __str__(self) -> str:
        across = _place((self.left + self.right) / 2, ("left", "middle", "right"))
        down = _place((self.top + self.bottom) / 2, ("top", "middle", "bottom"))
        place = "middle" if across == down else f"{down} {across}"
        return f"{place}, {self.share:.0%}"


def _place(middle: float, names: tuple[str, str, str]) -> str:
    return names[min(2, int(middle * 3))]


@dataclass(frozen=True, kw_only=True)
class Laid:
    """Pictures of two videos that are shown at the same times and lie on one another: `miniatures` grey
    (N, 64, 64) and `stills` grey uint8 (K, 256, 256), of the first video and of the second."""

    miniatures: tuple[NDArray[np.generic], NDArray[np.generic]]
    stills: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    only_changes: bool
    """Whether nothing but the movement of both speaks for them, so that also what moves must show the same."""
    apart_s: NDArray[np.floating]
    """(K,): how much later or earlier the still of the second video is shown than the first one's, infinite where that
    is not known."""


def find_difference(laid: Laid) -> Region | None:
    """The largest part of the picture that differs throughout and is no overlay, None where there is none."""
    shown_together = _show_the_same(*laid.miniatures)
    motion = _Motion.of(*(one[shown_together] for one in laid.miniatures))
    moving = _parts(motion.differs, FEWEST_MOVING_BLOCKS)
    standing = _parts(_differs_standing(laid, motion), FEWEST_STANDING_BLOCKS)
    found = [_region(part, moves=True) for part in moving]
    for part in standing:
        region = _region(part, moves=False)
        # A film goes on moving under what is laid over it, wherever that lies.
        may_be_overlay = part.mean() <= LARGEST_OVERLAY and (region.is_at_edge or motion.is_everywhere)
        if not (motion.covers(part) or (may_be_overlay and _is_overlaid(part, laid))):
            found.append(region)
    return max(found, key=lambda region: region.share, default=None)


def _show_the_same(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which pictures show the same on the whole: where one video was cut otherwise, it moves otherwise too."""
    own, other = (np.asarray(one, np.float32).reshape(len(one), -1) for one in (first, second))
    own, other = (one - one.mean(axis=1, keepdims=True) for one in (own, other))
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    alike = (own * other).sum(axis=1) >= LOWEST_LIKENESS * np.maximum(lengths, 1e-6)
    return alike if alike.any() else np.ones(len(first), bool)


@dataclass(frozen=True, kw_only=True)
class _Motion:
    """How much either video moves in each block, as a standard deviation over time, and how alike they do."""

    first: Map
    second: Map
    is_still: NDArray[np.bool_]
    correlation: Map
    pictures: int

    @classmethod
    def of(cls, first: NDArray[np.generic], second: NDArray[np.generic]) -> _Motion:
        fine = [_deviations(one) for one in (first, second)]
        largest = np.maximum(*(_mean_of_blocks((one**2).mean(axis=0)) for one in fine))
        own, other = (_smooth(one) for one in fine)
        # Sums of a large part of a picture, one less the other, may end a little below 0.
        own_energy, other_energy = (np.maximum(_mean_of_blocks((one**2).mean(axis=0)), 0) for one in (own, other))
        shared = _mean_of_blocks((own * other).mean(axis=0))
        return cls(
            first=np.sqrt(own_energy),
            second=np.sqrt(other_energy),
            is_still=largest < LARGEST_MOTION**2,
            correlation=shared / np.sqrt(np.maximum(own_energy * other_energy, 1e-6)),
            pictures=len(first),
        )

    @property
    def differs(self) -> NDArray[np.bool_]:
        both = np.minimum(self.first, self.second) >= LEAST_MOTION
        return both & (self.correlation < LOWEST_MOTION_CORRELATION) & (self.pictures >= FEWEST_PICTURES)

    @property
    def is_everywhere(self) -> bool:
        """Whether most of the picture moves, as when the camera does."""
        return bool(np.quantile(np.minimum(self.first, self.second), 0.25) >= LEAST_MOTION)

    def covers(self, part: NDArray[np.bool_]) -> bool:
        """Whether one of the videos stands still there, and the other one moves there as both do around it: what was
        laid over a film hides that it moves."""
        if part.mean() > LARGEST_OVERLAY or np.median(np.minimum(self.first, self.second)[~part]) < LEAST_MOTION:
            return False
        less, more = sorted((float(np.median(self.first[part])), float(np.median(self.second[part]))))
        return more >= LEAST_MOTION and less <= COVERED_MOTION * more


def _deviations(pictures: NDArray[np.generic]) -> NDArray[np.float32]:
    """What differs from the mean over time, in pixels of 1/32 of the side."""
    side = pictures.shape[1] // BLOCKS
    small = pictures.reshape(-1, BLOCKS, side, BLOCKS, side).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(small - small.mean(axis=0), np.float32)


def _smooth(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blurred a little: an object moves on between pictures that two copies show at slightly different times."""
    for axis in (1, 2):
        edges = [(0, 0)] * 3
        edges[axis] = (2, 2)
        wider = np.pad(pictures, edges, mode="edge")
        length = pictures.shape[axis]
        parts = [np.take(wider, range(start, start + length), axis=axis) for start in range(5)]
        pictures = np.asarray((parts[0] + 4 * parts[1] + 6 * parts[2] + 4 * parts[3] + parts[4]) / 16, np.float32)
    return pictures


def _differs_standing(laid: Laid, motion: _Motion) -> NDArray[np.bool_]:
    """The blocks that stand still and show something else in every two stills, in at least one of them something in
    either."""
    differs = np.zeros(motion.first.shape, bool)
    wanted = LOWEST_CORRELATION
    open_blocks = np.ones(motion.first.shape, bool)
    for *stills, apart_s in zip(*laid.stills, laid.apart_s, strict=True):
        if not open_blocks.any():
            break
        is_asked_of_all = laid.only_changes or abs(apart_s) <= SAME_MOMENT_S
        compared = np.ones_like(differs) if is_asked_of_all else motion.is_still
        own, other = _equally_sharp(
            *(cv2.GaussianBlur(one.astype(np.float32), (0, 0), STILL_BLUR_PX) for one in stills)
        )
        own_slopes, other_slopes = _slopes(own), _slopes(other)
        for across, down in product(SHIFTS_PX, SHIFTS_PX):
            moved, moved_slopes = (np.roll(one, (down, across), axis=(0, 1)) for one in (other, other_slopes))
            correlation, *variances = _correlate(own, moved)
            # Other colours leave the edges where they are.
            correlation = np.maximum(correlation, _correlate(own_slopes, moved_slopes)[0])
            contrasts = np.sqrt(np.stack(variances))
            shows = contrasts.min(axis=0) >= LEAST_CONTRAST
            is_empty = contrasts.max(axis=0) < LEAST_CONTRAST / 2
            if shows.any() and not (across or down):
                differs |= shows & compared
                wanted = min(LOWEST_CORRELATION, float(np.median(correlation[shows])) - LARGEST_LOSS)
            open_blocks = open_blocks & ~(compared & (is_empty | (shows & (correlation >= wanted))))
            if not open_blocks.any():
                break
    return np.asarray(differs & open_blocks)


def _equally_sharp(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two stills, the sharper one blurred until it shows no finer detail than a blurred copy does."""
    everywhere = np.ones(first.shape, bool)
    # Less contrast is no blur.
    sharpness = [_edges(one, everywhere) / (float(one.std()) + 1) for one in (first, second)]
    blunt, pictures = min(sharpness), [first, second]
    sharper = int(sharpness[1] > sharpness[0])
    if sharpness[sharper] <= SHARPER * blunt:
        return first, second
    for blur_px in BLURS_PX:
        blurred = np.asarray(cv2.GaussianBlur(pictures[sharper], (0, 0), blur_px), np.float32)
        if _edges(blurred, everywhere) / (float(blurred.std()) + 1) <= SHARPER * blunt:
            break
    pictures[sharper] = blurred
    return pictures[0], pictures[1]


def _correlate(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[Map, Map, Map]:
    """Of each block the correlation of two pictures, and the variance of either."""
    (mean, variance), (other_mean, other_variance) = _mean_and_variance(first), _mean_and_variance(second)
    covariance = _mean_of_blocks(first * second) - mean * other_mean
    correlation = covariance / np.sqrt(np.maximum(variance * other_variance, 1e-3))
    return np.asarray(correlation, np.float32), variance, other_variance


def _mean_and_variance(picture: NDArray[np.float32]) -> tuple[Map, Map]:
    mean = _mean_of_blocks(picture)
    return mean, np.maximum(_mean_of_blocks(picture * picture) - mean**2, 0)


def _mean_of_blocks(picture: NDArray[np.float32]) -> Map:
    """The mean of each block of a picture (H, W)."""
    sums = cv2.integral(picture, sdepth=cv2.CV_64F)
    step = len(picture) // BLOCKS
    starts = np.arange(BLOCKS - BLOCK_SIDE + 1) * step
    ends = starts + BLOCK_SIDE * step
    inside = sums[np.ix_(ends, ends)] - sums[np.ix_(starts, ends)] - sums[np.ix_(ends, starts)]
    return np.asarray((inside + sums[np.ix_(starts, starts)]) / (BLOCK_SIDE * step) ** 2, np.float32)


def _parts(mask: NDArray[np.bool_], fewest: int) -> list[NDArray[np.bool_]]:
    """The parts of a mask of blocks that hang together, those with so many or more."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [labels == part for part in range(1, count) if facts[part, cv2.CC_STAT_AREA] >= fewest]


def _region(part: NDArray[np.bool_], *, moves: bool) -> Region:
    down, across = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    # The blocks at its edge reach beyond what differs.
    (left, right), (top, bottom) = (
        ((places[0] + 1) / BLOCKS, (places[-1] + BLOCK_SIDE - 1) / BLOCKS) for places in (across, down)
    )
    return Region(left=float(left), top=float(top), right=float(right), bottom=float(bottom), moves=moves)


def _is_overlaid(part: NDArray[np.bool_], laid: Laid) -> bool:
    """Whether something was laid over one of the videos there: a logo, a caption. Its outline is an edge in that video,
    and in the other one the picture goes on across it as it does everywhere around.

    Of two products or two prices, both videos show the edges.
    """
    nearest = int(np.abs(laid.apart_s).argmin())
    own, other = (cv2.GaussianBlur(stills[nearest].astype(np.float32), (0, 0), STILL_BLUR_PX) for stills in laid.stills)
    step = STILL_PX // BLOCKS
    around = np.zeros((STILL_PX, STILL_PX), bool)
    for row, column in np.argwhere(part):
        around[row * step : (row + BLOCK_SIDE) * step, column * step : (column + BLOCK_SIDE) * step] = True
    # Light and contrast of the other one as in this one, by what lies elsewhere.
    elsewhere = ~around if not around.all() else around
    gain = (own[elsewhere].std() + 1) / (other[elsewhere].std() + 1)
    other = (other - other[elsewhere].mean()) * gain + own[elsewhere].mean()
    apart = np.abs(own - other)
    differs = around & (apart > max(LEAST_DIFFERENCE, NOISE_FACTOR * float(np.median(apart[elsewhere]))))
    shape = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    if not shape.any() or shape.mean() > LARGEST_OVERLAY:
        return False
    outline = (cv2.dilate(shape, np.ones((3, 3))) - cv2.erode(shape, np.ones((3, 3)))) > 0
    near = (cv2.dilate(shape, np.ones((41, 41))) > 0) & (cv2.dilate(shape, np.ones((7, 7))) == 0)
    if not near.any():
        return False
    low, high = sorted(_edges(one, outline) / (_edges(one, near) + 1) for one in (own, other))
    return low <= LARGEST_CONTINUED_EDGE and high >= LEAST_EDGE_RATIO * low


def _edges(picture: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """How much neighbouring pixels differ there, on average."""
    return float(_slopes(picture)[where].mean())


def _slopes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each pixel differs from its neighbours."""
    slopes = [cv2.Sobel(picture, cv2.CV_32F, across, 1 - across, ksize=3) for across in (0, 1)]
    return np.asarray(np.hypot(*slopes) / 8, np.float32)
