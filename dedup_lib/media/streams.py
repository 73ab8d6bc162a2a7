"""A video as a stream of bytes: from the web, or from a file.

The decoder asks for bytes and this module fetches them. With range requests, a frame in the middle of a large file
costs a few hundred kilobytes; a server without them sends the file from the start, no further than needed.
A URL from a list may point anywhere, so this module and those below it check redirects, addresses, time and bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import re
import stat
from abc import abstractmethod
from pathlib import Path
from urllib.parse import urlsplit

from dedup_lib.errors import VideoTrouble
from dedup_lib.lists.urls import has_scheme, is_web_url, url_for_request
from dedup_lib.media.answers import is_empty_file, is_whole, may_be_about_range, read_part, refusal
from dedup_lib.media.connections import Answer
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.ranges import CHUNK_BYTES, NoRanges, Ranges, Route, Whole, ask_whole, file_changed
from dedup_lib.records import MAX_URL_BYTES, Status

_MARKED_CHUNKS = 8
"""Maximum number of chunks by which a file is known again."""

_NO_SUCH_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


class MediaStream(io.RawIOBase):
    """A readable, seekable stream of one video; notes the bytes fetched and why it failed.

    `trouble` holds the VideoTrouble that a read raised, because a decoder may replace that exception by its own.
    """

    def __init__(self, size_bytes: int | None) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.trouble: VideoTrouble | None = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            base = self._end()
        else:
            base = self._position if whence == io.SEEK_CUR else 0
        if base + offset < 0:
            raise ValueError(f"cannot seek before the start: {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        try:
            if size < 0:
                size = max(0, self._end() - self._position)
            data = self._read_at(self._position, size)
        except VideoTrouble as trouble:
            self.trouble = trouble
            raise
        self._position += len(data)
        return data

    @property
    @abstractmethod
    def fetched_bytes(self) -> int:
        """Bytes fetched so far."""

    @property
    def comes_in_parts(self) -> bool:
        """Whether a later part can be read without fetching the parts before it."""
        return True

    @property
    def beginning_mark(self) -> str:
        """Length of the file and hash of its beginning; "" without range requests."""
        return ""

    @property
    def content_mark(self) -> str:
        """`beginning_mark` and the hashes of further parts that were read, spread over the file, each after its
        number."""
        return ""

    @property
    def tag(self) -> str:
        """The server and the hash of the whole file that the server states; "" when it states none."""
        return ""

    def agrees_with(self, content_mark: str) -> bool:
        """Whether this file has the parts that the mark of another stream names. Reads those that it has not read.
        Raises VideoTrouble."""
        return False

    @abstractmethod
    def _end(self) -> int:
        """Size of the whole file in bytes."""

    @abstractmethod
    def _read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position` on; fewer only at the end. Raises VideoTrouble."""


