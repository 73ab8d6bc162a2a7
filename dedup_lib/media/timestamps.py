"""When frames are shown, by time stamps that are not always right."""

from __future__ import annotations

import heapq

import av
from av.video.stream import VideoStream

MAX_REORDERED = 32
"""Frames that wait in a decoder to be shown: H.264 and H.265 allow 16, and packets may hold half a frame."""

JUMP_S = 1.0
"""Times that fall by more than this begin anew, as where one recording is spliced to another."""


class Span:
    """What the packets that passed by reach, in ticks of their stream."""

    def __init__(self, tick_s: float) -> None:
        self.last: int | None = None
        """When the last picture begins to be shown; None without times."""
        self.end = 0
        """When the last picture ends."""
        self.is_open = False
        """Whether it is not known how long it is shown."""
        self.untimed = 0
        """Packets without times."""
        self._jump = JUMP_S / tick_s if tick_s else 0.0
        self._shift = 0
        self._first_decoded: int | None = None
        self._last_decoded = self._last_duration = 0
        self._last_stamp = 0
        self._is_damaged = False

    @property
    def is_empty(self) -> bool:
        """Whether no packet passed."""
        return self.last is None and not self.untimed

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
        """Whether the last packet is whole, and the index of the file names none behind it."""
        entries = video.index_entries
        return not self._is_damaged and len(entries) > 0 and entries[len(entries) - 1].timestamp <= self._last_stamp


class Clock:
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
            if time_s + self._shift_s < self._last_s - JUMP_S:
                self._shift_s = following_s - time_s
            self._last_s = max(self._last_s, time_s + self._shift_s)
        return self._last_s


class ShownOrder:
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
            if len(self._left) > MAX_REORDERED:
                heapq.heappop(self._left)

    def next_stamp(self) -> int | None:
        """Of each frame, as it comes; None where it carries its own."""
        return heapq.heappop(self._left) if self.is_told_late and self._left else None
