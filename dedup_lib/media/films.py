"""The frames of a video file with their times, by PyAV."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import cast

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dedup_lib.media.limits import Deadline
from dedup_lib.media.playlists import encrypted
from dedup_lib.media.reels import Reel
from dedup_lib.media.sniff import HEAD_BYTES, still_image
from dedup_lib.media.soundtrack import Soundtrack
from dedup_lib.media.streams import MediaStream
from dedup_lib.media.timestamps import Clock, ShownOrder, Span, repeats_frame
from dedup_lib.media.tracks import (
    BROKEN_ENDS,
    BROKEN_PACKETS,
    MAX_PIXELS,
    check_count,
    describe_error,
    end_tolerance_s,
    find_stated_end,
    has_times,
    is_encrypted,
    is_joinable,
    is_matroska,
    is_mp4,
    own_duration_s,
    told_duration_s,
)

Timed = tuple[VideoFrame, float]
"""A decoded frame, and its seconds since the first one."""

_RATE_TO_SKIP = 20.0
"""Frames per second. Below this rate a scan decodes every frame: the frames it could skip are too far apart."""

_LOOK_AHEAD_S, _MAX_AHEAD = 0.5, 64
"""A frame may be skipped when another one replaces it within `_LOOK_AHEAD_S` seconds; that one is looked for in the
next `_MAX_AHEAD` packets."""

_MAX_GAP_S = 1.0
"""Seconds. A shorter gap between two frames may come from skipped frames; over a longer one the frame really stayed."""

_SEEK_EARLIER_S = 10.0
"""Seconds. Some formats (MPEG-TS) seek to any frame; a key frame is rarely further away than this."""

_MAX_TAIL_BYTES = 4 * 1024 * 1024
"""Most bytes read at the end of a file to find when its last frame ends."""

_CUES = b"\x1cS\xbbk"
"""The ID of a Matroska index (RFC 9559, 5.1.5); a file with an index names this ID near its beginning."""


class Film:
    """One stream as an open container, its video stream, and the position in it.

    `demuxer` names the demuxer to use; with None, FFmpeg chooses it by the content. With `or_image`, a file with a
    single frame is refused as an image. Every method that reads raises VideoTrouble and the exceptions of PyAV.
    """

    def __init__(self, stream: MediaStream, deadline: Deadline, *, demuxer: str | None, or_image: bool) -> None:
        self.last_error = ""
        """The last error of the decoder, with a colon before it."""
        self.reached_s: float | None = None
        """When the latest frame that was decoded appears; None where none was."""
        self.ended_s: float | None = None
        """When the last frame disappears; None until the end of the file was reached."""
        self.is_cut = False
        """Whether packets may be missing at the end."""
        self._stream = stream
        self._deadline = deadline
        self._reel = Reel(stream, deadline, demuxer=demuxer)
        self._last_start_s = 0.0
        """When the last frame appears."""
        self._has_lost = self._had_lost = False
        """Whether decoding failed for a frame since the last good frame, and (`_had_lost`) between the last two."""
        self._decoded_frames = 0
        self._target_s = -math.inf
        """Frames before this time that no other frame needs may be skipped."""
        self._or_image = or_image
        self._head = b""

    @property
    def has_opened(self) -> bool:
        """Whether the content has a known format."""
        return self._reel.has_opened

    def open(self) -> None:
        """Opens the container; call this before any other method."""
        self._head = self._stream.read(HEAD_BYTES)
        self._rewind()
        if self._or_image and self._holds_one_picture():
            raise still_image()

    def close(self) -> None:
        self._reel.close()

    @property
    def has_times(self) -> bool:
        """Whether the times come from the file, and not from an assumed frame rate."""
        return has_times(self._container)

    @property
    def codec(self) -> str:
        return self._video.codec_context.codec.canonical_name

    @property
    def has_only_key_frames(self) -> bool:
        """Whether no frame of this codec needs another one, as in DV, DNxHD or ProRes."""
        return self._video.codec_context.codec.intra_only

    @property
    def _video(self) -> VideoStream:
        return self._reel.video

    @property
    def _container(self) -> InputContainer:
        return self._reel.container

    def _rewind(self, soundtrack: Soundtrack | None = None) -> None:
        self._target_s = -math.inf
        self._reel.rewind(soundtrack)

    def _holds_one_picture(self) -> bool:
        if self._video.frames > 1:
            return False
        frames = 0
        for packet in self._packets():
            frames += bool(packet.size)
            if frames > 1:
                break
        self._rewind()
        return frames == 1

    def decode(self, *, fast: bool = False, soundtrack: Soundtrack | None = None) -> Iterator[Timed]:
        """Yields the frames from the start on, while `soundtrack` hears the sound. With `fast`, blocks may stay
        visible; small frames do not show them."""
        self._rewind(soundtrack)
        if fast:
            self._video.codec_context.options |= {"skip_loop_filter": "all"}
        return self._decode()

    def decode_from(self, target_s: float) -> Iterator[Timed]:
        """Yields frames from a key frame at or before `target_s`; from the start when seeking finds none."""
        frames = self.decode_after_seek(target_s)
        if frames is not None:
            yield from frames
        # Measuring is cheaper than decoding a cut-off file only to find that it ends before the target.
        elif self.measure_s() >= target_s - end_tolerance_s(target_s):
            yield from self.decode()

    def decode_after_seek(self, target_s: float) -> Iterator[Timed] | None:
        """Returns the frames from a key frame at or before `target_s`; None when seeking finds no key frame."""
        for early_s in (0.0, _SEEK_EARLIER_S):
            if not self._reel.seek(max(0.0, target_s - early_s)):
                continue
            frames = self._decode()
            first = next(frames, None)
            if first is not None and first[1] <= target_s:
                return chain([first], frames)
        return None

    def find_key_frame(self, target_s: float) -> Timed | None:
        """Returns the key frame at or before `target_s`, or soon after it when the format seeks to any frame; None when
        seeking finds none. Decodes nothing else."""
        if not self._reel.seek(target_s):
            return None
        decoder = self._video.codec_context
        decoder.skip_frame = "DEFAULT"
        for packet in self._reel.packets():
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or stamp is None or self._time_of(stamp) > target_s + _SEEK_EARLIER_S:
                return None
            if not packet.is_keyframe:
                continue
            if is_encrypted(packet):
                return None
            # A decoder holds a frame back while frames to be shown before it may still come; None says that none will.
            try:
                frames = [*packet.decode(), *decoder.decode(None)]
            except BROKEN_PACKETS:
                # Other key frames may still be fine.
                frames = []
            decoder.flush_buffers()
            frame = frames[0] if frames else None
            if not isinstance(frame, VideoFrame) or frame.is_corrupt or frame.width * frame.height > MAX_PIXELS:
                return None
            return frame, self._time_of(stamp)
        return None

    def is_seeking_shorter(self, here_s: float, target_s: float) -> bool:
        """Whether a key frame lies between the two times; assumed when the file has no full index."""
        return self._reel.is_seeking_shorter(here_s, target_s)

    def hurry_to(self, target_s: float) -> None:
        """Lets the decoder skip frames that no other frame needs, up to the one shown at `target_s`."""
        # Each frame of a slide show may be shown for long, so none is skipped.
        self._target_s = target_s if self._reel.rates and min(self._reel.rates) >= _RATE_TO_SKIP else -math.inf

    def stays_until_s(self, time_s: float, next_s: float | None) -> float:
        """Until when the frame shown at `time_s` surely stays. `next_s` is the time of the next frame, None after the
        last."""
        if next_s is not None:
            may_be_left_out = self._target_s > -math.inf and next_s - time_s <= _MAX_GAP_S
            return time_s if self._had_lost or may_be_left_out else next_s
        # When the end of a file cannot be decoded, the last decoded frame must not stand for it.
        is_last = self.ended_s is not None and self._last_start_s <= time_s + end_tolerance_s(time_s)
        return max(time_s, self.ended_s or 0.0) if is_last and not self._has_lost else time_s

    def own_duration_s(self) -> float:
        """Duration that the header of the video stream states, 0 when it states none, or only that of a segment."""
        return 0.0 if self._reel.stated_s or is_joinable(self._container) else own_duration_s(self._video)

    def expected_s(self, *, to_be_passed_s: float) -> float:
        """Duration of the film as far as it can be known without reading it through, 0 when it cannot. The end of a
        film no longer than `to_be_passed_s` is not searched for: that film will be read through anyway."""
        if self._reel.stated_s:
            return self._reel.stated_s
        if self._reel.is_joined:
            return 0.0
        container_s = self._container_s()
        # A fragmented file may state the length of its first fragment only: the container knows better.
        if len(self._container.streams) == 1:
            return max(own_duration_s(self._video), container_s)
        # The duration in Matroska and FLV includes the sound, which may be longer.
        if told_s := self._told_s():
            return told_s
        return (self._find_end_s() if container_s > to_be_passed_s else 0.0) or container_s

    def _told_s(self) -> float:
        """Duration stated for the video stream, 0 when none is stated."""
        told_s = told_duration_s(self._video)
        # A tag may be a leftover of another film.
        return told_s if self.own_duration_s() or told_s <= self._container_s() + self._reel.interval_s else 0.0

    def _container_s(self) -> float:
        """Duration that the container states for all its streams, 0 when it states none."""
        stated_s = self._container.duration / av.time_base if self._container.duration else 0.0
        # These formats count from zero even when the first frame comes later.
        counts_from_zero = is_matroska(self._container) or self._container.format.name == "flv"
        return stated_s - self._reel.start_s if counts_from_zero and stated_s > self._reel.start_s else stated_s

    def _find_end_s(self) -> float:
        """When the last frame ends, found by reading the last part of a file with an index; 0 when not found."""
        # Without an index or without range requests, the whole file would be read.
        if not self._stream.comes_in_parts or _CUES not in self._head:
            return 0.0
        if not self._reel.seek(self._container_s()):
            return 0.0
        first_byte, span = self._stream.tell(), Span(self._reel.tick_s)
        try:
            for packet in self._container.demux():
                self._deadline.check()
                if packet.stream == self._video:
                    span.add(cast("av.Packet[VideoStream]", packet))
                if self._stream.tell() - first_byte > _MAX_TAIL_BYTES:
                    break
        except BROKEN_ENDS:
            if self._stream.trouble:
                raise self._stream.trouble from None
        return 0.0 if span.last is None else self._time_of(span.end)

    def measure_s(self) -> float:
        """When the last frame ends, found by reading the file through without decoding."""
        if self.ended_s is None:
            self._rewind()
            deque(self._packets(), maxlen=0)
        return self.ended_s or 0.0

    def _decode(self) -> Iterator[Timed]:
        """Yields the frames from here on, each with its seconds since the first frame."""
        self._has_lost = False
        clock = Clock(self._reel.interval_s)
        order = ShownOrder(self._video)
        ahead: deque[av.Packet[VideoStream]] = deque()
        packets = self._packets()
        while (packet := ahead.popleft() if ahead else next(packets, None)) is not None:
            if repeats_frame(packet):
                # Decoders refuse it.
                continue
            if is_encrypted(packet):
                raise encrypted("MP4 with a key")
            order.add(packet)
            is_passed_over = not order.is_told_late and self._is_passed_over(packet, ahead, packets)
            self._video.codec_context.skip_frame = "NONREF" if is_passed_over else "DEFAULT"
            try:
                decoded = packet.decode()
            except BROKEN_PACKETS as error:
                # Only this packet is damaged: later frames may be fine.
                self.last_error = describe_error(error)
                self._has_lost = True
                continue
            self._decoded_frames += len(decoded)
            check_count(self._decoded_frames)
            for frame in decoded:
                if not isinstance(frame, VideoFrame):
                    continue
                stamp = order.next_stamp()
                stamp_s = frame.time if stamp is None else float(stamp * (self._video.time_base or 0))
                time_s = clock.tell(None if stamp_s is None else stamp_s - self._reel.start_s)
                # The decoder makes up a corrupt frame, often in plain grey.
                if frame.is_corrupt or frame.width * frame.height > MAX_PIXELS:
                    self._has_lost = True
                    continue
                self._had_lost, self._has_lost = self._has_lost, False
                self.reached_s = max(time_s, self.reached_s or 0.0)
                yield frame, time_s

    def _is_passed_over(
        self,
        packet: av.Packet[VideoStream],
        ahead: deque[av.Packet[VideoStream]],
        packets: Iterator[av.Packet[VideoStream]],
    ) -> bool:
        """Whether another frame replaces the frame of this packet soon, and before the target. Packets come in decoding
        order, so those that may hold the other frame are read into `ahead`."""
        time_s = self._time_s(packet.pts)
        if time_s is None or time_s >= self._target_s:
            return False
        until_s = min(time_s + _LOOK_AHEAD_S, self._target_s)
        for number in range(_MAX_AHEAD):
            if number == len(ahead):
                following = next(packets, None)
                if following is None:
                    break
                ahead.append(following)
            if repeats_frame(ahead[number]):
                continue
            shown_s, decoded_s = self._time_s(ahead[number].pts), self._time_s(ahead[number].dts)
            if shown_s is not None and time_s < shown_s <= until_s:
                return True
            # No frame is shown before it is decoded, so later packets cannot hold the frame.
            if decoded_s is None or decoded_s > until_s:
                break
        return False

    def _time_of(self, stamp: int) -> float:
        """Seconds since the first frame."""
        return stamp * self._reel.tick_s - self._reel.start_s

    def _time_s(self, stamp: int | None) -> float | None:
        return None if stamp is None else self._time_of(stamp)

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        span = Span(self._reel.tick_s)
        packets = self._reel.packets()
        while True:
            try:
                packet = next(packets, None)
            except BROKEN_ENDS as error:
                if self._stream.trouble:
                    raise self._stream.trouble from None
                self.last_error = describe_error(error)
                self._end(span, is_broken=True)
                return
            if packet is None:
                self._end(span, is_broken=False)
                return
            span.add(packet)
            yield packet

    def _end(self, span: Span, *, is_broken: bool) -> None:
        """Notes what the packets tell once the end is reached."""
        if span.is_empty:
            # A seek that found no packet tells nothing.
            return
        stated_end = find_stated_end(self._head)
        is_whole = not is_broken and stated_end is not None and stated_end <= (self._stream.size_bytes or 0)
        self.is_cut = is_broken or not (is_whole or span.holds_all_of(self._video))
        interval_s = self._reel.interval_s
        if span.last is None:
            self.ended_s, self._last_start_s = span.untimed * interval_s, (span.untimed - 1) * interval_s
            return
        last_start_s = self._time_of(span.last)
        ended_s = self._time_of(span.end) + (interval_s if span.is_open else 0.0)
        stated_s = min(self.own_duration_s(), self._container_s())
        if is_mp4(self._container) and not self.is_cut and stated_s > last_start_s:
            # The last packet in decoding order says how long the last frame stays; often it holds another frame.
            # An edit list may end the last frame earlier.
            ended_s = min(stated_s, max(ended_s, span.decoded * self._reel.tick_s))
        elif is_whole:
            # Packets state at most how long a frame usually stays.
            told_s = self._told_s() if is_matroska(self._container) else 0.0
            ended_s = max(ended_s, told_s or (self._container_s() if len(self._container.streams) == 1 else 0.0))
        self.ended_s, self._last_start_s = ended_s, last_start_s
