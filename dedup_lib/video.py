"""Frames out of a video, by PyAV: which ones to take, and how to get at them.

Runs in worker processes, because a file may hang its decoder or kill it; see `workers`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dedup_lib.errors import VideoTrouble
from dedup_lib.fetch import Deadline, MediaStream
from dedup_lib.records import Frames, Status

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused by their header: 8K passes, a decompression bomb does not."""

MAX_DECODED_FRAMES = 100_000
"""Decoded for one video at most, those on the way to a wanted one included. Of pictures that show anything so many take
longer than any patience; of tiny ones at absurd rates they end here, by the same count on every machine."""

FRAME_SIDE_PX = 512
"""Frames are shrunk to this longer side while they are converted; no encoder here sees more detail."""

SCAN_SIDE_PX = 256
"""Frames of a scan are shrunk to this longer side."""

_RATE_TO_SKIP = 20.0
"""Of videos with fewer frames a second a scan decodes every frame: those it would leave out are too far apart."""

_LOOK_AHEAD_S = 0.5
"""So long before a wanted frame it is looked for, among packets that are out of order; before, none can be it."""

_LONGEST_GAP_S = 1.0
"""Frames left out of a scan are no longer apart: what stays longer than this was really shown."""

_MOST_REORDERED = 32
"""Frames that wait in a decoder to be shown: H.264 and H.265 allow 16, and packets may hold half a frame."""

_JUMP_S = 1.0
"""Times that fall by more than this begin anew, as where one recording is spliced to another."""

_CONTAINERS = (
    "3g2,3gp,asf,av1,avi,dv,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mj2,mjpeg,mov,mp4,m4a,mpeg,mpegts,mpegvideo,"
    "mxf,nut,obu,ogg,rm,vc1,webm,wtv,yuv4mpegpipe,aac,flac,mp3,wav,amr"
)
"""Demuxers that only read the stream they are given. Playlists (hls, dash, concat, sdp), which open further
addresses or files, are left out; sound formats are in, so that they get the status no_video_stream."""

_PICTURE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
_ICON_MAGIC = b"\x00\x00\x01\x00"
"""Also how a film begins whose first box is 256 bytes long."""
_MEDIA_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"FLV\x01",
    b"GIF87a",
    b"GIF89a",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x00\x01",  # H.264 and H.265, annex B
    b".RMF",
    b"DKIF",  # IVF
)
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx", b"styp"})
_END_TOLERANCE_FRACTION = 0.1