class FileStream(MediaStream):
    """A local file."""

    def __init__(self, path: Path) -> None:
        try:
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):
                raise VideoTrouble(Status.INVALID_URL, "the path is not that of a regular file")
            file = path.open("rb")
        except ValueError:
            raise VideoTrouble(Status.INVALID_URL, "no file can have that name") from None
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                raise VideoTrouble(
                    Status.INVALID_URL, "there is no such file, nor does it start with http:// or https://"
                ) from None
            raise VideoTrouble(Status.UNREACHABLE, f"cannot open the file: {error.strerror}") from None
        super().__init__(facts.st_size)
        self._file = file
        self._read_bytes = 0

    @property
    def fetched_bytes(self) -> int:
        return self._read_bytes

    def _end(self) -> int:
        return self.size_bytes or 0

    def _read_at(self, position: int, size: int) -> bytes:
        try:
            self._file.seek(position)
            data = self._file.read(size)
        except OSError as error:
            raise VideoTrouble(Status.UNREACHABLE, f"cannot read the file: {error.strerror}") from None
        self._read_bytes += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class WebStream(MediaStream):
    """A file on a web server, read by range requests while the server answers them, otherwise from the start."""

    def __init__(self, route: Route, opened: Ranges | Whole) -> None:
        super().__init__(opened.size_bytes)
        self.route = route
        """The way to this file."""
        self._ranges = opened if isinstance(opened, Ranges) else None
        self._whole = opened if isinstance(opened, Whole) else None
        self._unchecked = dict[int, str]()
        """Hashes of chunks read by range requests, still to be compared with the whole file."""

    @property
    def fetched_bytes(self) -> int:
        return self.route.fetched.counted_bytes

    @property
    def comes_in_parts(self) -> bool:
        return self._whole is None

    @property
    def beginning_mark(self) -> str:
        return f"{self._ranges.size_bytes} {self._ranges.marks[0]}" if self._ranges else ""

    @property
    def content_mark(self) -> str:
        if self._ranges is None:
            return ""
        marks, last = self._ranges.marks, self._last_chunk
        # Among those that were read, the nearest to places at equal distances.
        places = [last * part / (_MARKED_CHUNKS - 1) for part in range(1, _MARKED_CHUNKS)]
        chosen = {min(marks, key=lambda index: (abs(index - place), index)) for place in places} - {0}
        return " ".join([self.beginning_mark, *(f"{index}:{marks[index]}" for index in sorted(chosen))])

    def agrees_with(self, content_mark: str) -> bool:
        if self._ranges is None or not content_mark.startswith(self.beginning_mark):
            return False
        place = self._position
        for mark in content_mark.removeprefix(self.beginning_mark).split():
            index, _, digest = mark.rpartition(":")
            if not index.isdecimal() or int(index) > self._last_chunk:
                return False
            if int(index) not in self._ranges.marks:
                self.seek(int(index) * CHUNK_BYTES)
                self.read(1)
                self.seek(place)
            if self._ranges.marks.get(int(index)) != digest:
                return False
        return True

    @property
    def _last_chunk(self) -> int:
        assert self._ranges is not None
        return max(0, self._ranges.size_bytes - 1) // CHUNK_BYTES

    @property
    def tag(self) -> str:
        return self._ranges.tag if self._ranges and not self._whole else ""

    def _end(self) -> int:
        if self.size_bytes is None:
            assert self._whole is not None
            self.size_bytes = self._whole.end()
        return self.size_bytes

    def _read_at(self, position: int, size: int) -> bytes:
        if self._whole is None:
            assert self._ranges is not None
            try:
                return self._ranges.read_at(position, size)
            except NoRanges as found:
                answer = found.whole
            self._whole = self._open_whole(self._ranges, answer)
        data = self._whole.read_at(position, size)
        self._compare(self._whole)
        return data

    def _open_whole(self, ranges: Ranges, answer: Answer | None) -> Whole:
        """Opens the same file from the start, when the server gives no further parts."""
        whole = ask_whole(self.route, answer)
        if answer is not None and whole.size_bytes not in (None, ranges.size_bytes):
            # Some addresses expire after a while and then answer with a web page.
            whole.close()
            whole = ask_whole(self.route, None)
        if whole.size_bytes not in (None, ranges.size_bytes):
            whole.close()
            raise file_changed()
        self._unchecked = dict(ranges.marks)
        return whole

    def _compare(self, whole: Whole) -> None:
        """Raises VideoTrouble when the chunks read by range requests belong to another file."""
        if self._unchecked and whole.is_complete and whole.held_bytes != self.size_bytes:
            raise file_changed()
        for index, mark in list(self._unchecked.items()):
            if min((index + 1) * CHUNK_BYTES, self._end()) <= whole.held_bytes:
                if hashlib.sha256(whole.read_at(index * CHUNK_BYTES, CHUNK_BYTES)).hexdigest() != mark:
                    raise file_changed()
                del self._unchecked[index]

    def release(self) -> Route:
        """Closes this file, and returns its route, by which another file of the same video can be read."""
        if self._whole is not None:
            self._whole.close()
        super().close()
        return self.route

    def close(self) -> None:
        if not self.closed:
            self.release().close()
        super().close()


