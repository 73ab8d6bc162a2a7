"""One HTTP request to one address that was checked, within a deadline."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import re
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_to_bytes, urlsplit

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
from dedup_lib.errors import VideoTrouble
from dedup_lib.lists.urls import url_for_request
from dedup_lib.media.addresses import find_addresses, hint_at_proxy
from dedup_lib.media.limits import Deadline, FetchLimits, Meter
from dedup_lib.records import Status

SOCKET_TIMEOUT_S = 15.0

_READ_BYTES = 64 * 1024
_MAX_INTERIM_ANSWERS = 100
_MAX_NO_FIELDS = 100
_BLANKS_BEFORE_COLON = re.compile(rb"^([^:\s]+)[ \t]+:")

# Chains of proxies send more fields than the 100 that are usual.
http.client._MAXHEADERS = 1000  # type: ignore[attr-defined] # typeshed leaves it out


class Answer:
    """The answer of a server: its head, and its body, which is fetched while it is read."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, *, source: Source, deadline: Deadline, fetched: Meter
    ) -> None:
        self.server = source.server
        """Scheme, host and port."""
        # 203 is 200 from a proxy that may have changed the content (RFC 9110, section 15.3.4).
        self.status = 200 if response.status == 203 else response.status
        # The server may send a status line of up to 64 KB.
        self.title = f"HTTP {response.status} {(response.reason or '')[:120]}".strip()
        self._response = response
        self._socket = source.socket
        self._deadline = deadline
        self._fetched = fetched

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def field(self, name: str) -> str:
        """A header field, "" when there is none; several fields of one name are joined by commas."""
        return self._response.headers.get(name, "").strip()

    def fields(self, name: str) -> list[str]:
        """All header fields of this name."""
        return list(self._response.headers.getlist(name))

    def all_fields(self) -> dict[str, str]:
        """All header fields; several of one name are joined by commas."""
        return dict(self._response.headers.itermerged())

    def read_some(self, most: int = _READ_BYTES) -> bytes:
        """Returns the bytes of the body that have arrived, at most `most`; b"" at the end. Raises VideoTrouble.

        Each call reads only once and waits no longer than the deadline, so that it also ends a server that sends one
        byte a second, or stops."""
        left_s = self._deadline.remaining_s()
        # Once the last byte has come, the socket may be closed.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.settimeout(min(SOCKET_TIMEOUT_S, left_s))
        try:
            data = self._response.read1(min(most, _READ_BYTES))
        except (HTTPError, OSError) as error:
            # Where the deadline ended the wait, the trouble is that of the deadline.
            self._deadline.check()
            raise _trouble_of(error) from None
        self._fetched.add(len(data))
        return data

    def read(self, most: int) -> bytes:
        """Returns at most `most` bytes of the body, because a server may send more than was requested."""
        body = bytearray()
        while len(body) < most and (part := self.read_some(most - len(body))):
            body += part
        return bytes(body)

    def close(self) -> None:
        self._response.close()


class _TimedReader(io.BufferedReader):
    """Reads lines until the deadline, however slowly the server sends their bytes."""

    def __init__(self, raw: io.RawIOBase, deadline: Deadline) -> None:
        super().__init__(raw)
        self._deadline = deadline

    def readline(self, most: int | None = -1, /) -> bytes:
        line = bytearray()
        most = -1 if most is None else most
        while not line.endswith(b"\n") and len(line) != most:
            self._deadline.check()
            # This waits for the next bytes only, and not for the end of the line.
            held = len(self.peek(1))
            if not held:
                break
            line += super().readline(held if most < 0 else min(held, most - len(line)))
        return bytes(line)