_SEEK_EARLIER_S = 10.0
"""Some formats (MPEG-TS) seek to any frame: a key frame is rarely further away than this."""


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
    that positions mean the same in each of its copies. A scan takes besides a frame every `scan_step_s` seconds of the
    first `scan_longest_s`, of a video that is no longer on one way through it; a step of 0 is none.

    Raises VideoTrouble with the status that the video gets.
    """
    head = stream.read(4096)
    _refuse_by_content(head)
    grabber = _Grabber(stream, deadline)
    try:
        return grabber.grab(num_frames, frame_span, _Scan(scan_step_s, scan_longest_s) if scan_step_s else None)
    except (av.FFmpegError, ValueError, MemoryError, OverflowError, EOFError) as error:
        raise stream.trouble or _trouble_of(error, is_media=grabber.has_opened or _is_media(head)) from None
    finally:
        grabber.close()


def _refuse_by_content(head: bytes) -> None:
    if not head:
        raise VideoTrouble(Status.NOT_VIDEO, "the file is empty")
    if (
        head.startswith(_PICTURE_MAGIC)
        or (head.startswith(_ICON_MAGIC) and head[4:8] not in _BOXES)
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"heic", b"heix", b"mif1"))
    ):
        raise VideoTrouble(Status.IMAGE, "the URL gives an image, not a video")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in text[:1024]:
        raise VideoTrouble(Status.HTML, "the URL gives a web page, not a video")
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        raise VideoTrouble(Status.IMAGE, "the URL gives an image, not a video")
    if text.startswith((b"#extm3u", b"ffconcat", b"v=0", b"<?xml", b"<mpd", b"<smil")):
        raise VideoTrouble(Status.NOT_VIDEO, "the URL gives a playlist, not a video")


def _open_container(stream: MediaStream) -> InputContainer:
    # FFmpeg only ever reads from our stream: no protocol of its own is allowed.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    return av.open(stream, mode="r", metadata_errors="replace", container_options=options)


def _is_media(head: bytes) -> bool:
    return (
        head.startswith(_MEDIA_MAGIC)
        or head[4:8] in _BOXES
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


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


_Timed = tuple[VideoFrame, float]
"""A decoded frame, and its seconds since the first one."""


class _Scan:
    """A small picture every `step_s` of the first `longest_s`, taken of frames that pass by; one that stays is there
    again at each step."""

    def __init__(self, step_s: float, longest_s: float) -> None:
        self.taken: list[_Taken] = []
        self.longest_s = longest_s
        self._step_s = step_s

    def watch(
        self, frames: Iterator[_Timed], stays_until_s: Callable[[float, float | None], float]
    ) -> Iterator[_Timed]:
        """The same frames, from the start of a video on. `stays_until_s` tells of the frame shown at a time until when
        it stays, given when the next one is shown, None behind the last."""
        self.taken.clear()
        before: _Timed | None = None
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
    """One stream as an open container, its video, and the way through it."""

    def __init__(self, stream: MediaStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._container: InputContainer | None = None
        self._is_at_start = False
        self._ended_s: float | None = None
        """When the last picture is no longer shown, known where the end was reached."""
        self._is_whole = False
        """Whether all that the index of the file names was there at that end."""
        self._last_start_s = 0.0
        """When the last packet before that end is shown."""
        self._has_lost = self._had_lost = False
        """Whether a picture could not be decoded since the last one, and between that one and the one before."""
        self._decoded_frames = 0
        self._shown_px = (0, 0)
        self._last_error = ""
        self._target_s = -math.inf
        """Of the frames on the way to the one shown at this time, those that no other frame needs are not decoded."""

    @property
    def has_opened(self) -> bool:
        """Whether the content is of a known format."""
        return self._container is not None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _rewind(self) -> None:
        """Start afresh: not every format can seek, and of those that can, not every one finds its start again."""
        self._target_s = -math.inf
        if self._is_at_start:
            return
        self.close()
        self._stream.seek(0)
        self._container = _open_container(self._stream)
        self._video = _choose_video_stream(self._container)
        self._video.thread_type = "NONE"
        self._video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        # Fractions are exact, and slow for what is asked of every packet.
        self._tick_s = float(self._video.time_base or 0)
        self._start_s = (self._video.start_time or 0) * self._tick_s
        self._is_at_start = True

    def grab(self, num_frames: int, frame_span: str, scan: _Scan | None) -> GrabbedFrames:
        self._rewind()
        taken = self._first(num_frames, scan) if frame_span == "first" else self._spread(num_frames, scan)
        if not taken:
            raise VideoTrouble(Status.DECODE_ERROR, f"no frame can be decoded{self._last_error}")
        if scan is not None and not scan.taken:
            self._scan_alone(scan)
        width_px, height_px = self._shown_px
        return GrabbedFrames(
            facts=VideoFacts(
                width_px=width_px,
                height_px=height_px,
                duration_s=self._stated_duration_s() if self._ended_s is None else self._ended_s,
                codec=self._video.codec_context.name,
            ),
            frames=tuple(one.rgb for one in taken),
            positions=tuple(range(len(taken))),
            times_s=tuple(one.time_s for one in taken),
            scanned=tuple(one.rgb for one in scan.taken) if scan is not None else (),
            scanned_times_s=tuple(one.time_s for one in scan.taken) if scan is not None else (),
        )

    def _scan_alone(self, scan: _Scan) -> None:
        self._rewind()
        # A small picture does not show that it was not deblocked, which is a quarter of the work.
        self._video.codec_context.options |= {"skip_loop_filter": "all"}
        self._finish(scan, scan.watch(self._decode(), self._stays_until_s))

    def _finish(self, scan: _Scan, frames: Iterator[_Timed]) -> None:
        """Go on until the scan is over. What ends early is no trouble here."""
        self._hurry_to(math.inf)
        for _, time_s in frames:
            if time_s > scan.longest_s:
                break

    def _first(self, num_frames: int, scan: _Scan | None) -> list[_Taken]:
        frames = self._decode() if scan is None else scan.watch(self._decode(), self._stays_until_s)
        taken = [self._take(frame, time_s) for frame, time_s in islice(frames, num_frames)]
        if scan is not None:
            self._finish(scan, frames)
        return taken

    def _take(self, frame: VideoFrame, time_s: float) -> _Taken:
        if self._shown_px == (0, 0):
            self._shown_px = _as_shown(frame)
        # Converted at once: decoded frames of a large picture take a hundred times the memory.
        return _Taken(_to_rgb(frame, FRAME_SIDE_PX), time_s)

    def _spread(self, num_frames: int, scan: _Scan | None) -> list[_Taken]:
        stated_s = self._stated_duration_s() or self._measured_duration_s()
        taken = self._take_at(num_frames, stated_s, scan)
        if taken is None:
            # The file states more than it holds. A stream cut short is damage; a container that counts its
            # sound, or guesses, is not, and the frames are taken over what is really there.
            real_s = self._measured_duration_s()
            own_s = self._own_duration_s()
            if not self._is_whole and real_s < own_s * (1 - _END_TOLERANCE_FRACTION):
                raise VideoTrouble(Status.DECODE_ERROR, f"the file is cut off: it has {real_s:.1f} s of {own_s:.1f} s")
            taken = self._take_at(num_frames, real_s, scan)
        elif self._ended_s is not None and self._ended_s > stated_s + _end_tolerance_s(stated_s):
            # It states less, as a fragmented file may that tells the length of its first fragment.
            taken = self._take_at(num_frames, self._ended_s, scan)
        return taken or []

    def _take_at(self, num_frames: int, duration_s: float, scan: _Scan | None) -> list[_Taken] | None:
        """Frames at fractions of `duration_s`, or None when the video ends before the last of them. A scan that would
        pass them all is done along the way."""
        taken: list[_Taken] = []
        way: _Way | None = None
        whole: Iterator[_Timed] | None = None
        if scan is not None and duration_s <= scan.longest_s:
            self._rewind()
            whole = scan.watch(self._decode(), self._stays_until_s)
            way = _Way(whole, self._stays_until_s)
        for index in range(num_frames):
            target_s = duration_s * (index + 0.5) / num_frames
            if way is None or (whole is None and self._is_seeking_shorter(way.time_s, target_s)):
                way = _Way(self._decode_from(target_s), self._stays_until_s)
            self._hurry_to(target_s)
            shown = way.go_to(target_s)
            if shown is None:
                return None
            taken.append(self._take(*shown))
        if scan is not None and whole is not None:
            self._finish(scan, whole)
        return taken

    def _is_seeking_shorter(self, here_s: float, target_s: float) -> bool:
        """Whether a key frame lies between here and there; taken for granted of a file without a full index."""
        entries = self._video.index_entries
        if self._video.time_base is None or not len(entries):
            return True
        target = round((target_s + self._start_s) / self._video.time_base)
        if entries[len(entries) - 1].timestamp < target:
            return True
        found = entries.search_timestamp(target, backward=True)
        return found >= 0 and float(entries[found].timestamp * self._video.time_base) - self._start_s > here_s

    def _hurry_to(self, target_s: float) -> None:
        """Leave out frames that no other frame needs, up to the one shown at the target."""
        # Of a slide show, each frame may be shown for long: none is left out.
        self._target_s = target_s if float(self._video.guessed_rate or 0) >= _RATE_TO_SKIP else -math.inf

    def _decode_from(self, target_s: float) -> Iterator[_Timed]:
        """Frames from a key frame at or before `target_s`; from the start where seeking leads to none."""
        for early_s in (0.0, _SEEK_EARLIER_S):
            if target_s < early_s or not self._seek(target_s - early_s):
                break
            frames = self._decode()
            first = next(frames, None)
            if first is not None and first[1] <= target_s:
                yield first
                yield from frames
                return
        # Cheaper than to decode all of a file that is cut off, only to find that it ends before the target.
        if self._measured_duration_s() >= target_s - _end_tolerance_s(target_s):
            self._rewind()
            yield from self._decode()

    def _decode(self) -> Iterator[_Timed]:
        """Frames from here on, each with its seconds since the first one."""
        self._has_lost = False
        clock = _Clock(1 / float(self._video.guessed_rate or 25))
        order = _ShownOrder(self._video)
        ahead: deque[av.Packet[VideoStream]] = deque()
        packets = self._packets()
        while (packet := ahead.popleft() if ahead else next(packets, None)) is not None:
            order.add(packet)
            is_passed_over = not order.is_told_late and self._is_passed_over(packet, ahead, packets)
            self._video.codec_context.skip_frame = "NONREF" if is_passed_over else "DEFAULT"
            try:
                decoded = packet.decode()
            except (av.InvalidDataError, av.PatchWelcomeError, av.UnknownError) as error:
                # A damaged packet: the frames behind it may still be fine.
                self._last_error = f": {error.strerror}"
                self._has_lost = True
                continue
            self._decoded_frames += len(decoded)
            if self._decoded_frames > MAX_DECODED_FRAMES:
                raise VideoTrouble(
                    Status.TOO_LARGE, f"more than {MAX_DECODED_FRAMES:,} frames would have to be decoded"
                )
            for frame in decoded:
                if not isinstance(frame, VideoFrame):
                    continue
                stamp = order.next_stamp()
                stamp_s = frame.time if stamp is None else float(stamp * (self._video.time_base or 0))
                time_s = clock.tell(None if stamp_s is None else stamp_s - self._start_s)
                # A corrupt frame shows what the decoder made up, often plain grey.
                if frame.is_corrupt or frame.width * frame.height > MAX_PIXELS:
                    self._has_lost = True
                    continue
                self._had_lost, self._has_lost = self._has_lost, False
                yield frame, time_s

    def _stays_until_s(self, time_s: float, next_s: float | None) -> float:
        """Until when the frame shown at `time_s` is known to be, given when the next one is; None behind the last."""
        if next_s is not None:
            may_be_left_out = self._target_s > -math.inf and next_s - time_s <= _LONGEST_GAP_S
            return time_s if self._had_lost or may_be_left_out else next_s
        # Where the end of a file cannot be decoded, the last picture before does not stand for it.
        is_last = self._ended_s is not None and self._last_start_s <= time_s + _end_tolerance_s(time_s)
        return max(time_s, self._ended_s or 0.0) if is_last and not self._has_lost else time_s

    def _is_passed_over(
        self,
        packet: av.Packet[VideoStream],
        ahead: deque[av.Packet[VideoStream]],
        packets: Iterator[av.Packet[VideoStream]],
    ) -> bool:
        """Whether the frame of a packet is shown, and replaced by another, before the target. Packets come in the order
        of decoding: those that may hold a later frame are read `ahead`."""
        time_s = self._time_s(packet.pts)
        if time_s is None or time_s >= self._target_s:
            return False
        if time_s < self._target_s - _LOOK_AHEAD_S:
            return True
        while True:
            # No packet shows its frame before it is decoded.
            decoded_s = self._time_s((ahead[-1] if ahead else packet).dts)
            if decoded_s is None or decoded_s > self._target_s:
                break
            following = next(packets, None)
            if following is None:
                break
            ahead.append(following)
        shown_s = (self._time_s(one.pts) for one in ahead)
        return any(one_s is not None and time_s < one_s <= self._target_s for one_s in shown_s)

    def _time_s(self, stamp: int | None) -> float | None:
        """Seconds since the first frame."""
        return None if stamp is None else stamp * self._tick_s - self._start_s

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        assert self._container is not None
        self._is_at_start = False
        span = _Span()
        packets = self._container.demux(self._video)
        while True:
            self._deadline.remaining_s()
            try:
                packet = next(packets, None)
            except (av.InvalidDataError, av.EOFError) as error:
                if self._stream.trouble:
                    raise self._stream.trouble from None
                self._last_error = f": {error.strerror}"
                self._end(span, is_whole=False)
                return
            if packet is None:
                self._end(span, is_whole=span.holds_all_of(self._video))
                return
            span.add(packet)
            yield packet

    def _end(self, span: _Span, *, is_whole: bool) -> None:
        """Note what is known now that the end is reached."""
        assert self._container is not None
        interval_s = 1 / float(self._video.guessed_rate or 25)
        if span.last is None:
            self._ended_s, self._last_start_s = span.untimed * interval_s, (span.untimed - 1) * interval_s
            return
        last_start_s = span.last * self._tick_s - self._start_s
        ended_s = span.end * self._tick_s - self._start_s + (interval_s if span.is_open else 0.0)
        stated_s = min(self._own_duration_s(), (self._container.duration or 0) / av.time_base)
        if is_whole and stated_s > last_start_s:
            # The last packet that is decoded says how long the last picture stands, and that is often another's.
            # An edit list may let it go earlier.
            ended_s = min(stated_s, max(ended_s, span.decoded * self._tick_s))
        self._ended_s, self._last_start_s, self._is_whole = ended_s, last_start_s, is_whole

    def _seek(self, seek_s: float) -> bool:
        """Go to a key frame at or before `seek_s`; False where that cannot be done."""
        assert self._container is not None
        if self._video.time_base is None:
            return False
        self._is_at_start = False
        try:
            self._container.seek(
                round((seek_s + self._start_s) / self._video.time_base), stream=self._video, backward=True
            )
        except (av.FFmpegError, OverflowError):
            if self._stream.trouble:
                raise self._stream.trouble from None
            return False
        self._video.codec_context.flush_buffers()
        return True

    def _own_duration_s(self) -> float:
        """Duration that the video stream states of itself, 0 where it states none."""
        if self._video.duration and self._video.time_base:
            return float(self._video.duration * self._video.time_base)
        return 0.0

    def _stated_duration_s(self) -> float:
        assert self._container is not None
        # A fragmented file may state the length of its first fragment only: the container knows better.
        container_s = self._container.duration / av.time_base if self._container.duration else 0.0
        own_s = self._own_duration_s()
        return own_s if own_s and len(self._container.streams) > 1 else max(own_s, container_s)

    def _measured_duration_s(self) -> float:
        """When the last picture ends, by reading the file through without decoding."""
        if self._ended_s is None:
            self._rewind()
            deque(self._packets(), maxlen=0)
        return self._ended_s or 0.0


class _Span:
    """What the packets that passed by reach, in ticks of their stream."""

    def __init__(self) -> None:
        self.last: int | None = None
        """When the last picture begins to be shown; None without times."""
        self.end = 0
        """When the last picture ends."""
        self.is_open = False
        """Whether it is not known how long it is shown."""
        self.untimed = 0
        """Packets without times."""
        self._shift = 0
        self._first_decoded: int | None = None
        self._last_decoded = self._last_duration = 0
        self._last_stamp = 0
        self._is_damaged = False

    @property
    def decoded(self) -> int:
        """How long decoding takes that keeps the pace of the pictures."""
        return self._last_decoded + self._last_duration - (self._first_decoded or 0)

    def add(self, packet: av.Packet[VideoStream]) -> None:
        # What an edit list cuts away is decoded for what comes behind it.
        if not packet.size or packet.is_discard:
            return
        duration, self._is_damaged = packet.duration or 0, packet.is_corrupt
        shown, decoded = packet.pts, packet.dts
        if decoded is not None:
            self._last_stamp = decoded
            decoded += self._shift
            if self._first_decoded is None:
                self._first_decoded = decoded
            elif (self._last_decoded - decoded) * (packet.time_base or 0) > _JUMP_S:
                again = self._last_decoded + self._last_duration
                self._shift, decoded = self._shift + again - decoded, again
            self._last_decoded, self._last_duration = decoded, duration
        if shown is None:
            self.untimed += 1
            return
        shown += self._shift
        self.last = shown if self.last is None else max(self.last, shown)
        if shown + duration >= self.end:
            self.end, self.is_open = shown + duration, not duration

    def holds_all_of(self, video: VideoStream) -> bool:
        """Whether it has all that the index of an MP4 file names."""
        entries = video.index_entries
        is_indexed = video.container.format.name.startswith("mov,") and len(entries) > 0
        return is_indexed and not self._is_damaged and entries[len(entries) - 1].timestamp <= self._last_stamp


class _Clock:
    """Seconds of frames in the order in which they are shown, which never fall."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last_s: float | None = None
        self._shift_s = 0.0

    def tell(self, time_s: float | None) -> float:
        """Of the next frame, given what its stamp says, None without one, as in a bare stream."""
        if self._last_s is None:
            self._last_s = max(0.0, time_s or 0.0)
            return self._last_s
        following_s = self._last_s + self._interval_s
        if time_s is None:
            self._last_s = following_s
        else:
            if time_s + self._shift_s < self._last_s - _JUMP_S:
                self._shift_s = following_s - time_s
            self._last_s = max(self._last_s, time_s + self._shift_s)
        return self._last_s


