"""Reading a video over HTTP, or from a file, as a stream that we own.

The decoder asks for bytes and this module fetches them: by ranges where the server has them, so that a frame
in the middle of a large file costs a few hundred kilobytes; else from the start, and no further than needed.
Redirects, addresses, time and bytes are all decided here, because a URL from a list may point anywhere.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import errno
import hashlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
import stat
import tempfile
import time
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from dedup_lib import __version__
from dedup_lib.display import without_credentials
from dedup_lib.errors import VideoTrouble
from dedup_lib.records import MAX_URL_BYTES, Status
from dedup_lib.settings import CalibrateSettings, ExtractSettings
from dedup_lib.urls import is_web_url, url_for_request

CHUNK_BYTES = 128 * 1024
MAX_REDIRECTS = 5
SOCKET_TIMEOUT_S = 15.0

MAX_RETRY_AFTER_S = 300.0
"""A server may ask for a longer pause than this, but one answer shall not hold up a run for hours."""

_CACHED_CHUNKS = 64
_MOST_CHUNKS_AT_ONCE = 8
_NO_SUCH_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_CARRIES_IPV4_LAST = tuple(
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_FILE_SIZE = "[0-9]{1,18}"
_DIGEST_TAG = re.compile('"([0-9A-Fa-f]{32,128})(-[0-9]{1,5})?"')
"""A strong entity tag (RFC 9110, section 8.8.3) that reads as the hash of a content, MD5 or longer; object stores add
the number of parts in which it was uploaded. Others, such as those of a length and a time, tell two versions of a file
apart and say nothing of two files."""
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})
_RETRYABLE_CODES = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
"""What may pass (RFC 9110, section 15): of the errors of a server all but that it cannot do what is asked."""


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """What one video may cost: seconds from its first request on, bytes that are fetched (not the size of the file);
    and whether addresses inside private networks and files of this machine are allowed."""

    timeout_s: float
    max_bytes: int
    allow_private_addresses: bool = False
    allow_local_paths: bool = False

    @classmethod
    def of(cls, settings: ExtractSettings | CalibrateSettings) -> FetchLimits:
        """Those that the settings of a notebook name."""
        return cls(
            timeout_s=settings.timeout_s,
            max_bytes=settings.max_bytes,
            allow_private_addresses=settings.allow_private_addresses,
            allow_local_paths=settings.allow_local_paths,
        )

    def spell(self, name: str) -> str:
        """One of them as `name=value`."""
        return f"{name}={getattr(self, name)}"


class Deadline:
    """A moment after which reading one video ends with status `timeout`."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left. Raises VideoTrouble when there are none."""
        left = self._end_s - time.monotonic()
        if left <= 0:
            raise VideoTrouble(Status.TIMEOUT, f"not finished within {self.timeout_s:g} s (timeout_s)", retryable=True)
        return left


