"""Which frames of a video to take, and how to reach them.

Runs in worker processes, because a file may hang its decoder or kill it; see `extract.worker_pool`.
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.animations import Animation
from dedup_lib.media.films import Film, Timed, end_tolerance_s
from dedup_lib.media.limits import Deadline
from dedup_lib.media.sniff import HEAD_BYTES, Content, is_media, tell_content
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Frames, Scan, Status

FRAME_SIDE_PX = 512
"""Frames are shrunk to this longer side while they are converted; no encoder here sees more detail."""

SCAN_SIDE_PX = 256
"""Frames of a scan are shrunk to this longer side."""

LATER_STEP_S = 1.5
MAX_LATER = 360
"""After its dense part a scan takes a picture so often, of longer videos so many over all that is left."""

MAX_DECODED_ON_S = 240.0
"""Of that part so much is decoded at most, beside its key frames: four times the dense part."""

MIN_LATER_WEIGHT = 2.0
"""More than that of a picture of the dense part, however near to another one it lies."""

TIME_TO_SPARE = 0.25
"""A scan ends when no more than this share of a video's time is left for what comes after it."""

_MIN_SEEKS = 4
"""Where so many lead to no key frame, none will."""

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
    """Frames from the start on, one a step of the scan, and then fewer, at most `SCAN_SIDE_PX` on their longer side."""
    scanned_times_s: tuple[float, ...] = ()
    scanned_weights: tuple[float, ...] = ()
    """How many steps of the scan each of them stands for: one, and after the dense part two or more."""


