"""Colours: a part with another colour makes a version, a change of all colours makes a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scenes import add_grain, draw_clip, each, encoded, fingerprint

from dedup_lib.features.fingerprint import CHROMA_PX, Fingerprint
from dedup_lib.match.evidence import Criterion, Evidence, MatchThresholds, Verdict
from dedup_lib.match.verify import compare_pair
from dedup_lib.records import Frames

RULES = MatchThresholds(min_score=0.5, review_from=0.03)

BLUE, RED, BLACK = (30, 60, 200), (200, 30, 30), (35, 35, 35)


def draw_shirt(colour: tuple[int, int, int], *, moves: bool = False) -> list[Frames]:
    """A shirt of one colour before a beige wall, with stripes that slide below; if it moves, from left to right."""
    frames = []
    for index in range(40):
        frame = np.full((144, 256, 3), (235, 225, 200), np.uint8)
        for stripe in range(-1, 5):
            left = stripe * 64 + index * 5 % 64
            cv2.rectangle(frame, (left, 112), (left + 30, 144), (188, 180, 160), -1)
        left = 40 + (2 * index if moves else 40)
        cv2.rectangle(frame, (left, 30), (left + 64, 100), colour, -1)
        dark = tuple(int(0.7 * level) for level in colour)
        cv2.rectangle(frame, (left + 38, 45), (left + 54, 60), dark, 1)
        cv2.line(frame, (left + 32, 30), (left + 32, 100), dark, 1)
        cv2.putText(frame, "SUMMER", (8, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1)
        frames.append(frame)
    return frames


def compare(own: Fingerprint, other: Fingerprint) -> Evidence:
    return compare_pair(own, other, durations_s=(10.0, 10.0))


def compare_shirts(*colours: tuple[int, int, int], moves: bool = False) -> Evidence:
    own, other = (encoded(draw_shirt, colour, moves=moves, grain=grain) for grain, colour in enumerate(colours))
    return compare(own, other)


def scale_colours(frame: Frames, *, saturation: float, rotation_deg: float = 0.0) -> Frames:
    """More or less vivid colours of other hues, equally bright."""
    planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    colours = (planes[..., 1] - 128 + 1j * (planes[..., 2] - 128)) * saturation * np.exp(1j * np.radians(rotation_deg))
    planes[..., 1], planes[..., 2] = colours.real + 128, colours.imag + 128
    return np.asarray(cv2.cvtColor(planes.clip(0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB), np.uint8)


def swap_cr_and_cb(frame: Frames) -> Frames:
    planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(planes), cv2.COLOR_YCrCb2RGB), np.uint8)


SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
"""The matrix that most editors use."""

CHANGES: dict[str, Callable[[Frames], Frames]] = {
    "as it is": lambda frame: frame,
    "grey": lambda frame: scale_colours(frame, saturation=0.0),
    "pale": lambda frame: scale_colours(frame, saturation=0.5),
    "vivid": lambda frame: scale_colours(frame, saturation=1.5),
    "a slightly other hue": lambda frame: scale_colours(frame, saturation=1.0, rotation_deg=8),
    "faded": lambda frame: (frame * 0.75 + 45).astype(np.uint8),
    "sepia": lambda frame: (frame @ SEPIA.T).clip(0, 255).astype(np.uint8),
    "BGR taken for RGB": lambda frame: np.ascontiguousarray(frame[..., ::-1]),
    "NV12 taken for NV21": swap_cr_and_cb,
    "warmer": lambda frame: (frame * np.array([1.1, 1.0, 0.85])).clip(0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_a_change_of_all_colours_makes_a_copy(change: Callable[[Frames], Frames], seed: int) -> None:
    other = fingerprint(add_grain(each(change, draw_clip(seed)), seed=1))
    found = compare(encoded(draw_clip, seed, grain=0), other)
    assert found.difference is None
    assert found.judge(RULES)[0] == Verdict.DUPLICATE


@pytest.mark.parametrize("moves", [False, True], ids=["standing", "moving"])
@pytest.mark.parametrize("colours", [(BLUE, RED), (BLUE, BLACK), (RED, BLACK)])
def test_another_colour_of_a_product_makes_a_version(
    colours: tuple[tuple[int, int, int], tuple[int, int, int]], moves: bool
) -> None:
    for found in (compare_shirts(*colours, moves=moves), compare_shirts(*colours[::-1], moves=moves)):
        assert found.judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)
        assert found.difference is not None
        assert found.difference.only_colour
        assert str(found.difference).endswith("only its colour")
        assert found.difference.right > 0.4 > found.difference.top


def test_the_same_product_is_a_copy() -> None:
    for colour in (BLUE, RED, BLACK):
        assert compare_shirts(colour, colour).judge(RULES)[0] == Verdict.DUPLICATE


def test_fingerprints_without_colours_are_compared_without_them() -> None:
    blue, red = (fingerprint(draw_shirt(colour)) for colour in (BLUE, RED))
    before = Fingerprint.from_bytes(replace(red, packed_chroma=None).to_bytes())
    assert before.unpack_chroma() is None
    for pair in ((blue, before), (before, blue), (before, before)):
        assert compare(*pair).difference is None


def test_videos_that_are_equal_but_for_their_colours_are_not_the_same() -> None:
    """Two colours of one brightness: all that is compared in grey is identical."""
    grey = fingerprint(draw_shirt(BLUE))
    other = replace(grey, packed_chroma=fingerprint(draw_shirt(RED)).packed_chroma)
    assert compare(grey, grey).is_exact
    found = compare(grey, other)
    assert not found.is_exact
    assert found.judge(RULES) == (Verdict.REVIEW, Criterion.DIFFERS)


def test_the_colours_of_the_stills_are_kept() -> None:
    made = Fingerprint.from_bytes(fingerprint(draw_shirt(RED)).to_bytes())
    chroma = made.unpack_chroma()
    assert chroma is not None
    assert chroma.shape == (made.num_stills, 2, CHROMA_PX, CHROMA_PX)
    # The middle of the shirt, by ITU-R BT.601: Cr 213 and Cb 99 of (200, 30, 30).
    assert np.abs(chroma[:, :, 15, 13].astype(int) - (213, 99)).max() <= 6
