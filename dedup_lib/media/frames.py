"""What is done to frames before the encoder: flat ones are dropped, bars are cut off.

OpenCV is imported where it is used, because encoders import this module, and the process that only runs the encoder of
03 saves 30 MB.

Raise `Recipe.preprocessing` with every change here that changes vectors.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup_lib.records import Frames, Sample

FRAME_SIDE_PX = 512
"""Longer side in pixels to which frames are shrunk during conversion; no encoder here sees more detail."""

FLAT_DEVIATION = 4.0
"""A frame whose brightness and colours deviate by less than this (of 255) shows one flat colour."""

BAR_DEVIATION = 10.0
"""A border row or column that deviates by no more than this (of 255) from its own colour is part of a bar."""

MAX_BAR_FRACTION = 0.4
"""Largest share of the frame that a bar may take on one side, so that enough of the frame is left."""

MAX_NESTED_BARS = 4

MAX_FRAMES_FOR_BARS = 16
"""Frames compared to find bars; more frames take time and find no other bars."""

MAX_SMEARED_ROWS = 4
SMEARED_FRACTION = 0.3
"""Up to `MAX_SMEARED_ROWS` rows at the edge of a bar belong to it when their deviation from its colour is less than
`SMEARED_FRACTION` of the deviation of the frame beyond."""


def is_flat(frame: Frames) -> bool:
    """Whether a frame (H, W, 3) shows only one colour: black, white, a colour card."""
    import cv2

    small = cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA)
    return bool(cv2.meanStdDev(small)[1].max() < FLAT_DEVIATION)


def find_bars(frames: Sequence[Frames]) -> tuple[int, int, int, int]:
    """Returns the width in pixels of the top, bottom, left and right bars that all frames share. All frames have one
    size (H, W, 3).

    A bar is a run of border rows (or columns) that have one common colour in every frame, so a dark sky is only cut
    off when it is flat throughout the video. Bars within bars are found too: a video with a flat border of its own
    gives the same result whether or not bars were put around it.
    """
    if not frames:
        return 0, 0, 0, 0
    height, width = frames[0].shape[:2]
    top = bottom = left = right = 0
    for _ in range(MAX_NESTED_BARS):
        inner = [frame[top : height - bottom, left : width - right] for frame in frames]
        above, below = _bars_of_rows(inner)
        inner = [frame[above : len(frame) - below].transpose(1, 0, 2) for frame in inner]
        before, behind = _bars_of_rows(inner)
        if not (above or below or before or behind):
            break
        top, bottom, left, right = top + above, bottom + below, left + before, right + behind
    return top, bottom, left, right


def _bars_of_rows(frames: Sequence[Frames]) -> tuple[int, int]:
    return _bar_at_top(frames), _bar_at_top([frame[::-1] for frame in frames])


def _bar_at_top(frames: Sequence[Frames]) -> int:
    """Number of rows in the bar that all frames share at their top, 0 for no bar."""
    # Most videos have no bar, which the first row already shows.
    if not _is_bar(_deviation_from_edge(frames, 1))[0]:
        return 0
    largest = int(len(frames[0]) * MAX_BAR_FRACTION)
    deviations = _deviation_from_edge(frames, largest + 4 * MAX_SMEARED_ROWS)
    is_bar = _is_bar(deviations)
    bar = len(is_bar) if is_bar.all() else int(np.argmin(is_bar))
    if bar > largest:
        return 0
    # Encoders smear the edge of a bar: rows that are still mostly bar are cut off too.
    mean_of_row = deviations.mean(axis=(0, 2))
    edge = mean_of_row[bar : min(bar + MAX_SMEARED_ROWS, largest)]
    beyond = mean_of_row[bar + MAX_SMEARED_ROWS : bar + 4 * MAX_SMEARED_ROWS]
    smeared = edge < SMEARED_FRACTION * beyond.mean() if len(beyond) else np.zeros(len(edge), bool)
    return bar + (len(smeared) if smeared.all() else int(np.argmin(smeared)))


def _is_bar(deviations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows have the colour of the edge in every frame. A small share of pixels may differ, for noise and for a
    small mark on the bar."""
    return np.asarray((deviations > BAR_DEVIATION).mean(axis=2).max(axis=0) <= 0.02)


