"""Frames out of a video: which ones to take, and how to get at them. PyAV.

Runs in worker processes, because a file may hang its decoder or kill it; see `workers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame

from dedup_lib.animations import Animation
from dedup_lib.content import HEAD_BYTES, Content, is_media, tell_content
from dedup_lib.errors import VideoTrouble
from dedup_lib.fetch import Deadline, MediaStream
from dedup_lib.films import Film, Timed, end_tolerance_s
from dedup_lib.records import Frames, Status

FRAME_SIDE_PX = 512
"""Frames are shrunk to this longer side while they are converted; no encoder here sees more detail."""

SCAN_SIDE_PX = 256
"""Frames of a scan are shrunk to this longer side."""

Pictures = Film | Animation


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What the file says of its video: size as shown (rotation applied), duration (0 where unknown), codec."""

    width_px: int
    height_px: int
    duration_s: float
    codec: str


@dataclass(frozen=True, kw_only=True)
class GrabbedFrames:
    """Frames in order of their position; each RGB uint8 (H, W, 3), at most `FRAME_SIDE_PX` on its longer side."""

    facts: VideoFacts
    frames: tuple[Frames, ...]
    positions: tuple[int, ...]
    times_s: tuple[float, ...]
    scanned: tuple[Frames, ...] = ()
    """Frames from the start on, one a step of the scan, at most `SCAN_SIDE_PX` on their longer side."""
    scanned_times_s: tuple[float, ...] = ()


def grab_frames(
    stream: MediaStream,
    *,
    num_frames: int,
    frame_span: str,
    deadline: Deadline,
    scan_step_s: float = 0.0,
    scan_longest_s: float = 0.0,
) -> GrabbedFrames:
    """Take `num_frames` frames of a video.

    `first` takes the first ones, or all of a video with fewer. `spread` takes those shown at fractions (i + ½)/n of
    the duration, of the real one where the file's own statement is wrong; a video with fewer gives some again, so
    that positions mean the same in each of its copies. A scan takes besides what is shown every `scan_step_s` seconds
    of the first `scan_longest_s`, of a video that is no longer on one way through it; a step of 0 is none.

    Raises VideoTrouble with the status that the video gets.
    """
    head = stream.read(HEAD_BYTES)
    content = tell_content(head, stream)
    pictures: Pictures = (
        Animation(stream, deadline)
        if content == Content.WEBP
        else Film(
            stream,
            deadline,
            demuxer="mjpeg" if content == Content.JPEGS else None,
            or_image=content == Content.PICTURES,
        )
    )
    try:
        pictures.open()
        grabber = _Grabber(pictures, _Scan(scan_step_s, scan_longest_s) if scan_step_s else None)
        return grabber.grab(num_frames, frame_span)
    except (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError, EOFError) as error:
        raise stream.trouble or _trouble_of(error, is_media=pictures.has_opened or is_media(head)) from None
    finally:
        pictures.close()


def _trouble_of(error: Exception, *, is_media: bool) -> VideoTrouble:
    if isinstance(error, MemoryError):
        return VideoTrouble(Status.TOO_LARGE, "decoding needs more memory than one video may take")
    reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
    if is_media:
        return VideoTrouble(Status.DECODE_ERROR, f"the file is damaged or cut off: {reason}")
    return VideoTrouble(Status.NOT_VIDEO, "the content is not in a known video format")


class _Taken(NamedTuple):
    rgb: Frames
    time_s: float