def open_stream(url: str, *, limits: FetchLimits, deadline: Deadline) -> MediaStream:
    """Opens a web URL or the path of a local file for reading.

    Raises VideoTrouble with the status that the video gets.
    """
    size_bytes = len(url.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_URL_BYTES:
        raise VideoTrouble(Status.INVALID_URL, f"the URL is too long: {size_bytes:,} bytes, at most {MAX_URL_BYTES:,}")
    if is_web_url(url):
        return _open_web(url, limits=limits, deadline=deadline)
    if not url.strip():
        raise VideoTrouble(Status.INVALID_URL, "the cell is empty")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url):
        scheme = url.split(":", 1)[0]
        if scheme.lower() in ("http", "https"):
            raise VideoTrouble(Status.INVALID_URL, "the URL names no host")
        raise VideoTrouble(Status.INVALID_URL, f"only http and https are fetched, not {scheme[:20]}:")
    if not limits.allow_local_paths:
        raise VideoTrouble(
            Status.INVALID_URL,
            "it does not start with http:// or https:// (allow_local_paths would permit paths of files)",
            refused_by=limits.spell("allow_local_paths"),
        )
    return FileStream(Path(url))


def _open_web(url: str, *, limits: FetchLimits, deadline: Deadline) -> MediaStream:
    if has_scheme(url):
        return _open_route(Route(url, limits=limits, deadline=deadline))
    route = Route(f"https:{url}", limits=limits, deadline=deadline, scheme_is_guessed=True)
    try:
        return _open_route(route)
    except VideoTrouble as trouble:
        if route.has_connected:
            raise
        reason = f"the server does not speak https (the list gave no scheme): {trouble.reason}"
    if "@" in urlsplit(url_for_request(f"https:{url}")).netloc:
        raise VideoTrouble(
            Status.UNREACHABLE, f"{reason}; http would show the password to others: write http:// if it may be sent so"
        )
    try:
        return _open_route(Route(f"http:{url}", limits=limits, deadline=deadline))
    except VideoTrouble as trouble:
        raise VideoTrouble(
            trouble.status,
            f"{reason}; by http: {trouble.reason}",
            retryable=trouble.retryable,
            retry_after_s=trouble.retry_after_s,
            refused_by=trouble.refused_by,
        ) from None


def open_next(route: Route, url: str, *, first: int = 0, count: int = CHUNK_BYTES) -> WebStream:
    """Opens another file of the same video, by the route of the one before. At first, `count` bytes from the byte
    `first` on are requested, both multiples of `CHUNK_BYTES`. Raises VideoTrouble; the route stays open."""
    route.turn_to(url)
    return WebStream(route, _find_file(route, first, count))


def _open_route(route: Route) -> WebStream:
    with contextlib.ExitStack() as until_open:
        until_open.callback(route.close)
        stream = WebStream(route, _find_file(route, 0, CHUNK_BYTES))
        until_open.pop_all()
        return stream


def _find_file(route: Route, first: int, count: int) -> Ranges | Whole:
    """The file by range requests if its server answers them, otherwise from the start. Raises VideoTrouble."""
    answer = route.ask((first, first + count - 1))
    if is_whole(answer):
        return ask_whole(route, answer)
    with answer:
        if is_empty_file(answer):
            raise VideoTrouble(Status.NOT_VIDEO, "the file is empty")
        if not may_be_about_range(answer):
            raise refusal(answer)
        start = read_part(answer, first, first + count - 1)
    whole = None
    if start is not None and start.size_bytes is not None:
        try:
            return Ranges(route, answer, start, start.size_bytes, first=first)
        except NoRanges as found:
            whole = found.whole
    return ask_whole(route, whole)