def _deviation_from_edge(frames: Sequence[Frames], rows: int) -> NDArray[np.float32]:
    """How far each pixel of the first rows is from the colour of the outermost row, in the channel that differs
    most: (frames, rows, W)."""
    tops = np.stack([frame[:rows] for frame in frames]).astype(np.float32)
    red, green, blue = np.moveaxis(np.abs(tops - np.median(tops[:, :1], axis=2, keepdims=True)), 3, 0)
    # Many times faster than a maximum along an axis of length three.
    return np.asarray(np.maximum(np.maximum(red, green), blue))


def cut_bars(frames: Sequence[Frames]) -> list[Frames]:
    """Returns the frames of one video without their bars. A video may change its frame size: bars are found for each
    size separately."""
    sizes: dict[tuple[int, ...], list[Frames]] = {}
    for frame in frames:
        if not is_flat(frame):
            sizes.setdefault(frame.shape, []).append(frame)
    bars = {size: find_bars(same[:: math.ceil(len(same) / MAX_FRAMES_FOR_BARS)]) for size, same in sizes.items()}
    cut = []
    for frame in frames:
        height, width = frame.shape[:2]
        top, bottom, left, right = bars.get(frame.shape, (0, 0, 0, 0))
        cut.append(np.ascontiguousarray(frame[top : height - bottom, left : width - right]))
    return cut


def prepare_sample(frames: Sequence[Frames], *, positions: Sequence[int], times_s: Sequence[float]) -> Sample:
    """Drops the flat frames of a video and cuts the bars off the others."""
    cut = cut_bars(frames)
    # A frame may be flat once its bars are cut off.
    kept = [
        i for i, (whole, inner) in enumerate(zip(frames, cut, strict=True)) if not (is_flat(whole) or is_flat(inner))
    ]
    return Sample(
        frames=tuple(cut[index] for index in kept),
        positions=tuple(positions[index] for index in kept),
        times_s=tuple(times_s[index] for index in kept),
    )


def cut_middle(frame: Frames, size_px: tuple[int, int]) -> Frames:
    """Returns the middle of a frame (H, W, 3): at most `size_px` (rows, columns)."""
    height, width = (min(*sides) for sides in zip(frame.shape[:2], size_px, strict=True))
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return frame[top : top + height, left : left + width]


def resize_frame(frame: Frames, size_px: tuple[int, int]) -> Frames:
    """Resizes a frame, RGB (H, W, 3) or grey (H, W), to `size_px` (width, height): by averaging when it shrinks, by
    cubic interpolation when it grows."""
    import cv2

    shrinks = frame.shape[1] >= size_px[0]
    resized = cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def draw_outline(frame: Frames, box: tuple[float, float, float, float]) -> Frames:
    """A frame, RGB (H, W, 3), with a white line, black on both sides, around a box: left, top, right and bottom as
    shares of the frame."""
    height, width = frame.shape[:2]
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (width, height) * 2, strict=True))
    outlined = frame.copy()
    # From the outer side to the inner one. Two pixels of white remain readable where the frame is enlarged or shrunk.
    for inset, colour in ((-2, 0), (-1, 255), (0, 255), (1, 0)):
        rows = [row for row in (top + inset, bottom - 1 - inset) if 0 <= row < height]
        columns = [column for column in (left + inset, right - 1 - inset) if 0 <= column < width]
        outlined[rows, max(0, left + inset) : max(0, right - inset)] = colour
        outlined[max(0, top + inset) : max(0, bottom - inset), columns] = colour
    return outlined


def use_one_thread() -> None:
    """Makes OpenCV use only the calling thread: its threads in many worker processes would compete for the cores."""
    import cv2

    cv2.setNumThreads(1)


def encode_preview(frame: Frames) -> bytes:
    """Encodes RGB (H, W, 3) or grey (H, W) as WebP, half as large as JPEG: for pages with many frames."""
    packed = io.BytesIO()
    # Method 2 takes half the time of the default 4, for a twentieth more bytes. OpenCV cannot change the method.
    Image.fromarray(frame).save(packed, "WEBP", quality=60, method=2)
    return packed.getvalue()


def load_picture(path: Path) -> Frames:
    """Loads an image file as RGB uint8 (H, W, 3). Raises ValueError when OpenCV cannot read it."""
    import cv2

    decoded = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", dtype=np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f"{path} is not a picture that OpenCV can read")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