class _ShownOrder:
    """The stamps of frames that are decoded in another order than they are shown in.

    A container that does not know this stamps its packets as they come: a frame then carries the stamp of another one.
    Decoders give frames in the order in which they are shown, so the next frame has the earliest stamp that is left.
    """

    def __init__(self, video: VideoStream) -> None:
        self.is_told_late = bool(video.codec_context.has_b_frames)
        """Whether this is, so far, such a container."""
        self._left: list[int] = []

    def add(self, packet: av.Packet[VideoStream]) -> None:
        """Of each packet, before it is decoded."""
        if not self.is_told_late or not packet.size:
            return
        stamp = packet.pts
        if stamp is None or stamp != packet.dts:
            self.is_told_late = False
        elif not packet.is_discard:
            heapq.heappush(self._left, stamp)
            if len(self._left) > _MOST_REORDERED:
                heapq.heappop(self._left)

    def next_stamp(self) -> int | None:
        """Of each frame, as it comes; None where it carries its own."""
        return heapq.heappop(self._left) if self.is_told_late and self._left else None


class _Way:
    """Decoded frames in order, each with its seconds since the start, and how far one has come."""

    def __init__(self, frames: Iterator[_Timed], stays_until_s: Callable[[float, float | None], float]) -> None:
        self._frames = frames
        self._stays_until_s = stays_until_s
        self._shown: _Timed | None = None
        self._next: _Timed | None = None

    @property
    def time_s(self) -> float:
        """Of the frame gone to last."""
        return self._shown[1] if self._shown is not None else -math.inf

    def go_to(self, target_s: float) -> _Timed | None:
        """The frame shown at `target_s`, or None when the video ends well before it. Targets rise."""
        while self._shown is None or self._shown[1] < target_s:
            self._next = self._next or next(self._frames, None)
            if self._next is None:
                if self._shown is None:
                    return None
                # Until when the last frame is shown is not always stated.
                is_there = self._stays_until_s(self._shown[1], None) >= target_s - _end_tolerance_s(target_s)
                return self._shown if is_there else None
            if self._next[1] > target_s and self._shown is not None:
                break
            self._shown, self._next = self._next, None
        return self._shown


def _end_tolerance_s(target_s: float) -> float:
    return max(0.5, target_s * _END_TOLERANCE_FRACTION)


def _choose_video_stream(container: InputContainer) -> VideoStream:
    """The best video stream that is no cover picture of a sound file."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise VideoTrouble(Status.NO_VIDEO_STREAM, "the file has no video stream")
    # The stub does not say that there is no context where no decoder is.
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise VideoTrouble(Status.DECODE_ERROR, "there is no decoder for the codec of the video")
    best = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
    width_px, height_px = best.codec_context.width, best.codec_context.height
    if width_px * height_px > MAX_PIXELS:
        raise VideoTrouble(Status.TOO_LARGE, f"pictures of {width_px} × {height_px} px are larger than 8192 × 8192 px")
    return best


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
