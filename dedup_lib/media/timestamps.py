"""When frames are shown, by time stamps that are not always right."""

from __future__ import annotations

import heapq
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

MAX_REORDERED = 32
"""Most packets that may wait for reordering: H.264 and H.265 allow 16 frames, and a packet may hold half a frame."""

JUMP_S = 1.0
"""Seconds. Time stamps that fall by more than this start anew, as where two recordings are spliced together."""

LEAP_S = 10.0
"""Seconds. Time stamps of MPEG files that rise by more than this also go on from elsewhere."""

_GIF_EXTENSION, _GIF_TRAILER = 0x21, 0x3B
"""The first bytes of blocks of a GIF that hold no picture."""


def repeats_frame(packet: av.Packet[VideoStream]) -> bool:
    """Whether a packet without content says that the frame before it stays, as in Theora. PyAV's packet that ends a
    stream has no time."""
    return not packet.size and (packet.pts is not None or packet.dts is not None)


def is_gif_comment(packet: av.Packet[VideoStream]) -> bool:
    """Whether a packet of a GIF holds no picture: FFmpeg gives what follows the last one the delay of that one."""
    data, place = bytes(packet), 0
    # Extensions, such as comments: a label, and blocks with their lengths up to an empty one (GIF89a, 24).
    while place < len(data) and data[place] == _GIF_EXTENSION:
        place += 2
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return bool(data) and (place >= len(data) or data[place] == _GIF_TRAILER)


class Joints:
    """Closes the gaps where recordings were joined to one MPEG file: there, time stamps go on from another time.

    Players do not wait for hours between two frames, nor does FFmpeg, which takes more than `LEAP_S` for such a gap."""

    def __init__(self) -> None:
        self._shift_s = self._next_s = 0.0
        """Seconds to add to the time stamps, and when the next frame is due by those of the file."""
        self._has_begun = False

    def close(self, packet: av.Packet[VideoStream]) -> None:
        """Changes the time stamps of the film's next packet."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or not packet.size:
            return
        stamp_s = float(stamp * packet.time_base)
        if self._has_begun and not -JUMP_S <= stamp_s - self._next_s <= LEAP_S:
            self._shift_s += self._next_s - stamp_s
        self._has_begun = True
        self._next_s = stamp_s + float((packet.duration or 0) * packet.time_base)
        self._move(packet)

    def close_beside(self, packet: av.Packet[AudioStream]) -> bool:
        """Changes the time stamps of a packet of sound. Returns False for one that is already behind the gap, or still
        before it, while the film is on the other side."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or not self._has_begun:
            return True
        if abs(float(stamp * packet.time_base) - self._next_s) > LEAP_S:
            return False
        self._move(packet)
        return True

    def _move(self, packet: av.Packet[Any]) -> None:
        if self._shift_s:
            shift = round(self._shift_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift


class Span:
    """The time that the packets added so far reach, in ticks of their stream."""

    def __init__(self, tick_s: float) -> None:
        self.last: int | None = None
        """When the last frame appears; None without time stamps."""
        self.end = 0
        """When the last frame ends."""
        self.is_open = False
        """Whether the duration of the last frame is unknown."""
        self.untimed = 0
        """Number of packets without time stamps."""
        self._jump = JUMP_S / tick_s if tick_s else 0.0
        self._shift = 0
        self._first_decoded: int | None = None
        self._last_decoded = self._last_duration = 0
        self._last_stamp = 0
        self._is_damaged = False

    @property
    def is_empty(self) -> bool:
        """Whether no packet was added."""
        return self.last is None and not self.untimed

    @property
    def decoded(self) -> int:
        """Ticks from the first decoding time to the end of the last one."""
        return self._last_decoded + self._last_duration - (self._first_decoded or 0)

    def add(self, packet: av.Packet[VideoStream]) -> None:
        # An edit list cuts away discarded packets; they are decoded only because later frames need them.
        if packet.is_discard:
            return
        if not packet.size:
            # Such a packet repeats a frame, or it has no time.
            if packet.pts is not None and self.last is not None:
                self.end = max(self.end, packet.pts + self._shift + (packet.duration or 0))
            return
        duration, self._is_damaged = packet.duration or 0, packet.is_corrupt
        shown, decoded = packet.pts, packet.dts
        if decoded is not None:
            self._last_stamp = decoded
            decoded += self._shift
            if self._first_decoded is None:
                self._first_decoded = decoded
            elif self._last_decoded - decoded > self._jump:
                again = self._last_decoded + self._last_duration
                self._shift, decoded = self._shift + again - decoded, again
            self._last_decoded, self._last_duration = decoded, duration
        if shown is None:
            self.untimed += 1
            return
        shown += self._shift
        if self.last is None or shown >= self.last:
            self.last, self.end, self.is_open = shown, shown + duration, not duration

    def holds_all_of(self, video: VideoStream) -> bool:
        """Whether the last packet is whole and the index of the file names no later packet."""
        entries = video.index_entries
        return not self._is_damaged and len(entries) > 0 and entries[len(entries) - 1].timestamp <= self._last_stamp


class Clock:
    """Turns the times of frames, in the order in which they are shown, into seconds that never fall."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last_s: float | None = None
        self._shift_s = 0.0

    def tell(self, time_s: float | None) -> float:
        """Returns the seconds of the next frame. `time_s` is its time stamp, None without one, as in a bare stream."""
        if self._last_s is None:
            self._last_s = max(0.0, time_s or 0.0)
            return self._last_s
        following_s = self._last_s + self._interval_s
        if time_s is None:
            self._last_s = following_s
        else:
            if time_s + self._shift_s < self._last_s - JUMP_S:
                self._shift_s = following_s - time_s
            self._last_s = max(self._last_s, time_s + self._shift_s)
        return self._last_s


class ShownOrder:
    """The time stamps of frames that are decoded in another order than they are shown in.

    Some containers ignore the order and stamp packets as they come: a frame then carries the stamp of another frame.
    Decoders return frames in the order in which they are shown, so the next frame gets the earliest remaining stamp.
    """

    def __init__(self, video: VideoStream) -> None:
        self.is_told_late = bool(video.codec_context.has_b_frames)
        """Whether the packets so far look like those of such a container."""
        self._left: list[int] = []

    def add(self, packet: av.Packet[VideoStream]) -> None:
        """Takes the time stamp of a packet; call this for each packet before it is decoded."""
        if not self.is_told_late or not packet.size:
            return
        stamp = packet.pts
        if stamp is None or stamp != packet.dts:
            self.is_told_late = False
        elif not packet.is_discard:
            heapq.heappush(self._left, stamp)
            if len(self._left) > MAX_REORDERED:
                heapq.heappop(self._left)

    def next_stamp(self) -> int | None:
        """Returns the time stamp of the next decoded frame; None when the frame's own stamp is right."""
        return heapq.heappop(self._left) if self.is_told_late and self._left else None
