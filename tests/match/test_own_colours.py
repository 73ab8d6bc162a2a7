"""Something laid over one video, or an object in each: two sellers before one wall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import CHROMA_PX
from dedup_lib.match.aligned_frames import AlignedFrames
from dedup_lib.match.blocks import BLOCK_SIDE, BLOCKS, STILL_PX
from dedup_lib.match.outlines import is_overlaid, shows_own_colours, trace_outlines

COUNT = 4
WALL, SHIRT = (90, 103), (190, 103)
"""Cr and Cb of a green wall, and of a red shirt that is as bright."""


def align_sellers(own_colour: tuple[int, int], *, height: int = 96, width: int = 64) -> AlignedFrames:
    """Two videos of one wall: in the second one stands a dark seller, in the first one something as bright as the wall,
    of this colour."""
    wall = np.random.default_rng(0).integers(95, 135, (STILL_PX, STILL_PX)).astype(np.uint8)
    dark = wall.copy()
    dark[128 : 128 + height, 128 : 128 + width] = 30
    chroma = np.broadcast_to(np.array(WALL, np.uint8)[:, None, None], (2, CHROMA_PX, CHROMA_PX)).copy()
    coloured, scale = chroma.copy(), STILL_PX // CHROMA_PX
    place = slice(128 // scale, (128 + height) // scale), slice(128 // scale, (128 + width) // scale)
    coloured[:, *place] = np.array(own_colour, np.uint8)[:, None, None]
    times = np.zeros((COUNT, 64, 64), np.uint8)
    return AlignedFrames(
        tiny_frames=(times, times),
        stills=(np.array([wall] * COUNT), np.array([dark] * COUNT)),
        maps=(np.eye(2, 3), np.eye(2, 3)),
        only_changes=False,
        is_simultaneous=True,
        shows_moments=True,
        apart_s=np.zeros(COUNT),
        chroma=(np.array([coloured] * COUNT), np.array([chroma] * COUNT)),
    )


@pytest.fixture
def component() -> NDArray[np.bool_]:
    """The blocks in which the two differ."""
    step = STILL_PX // BLOCKS
    found = np.zeros((BLOCKS - BLOCK_SIDE + 1,) * 2, bool)
    found[128 // step - 1 : 224 // step - 1, 128 // step - 1 : 192 // step - 1] = True
    return found


def have_own_colours(component: NDArray[np.bool_], aligned: AlignedFrames) -> bool:
    return shows_own_colours(trace_outlines(component, aligned), aligned.chroma)


def test_only_colours_tell_a_seller_who_is_as_bright_as_the_wall(component: NDArray[np.bool_]) -> None:
    seller, wall = align_sellers(SHIRT), align_sellers(WALL)
    for aligned in (seller, wall):
        assert is_overlaid(trace_outlines(component, aligned), around_moves=False)
    assert have_own_colours(component, seller)
    assert not have_own_colours(component, wall)
    exchanged = replace(seller, stills=seller.stills[::-1], chroma=seller.chroma and seller.chroma[::-1])
    assert have_own_colours(component, exchanged)


def test_unknown_colours_and_those_of_small_parts_tell_nothing(component: NDArray[np.bool_]) -> None:
    assert not have_own_colours(component, replace(align_sellers(SHIRT), chroma=None))
    assert not have_own_colours(component, align_sellers(SHIRT, height=24, width=16))
