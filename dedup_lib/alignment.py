"""Do two videos show the same pictures at the same times? Hashes of miniatures, and the offset and the stretch of time
at which they agree. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dedup_lib.fingerprints import MINIATURE_PX

Hashes = NDArray[np.uint8]
"""Hashes of N pictures, (N, 32): 256 bits each."""

HASH_BITS = 256

ORIENTATIONS = range(8)
"""As it is, mirrored (1), upside down (2), both (3), and each of these with rows and columns exchanged (4 more)."""

SPEEDS = (1.0, 24 / 25, 25 / 24, 1 / 1.05, 1.05, 0.8, 1.25, 2 / 3, 1.5, 0.5, 2.0)
"""How much faster the second video may run: as it is, film shown as television and back, and what people choose."""

SPEED_FACTORS = tuple(1 + 0.025 * step for step in range(-8, 9))
FINE_STEP_S = 0.0625
FINE_GAIN = 1.08
"""Near the best of the speeds these are tried, at finer offsets; another one must explain so many times as much."""

OFFSET_STEP_S = 0.25
OFFSET_TOLERANCE_S = 0.5

SAME_SCENE_BITS = 40
"""Pictures of one video this near show nothing new."""

MOST_CELLS = 2**20
"""A table of votes with more is kept without its empty cells: of films of an hour nearly all are."""

LOWEST_DENSITY = 0.25
"""Of the pictures in a stretch that two videos share, at least this share agrees."""


def _cosine_transform() -> NDArray[np.float32]:
    frequencies, places = np.arange(1, 17)[:, None], np.arange(MINIATURE_PX)[None]
    waves = np.cos(np.pi / (2 * MINIATURE_PX) * frequencies * (2 * places + 1))
    return np.asarray(np.sqrt(2 / MINIATURE_PX) * waves, np.float32)


_TRANSFORM = _cosine_transform()
_MIRRORED = np.where(np.arange(1, 17) % 2, np.float32(-1), np.float32(1))
"""A mirrored picture has its odd frequencies with the other sign."""


def hash_pictures(miniatures: NDArray[np.uint8]) -> Hashes:
    """Which of the lowest 16 × 16 frequencies of each picture, uint8 (N, 64, 64), lie above their median.

    PDQ without its scaling: Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019.
    """
    return _pack(_above_median(find_frequencies(miniatures)))


def hash_orientations(miniatures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The hashes of the pictures (N, 64, 64) in each of the `ORIENTATIONS`: (8, N, 32).

    They need one transform, see `turn_frequencies`.
    """
    waves = find_frequencies(miniatures)
    hashes = np.empty((len(ORIENTATIONS), len(miniatures), HASH_BITS // 8), np.uint8)
    for orientation in range(4):
        above = _above_median(turn_frequencies(waves, orientation))
        hashes[orientation], hashes[orientation | 4] = _pack(above), _pack(above.transpose(0, 2, 1))
    return hashes


def turn_frequencies(waves: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """The lowest frequencies (N, F, F) that the pictures have in one of the `ORIENTATIONS`: one whose rows and columns
    are exchanged has its frequencies exchanged."""
    signs = _MIRRORED[: waves.shape[1]]
    across, down = (signs if orientation & bit else np.ones_like(signs) for bit in (1, 2))
    turned = waves * across * down[:, None]
    return turned.transpose(0, 2, 1) if orientation & 4 else turned


def turn_pictures(pictures: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pictures (N, H, W) in one of the `ORIENTATIONS`."""
    turned = pictures[:, :, ::-1] if orientation & 1 else pictures
    turned = turned[:, ::-1] if orientation & 2 else turned
    return turned.transpose(0, 2, 1) if orientation & 4 else turned


def find_frequencies(miniatures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The lowest frequencies of pictures (N, 64, 64) without the constant ones, down and across: (N, 16, 16)."""
    return np.asarray(_TRANSFORM @ miniatures.astype(np.float32) @ _TRANSFORM.T)


def _above_median(waves: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(waves > np.median(waves, axis=(1, 2), keepdims=True))


def _pack(bits: NDArray[np.bool_]) -> Hashes:
    return np.packbits(bits.reshape(len(bits), HASH_BITS), axis=1)


def count_differing_bits(first: Hashes, second: Hashes) -> NDArray[np.uint16]:
    """Hamming distance of every two hashes, (N, 32) and (M, 32): (N, M)."""
    own, others = (np.ascontiguousarray(hashes).view(np.uint64) for hashes in (first, second))
    distances = np.zeros((len(own), len(others)), np.uint16)
    # Word after word: a sum over an axis of four is several times as slow.
    for word in range(own.shape[1]):
        distances += np.bitwise_count(own[:, word, None] ^ others[None, :, word])
    return distances


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What two videos share: `agreeing` of the `compared` pictures there, counted in the one where they are the smaller
    share; from `first_start_s` to `first_end_s` in the first and the same in the second, and which share of either
    that is."""

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
    """Median distance of the pictures that agree."""
    scenes: int = 1
    """How many of them show something else than the one before."""
    agreeing_share: float = math.nan
    """Share of the pictures that agree, each counted by the time that it stands for; NaN: all stand for as much."""
    beside: tuple[NDArray[np.intp], NDArray[np.intp]] | None = field(default=None, compare=False, repr=False)
    """Which picture of the first video stands beside which one of the second, where those of one of them are seconds
    apart in a part of it; None: those shown at the same time."""
    correlation: float = math.nan
    """How alike both videos change in it, -1 to 1 (`changes`); NaN where that was not asked."""

    @property
    def agreement(self) -> float:
        """Share of the pictures that agree."""
        return self.agreeing / self.compared if math.isnan(self.agreeing_share) else self.agreeing_share

    @property
    def is_sparse(self) -> bool:
        """Whether a part of it lies where the pictures of one of the videos are seconds apart."""
        return self.beside is not None

    @property
    def offset_s(self) -> float:
        """How much later the second video shows the beginning, give or take the tolerance."""
        return self.second_start_s - self.first_start_s

    @property
    def strength(self) -> float:
        """What to choose the better of two stretches by: few pictures agree easily."""
        return self.agreement * min(1.0, self.agreeing / 4) * max(self.first_coverage, self.second_coverage)

    def pictures_beside(
        self, first_times_s: NDArray[np.float32], second_times_s: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The pictures of the first video in the stretch, and for each the one of the second that stands beside it;
        those without any are left out."""
        return self.beside or self.shown_beside(first_times_s, second_times_s)

    def shown_beside(
        self,
        first_times_s: NDArray[np.float32],
        second_times_s: NDArray[np.float32],
        *,
        tolerance_s: float = OFFSET_STEP_S,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """What the first video shows at some times in the stretch, and for each what the second one shows then, give or
        take the tolerance; that without any is left out."""
        inside = np.flatnonzero((first_times_s >= self.first_start_s) & (first_times_s <= self.first_end_s))
        wanted_s = self.second_start_s + (first_times_s[inside] - self.first_start_s) / self.speed
        apart_s = np.abs(second_times_s[None] - wanted_s[:, None])
        nearest = apart_s.argmin(axis=1)
        is_near = apart_s[np.arange(len(nearest)), nearest] <= tolerance_s
        return inside[is_near], nearest[is_near]

    def exchanged(self) -> Stretch:
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
) -> Stretch | None:
    """The stretch that two videos share, None when no two pictures are within `max_distance` bits. Times rise; the
    weights are those of a `Fingerprint`, None where all are one.

    Every two pictures that are so alike vote for the offset between their times; those near the winning offset agree.
    The stretch is where they lie densely: the run of pictures with the largest sum, each one that agrees counting one
    and each other one taking away what leaves a run at `LOWEST_DENSITY` without gain. All
    that is counted by what the pictures stand for. Where those of one video are seconds apart, those of the other that
    lie between them are not asked.
    """
    distances = count_differing_bits(first, second)
    rows, columns = np.nonzero(distances <= max_distance)
    if not len(rows):
        return None
    weights = 0.2 + 1 - distances[rows, columns] / max_distance
    voters = rows if len(first) <= len(second) else columns
    best: tuple[float, float, float] | None = None
    for speed in SPEEDS:
        offsets = second_times_s[columns] * speed - first_times_s[rows]
        gain, offset_s = _count_votes(offsets, voters, weights, step_s=OFFSET_STEP_S)
        # Another speed must explain clearly more.
        gain *= 1.0 if speed == 1.0 else 0.9
        if best is None or gain > best[0]:
            best = gain, speed, offset_s
    assert best is not None
    _, speed, offset_s = best
    speed, offset_s = _refine(speed, offset_s, first_times_s[rows], second_times_s[columns], voters, weights)
    near = np.abs(second_times_s[columns] * speed - first_times_s[rows] - offset_s) <= OFFSET_TOLERANCE_S
    nearest = np.full(len(first), np.inf)
    np.minimum.at(nearest, rows[near], distances[rows[near], columns[near]])
    second_as_first_s = second_times_s * speed - offset_s
    own, others = (
        np.ones(len(times_s)) if weights is None else weights.astype(float)
        for weights, times_s in ((first_weights, first_times_s), (second_weights, second_times_s))
    )
    of_second = _find_counterparts(distances, first_times_s, second_as_first_s, own, others, max_distance=max_distance)
    of_first = _find_counterparts(distances.T, second_as_first_s, first_times_s, others, own, max_distance=max_distance)
    first_asked = _weigh_asked(first_times_s, second_as_first_s, own, others, of_second)
    second_asked = _weigh_asked(second_as_first_s, first_times_s, others, own, of_first)
    stretch = _stretch(
        first_times_s,
        second_times_s,
        first_asked=first_asked,
        second_asked=second_asked,
        first_agrees=np.isin(np.arange(len(first)), rows[near]) & (first_asked > 0),
        second_agrees=np.isin(np.arange(len(second)), columns[near]) & (second_asked > 0),
        offset_s=offset_s,
        speed=speed,
    )
    if stretch is None:
        return None
    inside = (first_times_s >= stretch.first_start_s) & (first_times_s <= stretch.first_end_s) & np.isfinite(nearest)
    inside &= first_asked > 0
    stretch = replace(stretch, distance_bits=float(np.median(nearest[inside])), scenes=_count_scenes(first[inside]))
    pairs = np.concatenate([np.stack(of_second, axis=1), np.stack(of_first[::-1], axis=1)])
    pairs = pairs[
        (first_times_s[pairs[:, 0]] >= stretch.first_start_s) & (first_times_s[pairs[:, 0]] <= stretch.first_end_s)
    ]
    if not len(pairs):
        return stretch
    dense = np.stack(stretch.shown_beside(first_times_s, second_times_s), axis=1)
    dense = dense[(first_asked[dense[:, 0]] == 1) & (second_asked[dense[:, 1]] == 1)]
    places, other_places = np.unique(np.concatenate([dense, pairs]), axis=0).T
    return replace(stretch, beside=(places, other_places))


def _count_votes(
    offsets_s: NDArray[np.float32], voters: NDArray[np.intp], weights: NDArray[np.float64], *, step_s: float
) -> tuple[float, float]:
    """The offset that most pictures vote for, after how much they do. Each picture has one vote for an offset, however
    many of the other video are like it: where nothing moves, all are."""
    steps = np.round(offsets_s / step_s).astype(int)
    lowest = steps.min()
    count, width = int(voters.max()) + 1, int(steps.max() - lowest) + 1
    if count * width <= MOST_CELLS:
        votes = np.zeros((count, width))
        np.maximum.at(votes, (voters, steps - lowest), weights)
        totals = votes.sum(axis=0)
    else:
        cells, places = np.unique(voters * width + (steps - lowest), return_inverse=True)
        highest = np.zeros(len(cells))
        np.maximum.at(highest, places, weights)
        totals = np.bincount(cells % width, weights=highest, minlength=width)
    sums = np.convolve(totals, (0.5, 1.0, 0.5))[1:-1]
    return float(sums.max()), float(sums.argmax() + lowest) * step_s


def _refine(
    speed: float,
    offset_s: float,
    first_s: NDArray[np.float32],
    second_s: NDArray[np.float32],
    voters: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> tuple[float, float]:
    """The speed near this one, and the offset, at which most pictures agree closely."""
    best: tuple[float, float, float] | None = None
    # From the speed itself on outwards: where nothing moves, all fit alike.
    for factor in sorted(SPEED_FACTORS, key=lambda factor: abs(factor - 1)):
        offsets = second_s * speed * factor - first_s
        near = np.abs(offsets - offset_s) <= 2 * OFFSET_TOLERANCE_S
        if not near.any():
            continue
        gain, offset = _count_votes(offsets[near], voters[near], weights[near], step_s=FINE_STEP_S)
        if best is None or gain > best[0] * FINE_GAIN:
            best = gain, speed * factor, offset
    return (best[1], best[2]) if best is not None else (speed, offset_s)


def _count_scenes(hashes: Hashes) -> int:
    """How often a picture differs from the last one that was counted, the first one included."""
    distances = count_differing_bits(hashes, hashes)
    count, last = 1, 0
    for index in range(1, len(hashes)):
        if distances[last, index] > SAME_SCENE_BITS:
            count, last = count + 1, index
    return count


def _find_counterparts(
    distances: NDArray[np.uint16],
    own_s: NDArray[np.float32],
    others_s: NDArray[np.float32],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    max_distance: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each picture of the other video that stands for several, the most alike of the own ones that are shown then
    by one clock (N,), and which picture that is (N,). Those without any are left out.

    Key frames often stand at a cut, and the nearest picture before it shows another shot.
    """
    sparse = np.flatnonzero(others > 1)
    apart_s = np.abs(own_s[:, None] - others_s[None, sparse])
    # Of two sparse videos no other picture can be chosen where a cut lies between.
    tolerances_s = np.where(own > 1, OFFSET_STEP_S / 2, OFFSET_STEP_S)
    costs = np.where(apart_s <= tolerances_s[:, None], distances[:, sparse] + apart_s, np.inf)
    lowest = costs.min(axis=0, initial=np.inf)
    # What is shown where this video begins or is over may lie before or behind it.
    is_within = (others_s[sparse] >= own_s[0] + OFFSET_STEP_S / 2) & (others_s[sparse] <= own_s[-1] - OFFSET_STEP_S / 2)
    found = np.isfinite(lowest) & (is_within | (lowest <= max_distance))
    return costs.argmin(axis=0)[found], sparse[found]


def _weigh_asked(
    own_s: NDArray[np.float32],
    others_s: NDArray[np.float32],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    counterparts: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    """What each picture of a video counts, given when those of both are shown by one clock, and what they stand for: 0
    where the pictures of the other video around it are seconds apart, and none of them is its counterpart."""
    if others.max() <= 1:
        return own
    after = np.searchsorted(others_s, own_s)
    following = np.minimum(after, len(others_s) - 1)
    # Behind its last picture, the other video may go on for as long as before it.
    reaches_s = others_s[-1] + (others_s[-1] - others_s[-2] if len(others_s) > 1 else 0)
    lies_open = (others[following] > 1) & (after > 0) & (own_s <= reaches_s)
    asked = np.where(lies_open, 0.0, own)
    places, other_places = counterparts
    asked[places] = np.maximum(own[places], others[other_places])
    return asked


def _stretch(
    first_times_s: NDArray[np.float32],
    second_times_s: NDArray[np.float32],
    *,
    first_asked: NDArray[np.float64],
    second_asked: NDArray[np.float64],
    first_agrees: NDArray[np.bool_],
    second_agrees: NDArray[np.bool_],
    offset_s: float,
    speed: float,
) -> Stretch | None:
    """The stretch, given what each picture counts and which agree; None where none does."""
    if not (first_agrees.any() and second_agrees.any()):
        return None
    start, end = _densest_run(first_agrees, first_asked)
    # In the first it begins and ends with a picture that agrees, and so it does in the second.
    agreeing_seconds = np.flatnonzero(second_agrees)
    second_as_first_s = second_times_s[agreeing_seconds] * speed - offset_s
    second_start = int(agreeing_seconds[np.abs(second_as_first_s - first_times_s[start]).argmin()])
    second_end = int(agreeing_seconds[::-1][np.abs(second_as_first_s - first_times_s[end])[::-1].argmin()])
    counts = []
    for agrees, asked, low, high in (
        (first_agrees, first_asked, start, end),
        (second_agrees, second_asked, second_start, second_end),
    ):
        inside = slice(low, high + 1)
        share = float(asked[inside][agrees[inside]].sum() / asked[inside].sum())
        counts.append((share, int(agrees[inside].sum()), int((asked[inside] > 0).sum())))
    share, agreeing, compared = min(counts)
    return Stretch(
        agreeing=agreeing,
        compared=compared,
        first_start_s=float(first_times_s[start]),
        first_end_s=float(first_times_s[end]),
        second_start_s=float(second_times_s[second_start]),
        second_end_s=float(second_times_s[second_end]),
        first_coverage=float(first_asked[start : end + 1].sum() / first_asked.sum()),
        second_coverage=float(second_asked[second_start : second_end + 1].sum() / second_asked.sum()),
        speed=speed,
        agreeing_share=share,
    )


def _densest_run(agrees: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[int, int]:
    """First and last index of the run with the largest sum (J. Bentley, "Programming Pearls", 1984: Kadane)."""
    gains = weights * np.where(agrees, 1.0, -LOWEST_DENSITY / (1 - LOWEST_DENSITY))
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    lowest = np.minimum.accumulate(sums[:-1])
    end = int(np.argmax(sums[1:] - lowest))
    # Those that are not asked change no sum.
    inside = np.flatnonzero(agrees[: end + 1])
    return int(inside[np.searchsorted(inside, np.argmin(sums[: end + 1]))]), int(inside[-1])