def grab_frames(
    stream: MediaStream,
    *,
    num_frames: int,
    frame_span: str,
    deadline: Deadline,
    scan: Scan | None = None,
) -> GrabbedFrames:
    """Take `num_frames` frames of a video.

    `first` takes the first ones, or all of a video with fewer. `spread` takes those shown at fractions (i + ½)/n of
    the duration, of the real one where the file's own statement is wrong; a video with fewer gives some again, so
    that positions mean the same in each of its copies. A `scan` takes besides what is shown at every step of its dense
    part, of a video that is no longer on one way through it, and then, of key frames and what follows soon on them, a
    picture every few seconds, as far as the time of this video allows.

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
        grabber = FrameSampler(pictures, _Scan(scan) if scan is not None and scan.step_s else None, deadline)
        return grabber.grab(num_frames, frame_span)
    except _TROUBLES as error:
        raise stream.trouble or _trouble_of(error, is_media=pictures.has_opened or is_media(head)) from None
    finally:
        pictures.close()


_TROUBLES = (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError, EOFError)
"""What a hostile or damaged file provokes."""


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
    """A small picture every step of the dense part, taken of frames that pass by; one that stays is there again at each
    step."""

    def __init__(self, scan: Scan) -> None:
        self.taken: list[_Taken] = []
        self.dense_s = scan.dense_s
        self._step_s = scan.step_s
        self._later: list[_Taken] = []
        self._ends_s = 0.0

    def go_on(self, pictures: Pictures, ends_s: float, has_time: Callable[[], bool]) -> None:
        """Take pictures of what comes after the dense part, up to `ends_s`, while there is time: first of key frames
        far apart, then of those between them, so that it is covered evenly however early this ends, and then of what
        lies between key frames."""
        self._ends_s = ends_s
        try:
            self._take_later(pictures, has_time)
        finally:
            self._later.sort(key=lambda one: one.time_s)

    def _take_later(self, pictures: Pictures, has_time: Callable[[], bool]) -> None:
        rest_s = self._ends_s - self.dense_s
        step_s = max(LATER_STEP_S, self._step_s, rest_s / MAX_LATER)
        targets_s = [self.dense_s + step_s * number for number in range(1, math.ceil(rest_s / step_s))]
        self._take_key_frames(pictures, targets_s, has_time)
        known_s = sorted(one.time_s for one in self._later)
        # What is far from any picture, with the key frame that it is decoded from.
        missing: dict[float, list[float]] = {}
        for target_s in targets_s:
            after = bisect_right(known_s, target_s)
            if all(abs(time_s - target_s) > 0.75 * step_s for time_s in known_s[max(0, after - 1) : after + 1]):
                missing.setdefault(known_s[after - 1] if after else self.dense_s, []).append(target_s)
        wanted_s = sum(parts[-1] - key_s for key_s, parts in missing.items())
        share = min(1.0, MAX_DECODED_ON_S / max(wanted_s, 1e-6))
        # Of each as much: the next pictures after all key frames, and not all those after a few.
        near = [
            [target_s for target_s in parts if target_s - key_s <= share * (parts[-1] - key_s)]
            for key_s, parts in missing.items()
        ]
        for number in _coarse_first(len(near)):
            if near[number]:
                self._take_between(pictures, near[number], has_time)

    def _take_key_frames(self, pictures: Pictures, targets_s: Sequence[float], has_time: Callable[[], bool]) -> None:
        known_s = [self.dense_s]
        seeks = 0
        for number in _coarse_first(len(targets_s)):
            target_s = targets_s[number]
            if not has_time() or (len(known_s) == 1 and seeks >= _MIN_SEEKS):
                return
            if not pictures.is_seeking_shorter(known_s[bisect_right(known_s, target_s) - 1], target_s):
                continue
            seeks += 1
            found = pictures.find_key_frame(target_s)
            # Seeking may lead to the same one again.
            if found is not None and self.dense_s < found[1] < self._ends_s and found[1] not in known_s:
                insort(known_s, found[1])
                self._later.append(_take_small(*found))

    def _take_between(self, pictures: Pictures, targets_s: Sequence[float], has_time: Callable[[], bool]) -> None:
        frames = pictures.decode_after_seek(targets_s[0])
        if frames is None:
            return
        way = _Way(frames, pictures.stays_until_s)
        for target_s in targets_s:
            if not has_time():
                return
            pictures.hurry_to(target_s)
            shown = way.go_to(target_s)
            if shown is None:
                return
            # A picture that stays stands for itself.
            if shown[1] > self.dense_s and all(one.time_s != shown[1] for one in self._later):
                self._later.append(_take_small(*shown))

    @property
    def all_taken(self) -> list[_Taken]:
        """Those of the dense part, and those after it."""
        return self.taken + self._later

    @property
    def weights(self) -> list[float]:
        """How many steps each of them stands for."""
        times_s = [one.time_s for one in self._later]
        middles_s = [(before_s + after_s) / 2 for before_s, after_s in pairwise(times_s)]
        edges_s = [self.dense_s, *middles_s, self._ends_s]
        spans = [(after_s - before_s) / self._step_s for before_s, after_s in pairwise(edges_s)] if times_s else []
        return [1.0] * len(self.taken) + [max(MIN_LATER_WEIGHT, span) for span in spans]

    def watch(self, frames: Iterator[Timed], stays_until_s: Callable[[float, float | None], float]) -> Iterator[Timed]:
        """The same frames, from the start of a video on. `stays_until_s` tells of the frame shown at a time until when
        it stays, given when the next one is shown, None behind the last."""
        self.taken.clear()
        before: Timed | None = None
        for frame, time_s in frames:
            if before is not None:
                self._stay(*before, self._step(stays_until_s(before[1], time_s)))
            # Decoded frames may come late, but not before their step.
            if time_s <= self.dense_s and (not self.taken or self._step(time_s) > self._step(self.taken[-1].time_s)):
                self.taken.append(_take_small(frame, time_s))
            before = frame, time_s
            yield before
        if before is not None:
            until_s = stays_until_s(before[1], None)
            if until_s - before[1] > self._step_s:
                self._stay(*before, math.ceil(until_s / self._step_s - 1e-3))

    def _stay(self, frame: VideoFrame, time_s: float, end: int) -> None:
        """Take a frame again at each step before `end` at which no other one was taken."""
        if not self.taken or time_s > self.dense_s:
            return
        last = self.taken[-1]
        steps = range(self._step(last.time_s) + 1, min(end, self._step(self.dense_s) + 1))
        if steps:
            again = last.rgb if last.time_s == time_s else _to_rgb(frame, SCAN_SIDE_PX)
            self.taken.extend(_Taken(again, step * self._step_s) for step in steps)

    def _step(self, time_s: float) -> int:
        return math.floor(time_s / self._step_s + 1e-3)


def _take_small(frame: VideoFrame, time_s: float) -> _Taken:
    return _Taken(_to_rgb(frame, SCAN_SIDE_PX), time_s)


def _coarse_first(count: int) -> list[int]:
    """The numbers up to `count`: those far apart first, and again and again those between them."""
    return sorted(range(count), key=lambda number: -(number & -number or count))


class FrameSampler:
    """The way through a video, and what is taken on it."""

    def __init__(self, pictures: Pictures, scan: _Scan | None, deadline: Deadline) -> None:
        self._pictures = pictures
        self._scan = scan
        self._deadline = deadline
        self._shown_px = (0, 0)

    def grab(self, num_frames: int, frame_span: str) -> GrabbedFrames:
        pictures, scan = self._pictures, self._scan
        expected_s = pictures.expected_s(to_be_passed_s=scan.dense_s if scan is not None else 0.0)
        taken = self._first(num_frames) if frame_span == "first" else self._spread(num_frames, expected_s)
        if not taken:
            raise VideoTrouble(Status.DECODE_ERROR, f"no frame can be decoded{pictures.last_error}")
        if scan is not None and not scan.taken:
            self._finish(scan.watch(pictures.decode(fast=True), pictures.stays_until_s))
        width_px, height_px = self._shown_px
        duration_s = expected_s if pictures.ended_s is None else pictures.ended_s
        if scan is not None:
            self._scan_on(scan, duration_s)
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
            scanned=tuple(one.rgb for one in scan.all_taken) if scan is not None else (),
            scanned_times_s=tuple(one.time_s for one in scan.all_taken) if scan is not None else (),
            scanned_weights=tuple(scan.weights) if scan is not None else (),
        )

    def _scan_on(self, scan: _Scan, duration_s: float) -> None:
        """Look at what comes after the dense part. What cannot be read in time, or at all, ends that, and no video: all
        that it must have is there."""

        def has_time() -> bool:
            return self._deadline.remaining_s() > TIME_TO_SPARE * self._deadline.timeout_s

        with contextlib.suppress(VideoTrouble, *_TROUBLES):
            scan.go_on(self._pictures, duration_s, has_time)

    def _finish(self, frames: Iterator[Timed]) -> None:
        """Go on until the scan is over. What ends early is no trouble here."""
        assert self._scan is not None
        self._pictures.hurry_to(math.inf)
        for _, time_s in frames:
            if time_s > self._scan.dense_s:
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
        if self._scan is not None and duration_s <= self._scan.dense_s:
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
