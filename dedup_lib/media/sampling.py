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
from av.video.reformatter import VideoReformatter

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.animations import Animation
from dedup_lib.media.films import Film, Timed
from dedup_lib.media.frames import FRAME_SIDE_PX
from dedup_lib.media.limits import Deadline
from dedup_lib.media.sniff import HEAD_BYTES, Content, is_media, tell_content
from dedup_lib.media.soundtrack import Soundtrack
from dedup_lib.media.streams import MediaStream
from dedup_lib.media.tracks import describe_error, end_tolerance_s
from dedup_lib.records import Frames, Samples, Scan, Status

SCAN_SIDE_PX = 256
"""Longer side in pixels to which frames of a scan are shrunk."""

LATER_STEP_S = 1.0
MAX_LATER = 540
"""After its dense part, a scan takes a frame every `LATER_STEP_S` seconds; from a long video `MAX_LATER` frames, evenly
over the rest."""

MAX_DECODED_ON_S = 240.0
"""Most seconds of that rest to decode, besides its key frames: four times the dense part."""

MIN_LATER_WEIGHT = 2.0
"""Least weight of a frame after the dense part, however close another one is; a frame of the dense part weighs 1."""

TIME_TO_SPARE = 0.25
"""A scan ends when no more than this share of a video's time is left, which the later work needs."""

_MIN_SEEKS = 4
"""Seeks without any key frame after which no more are tried."""

