"""The part of the frame that has another colour: the same shirt in red and in blue.

All else is compared in grey, so that a copy without colours, or with changed ones, is a copy. A change of all colours
is one map from the colours of one video to those of the other: saturation, tint, white balance. It is estimated over
all stills, and a part that it does not explain has another colour, if its outline is the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import CHROMA_PX
from dedup_lib.match.aligned_frames import AlignedFrames
from dedup_lib.match.blocks import correlate, shrink
from dedup_lib.match.fades import find_fades, is_visible
from dedup_lib.match.regions import MIN_STILLS, find_components

MIN_DISTANCE = 18.0
"""Minimum distance of two colours that differ, in units of Cr and Cb; a vivid red lies at some 100 from grey."""

NOISE_FACTOR = 4.0
"""Minimum ratio of that distance to its median over all cells."""

MAX_HUE_CHANGE_DEG = 15.0
"""Maximum change of hue that all colours may share."""

SATURATION = (0.35, 2.5)
"""Range of the change of saturation that all colours may share."""

CHANGE_COST = 0.1
"""Cost of a change of all colours, as a share of cells left unexplained: of a saturation changed by the factor e, of a
tint by `TINT`, or of one that changes by `SHADE` from black to white. Of two explanations the simpler one holds: a
product may be the only colour in the frame, and then a change of all colours would explain every other colour of it."""

TINT = 10.0
SHADE = 40.0

SWAP_COST = 0.1
"""Cost of channels in a wrong order, as where a program takes BGR for RGB or NV12 for NV21; on the scale of
`CHANGE_COST`."""

RED_TO_CR, BLUE_TO_CB = 0.713, 0.564
"""Cr of a unit of red above the brightness, and Cb of a unit of blue above it, by ITU-R BT.601."""

MAX_GREY_SPREAD = 8.0
"""Maximum distance of most colours of a video from their median, if it has one colour only, as a grey or sepia copy."""

SAME_COLOUR = 5.0
"""Maximum distance of two colours that are the same."""

MIN_COLOUR = 6.0
"""Minimum distance of a colour from grey."""

MIN_CELLS = 5
"""Minimum number of connected cells, of 1024, that have another colour."""

MIN_SHARE = 0.5
"""Minimum share of the stills with such cells."""

OUTLINE_PX = 7
"""Side, in pixels of a still of 64, of the squares in which outlines are compared."""

MIN_CONTRAST = 6.0
"""Minimum standard deviation (of 255) of a square with an outline."""

MIN_OUTLINE_CORRELATION = 0.6
"""Minimum correlation, or the negative of it, of two squares with the same outline."""

MIN_OUTLINE_CELLS = 3
MIN_SAME_OUTLINE = 0.7
"""A part is the same object if at least `MIN_OUTLINE_CELLS` cells of and around it have an outline, and this share of
them the same."""

_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class _Explained:
    """A map of colours: the cost of what it leaves unexplained and of the map itself, what it predicts, and what the
    colours are."""

    cost: float
    predicted: NDArray[np.complex64]
    wanted: NDArray[np.complex64]


def find_other_colour(aligned: AlignedFrames) -> NDArray[np.bool_] | None:
    """The cells (32, 32) of the largest part that has another colour in most of the stills, wherever it is in each of
    them; None if there is none, or if the colours are not known."""
    if aligned.chroma is None:
        return None
    lights = [shrink(stills, CHROMA_PX) for stills in aligned.stills]
    fades = find_fades(*lights)
    kept = is_visible(fades)
    first, second = (_as_complex(planes[kept]) for planes in aligned.chroma)
    first = first * fades[kept, None, None]
    # In most copies all colours are as they were.
    if not (_least_distance(first, second) > MIN_DISTANCE).any():
        return None
    light, other_light = (one[kept] for one in lights)
    if _is_grey_copy(first, second, other_light) or _is_grey_copy(second, first, light):
        return None
    ways = [(first, light, second), (second, other_light, first)]
    best = min((_fit_map(*way) for way in ways), key=lambda one: one.cost)
    outlines = _compare_outlines(*(stills[kept] for stills in aligned.stills))
    component = _find_component(best, *outlines)
    if component is None:
        return None
    swapped = [_fit_map(*one, other) for own, light, other in ways for one in _swap_channels(own, light)]
    least = min(swapped, key=lambda one: one.cost)
    return _find_component(least, *outlines) if least.cost + SWAP_COST < best.cost else component


def _find_component(
    explained: _Explained, has_outline: NDArray[np.bool_], is_same: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """The cells (32, 32) of the largest part with a colour that is not explained, in most of the stills; None if there
    is none. `has_outline` and `is_same` as from `_compare_outlines`."""
    predicted, wanted = explained.predicted, explained.wanted
    apart = np.minimum(_least_distance(wanted, predicted), _least_distance(predicted, wanted))
    differs = apart > max(MIN_DISTANCE, NOISE_FACTOR * float(np.median(apart)))
    if not differs.any():
        return None
    found = [_largest_component(*one) for one in zip(differs, has_outline, is_same, strict=True)]
    components = [component for component in found if component is not None]
    if len(components) < max(MIN_STILLS, MIN_SHARE * len(found)):
        return None
    # Where it is in most stills; if it moves, where it is in the first one with most of it.
    usual = np.asarray(np.mean(components, axis=0) > 0.5)
    return usual if usual.sum() >= MIN_CELLS else max(components, key=lambda component: int(component.sum()))


def _as_complex(planes: NDArray[np.uint8]) -> NDArray[np.complex64]:
    """Colours as complex numbers, 0 for grey: a factor then changes the saturation and turns the hue."""
    centred = planes.astype(np.float32) - 128
    return np.asarray(centred[:, 0] + 1j * centred[:, 1], np.complex64)


def _median(colours: NDArray[np.complex64]) -> complex:
    return complex(float(np.median(colours.real)), float(np.median(colours.imag)))


def _is_grey_copy(first: NDArray[np.complex64], second: NDArray[np.complex64], light: NDArray[np.float32]) -> bool:
    """Whether the second video has one colour only, everywhere or in proportion to its brightness, as in sepia. If half
    of the first one has that colour, too, and it is not grey, the second is no grey copy: all else in it is grey."""
    in_proportion = np.complex64((second * light).sum() / ((light**2).sum() + 1)) * light
    lefts = [np.abs(second - one) for one in (np.complex64(_median(second)), in_proportion)]
    if min(np.quantile(left, 0.95) for left in lefts) > MAX_GREY_SPREAD:
        return False
    is_same = np.abs(second - first) < SAME_COLOUR
    return not (is_same.mean() >= 0.5 and np.abs(first[is_same]).mean() > MIN_COLOUR)


def _swap_channels(
    colours: NDArray[np.complex64], light: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.complex64], NDArray[np.float32]]]:
    """The colours and the brightness of the same cells: with Cr and Cb swapped, then with red, green and blue in each
    other order."""
    yield 1j * colours.conj(), light
    red, blue = light + colours.real / RED_TO_CR, light + colours.imag / BLUE_TO_CB
    green = (light - 0.299 * red - 0.114 * blue) / 0.587
    for channels in list(permutations((red, green, blue)))[1:]:
        after = 0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2]
        chroma = RED_TO_CR * (channels[0] - after) + 1j * BLUE_TO_CB * (channels[2] - after)
        yield np.asarray(chroma, np.complex64), np.asarray(after, np.float32)


def _fit_map(own: NDArray[np.complex64], light: NDArray[np.float32], other: NDArray[np.complex64]) -> _Explained:
    """The map of colours from `own` to `other` that leaves least unexplained: iteratively reweighted least squares with
    the weights of S. Geman and D. McClure (1987)."""
    best = _Explained(cost=_cost(own, other), predicted=own, wanted=other)
    shade = (light - 128) / 255
    starts = [(1.0 + 0j, 0j), (1.0 + 0j, _median(other - own)), (0.5 + 0j, 0j), (2.0 + 0j, 0j)]
    for has_shade in (False, True):
        for factor, tint in starts:
            slope = 0j
            for _ in range(_STEPS):
                rest = np.abs(other - factor * own - tint - slope * shade)
                weights = 1 / (1 + (2 * rest / MIN_DISTANCE) ** 2) ** 2
                total = weights.sum() + 1e-6
                if has_shade:
                    left = other - factor * own - tint
                    mean = (weights * shade).sum() / total
                    spread = (weights * (shade - mean) ** 2).sum() / total
                    slope = complex((weights * left * (shade - mean)).sum() / total / (spread + 1e-3))
                left = other - slope * shade
                mean_own, mean_other = ((weights * one).sum() / total for one in (own, left))
                spread = (weights * np.abs(own - mean_own) ** 2).sum() / total
                shared = (weights * (left - mean_other) * np.conj(own - mean_own)).sum() / total
                # Where nothing has a colour, the saturation stays.
                factor = _limit(complex((shared + 1) / (spread + 1)))
                tint = complex(mean_other - factor * mean_own)
            predicted = np.asarray(factor * own + tint + slope * shade, np.complex64)
            shift = abs(tint + (factor - 1) * complex(own.mean()))
            cost = _cost(predicted, other) + CHANGE_COST * (
                abs(math.log(abs(factor))) + shift / TINT + abs(slope) / SHADE
            )
            if cost < best.cost:
                best = _Explained(cost=cost, predicted=predicted, wanted=other)
    return best


def _cost(predicted: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
    return float(np.minimum(np.abs(other - predicted) / MIN_DISTANCE, 1).mean())


def _limit(factor: complex) -> complex:
    """The nearest factor within `MAX_HUE_CHANGE_DEG` and `SATURATION`."""
    lowest, highest = SATURATION
    if factor.real <= 0 or abs(math.degrees(math.atan2(factor.imag, factor.real))) > MAX_HUE_CHANGE_DEG:
        factor = complex(max(factor.real, 0.0), 0.0)
    size = abs(factor)
    return factor / size * min(max(size, lowest), highest) if size else complex(lowest, 0.0)


def _least_distance(colours: NDArray[np.complex64], wanted: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Distance of each wanted colour to the nearest one of the cell and its eight neighbours."""
    wider = np.pad(colours, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down, across = colours.shape[1:]
    places = product(range(3), range(3))
    near = [np.abs(wider[:, row : row + down, column : column + across] - wanted) for row, column in places]
    return np.asarray(np.min(near, axis=0), np.float32)


def _compare_outlines(
    first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The cells (K, 32, 32) with an outline in both videos, and those with the same one. Another colour may be brighter
    or darker than what is around it."""
    has_outline, is_same = [], []
    for own, other in zip(*(shrink(stills, 2 * CHROMA_PX) for stills in (first, second)), strict=True):
        other = other * np.float32((own.std() + 1) / (other.std() + 1))
        correlation, *variances = correlate(own, other, average=_around, noise=1.0)
        shows = np.sqrt(np.minimum(*variances)) >= MIN_CONTRAST
        has_outline.append(_to_cells(shows.astype(np.float32)) > 0.5)
        is_same.append(_to_cells(np.abs(correlation)) > MIN_OUTLINE_CORRELATION)
    return np.array(has_outline), np.array(is_same)


def _around(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(frame, (OUTLINE_PX, OUTLINE_PX)), np.float32)


def _to_cells(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(frame, (CHROMA_PX, CHROMA_PX), interpolation=cv2.INTER_AREA), np.float32)


def _largest_component(
    differs: NDArray[np.bool_], has_outline: NDArray[np.bool_], is_same: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """The largest connected part of a still that has another colour and the same outline; None if there is none."""
    for cells in sorted(find_components(differs, MIN_CELLS), key=lambda component: -int(component.sum())):
        outline = (cv2.dilate(cells.astype(np.uint8), np.ones((3, 3))) > 0) & has_outline
        if outline.sum() >= MIN_OUTLINE_CELLS and is_same[outline].mean() >= MIN_SAME_OUTLINE:
            return cells
    return None
