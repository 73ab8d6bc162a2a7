"""The storyboard of a video: small colour frames with their times, for people to look at.

The report, the widgets and the review queue show videos by it. Nothing is decided by it.
"""

from __future__ import annotations

import io
import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dedup_lib.media.frames import MAX_FRAMES_FOR_BARS, find_bars, is_flat, resize_frame
from dedup_lib.records import Frames

SIDE_PX = 208
"""Longer side of a frame in pixels: five fit side by side into a page."""

MAX_FRAMES = 40

MIN_STEP_S = 0.5
"""Shortest time between two frames."""

EPSILON_S = 1e-3
"""The times of a scan are multiples of its step, but for the last digits."""

QUALITY = 70
"""JPEG quality: a frame takes 3 to 5 kB."""

_COLUMNS = 8
"""Frames side by side in the stored sheet."""


@dataclass(frozen=True, kw_only=True)
class Storyboard:
    """Frames of one size, RGB uint8 (H, W, 3), shown at the rising `times_s`, in seconds. There is at least one."""

    frames: tuple[Frames, ...]
    times_s: tuple[float, ...]

    @classmethod
    def of(cls, frames: Sequence[Frames], *, times_s: Sequence[float]) -> Storyboard:
        """The storyboard of frames, RGB uint8 (H, W, 3), shown at `times_s`: those at regular times, at
        most `MAX_FRAMES`. At least one frame is needed."""
        order = np.argsort(times_s, kind="stable")
        sorted_s = np.asarray(times_s)[order]
        step_s = max(MIN_STEP_S, (sorted_s[-1] - sorted_s[0]) / (MAX_FRAMES - 1))
        wanted_s = np.arange(sorted_s[0], sorted_s[-1] + EPSILON_S, step_s)
        kept = order[np.unique(np.searchsorted(sorted_s, wanted_s - EPSILON_S))]
        height, width = frames[kept[0]].shape[:2]
        scale = SIDE_PX / max(height, width)
        size_px = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(
            frames=tuple(resize_frame(frames[index], size_px) for index in kept),
            times_s=tuple(round(float(times_s[index]), 3) for index in kept),
        )

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of a frame."""
        height, width = self.frames[0].shape[:2]
        return width, height

    def find_content_box(self) -> tuple[float, float, float, float]:
        """The part of the frame within the bars: left, top, right and bottom as shares of the frame."""
        width, height = self.size_px
        shown = [frame for frame in self.frames if not is_flat(frame)]
        top, bottom, left, right = find_bars(shown[:: math.ceil(len(shown) / MAX_FRAMES_FOR_BARS) or 1])
        return left / width, top / height, 1 - right / width, 1 - bottom / height

    def nearest(self, time_s: float) -> int:
        """The index of the frame shown nearest to a time."""
        after = min(bisect_left(self.times_s, time_s), len(self.times_s) - 1)
        before = max(0, after - 1)
        return min(before, after, key=lambda index: abs(self.times_s[index] - time_s))

    def spread(self, count: int) -> list[int]:
        """Indexes of up to `count` frames, evenly over the video."""
        of_each = [(number + 0.5) / count * len(self.frames) for number in range(count)]
        return list(dict.fromkeys(int(place) for place in of_each))

    def to_bytes(self) -> bytes:
        """The storyboard as a JPEG file: the frames in rows, their size and times in its comment."""
        height, width = self.frames[0].shape[:2]
        columns = min(_COLUMNS, len(self.frames))
        rows = -(-len(self.frames) // columns)
        sheet = np.zeros((rows, columns, height, width, 3), np.uint8)
        for index, frame in enumerate(self.frames):
            sheet[index // columns, index % columns] = frame
        whole = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
        comment = json.dumps({"frame_px": [width, height], "times_s": self.times_s})
        file = io.BytesIO()
        Image.fromarray(whole).save(file, "JPEG", quality=QUALITY, comment=comment.encode())
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Storyboard:
        """The storyboard from the bytes of its file. Raises ValueError for bytes that are not a storyboard."""
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                facts = json.loads(image.info["comment"])
                sheet = np.asarray(image.convert("RGB"), np.uint8)
            width, height = facts["frame_px"]
            times_s = tuple(map(float, facts["times_s"]))
            columns = sheet.shape[1] // width
            places = [divmod(index, columns) for index in range(len(times_s))]
            frames = tuple(
                sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
                for row, column in places
            )
            if not frames or any(frame.shape != (height, width, 3) for frame in frames):
                raise ValueError("the sheet has another size than its comment says")
        except Exception as error:  # Damaged bytes raise many kinds of errors, from Pillow, JSON or numpy.
            raise ValueError(f"these {len(data)} bytes are no storyboard: {error}") from None
        return cls(frames=frames, times_s=times_s)

    @classmethod
    def load(cls, path: Path) -> Storyboard | None:
        """The storyboard in a file; None when there is none that can be read."""
        try:
            return cls.from_bytes(path.read_bytes())
        except (OSError, ValueError):
            return None