FrameSource = Film | Animation


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Size of the video as shown (rotation applied), duration (0 when unknown), and its codec."""

    width_px: int
    height_px: int
    duration_s: float
    codec: str
    has_only_key_frames: bool


@dataclass(frozen=True, kw_only=True)
class GrabbedFrames:
    """Frames in the order of their positions; each RGB uint8 (H, W, 3), at most `FRAME_SIDE_PX` on its longer side."""

    facts: VideoFacts
    frames: tuple[Frames, ...]
    positions: tuple[int, ...]
    times_s: tuple[float, ...]
    scanned: tuple[Frames, ...] = ()
    """Frames of the scan, one for each step and fewer after the dense part, at most `SCAN_SIDE_PX` on their longer
    side."""
    scanned_times_s: tuple[float, ...] = ()
    scanned_weights: tuple[float, ...] = ()
    """How many steps of the scan each frame stands for: one in the dense part, two or more after it."""
    sound: Samples | None = None
    """What is heard in the dense part of the scan (`Soundtrack.take`); None without a scan."""


def grab_frames(
    stream: MediaStream,
    *,
    num_frames: int,
    frame_span: str,
    deadline: Deadline,
    scan: Scan | None = None,
) -> GrabbedFrames:
    """Takes `num_frames` frames of a video.

    `first` takes the first frames, or all frames of a shorter video. `spread` takes the frames shown at fractions
    (i + ½)/n of the duration; when the file states a wrong duration, the real one counts. A video with fewer frames
    gives some frames several times, so that a position means the same in every copy of the video.

    A `scan` also takes the frame shown at every step of its dense part, and hears its sound on the way; a video no
    longer than that is decoded once for all. After the dense part, it takes a frame every few seconds, from key frames
    and the frames soon after them, as far as the time for this video allows.

    Raises VideoTrouble with the status that the video gets.
    """
    head = stream.read(HEAD_BYTES)
    content = tell_content(head, stream)
    source: FrameSource = (
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
        source.open()
        grabber = FrameSampler(source, _Scan(scan) if scan is not None and scan.step_s else None, deadline)
        return grabber.grab(num_frames, frame_span)
    except _TROUBLES as error:
        raise stream.trouble or _trouble_of(error, is_media=source.has_opened or is_media(head)) from None
    finally:
        source.close()


_TROUBLES = (av.FFmpegError, OSError, ValueError, MemoryError, OverflowError, EOFError)
"""Exceptions that a hostile or damaged file may cause."""


def _trouble_of(error: Exception, *, is_media: bool) -> VideoTrouble:
    if isinstance(error, MemoryError):
        return VideoTrouble(Status.TOO_LARGE, "decoding needs more memory than one video may take")
    if is_media:
        reason = describe_error(error) if isinstance(error, av.FFmpegError) else f": {error}"
        return VideoTrouble(Status.DECODE_ERROR, f"the file is damaged or cut off{reason}")
    return VideoTrouble(Status.NOT_VIDEO, "the content is not in a known video format")


class _Taken(NamedTuple):
    rgb: Frames
    time_s: float


class _Scan:
    """Takes a small frame at every step of the dense part, from the frames that pass by. A frame that stays on screen
    is taken again at each step."""

    def __init__(self, scan: Scan) -> None:
        self.taken: list[_Taken] = []
        self.dense_s = scan.dense_s
        self.soundtrack = Soundtrack(ends_s=scan.dense_s)
        self._step_s = scan.step_s
        self._shrink = _Shrinker(SCAN_SIDE_PX)
        self._later: list[_Taken] = []
        self._ends_s = 0.0

    def go_on(self, source: FrameSource, ends_s: float, has_time: Callable[[], bool]) -> None:
        """Takes frames after the dense part, up to `ends_s`, while there is time: first key frames far apart, then the
        key frames between them, so that the cover is even whenever this ends; then frames between key frames."""
        self._ends_s = ends_s
        try:
            self._take_later(source, has_time)
        finally:
            self._later.sort(key=lambda one: one.time_s)

    def _take_later(self, source: FrameSource, has_time: Callable[[], bool]) -> None:
        rest_s = self._ends_s - self.dense_s
        step_s = max(LATER_STEP_S, self._step_s, rest_s / MAX_LATER)
        targets_s = [self.dense_s + step_s * number for number in range(1, math.ceil(rest_s / step_s))]
        self._take_key_frames(source, targets_s, has_time)
        known_s = sorted(one.time_s for one in self._later)
        # Target times that are far from any taken frame, by the key frame that they are decoded from.
        missing: dict[float, list[float]] = {}
        for target_s in targets_s:
            after = bisect_right(known_s, target_s)
            if all(abs(time_s - target_s) > 0.75 * step_s for time_s in known_s[max(0, after - 1) : after + 1]):
                missing.setdefault(known_s[after - 1] if after else self.dense_s, []).append(target_s)
        wanted_s = sum(parts[-1] - key_s for key_s, parts in missing.items())
        share = min(1.0, MAX_DECODED_ON_S / max(wanted_s, 1e-6))
        # Decode the same share after every key frame, not everything after a few.
        near = [
            [target_s for target_s in parts if target_s - key_s <= share * (parts[-1] - key_s)]
            for key_s, parts in missing.items()
        ]
        for number in _coarse_first(len(near)):
            if near[number]:
                self._take_between(source, near[number], has_time)

    def _take_key_frames(self, source: FrameSource, targets_s: Sequence[float], has_time: Callable[[], bool]) -> None:
        known_s = [self.dense_s]
        seeks = 0
        for number in _coarse_first(len(targets_s)):
            target_s = targets_s[number]
            if not has_time() or (len(known_s) == 1 and seeks >= _MIN_SEEKS):
                return
            if not source.is_seeking_shorter(known_s[bisect_right(known_s, target_s) - 1], target_s):
                continue
            seeks += 1
            found = source.find_key_frame(target_s)
            # Seeking may find the same key frame again.
            if found is not None and self.dense_s < found[1] < self._ends_s and found[1] not in known_s:
                insort(known_s, found[1])
                self._later.append(self._take(*found))

    def _take_between(self, source: FrameSource, targets_s: Sequence[float], has_time: Callable[[], bool]) -> None:
        frames = source.decode_after_seek(targets_s[0])
        if frames is None:
            return
        way = _Way(frames, source.stays_until_s)
        for target_s in targets_s:
            if not has_time():
                return
            source.hurry_to(target_s)
            shown = way.go_to(target_s)
            if shown is None:
                return
            # A frame that stays on screen is taken only once.
            if shown[1] > self.dense_s and all(one.time_s != shown[1] for one in self._later):
                self._later.append(self._take(*shown))

    @property
    def all_taken(self) -> list[_Taken]:
        """The frames of the dense part, then those after it."""
        return self.taken + self._later

    @property
    def weights(self) -> list[float]:
        """How many steps each frame of `all_taken` stands for."""
        times_s = [one.time_s for one in self._later]
        middles_s = [(before_s + after_s) / 2 for before_s, after_s in pairwise(times_s)]
        edges_s = [self.dense_s, *middles_s, self._ends_s]
        spans = [(after_s - before_s) / self._step_s for before_s, after_s in pairwise(edges_s)] if times_s else []
        return [1.0] * len(self.taken) + [max(MIN_LATER_WEIGHT, span) for span in spans]

    def watch(self, source: FrameSource, *, fast: bool) -> Iterator[Timed]:
        """Passes on the frames of a video, from its start on."""
        self.taken.clear()
        self.soundtrack = Soundtrack(ends_s=self.dense_s)
        frames = source.decode(fast=fast, soundtrack=self.soundtrack)
        return self._watch(frames, source.stays_until_s)

    def _watch(self, frames: Iterator[Timed], stays_until_s: Callable[[float, float | None], float]) -> Iterator[Timed]:
        """`stays_until_s` takes the time of a frame and the time of the next one (None after the last), and returns
        when the frame disappears."""
        before: Timed | None = None
        for frame, time_s in frames:
            if before is not None:
                self._stay(*before, self._step(stays_until_s(before[1], time_s)))
            # The first frame at or after the time of a step is taken for it.
            if time_s <= self.dense_s and (not self.taken or self._step(time_s) > self._step(self.taken[-1].time_s)):
                self.taken.append(self._take(frame, time_s))
            before = frame, time_s
            yield before
        if before is not None:
            until_s = stays_until_s(before[1], None)
            if until_s - before[1] > self._step_s:
                self._stay(*before, math.ceil(until_s / self._step_s - 1e-3))

    def _stay(self, frame: VideoFrame, time_s: float, end: int) -> None:
        """Takes a frame again at each step before `end` that has no other frame."""
        if not self.taken or time_s > self.dense_s:
            return
        last = self.taken[-1]
        steps = range(self._step(last.time_s) + 1, min(end, self._step(self.dense_s) + 1))
        if steps:
            again = last.rgb if last.time_s == time_s else self._shrink(frame)
            self.taken.extend(_Taken(again, step * self._step_s) for step in steps)

    def _take(self, frame: VideoFrame, time_s: float) -> _Taken:
        return _Taken(self._shrink(frame), time_s)

    def _step(self, time_s: float) -> int:
        return math.floor(time_s / self._step_s + 1e-3)


def _coarse_first(count: int) -> list[int]:
    """The numbers below `count`: first numbers far apart, then repeatedly those between them."""
    return sorted(range(count), key=lambda number: -(number & -number or count))


class FrameSampler:
    """Goes through a video and takes frames on the way."""

    def __init__(self, source: FrameSource, scan: _Scan | None, deadline: Deadline) -> None:
        self._source = source
        self._scan = scan
        self._deadline = deadline
        self._shown_px = (0, 0)
        self._shrink = _Shrinker(FRAME_SIDE_PX)

    def grab(self, num_frames: int, frame_span: str) -> GrabbedFrames:
        source, scan = self._source, self._scan
        expected_s = source.expected_s(to_be_passed_s=scan.dense_s if scan is not None else 0.0)
        taken = self._first(num_frames) if frame_span == "first" else self._spread(num_frames, expected_s)
        if not taken:
            after = "" if source.reached_s is None else f" after {source.reached_s:.1f} s"
            raise VideoTrouble(Status.DECODE_ERROR, f"no frame{after} can be decoded{source.last_error}")
        if scan is not None and not scan.taken:
            self._finish(scan.watch(source, fast=True))
        width_px, height_px = self._shown_px
        duration_s = expected_s if source.ended_s is None else source.ended_s
        if scan is not None:
            self._scan_on(scan, duration_s)
        return GrabbedFrames(
            facts=VideoFacts(
                width_px=width_px,
                height_px=height_px,
                duration_s=duration_s if source.has_times else 0.0,
                codec=source.codec,
                has_only_key_frames=source.has_only_key_frames,
            ),
            frames=tuple(one.rgb for one in taken),
            positions=tuple(range(len(taken))),
            times_s=tuple(one.time_s for one in taken),
            scanned=tuple(one.rgb for one in scan.all_taken) if scan is not None else (),
            scanned_times_s=tuple(one.time_s for one in scan.all_taken) if scan is not None else (),
            scanned_weights=tuple(scan.weights) if scan is not None else (),
            sound=scan.soundtrack.take() if scan is not None else None,
        )

    def _scan_on(self, scan: _Scan, duration_s: float) -> None:
        """Scans what comes after the dense part. A deadline or a read error ends only this scan and not the video,
        whose required frames are already taken."""

        def has_time() -> bool:
            return self._deadline.remaining_s() > TIME_TO_SPARE * self._deadline.timeout_s

        with contextlib.suppress(VideoTrouble, *_TROUBLES):
            scan.go_on(self._source, duration_s, has_time)

    def _finish(self, frames: Iterator[Timed]) -> None:
        """Goes on until the dense part is over. A video that ends earlier is no error here."""
        assert self._scan is not None
        self._source.hurry_to(math.inf)
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
        """The frames from the start on; the scan watches them pass."""
        return self._source.decode() if self._scan is None else self._scan.watch(self._source, fast=False)

    def _take(self, frame: VideoFrame, time_s: float) -> _Taken:
        if self._shown_px == (0, 0):
            self._shown_px = _as_shown(frame)
        # Converted at once, because large decoded frames take a hundred times the memory.
        return _Taken(self._shrink(frame), time_s)

    def _spread(self, num_frames: int, expected_s: float) -> list[_Taken]:
        source = self._source
        duration_s = expected_s or source.measure_s()
        taken = self._take_at(num_frames, duration_s)
        if taken is None:
            # The file is shorter than stated. A cut-off stream is damage. A container that counts its sound or
            # guesses is not: then the frames are taken over the real duration.
            real_s, own_s = source.measure_s(), source.own_duration_s()
            if source.is_cut and real_s < own_s - end_tolerance_s(own_s):
                raise VideoTrouble(Status.DECODE_ERROR, f"the file is cut off: it has {real_s:.1f} s of {own_s:.1f} s")
            taken = self._take_at(num_frames, real_s)
        elif source.ended_s is not None and abs(source.ended_s - duration_s) > end_tolerance_s(duration_s):
            # The real duration differs: the header of a fragmented file may state only its first fragment.
            taken = self._take_at(num_frames, source.ended_s)
        return taken or []

    def _take_at(self, num_frames: int, duration_s: float) -> list[_Taken] | None:
        """Frames at fractions of `duration_s`, or None when the video ends before the last of them. When the dense part
        of the scan covers the whole video, this pass also does the scan."""
        source = self._source
        taken: list[_Taken] = []
        way: _Way | None = None
        whole: Iterator[Timed] | None = None
        if self._scan is not None and duration_s <= self._scan.dense_s:
            whole = self._watched()
            way = _Way(whole, source.stays_until_s)
        for index in range(num_frames):
            target_s = duration_s * (index + 0.5) / num_frames
            if way is None or (whole is None and source.is_seeking_shorter(way.time_s, target_s)):
                way = _Way(source.decode_from(target_s), source.stays_until_s)
            source.hurry_to(target_s)
            shown = way.go_to(target_s)
            if shown is None:
                return None
            taken.append(self._take(*shown))
        if whole is not None:
            self._finish(whole)
        return taken


class _Way:
    """Decoded frames in order, each with its seconds since the start, and the current position."""

    def __init__(self, frames: Iterator[Timed], stays_until_s: Callable[[float, float | None], float]) -> None:
        self._frames = frames
        self._stays_until_s = stays_until_s
        self._shown: Timed | None = None
        self._next: Timed | None = None

    @property
    def time_s(self) -> float:
        """Time of the frame that `go_to` returned last."""
        return self._shown[1] if self._shown is not None else -math.inf

    def go_to(self, target_s: float) -> Timed | None:
        """The frame shown at `target_s`, or None when the video ends well before it. Call it with rising targets."""
        while self._shown is None or self._shown[1] < target_s:
            self._next = self._next or next(self._frames, None)
            if self._next is None:
                if self._shown is None:
                    return None
                # The file does not always state when the last frame ends, hence the tolerance.
                is_there = self._stays_until_s(self._shown[1], None) >= target_s - end_tolerance_s(target_s)
                return self._shown if is_there else None
            if self._next[1] > target_s and self._shown is not None:
                break
            self._shown, self._next = self._next, None
        return self._shown


def _as_shown(frame: VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


class _Shrinker:
    """Converts the frames of a video to RGB uint8 (H, W, 3), shrunk to a longer side of `side_px` and rotated as the
    file says."""

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px
        # A frame's own method would set up the conversion anew for each frame, which takes a millisecond.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Frames:
        scale = min(1.0, self._side_px / max(frame.width, frame.height))
        shrunk = self._reformatter.reformat(
            frame,
            width=max(1, round(frame.width * scale)),
            height=max(1, round(frame.height * scale)),
            format="rgb24",
            interpolation="AREA",
            threads=1,
        )
        rgb = shrunk.to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, k=round(frame.rotation / 90) % 4)).astype(np.uint8, copy=False)
