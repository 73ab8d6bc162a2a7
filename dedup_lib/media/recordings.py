"""One recording of a file of MPEG-TS, in which several may stand one behind the other."""

from __future__ import annotations

import io
import re

from dedup_lib.media.streams import MediaStream

_PACKET_BYTES = 188
_PROGRAMS, _STREAMS = 0, 2
"""What a table lists: the programs, or the streams of one of them (ISO/IEC 13818-1, 2.4.4)."""

_VIDEO_TYPES = frozenset({0x01, 0x02, 0x10, 0x1B, 0x24, 0x33, 0x42, 0xD1, 0xEA})
"""Stream types of the codecs of video (table 2-34, and those in common use)."""


class Recording(MediaStream):
    """What another stream holds from the byte `start` on, up to where its programs go on in other streams of video, or
    in another codec.

    FFmpeg knows the streams by the first table that names them, and overlooks that a later one names others: whoever
    reads begins anew there. Closing this leaves the other stream open.
    """

    def __init__(self, stream: MediaStream, start: int) -> None:
        super().__init__(None if stream.size_bytes is None else stream.size_bytes - start)
        self.following: int | None = None
        """The byte of the other stream at which the next recording begins; None while the last read did not get there.
        """
        self.is_all = True
        """Whether nothing that was read belongs to another recording."""
        self._stream = stream
        self._start = start
        self._numbers = {0}
        """Numbers of the packets in which tables are."""
        self._table = _begins_packet(self._numbers)
        self._programs = dict[bytes, dict[int, int]]()
        """Of each program, the types of its streams of video, by the numbers of their packets."""
        self._programs_at = self._streams_at = -1
        """Where the latest table of each kind begins."""
        self._tail = b""
        """The end of what was read last, in which a packet may begin."""

    @property
    def fetched_bytes(self) -> int:
        return self._stream.fetched_bytes

    def _end(self) -> int:
        return self._stream.seek(0, io.SEEK_END) - self._start

    def _read_at(self, position: int, size: int) -> bytes:
        place = self._start + position
        if self._stream.tell() != place:
            self._stream.seek(place)
            self._tail, self._programs_at, self._streams_at = b"", -1, -1
        data = self._stream.read(size)
        known = self._tail + data
        self._tail = known[1 - _PACKET_BYTES :]
        self.following = self._find_change(known, place + len(data) - len(known))
        if self.following is None:
            return data
        self.is_all = False
        return data[: max(0, self.following - place)]

    def _find_change(self, data: bytes, place: int) -> int | None:
        """Where tables in `data`, which begin at the byte `place`, name other streams; None where none does."""
        at = -1
        while (found := self._table.search(data, at + 1)) and found.start() + _PACKET_BYTES <= len(data):
            at = found.start()
            table = _table_of(data[at : at + _PACKET_BYTES])
            if table[:1] == bytes([_PROGRAMS]):
                self._programs_at = place + at
                self._follow(table)
            elif table[:1] == bytes([_STREAMS]) and (codecs := _codecs_of(table)):
                known = self._programs.setdefault(table[3:5], codecs)
                is_other = known.keys().isdisjoint(codecs) or any(
                    codecs.get(one, known[one]) != known[one] for one in known
                )
                if is_other and _is_intact(table):
                    # The table of the programs comes before that of the streams, and is needed to find it.
                    return self._programs_at if self._programs_at > self._streams_at else place + at
                self._streams_at = place + at
        return None

    def _follow(self, table: bytes) -> None:
        """Takes the numbers of the packets with further tables from the one that lists the programs."""
        entries = (table[at : at + 4] for at in range(8, len(table) - 7, 4))
        numbers = {0, *(int.from_bytes(entry[2:]) & 0x1FFF for entry in entries if any(entry[:2]))}
        if numbers != self._numbers:
            self._numbers, self._table = numbers, _begins_packet(numbers)


def _begins_packet(numbers: set[int]) -> re.Pattern[bytes]:
    """What a packet in which a table begins starts with (2.4.3.2)."""
    return re.compile(b"G(?:%b)" % b"|".join(re.escape((0x4000 | number).to_bytes(2)) for number in sorted(numbers)))


def _table_of(packet: bytes) -> bytes:
    """The table that begins in a packet; b"" where it does not end there or counts from later on only."""
    place = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if place >= len(packet):
        return b""
    place += 1 + packet[place]
    table = packet[place : place + 3 + (int.from_bytes(packet[place + 1 : place + 3]) & 0xFFF)]
    is_whole = len(table) > 12 and len(table) == 3 + (int.from_bytes(table[1:3]) & 0xFFF)
    return table if is_whole and table[5] & 1 else b""


def _codecs_of(table: bytes) -> dict[int, int]:
    """The types of the streams of video that a table lists, by the numbers of their packets (2.4.4.9); empty where it
    makes no sense."""
    codecs, place, end = {}, 12 + (int.from_bytes(table[10:12]) & 0xFFF), len(table) - 4
    while place + 5 <= end:
        if table[place] in _VIDEO_TYPES:
            codecs[int.from_bytes(table[place + 1 : place + 3]) & 0x1FFF] = table[place]
        place += 5 + (int.from_bytes(table[place + 3 : place + 5]) & 0xFFF)
    return codecs if place == end else {}


def _is_intact(table: bytes) -> bool:
    """Whether a table has the checksum that it states (annex A)."""
    remainder = 0xFFFFFFFF
    for byte in table:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C11DB7 if remainder >> 31 else 0)) & 0xFFFFFFFF
    return not remainder
