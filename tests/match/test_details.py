"""Details: another digit of a price, and what a copy leaves at sharp edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from scenes import draw_canvas

from dedup_lib.match.blocks import STILL_PX, soften
from dedup_lib.match.details import find_details


def draw_price(seed: int, price: str) -> Any:
    still = np.ascontiguousarray(draw_canvas(np.random.default_rng(seed), size_px=(STILL_PX, STILL_PX)))
    cv2.rectangle(still, (60, 150), (200, 210), (250, 250, 250), -1)
    cv2.putText(still, price, (80, 190), cv2.FONT_HERSHEY_SIMPLEX, 1, (10, 10, 10), 2)
    return cv2.cvtColor(still, cv2.COLOR_RGB2GRAY)


def move(still: Any, by_px: float) -> Any:
    """As a copy that was cropped by a part of a pixel and scaled a little."""
    matrix = np.array([[1 + by_px / 100, 0, by_px], [0, 1 - by_px / 150, -by_px]], np.float32)
    size = (STILL_PX, STILL_PX)
    return cv2.warpAffine(still, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_part_of_a_pixel_is_no_other_digit(seed: int) -> None:
    first, second = draw_price(seed, "9.99"), move(draw_price(seed, "9.99"), 0.7)
    assert not find_details(soften(first), soften(second)).any()
    assert find_details(soften(first), soften(move(draw_price(seed, "9.79"), 0.7))).any()