class MediaStream(io.RawIOBase):
    """A readable, seekable stream of one video; remembers what it cost and why it failed.

    `trouble` holds the VideoTrouble that a read raised: a decoder between us and the caller may replace
    the exception by one of its own.
    """

    def __init__(self, size_bytes: int | None) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.fetched_bytes = 0
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
    def beginning_mark(self) -> str:
        """Length of the file and hash of its beginning, "" where parts of it cannot be had."""
        return ""

    @property
    def end_mark(self) -> str:
        """Hash of its end, "" where that has not been read."""
        return ""

    @property
    def tag(self) -> str:
        """Its server, and the hash of the whole file that this one names; "" where it names none."""
        return ""

    def read_end(self) -> None:
        """Have its end read, and so its mark known. Raises VideoTrouble."""
        place = self._position
        self.seek(max(0, self._end() - 1))
        self.read(1)
        self._position = place

    @abstractmethod
    def _end(self) -> int:
        """Size of the whole in bytes."""

    @abstractmethod
    def _read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position` on; fewer at the end only. Raises VideoTrouble."""


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

    def _end(self) -> int:
        return self.size_bytes or 0

    def _read_at(self, position: int, size: int) -> bytes:
        try:
            self._file.seek(position)
            data = self._file.read(size)
        except OSError as error:
            raise VideoTrouble(Status.UNREACHABLE, f"cannot read the file: {error.strerror}") from None
        self.fetched_bytes += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class RangeStream(MediaStream):
    """A file on a server that answers range requests, read in chunks of `CHUNK_BYTES`.

    Reading on where the last request ended doubles the request, up to 1 MiB: few requests for a file read
    through, few bytes for one that is sampled.
    """

    def __init__(self, source: _Source, *, first: bytes, size_bytes: int, named: str = "") -> None:
        super().__init__(size_bytes)
        self._source = source
        self._tag = f"{source.server} {named}" if _DIGEST_TAG.fullmatch(named) else ""
        self._size_bytes = size_bytes
        self._chunks: OrderedDict[int, bytes] = OrderedDict({0: first})
        self._marks = {0: hashlib.sha256(first).hexdigest()}
        """Hashes of the first and of the last chunk, by their number."""
        self._next_index = 1
        self._chunks_at_once = 1
        self.fetched_bytes = len(first)

    @property
    def beginning_mark(self) -> str:
        return f"{self._size_bytes} {self._marks[0]}"

    @property
    def tag(self) -> str:
        return self._tag

    @property
    def end_mark(self) -> str:
        return self._marks.get(max(0, self._size_bytes - 1) // CHUNK_BYTES, "")

    def _end(self) -> int:
        return self._size_bytes

    def _read_at(self, position: int, size: int) -> bytes:
        end = min(position + size, self._size_bytes)
        parts = []
        while position < end:
            index, offset = divmod(position, CHUNK_BYTES)
            part = self._chunk(index)[offset : offset + end - position]
            if not part:
                break
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def _chunk(self, index: int) -> bytes:
        if index not in self._chunks:
            self._chunks_at_once = (
                min(self._chunks_at_once * 2, _MOST_CHUNKS_AT_ONCE) if index == self._next_index else 1
            )
            self._fetch_chunks(index, self._chunks_at_once)
        self._chunks.move_to_end(index)
        return self._chunks[index]

    def _fetch_chunks(self, index: int, count: int) -> None:
        first = index * CHUNK_BYTES
        last = min(first + count * CHUNK_BYTES, self._size_bytes) - 1
        data = self._source.fetch_range(first, last, size_bytes=self._size_bytes, already=self.fetched_bytes)
        self.fetched_bytes += len(data)
        for start in range(0, len(data), CHUNK_BYTES):
            self._chunks[index + start // CHUNK_BYTES] = data[start : start + CHUNK_BYTES]
        self._next_index = last // CHUNK_BYTES + 1
        if last == self._size_bytes - 1:
            self._marks[self._next_index - 1] = hashlib.sha256(self._chunks[self._next_index - 1]).hexdigest()
        while len(self._chunks) > _CACHED_CHUNKS:
            self._chunks.popitem(last=False)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class SequentialStream(MediaStream):
    """A file on a server without ranges: fetched from the start, only as far as it is read."""

    def __init__(self, source: _Source, response: urllib3.BaseHTTPResponse, *, size_bytes: int | None) -> None:
        super().__init__(size_bytes)
        self._source = source
        self._response = response
        self._complete = False
        # Lives as long as the stream and is closed with it.
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115

    def _end(self) -> int:
        if self.size_bytes is None:
            self._fetch_to(None)
            self.size_bytes = self.fetched_bytes
        return self.size_bytes

    def _read_at(self, position: int, size: int) -> bytes:
        if self.size_bytes is not None and position >= self.size_bytes:
            return b""
        self._fetch_to(position + size)
        self._spool.seek(position)
        return self._spool.read(size)

    def _fetch_to(self, end: int | None) -> None:
        while not self._complete and (end is None or self.fetched_bytes < end):
            data = self._source.read_some(self._response, already=self.fetched_bytes)
            if not data:
                # An empty file says so by its length; what ends without any may have been cut off in its head.
                if (
                    not self.fetched_bytes
                    and self.size_bytes is None
                    and not self._response.headers.get("Transfer-Encoding")
                ):
                    raise VideoTrouble(
                        Status.UNREACHABLE, "the connection closed before any content came", retryable=True
                    )
                self._complete = True
                break
            self._spool.seek(0, io.SEEK_END)
            self._spool.write(data)
            self.fetched_bytes += len(data)

    def close(self) -> None:
        if not self.closed:
            self._spool.close()
            self._response.close()
            self._source.close()
        super().close()


def open_stream(url: str, *, limits: FetchLimits, deadline: Deadline) -> MediaStream:
    """Open a web URL or the path of a local file for reading.

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
    for _ in range(MAX_REDIRECTS + 1):
        with contextlib.ExitStack() as until_open:
            source = _Source(url, limits=limits, deadline=deadline)
            until_open.callback(source.close)
            response = source.request({"Range": f"bytes=0-{CHUNK_BYTES - 1}"})
            until_open.callback(response.close)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                stream = _stream_of(source, response)
                until_open.pop_all()
                return stream
            url = _redirected(url, location)
    raise VideoTrouble(Status.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects in a row")


def _redirected(url: str, location: str) -> str:
    """The address that a redirect leads to; its own spelling is trusted no more than that of a list."""
    try:
        # http.client reads header fields as Latin-1: this gives back the bytes that the server sent.
        target = urljoin(url, re.sub("[\x80-\xff]", lambda match: f"%{ord(match[0]):02X}", location))
        if is_web_url(target):
            url_for_request(target)
    except ValueError:
        shown = without_credentials(location)[:60]
        raise VideoTrouble(Status.HTTP_ERROR, f"redirects to {shown!r}, which is not a URL") from None
    if not is_web_url(target):
        scheme = target.split(":", 1)[0][:20]
        raise VideoTrouble(Status.BLOCKED_ADDRESS, f"redirects to {scheme}:, and only http and https are followed")
    if url.lower().startswith("https:") and target.lower().startswith("http:"):
        raise VideoTrouble(Status.BLOCKED_ADDRESS, "redirects from https to http, which is not followed")
    return target


def _stream_of(source: _Source, response: urllib3.BaseHTTPResponse) -> MediaStream:
    if response.status == 206:
        _refuse_compression(response)
        size_bytes = _total_size(response, first=0)
        first = source.read_all(response, already=0, most=min(CHUNK_BYTES, size_bytes))
        if len(first) < min(CHUNK_BYTES, size_bytes):
            raise VideoTrouble(Status.UNREACHABLE, "the connection closed in the middle of the file", retryable=True)
        return RangeStream(source, first=first, size_bytes=size_bytes, named=response.headers.get("ETag", ""))
    if response.status == 200:
        _refuse_compression(response)
        length = response.headers.get("Content-Length", "")
        return SequentialStream(source, response, size_bytes=int(length) if re.fullmatch(_FILE_SIZE, length) else None)
    if response.status == 416 and response.headers.get("Content-Range", "").strip() == "bytes */0":
        raise VideoTrouble(Status.NOT_VIDEO, "the file is empty")
    # Up to 64 KB of a status line are the server's to fill.
    raise _refusal(response, f"HTTP {response.status} {(response.reason or '')[:120]}".strip())


def _refusal(response: urllib3.BaseHTTPResponse, reason: str) -> VideoTrouble:
    """The trouble of an answer by its status code, with the pause that the server asks for."""
    retryable = response.status in _RETRYABLE_CODES
    retry_after_s = _retry_after_s(response.headers.get("Retry-After", "")) if retryable else None
    return VideoTrouble(Status.HTTP_ERROR, reason, retryable=retryable, retry_after_s=retry_after_s)


def _retry_after_s(value: str) -> float | None:
    """Seconds from now on, 0 to `MAX_RETRY_AFTER_S`, that a Retry-After names as a number or as a date (RFC 9110,
    section 10.2.3); None where it is neither."""
    if re.fullmatch("[0-9]+", value):
        # A long run of digits is over the limit anyway, and int() refuses more than 4300 of them.
        return min(float(value[:18]), MAX_RETRY_AFTER_S)
    try:
        moment_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(moment_s - time.time(), 0.0), MAX_RETRY_AFTER_S)


def _refuse_compression(response: urllib3.BaseHTTPResponse) -> None:
    """Nothing is ever unpacked: a few kilobytes may unpack to terabytes, and ranges of packed bytes are no ranges of
    the video. A coding that is no compression (some servers name a character set there) changes no byte."""
    codings = response.headers.get("Content-Encoding", "").lower()
    if named := _COMPRESSIONS.intersection(re.split("[ \t,]+", codings)):
        raise VideoTrouble(Status.HTTP_ERROR, f"the server compresses the file ({min(named)}) although asked not to")


def _total_size(response: urllib3.BaseHTTPResponse, *, first: int) -> int:
    """Size of the whole file, from the Content-Range of a 206 answer (RFC 9110, section 14.4)."""
    value = response.headers.get("Content-Range", "")
    match = re.fullmatch(rf"bytes ({_FILE_SIZE})-{_FILE_SIZE}/({_FILE_SIZE})", value.strip())
    if match is None or int(match[1]) != first:
        raise VideoTrouble(Status.HTTP_ERROR, f"the server answers with a wrong Content-Range, {value[:60]!r}")
    return int(match[2])


class _NotedLines:
    """Lines of a stream, and whether the last of them was cut off."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self.is_cut_off = False

    def readline(self, most: int = -1, /) -> bytes:
        line = self._stream.readline(most)
        self.is_cut_off = len(line) != most and not line.endswith(b"\n")
        return line

    def close(self) -> None:
        self._stream.close()


class _Response(http.client.HTTPResponse):
    """Knows a head that is cut off, which its parent takes for a short one."""

    fp: Any

    def begin(self) -> None:
        stream = self.fp
        self.fp = lines = _NotedLines(stream)
        try:
            super().begin()
        except http.client.BadStatusLine:
            if not lines.is_cut_off:
                raise
        finally:
            if self.fp is lines:
                self.fp = stream
        if lines.is_cut_off:
            raise http.client.RemoteDisconnected("the head of the answer is cut off")


class _PlainConnection(HTTPConnection):
    """Asks for its target as it is spelt: a pool respells escapes, and a signature covers the exact bytes."""

    response_class = _Response

    def __init__(self, *args: Any, target: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._target = target

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        super().putrequest(method, self._target, *args, **options)


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Source:
    """One URL on one checked address, asked for as often as needed."""

    def __init__(self, url: str, *, limits: FetchLimits, deadline: Deadline) -> None:
        try:
            requested = url_for_request(url)
            parts = urlsplit(requested)
            port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        except ValueError as error:
            raise VideoTrouble(Status.INVALID_URL, str(error)) from None
        self._limits = limits
        self._deadline = deadline
        self._has_answered = False
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.hostname or ""
        self.server = f"{parts.scheme.lower()}://{host}:{port}"
        shown_host = f"[{host}]" if ":" in host else host
        self._headers = {
            "Host": shown_host if parts.port is None else f"{shown_host}:{port}",
            "User-Agent": f"dedup-lib/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        if parts.username is not None:
            credentials = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode("ascii")
        self._pools = [
            _TlsPool(address, port, server_hostname=host, assert_hostname=host, target=self._target)
            if parts.scheme.lower() == "https"
            else _PlainPool(address, port, target=self._target)
            for address in find_addresses(host, port, limits=limits)
        ]

    def request(self, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Ask once; the next address of the host is tried only while no connection comes about.

        A connection that was kept from an earlier request may be closed by the server while the next one is on its
        way: then a new one is made (RFC 9112, section 9.3.1).
        """
        is_first_try = True
        while True:
            try:
                left_s = min(SOCKET_TIMEOUT_S, self._deadline.remaining_s())
                response = self._pools[0].urlopen(
                    "GET",
                    self._target,
                    headers=self._headers | headers,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(connect=left_s, read=left_s),
                )
                self._has_answered = True
                return response
            except (ConnectTimeoutError, NewConnectionError) as error:
                if len(self._pools) == 1:
                    raise _trouble_of(error) from None
                self._pools.pop(0).close()
            except (HTTPError, OSError) as error:
                if not (isinstance(error, ProtocolError) and self._has_answered and is_first_try):
                    raise _trouble_of(error) from None
                is_first_try = False

    def fetch_range(self, first: int, last: int, *, size_bytes: int, already: int) -> bytes:
        """Bytes `first` to `last`, both included."""
        with self.request({"Range": f"bytes={first}-{last}"}) as response:
            if response.status != 206:
                raise _refusal(response, f"HTTP {response.status} when asked for a part of the file")
            _refuse_compression(response)
            if _total_size(response, first=first) != size_bytes:
                raise VideoTrouble(Status.HTTP_ERROR, "the file changed while it was read", retryable=True)
            data = self.read_all(response, already=already, most=last - first + 1)
        if len(data) != last - first + 1:
            raise VideoTrouble(Status.UNREACHABLE, "the connection closed in the middle of the file", retryable=True)
        return data

    def read_all(self, response: urllib3.BaseHTTPResponse, *, already: int, most: int = CHUNK_BYTES) -> bytes:
        """The body, but no more than `most` bytes of it: a server may send more than was asked for."""
        body = bytearray()
        with response:
            while len(body) < most and (part := self.read_some(response, already=already + len(body))):
                body += part
        return bytes(body[:most])

    def read_some(self, response: urllib3.BaseHTTPResponse, *, already: int) -> bytes:
        """The bytes that have arrived, b"" at the end; one read at a time, so that a server which sends a
        byte a second meets the deadline."""
        self._deadline.remaining_s()
        try:
            data = response.read1(64 * 1024)
        except (HTTPError, OSError) as error:
            raise _trouble_of(error) from None
        if already + len(data) > self._limits.max_bytes:
            raise VideoTrouble(
                Status.TOO_LARGE,
                f"more than {self._limits.max_bytes:,} bytes would have to be fetched (max_bytes)",
                refused_by=self._limits.spell("max_bytes"),
            )
        return data

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


def _trouble_of(error: Exception) -> VideoTrouble:
    match error:
        case NewConnectionError():
            return VideoTrouble(Status.UNREACHABLE, "the server refuses the connection", retryable=True)
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return VideoTrouble(Status.TIMEOUT, "the server does not answer", retryable=True)
        case SSLError() if not isinstance(error.args[0], ssl.SSLEOFError):
            return VideoTrouble(Status.UNREACHABLE, f"TLS fails: {_tls_reason(error)}")
        case InvalidHeader():
            return VideoTrouble(Status.HTTP_ERROR, f"the server's answer is malformed: {str(error)[:120]}")
        case ProtocolError() if _speaks_no_http(error):
            return VideoTrouble(Status.UNREACHABLE, "the server does not speak HTTP")
        case ProtocolError() | SSLError():
            return VideoTrouble(Status.UNREACHABLE, "the server breaks off the connection", retryable=True)
    return VideoTrouble(Status.UNREACHABLE, f"the connection fails: {str(error)[:120]}", retryable=True)


def _speaks_no_http(error: ProtocolError) -> bool:
    """Whether an answer came that is none, rather than too little of one."""
    inner = error.args[-1] if error.args else None
    cut_off = (http.client.IncompleteRead, http.client.RemoteDisconnected)
    return isinstance(inner, http.client.HTTPException) and not isinstance(inner, cut_off)


def _tls_reason(error: SSLError) -> str:
    """In words, such as `certificate verify failed` or `wrong version number` (no TLS on that port)."""
    inner = error.args[0] if error.args else None
    reason = inner.reason if isinstance(inner, ssl.SSLError) else None
    return (reason or str(error)).replace("_", " ").lower()


def find_addresses(host: str, port: int, *, limits: FetchLimits) -> list[str]:
    """The IP addresses of a host, each checked; the connection goes to one of these and to no other.

    Raises VideoTrouble when the name does not resolve, or when any of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise VideoTrouble(Status.UNREACHABLE, f"the host name {host!r} does not resolve", retryable=again) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not limits.allow_private_addresses and not is_public_address(address):
            raise VideoTrouble(
                Status.BLOCKED_ADDRESS,
                f"{host} is at {address}, a private address (allow_private_addresses would permit it)",
                refused_by=limits.spell("allow_private_addresses"),
            )
    return addresses


def is_public_address(address: str) -> bool:
    """Whether an IP address lies in the public internet.

    IPv6 addresses that carry an IPv4 one (mapped, compatible, translated, 6to4, NAT64, Teredo) are as public as
    that one.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if any(ip in network for network in _CARRIES_IPV4_LAST):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(str(inner))
        # Global unicast (RFC 4291, section 2.4) is all that is in use of IPv6.
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast
