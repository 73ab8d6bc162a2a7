"""Which of two copies bears something that the other lacks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import COPIES, add_grain, draw_clip, fingerprint

from dedup_lib.match.overlay import MIN_FRAMES, find_overlay

Miniatures = NDArray[np.uint8]


def tiny_frames(name: str = "itself", *, seed: int = 1) -> Miniatures:
    """Of a clip and its copies, bars and all: each whole frame in a square."""
    frames = COPIES[name](draw_clip(seed))
    return np.stack([cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), (64, 64)) for one in frames]).astype(np.uint8)


@pytest.mark.parametrize("name", ["logo", "caption"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_marked_one_is_known(name: str, seed: int) -> None:
    plain, marked = tiny_frames(seed=seed), tiny_frames(name, seed=seed)
    assert find_overlay(plain, marked) == "second"
    assert find_overlay(marked, plain) == "first"


@pytest.mark.parametrize("light", [0.6, 1.2])
def test_other_light_hides_no_logo(light: float) -> None:
    darker = np.clip(tiny_frames("logo") * light, 0, 255).astype(np.uint8)
    assert find_overlay(tiny_frames(), darker) == "second"


@pytest.mark.parametrize("name", ["itself", "smaller"])
def test_a_plain_copy_bears_none(name: str) -> None:
    assert find_overlay(tiny_frames(), tiny_frames(name)) == ""


def test_grain_is_no_overlay() -> None:
    grainy = fingerprint(add_grain(draw_clip(1), seed=0, deviation=12))
    assert find_overlay(fingerprint(draw_clip(1)).tiny_frames, grainy.tiny_frames) == ""


@pytest.mark.parametrize("name", ["crop 10 %", "turned by 5°", "mirrored"])
def test_frames_that_do_not_lie_on_one_another_say_nothing(name: str) -> None:
    assert find_overlay(tiny_frames(), tiny_frames(name)) == ""


def test_unlike_frames_say_nothing() -> None:
    assert find_overlay(tiny_frames(seed=1), tiny_frames(seed=2)) == ""


def test_what_stands_still_cannot_be_told() -> None:
    still = np.repeat(tiny_frames()[:1], 20, axis=0)
    marked = np.repeat(tiny_frames("logo")[:1], 20, axis=0)
    assert find_overlay(still, marked) == ""


def test_marks_on_both_say_nothing() -> None:
    assert find_overlay(tiny_frames("caption"), tiny_frames("logo")) == ""


def test_too_few_frames() -> None:
    few = MIN_FRAMES - 1
    assert find_overlay(tiny_frames()[:few], tiny_frames("logo")[:few]) == ""
    assert find_overlay(tiny_frames()[:0], tiny_frames()[:0]) == ""


@given(seed=st.integers(0, 30), count=st.integers(0, 12))
def test_exchanging_the_copies_exchanges_the_answer(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = (generator.integers(0, 256, (count, 64, 64), np.uint8) for _ in range(2))
    first[:, 10:30, 10:30] = 128
    answer = find_overlay(first, second)
    assert find_overlay(second, first) == {"first": "second", "second": "first", "": ""}[answer]
