"""The frames of an animated WebP, which FFmpeg does not read."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from dedup_lib.media.films import Timed
from dedup_lib.media.limits import Deadline
from dedup_lib.media.sniff import still_image
from dedup_lib.media.soundtrack import Soundtrack
from dedup_lib.media.streams import MediaStream
from dedup_lib.media.tracks import MAX_DECODED_FRAMES, check_count, check_size

MAX_CHUNKS = 2 * MAX_DECODED_FRAMES

MIN_MS, IN_ITS_PLACE_MS = 10, 100
"""Milliseconds. A frame with a stated duration of `MIN_MS` or less gets `IN_ITS_PLACE_MS` instead, as in browsers."""


class Animation:
    """An animated WebP (RFC 9649) with the interface of `films.Film`. The file is read as a whole. Every method that
    reads raises VideoTrouble, and ValueError for a damaged file."""

    codec = "webp"
    has_only_key_frames = False
    last_error = ""
    reached_s: float | None = None
    has_opened = True
    has_times = True
    is_cut = False

    def __init__(self, stream: MediaStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._content = b""
        self._starts_s: list[float] = []
        self._decoded_frames = 0
        self.ended_s: float | None = None

    def open(self) -> None:
        """Reads the file; call this before any other method."""
        self._content = self._stream.read()
        width_px, height_px = (1 + int.from_bytes(self._content[at : at + 3], "little") for at in (24, 27))
        check_size(width_px, height_px)
        shown_ms = list(_find_durations_ms(self._content))
        if len(shown_ms) < 2:
            raise still_image()
        ends_s = (np.cumsum(shown_ms) / 1000).tolist()
        self._starts_s, self.ended_s = [0.0, *ends_s[:-1]], ends_s[-1]

    def close(self) -> None:
        self._content = b""

    def decode(self, *, fast: bool = False, soundtrack: Soundtrack | None = None) -> Iterator[Timed]:
        """Yields the frames from the start on; `fast` changes nothing, and there is no sound."""
        with Image.open(io.BytesIO(self._content), formats=["WEBP"]) as picture:
            for number, time_s in enumerate(self._starts_s):
                self._deadline.check()
                self._decoded_frames += 1
                check_count(self._decoded_frames)
                picture.seek(number)
                yield VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24"), time_s

    def decode_from(self, target_s: float) -> Iterator[Timed]:
        """Also decodes from the start, because most frames depend on the earlier ones."""
        return self.decode()

    def decode_after_seek(self, target_s: float) -> None:
        """Returns None: a WebP cannot seek."""

    def find_key_frame(self, target_s: float) -> None:
        """Returns None: a WebP cannot seek."""

    def is_seeking_shorter(self, here_s: float, target_s: float) -> bool:
        return False

    def hurry_to(self, target_s: float) -> None:
        """Does nothing: no frame is skipped."""

    def stays_until_s(self, time_s: float, next_s: float | None) -> float:
        """When the frame shown at `time_s` disappears. `next_s` is the time of the next frame, None after the last."""
        return (self.ended_s or 0.0) if next_s is None else next_s

    def own_duration_s(self) -> float:
        return self.ended_s or 0.0

    def expected_s(self, *, to_be_passed_s: float) -> float:
        """The duration, which `open` has found."""
        return self.ended_s or 0.0

    def measure_s(self) -> float:
        return self.ended_s or 0.0


def _find_durations_ms(content: bytes) -> Iterator[int]:
    """Yields how long each frame is shown."""
    place = 12
    for _ in range(MAX_CHUNKS):
        if place + 24 > len(content):
            return
        if content[place : place + 4] == b"ANMF":
            stated_ms = int.from_bytes(content[place + 20 : place + 23], "little")
            yield stated_ms if stated_ms > MIN_MS else IN_ITS_PLACE_MS
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        # Chunks are padded to an even length.
        place += 8 + size + size % 2