class _Scan:
    """A small picture every `step_s` of the first `longest_s`, taken of frames that pass by; one that stays is there
    again at each step."""

    def __init__(self, step_s: float, longest_s: float) -> None:
        self.taken: list[_Taken] = []
        self.longest_s = longest_s
        self._step_s = step_s

    def watch(self, frames: Iterator[Timed], stays_until_s: Callable[[float, float | None], float]) -> Iterator[Timed]:
        """The same frames, from the start of a video on. `stays_until_s` tells of the frame shown at a time until when
        it stays, given when the next one is shown, None behind the last."""
        self.taken.clear()
        before: Timed | None = None
        for frame, time_s in frames:
            if before is not None:
                self._stay(*before, self._step(stays_until_s(before[1], time_s)))
            # Decoded frames may come late, but not before their step.
            if time_s <= self.longest_s and (not self.taken or self._step(time_s) > self._step(self.taken[-1].time_s)):
                self.taken.append(_Taken(_to_rgb(frame, SCAN_SIDE_PX), time_s))
            before = frame, time_s
            yield before
        if before is not None:
            until_s = stays_until_s(before[1], None)
            if until_s - before[1] > self._step_s:
                self._stay(*before, math.ceil(until_s / self._step_s - 1e-3))

    def _stay(self, frame: VideoFrame, time_s: float, end: int) -> None:
        """Take a frame again at each step before `end` at which no other one was taken."""
        if not self.taken or time_s > self.longest_s:
            return
        last = self.taken[-1]
        steps = range(self._step(last.time_s) + 1, min(end, self._step(self.longest_s) + 1))
        if steps:
            again = last.rgb if last.time_s == time_s else _to_rgb(frame, SCAN_SIDE_PX)
            self.taken.extend(_Taken(again, step * self._step_s) for step in steps)

    def _step(self, time_s: float) -> int:
        return math.floor(time_s / self._step_s + 1e-3)


class _Grabber:
    """The way through a video, and what is taken on it."""

    def __init__(self, pictures: Pictures, scan: _Scan | None) -> None:
        self._pictures = pictures
        self._scan = scan
        self._shown_px = (0, 0)

    def grab(self, num_frames: int, frame_span: str) -> GrabbedFrames:
        pictures, scan = self._pictures, self._scan
        expected_s = pictures.expected_s(to_be_passed_s=scan.longest_s if scan is not None else 0.0)
        taken = self._first(num_frames) if frame_span == "first" else self._spread(num_frames, expected_s)
        if not taken:
            raise VideoTrouble(Status.DECODE_ERROR, f"no frame can be decoded{pictures.last_error}")
        if scan is not None and not scan.taken:
            self._finish(scan.watch(pictures.decode(fast=True), pictures.stays_until_s))
        width_px, height_px = self._shown_px
        duration_s = expected_s if pictures.ended_s is None else pictures.ended_s
        return GrabbedFrames(
            facts=VideoFacts(
                width_px=width_px,
                height_px=height_px,
                duration_s=duration_s if pictures.has_times else 0.0,
                codec=pictures.codec,
            ),
            frames=tuple(one.rgb for one in taken),
            positions=tuple(range(len(taken))),
            times_s=tuple(one.time_s for one in taken),
            scanned=tuple(one.rgb for one in scan.taken) if scan is not None else (),
            scanned_times_s=tuple(one.time_s for one in scan.taken) if scan is not None else (),
        )

    def _finish(self, frames: Iterator[Timed]) -> None:
        """Go on until the scan is over. What ends early is no trouble here."""
        assert self._scan is not None
        self._pictures.hurry_to(math.inf)
        for _, time_s in frames:
            if time_s > self._scan.longest_s:
                break

    def _first(self, num_frames: int) -> list[_Taken]:
        frames = self._watched()
        taken = [self._take(frame, time_s) for frame, time_s in islice(frames, num_frames)]
        if self._scan is not None:
            self._finish(frames)
        return taken

    def _watched(self) -> Iterator[Timed]:
        """The frames from the start on, scanned as they pass."""
        frames = self._pictures.decode()
        return frames if self._scan is None else self._scan.watch(frames, self._pictures.stays_until_s)

    def _take(self, frame: VideoFrame, time_s: float) -> _Taken:
        if self._shown_px == (0, 0):
            self._shown_px = _as_shown(frame)
        # Converted at once: decoded frames of a large picture take a hundred times the memory.
        return _Taken(_to_rgb(frame, FRAME_SIDE_PX), time_s)

    def _spread(self, num_frames: int, expected_s: float) -> list[_Taken]:
        pictures = self._pictures
        duration_s = expected_s or pictures.measure_s()
        taken = self._take_at(num_frames, duration_s)
        if taken is None:
            # The file states more than it holds. A stream cut short is damage; a container that counts its
            # sound, or guesses, is not, and the frames are taken over what is really there.
            real_s, own_s = pictures.measure_s(), pictures.own_duration_s()
            if pictures.is_cut and real_s < own_s - end_tolerance_s(own_s):
                raise VideoTrouble(Status.DECODE_ERROR, f"the file is cut off: it has {real_s:.1f} s of {own_s:.1f} s")
            taken = self._take_at(num_frames, real_s)
        elif pictures.ended_s is not None and abs(pictures.ended_s - duration_s) > end_tolerance_s(duration_s):
            # It is another than was thought: of a fragmented file the header may know the first fragment only.
            taken = self._take_at(num_frames, pictures.ended_s)
        return taken or []

    def _take_at(self, num_frames: int, duration_s: float) -> list[_Taken] | None:
        """Frames at fractions of `duration_s`, or None when the video ends before the last of them. A scan that would
        pass them all is done along the way."""
        pictures = self._pictures
        taken: list[_Taken] = []
        way: _Way | None = None
        whole: Iterator[Timed] | None = None
        if self._scan is not None and duration_s <= self._scan.longest_s:
            whole = self._watched()
            way = _Way(whole, pictures.stays_until_s)
        for index in range(num_frames):
            target_s = duration_s * (index + 0.5) / num_frames
            if way is None or (whole is None and pictures.is_seeking_shorter(way.time_s, target_s)):
                way = _Way(pictures.decode_from(target_s), pictures.stays_until_s)
            pictures.hurry_to(target_s)
            shown = way.go_to(target_s)
            if shown is None:
                return None
            taken.append(self._take(*shown))
        if whole is not None:
            self._finish(whole)
        return taken


