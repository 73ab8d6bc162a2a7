"""The segments of a playlist as one stream of bytes, of which only those that are read are fetched."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.playlists import Piece, Playlist
from dedup_lib.media.ranges import CHUNK_BYTES, MAX_CHUNKS_AT_ONCE, Route, file_changed
from dedup_lib.media.streams import MediaStream, WebStream, open_next
from dedup_lib.records import INVALID_STATUSES, Status

_MAX_HELD_BYTES = 256 * 1024
_MAX_ALL_HELD_BYTES = 24 * 1024 * 1024
"""Most bytes kept of the beginning of one piece, and of all pieces. A sampler takes the key frame at the beginning of
every segment first, and comes back for what follows it."""


@dataclass
class _Held:
    """The beginning of a piece, as far as it was read."""

    data: bytearray = field(default_factory=bytearray)
    is_complete: bool = False
    file_bytes: int | None = None
    """Size of its file, None while unknown."""


class SegmentedStream(MediaStream):
    """The segments of a playlist from any of them on, up to the end of its run. Each is fetched by the same rules and
    counts as a file, and only when it is read.

    A decoder reads it forwards only: nobody knows how large the segments are. To seek, let it begin at another time,
    and open it anew.
    """

    def __init__(self, route: Route, playlist: Playlist) -> None:
        super().__init__(None)
        self.duration_s = playlist.duration_s
        """By the playlist."""
        self._segments = playlist.segments
        self._starts_s = [segment.start_s for segment in self._segments]
        self._route = route
        self._file: WebStream | None = None
        self._file_url = ""
        self._held: OrderedDict[Piece, _Held] = OrderedDict()
        self._held_bytes = 0
        self._first = 0
        self._begin(0)

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset:
            raise io.UnsupportedOperation("the segments of a playlist are read forwards only")
        self._begin(self._first)
        return 0

    @property
    def fetched_bytes(self) -> int:
        return self._route.fetched.counted_bytes

    @property
    def continues_first_run(self) -> bool:
        """Whether the stream begins in the first run, whose time stamps count from the start of the film."""
        return self._segments[self._first].run == self._segments[0].run

    def start_of(self, time_s: float) -> float:
        """When the segment that is shown at `time_s` begins, by the playlist."""
        return self._starts_s[self._index_at(time_s)]

    def begin_at(self, time_s: float) -> float:
        """Makes the segment that is shown at `time_s` the beginning of the stream; returns when it begins."""
        self._begin(self._index_at(time_s))
        return self._starts_s[self._first]

    def begin_next_run(self) -> float | None:
        """Makes the next run the stream; returns when it begins, None when this is the last one."""
        run = self._segments[self._first].run
        following = next((i for i in range(self._first, len(self._segments)) if self._segments[i].run != run), None)
        if following is None:
            return None
        self._begin(following)
        return self._starts_s[following]

    def _index_at(self, time_s: float) -> int:
        return max(0, bisect_right(self._starts_s, time_s) - 1)

    def _begin(self, index: int) -> None:
        self._first = index
        self._position = self._piece_start = 0
        self._pieces = self._pieces_from(index)
        self._current = next(self._pieces, None)

    def _pieces_from(self, index: int) -> Iterator[tuple[int, Piece]]:
        """Yields the pieces from a segment to the end of its run, each with the number of its segment."""
        first = self._segments[index]
        if first.beginning is not None:
            yield index, first.beginning
        while index < len(self._segments) and self._segments[index].run == first.run:
            yield index, self._segments[index].piece
            index += 1

    def _end(self) -> int:
        raise io.UnsupportedOperation("the size of a playlist's film is unknown")

    def _read_at(self, position: int, size: int) -> bytes:
        while self._current is not None:
            data = self._read_piece(*self._current, position - self._piece_start, size)
            if data or not size:
                return data
            self._piece_start = position
            self._current = next(self._pieces, None)
        return b""

    def _read_piece(self, index: int, piece: Piece, offset: int, size: int) -> bytes:
        held = self._held.setdefault(piece, _Held())
        self._held.move_to_end(piece)
        if offset < len(held.data) or held.is_complete:
            return bytes(held.data[offset : offset + size])
        is_kept = offset == len(held.data) < _MAX_HELD_BYTES
        wanted = CHUNK_BYTES if is_kept else size
        if piece.size_bytes is not None:
            wanted = min(wanted, piece.size_bytes - offset)
        try:
            data = self._fetch(index, piece.url, held, piece.first + offset, wanted)
        except VideoTrouble as trouble:
            is_empty = trouble.status == Status.NOT_VIDEO
            if is_empty or self._is_behind_the_end(index, piece, trouble):
                held.is_complete = True
                return b""
            raise self._trouble_at(index, trouble) from None
        if piece.size_bytes is not None and len(data) < wanted:
            cut = VideoTrouble(Status.DECODE_ERROR, "its file ends before the byte range that the playlist names")
            raise self._trouble_at(index, cut)
        if is_kept:
            held.data += data
            self._held_bytes += len(data)
            end = piece.size_bytes if piece.size_bytes is not None else held.file_bytes
            held.is_complete = len(data) < wanted or len(held.data) == end
            while self._held_bytes > _MAX_ALL_HELD_BYTES:
                self._held_bytes -= len(self._held.popitem(last=False)[1].data)
        return data[:size]

    def _fetch(self, index: int, url: str, held: _Held, position: int, size: int) -> bytes:
        if self._file is None or self._file_url != url:
            if self._file is not None:
                self._file.release()
                self._file = None
            # A segment that follows another one is probably read whole.
            chunks = MAX_CHUNKS_AT_ONCE if index > self._first else 1
            start = position // CHUNK_BYTES * CHUNK_BYTES
            self._file = open_next(self._route, url, first=start, count=chunks * CHUNK_BYTES)
            self._file_url = url
            if held.file_bytes not in (None, self._file.size_bytes):
                raise file_changed()
            held.file_bytes = self._file.size_bytes
        self._file.seek(position)
        return self._file.read(size)

    def _is_behind_the_end(self, index: int, piece: Piece, trouble: VideoTrouble) -> bool:
        """Whether a segment is missing that only the duration made one expect behind the others."""
        segment = self._segments[index]
        is_refused = trouble.status == Status.HTTP_ERROR and not trouble.retryable
        return is_refused and segment.is_assumed and index > 0 and piece is segment.piece

    def _trouble_at(self, index: int, trouble: VideoTrouble) -> VideoTrouble:
        """The same trouble, said of a segment. That a segment is certainly no video says nothing about the whole, which
        may be one. The reason has no number, so that the failures of many films count as one cause."""
        return VideoTrouble(
            Status.DECODE_ERROR if trouble.status in INVALID_STATUSES else trouble.status,
            f"{'a later' if index else 'the first'} segment of the playlist: {trouble.reason}",
            retryable=trouble.retryable,
            retry_after_s=trouble.retry_after_s,
            refused_by=trouble.refused_by,
        )

    def release(self) -> None:
        """Closes this stream; its route stays open for another one."""
        if self._file is not None:
            self._file.release()
        super().close()

    def close(self) -> None:
        if not self.closed:
            self.release()
            self._route.close()