class _NotedLines:
    """Reads the lines of heads, and notes whether the last one was cut off.

    Lines that are no fields are left out, and so are blanks before a colon, as browsers do: the parser would take such
    a line for the end of the head, and the length of the body would be lost.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._begins_head = True
        self.is_cut_off = False

    def readline(self, most: int = -1, /) -> bytes:
        for _ in range(_MAX_NO_FIELDS):
            line = self._stream.readline(most)
            if self._begins_head or b":" in line or not line.strip() or line[:1].isspace():
                break
        self.is_cut_off = len(line) != most and not line.endswith(b"\n")
        is_status, self._begins_head = self._begins_head, not line.strip()
        return line if is_status else _BLANKS_BEFORE_COLON.sub(rb"\1:", line)

    def close(self) -> None:
        self._stream.close()


class _Response(http.client.HTTPResponse):
    """Detects a head that is cut off, which its parent takes for a short head, skips interim answers, and knows chunks
    where further transfer codings are named."""

    fp: Any

    def __init__(self, connected: socket.socket, *args: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(connected, *args, **options)
        self.fp = _TimedReader(self.fp.detach(), deadline)

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
        # The parent takes only the single word for chunks. What packs the content before it is undone by whoever reads.
        codings = ",".join(self.headers.get_all("Transfer-Encoding", [])).lower().split(",")
        # Chunks outweigh a length (RFC 9112, section 6.3), but an answer of these two statuses has no body.
        if not self.chunked and codings[-1].strip() == "chunked" and self.status not in (204, 304):
            self.chunked, self.chunk_left, self.length = True, None, None

    def _read_status(self) -> tuple[str, int, str]:
        """Returns the status line of the final answer. Interim answers (RFC 9110, section 15.2) may come before it; the
        parent only skips 100. 101 is not interim: after it, the connection no longer carries HTTP."""
        for _ in range(_MAX_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MAX_INTERIM_ANSWERS} interim answers")


class _PlainConnection(HTTPConnection):
    """Sends the target exactly as the URL spells it: a pool rewrites escapes, a signature covers the exact bytes."""

    def __init__(self, *args: Any, source: Source, **options: Any) -> None:
        super().__init__(*args, **options)
        self._source = source
        self.response_class = partial(_Response, deadline=source.deadline)  # type: ignore[assignment] # it makes one

    def connect(self) -> None:
        super().connect()
        self._source.has_connected = True
        self._source.socket = self.sock

    def putrequest(self, method: str, url: str, *args: Any, **options: Any) -> None:
        super().putrequest(method, self._source.target, *args, **options)


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What a URL asks for, and of which server."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    """Path and query, as the request spells them."""
    headers: dict[str, str]

    @property
    def server(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.host}:{self.port}"


class Source:
    """One URL at one checked address, for any number of requests. Proxies that the environment names are not used."""

    def __init__(self, url: str, *, limits: FetchLimits, deadline: Deadline, fetched: Meter) -> None:
        """Raises VideoTrouble when the URL gives no valid request, or when the address rules forbid its host."""
        self.has_connected = False
        self.socket: socket.socket | None = None
        """That of the latest connection."""
        self.deadline = deadline
        self._fetched = fetched
        self._has_answered = False
        self._target = target = _target_of(url)
        # No certificate names a host with its final dot (RFC 6066, 3).
        name = target.host.removesuffix(".")
        self._pools = [
            _TlsPool(address, target.port, server_hostname=name, assert_hostname=name, source=self)
            if target.scheme == "https"
            else _PlainPool(address, target.port, source=self)
            for address in find_addresses(target.scheme, target.host, target.port, limits=limits)
        ]

    @property
    def url(self) -> str:
        """The URL as it is asked for."""
        return self._target.url

    @property
    def server(self) -> str:
        """Scheme, host and port."""
        return self._target.server

    @property
    def target(self) -> str:
        """Path and query of the URL."""
        return self._target.path

    def turn_to(self, url: str) -> bool:
        """Makes the next requests ask for another URL of the same server, by the same connections. Returns False, and
        changes nothing, when it is of another server. Raises VideoTrouble when the URL gives no valid request."""
        target = _target_of(url)
        if target.server != self._target.server:
            return False
        self._target = target
        return True

    def ask(
        self, headers: dict[str, str], *, connect_s: float, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        """Sends one request. Raises VideoTrouble.

        Each address of the host has `connect_s` seconds to connect; the next address is tried only when that fails. The
        server may close a kept connection while the next request is on its way: then the request is sent once more, on
        a new connection (RFC 9112, section 9.3.1).
        """
        is_first_try = True
        while True:
            try:
                left_s = min(SOCKET_TIMEOUT_S, self.deadline.remaining_s())
                response = self._pools[0].urlopen(
                    method,
                    self.target,
                    body=body,
                    headers=self._target.headers | headers,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(connect=min(left_s, connect_s), read=left_s),
                )
                self._has_answered = True
                return Answer(response, source=self, deadline=self.deadline, fetched=self._fetched)
            except (ConnectTimeoutError, NewConnectionError) as error:
                if len(self._pools) == 1:
                    raise _trouble_of(error, hint_at_proxy(self._target.scheme, self._target.host)) from None
                self._pools.pop(0).close()
            except (HTTPError, OSError) as error:
                if not (isinstance(error, ProtocolError) and self._has_answered and is_first_try):
                    raise _trouble_of(error) from None
                is_first_try = False

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


def _target_of(url: str) -> _Target:
    try:
        asked = url_for_request(url)
        parts = urlsplit(asked)
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError as error:
        raise VideoTrouble(Status.INVALID_URL, str(error)) from None
    host = parts.hostname or ""
    shown_host = f"[{host}]" if ":" in host else host
    headers = {
        "Host": shown_host if parts.port is None else f"{shown_host}:{port}",
        "User-Agent": f"dedup-lib/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    if parts.username is not None:
        credentials = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode("ascii")
    return _Target(
        url=asked,
        scheme=parts.scheme.lower(),
        host=host,
        port=port,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=headers,
    )


def _trouble_of(error: Exception, hint: str = "") -> VideoTrouble:
    match error:
        case NewConnectionError():
            return VideoTrouble(Status.UNREACHABLE, f"the server refuses the connection{hint}", retryable=True)
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return VideoTrouble(Status.TIMEOUT, f"the server does not answer{hint}", retryable=True)
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
    """Whether the answer was no HTTP at all, rather than HTTP that is cut off."""
    inner = error.args[-1] if error.args else None
    cut_off = (http.client.IncompleteRead, http.client.RemoteDisconnected)
    return isinstance(inner, http.client.HTTPException) and not isinstance(inner, cut_off)


def _tls_reason(error: SSLError) -> str:
    """The reason in words, such as `certificate verify failed` or `wrong version number` (no TLS on that port)."""
    inner = error.args[0] if error.args else None
    reason = inner.reason if isinstance(inner, ssl.SSLError) else None
    return (reason or str(error)).replace("_", " ").lower()
