"""A small HTTP server for one folder, with byte ranges, as a web archive has."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import socketserver
import sys
import threading
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, unquote, urlsplit

_HOST = "127.0.0.1"
_CHUNK_BYTES = 16 * 1024
_TLS_HANDSHAKE = b"\x16"
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
_SINGLE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ClipServer:
    """Serves the files below `folder` at `base_url` while its context is open.

    Answers GET and HEAD, supports one byte range per request (RFC 9110, section 14), and sends strong ETags. `port` 0
    takes a free port. With `or_any_port`, it uses a free port when `port` is taken, instead of raising OSError. It
    waits `latency_s` seconds before every answer. With `ranges` off, every answer is the whole file.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, or_any_port: bool = False, latency_s: float = 0.0, ranges: bool = True
    ) -> None:
        self.folder = folder.resolve()
        self.latency_s = latency_s
        self.ranges = ranges
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._served_bytes = 0
        self._server = self._bind(port, or_any_port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="clip-server")

    def _bind(self, port: int, or_any_port: bool) -> _Server:
        try:
            return _Server(port, self)
        except OSError as error:
            if not or_any_port or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return _Server(0, self)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port in use; known before the context is entered."""
        return int(self._server.server_address[1])

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://{_HOST}:{self.port}"

    def url(self, name: str) -> str:
        """The URL of a file, given its path in the folder."""
        return f"{self.base_url}/{quote(name)}"

    @property
    def requests(self) -> dict[str, int]:
        """Number of GET and HEAD requests for each decoded path, found or not."""
        with self._lock:
            return dict(self._requests)

    @property
    def served_bytes(self) -> int:
        """Bytes sent so far in bodies, without headers."""
        with self._lock:
            return self._served_bytes

    def count_request(self, path: str) -> None:
        with self._lock:
            self._requests[path] += 1

    def count_bytes(self, number: int) -> None:
        with self._lock:
            self._served_bytes += number


def parse_range(header: str, *, size_bytes: int) -> slice | None:
    """The bytes that a Range header asks for; None when it must be ignored (several ranges, or no valid one).

    Raises ValueError when the range lies outside the file.
    """
    match = _SINGLE_RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= stop:
        raise ValueError(f"{header} lies outside of {size_bytes} bytes")
    return slice(start, stop)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, clips: ClipServer) -> None:
        self.clips = clips
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((_HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Ends connections that clients keep open, so that their threads end."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # It is no error of the server when a client disconnects in the middle of a body.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version: str = "HTTP/1.1"
    server_version: str = "ClipServer"
    disable_nagle_algorithm: ClassVar[bool] = True
    server: _Server

    def handle(self) -> None:
        # A TLS client never sends the end of a request line, so answer it at once.
        if self.connection.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
            self.connection.recv(_CHUNK_BYTES)
            self.connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return
        super().handle()

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the demo has its own output."""

    def _answer(self, *, with_body: bool) -> None:
        clips = self.server.clips
        path = unquote(urlsplit(self.path).path)
        clips.count_request(path)
        if clips.latency_s:
            clips.closing.wait(clips.latency_s)
        file = (clips.folder / path.lstrip("/")).resolve()
        if not file.is_relative_to(clips.folder) or not file.is_file():
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", {"Content-Type": "text/plain"}, with_body=with_body)
            return
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        kind = (
            "text/html; charset=utf-8"
            if content.startswith(b"<")
            else _TYPES.get(file.suffix, "application/octet-stream")
        )
        headers = {"Content-Type": kind, "ETag": etag}
        if not clips.ranges:
            self._send(HTTPStatus.OK, content, headers, with_body=with_body)
            return
        headers["Accept-Ranges"] = "bytes"
        # RFC 9110, 13.1.5: a client with parts of another version gets the whole file.
        wanted = self.headers.get("Range", "") if self.headers.get("If-Range", etag) == etag else ""
        try:
            part = parse_range(wanted, size_bytes=len(content)) if with_body else None
        except ValueError:
            headers["Content-Range"] = f"bytes */{len(content)}"
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers, with_body=with_body)
            return
        if part is None:
            self._send(HTTPStatus.OK, content, headers, with_body=with_body)
        else:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
            self._send(HTTPStatus.PARTIAL_CONTENT, content[part], headers, with_body=with_body)

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str], *, with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            for start in range(0, len(body), _CHUNK_BYTES):
                chunk = body[start : start + _CHUNK_BYTES]
                # Count before sending, so that a client with the whole body finds it counted.
                self.server.clips.count_bytes(len(chunk))
                self.wfile.write(chunk)