class _Way:
    """Decoded frames in order, each with its seconds since the start, and how far one has come."""

    def __init__(self, frames: Iterator[Timed], stays_until_s: Callable[[float, float | None], float]) -> None:
        self._frames = frames
        self._stays_until_s = stays_until_s
        self._shown: Timed | None = None
        self._next: Timed | None = None

    @property
    def time_s(self) -> float:
        """Of the frame gone to last."""
        return self._shown[1] if self._shown is not None else -math.inf

    def go_to(self, target_s: float) -> Timed | None:
        """The frame shown at `target_s`, or None when the video ends well before it. Targets rise."""
        while self._shown is None or self._shown[1] < target_s:
            self._next = self._next or next(self._frames, None)
            if self._next is None:
                if self._shown is None:
                    return None
                # Until when the last frame is shown is not always stated.
                is_there = self._stays_until_s(self._shown[1], None) >= target_s - end_tolerance_s(target_s)
                return self._shown if is_there else None
            if self._next[1] > target_s and self._shown is not None:
                break
            self._shown, self._next = self._next, None
        return self._shown


def _as_shown(frame: VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _to_rgb(frame: VideoFrame, side_px: int) -> Frames:
    """RGB uint8 (H, W, 3), shrunk to a longer side of `side_px` and turned as the file asks."""
    scale = min(1.0, side_px / max(frame.width, frame.height))
    rgb = frame.to_ndarray(
        width=max(1, round(frame.width * scale)),
        height=max(1, round(frame.height * scale)),
        format="rgb24",
        interpolation="AREA",
    )
    return np.ascontiguousarray(np.rot90(rgb, k=round(frame.rotation / 90) % 4)).astype(np.uint8, copy=False)
