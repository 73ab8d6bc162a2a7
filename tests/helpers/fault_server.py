"""A web server on this machine that answers exactly as a test says: byte by byte, wrongly, late or never."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

TLS_GREETING = b"\x16"
"""First byte of whoever wants to speak TLS (RFC 8446, section 5.1)."""

Answer = Callable[["Request"], Iterable[bytes]]
"""What to send for a request, piece by piece; the connection is closed behind the last piece."""


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    number: int
    """0 for the first request that the server gets."""
    closing: threading.Event = field(repr=False)

    @property
    def range(self) -> tuple[int, int]:
        """First and last byte that are asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"])
        assert match
        return int(match[1]), int(match[2])

    def stall(self) -> Iterator[bytes]:
        """Send nothing more until the test is over."""
        self.closing.wait(60)
        return iter(())


def reply(status: str, body: bytes = b"", /, **headers: object) -> bytes:
    """An answer with its Content-Length, unless `headers` state one (None leaves it out); `_` stands for `-`."""
    fields = {"Content-Length": len(body), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


def reply_range(request: Request, body: bytes, **headers: object) -> bytes:
    """The right answer to a range request, and to one for the whole, which has the other headers alone that are not of
    ranges."""
    if "range" not in request.headers:
        return reply("200 OK", body, **{name: value for name, value in headers.items() if name != "Content_Range"})
    first, last = request.range
    last = min(last, len(body) - 1)
    content_range = {"Content_Range": f"bytes {first}-{last}/{len(body)}"}
    return reply("206 Partial Content", body[first : last + 1], **content_range | headers)


class FaultServer:
    """Serves `answer` on a free port, from entering the context until leaving it."""

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.connections = 0
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                server.connections += 1
                try:
                    if tls:
                        with tls.wrap_socket(self.request, server_side=True) as connection:
                            server.talk(connection, answer)
                    else:
                        server.talk(self.request, answer)
                except (OSError, IndexError):
                    # The client has had enough.
                    return

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._scheme = "https" if tls else "http"

    def talk(self, connection: socket.socket, answer: Answer) -> None:
        if not isinstance(connection, ssl.SSLSocket) and connection.recv(1, socket.MSG_PEEK) == TLS_GREETING:
            connection.sendall(reply("400 Bad Request", b"plain HTTP is spoken here"))
            return
        with connection.makefile("rb") as lines:
            head = list(iter(lambda: lines.readline().strip().decode("latin-1"), ""))
        fields = (line.partition(":") for line in head[1:])
        headers = {name.lower(): value.strip() for name, _, value in fields}
        request = Request(head[0].split(" ")[1], headers, len(self.requests), self.closing)
        self.requests.append(request)
        for piece in answer(request):
            connection.sendall(piece)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/clip.mp4", *, host: str = "127.0.0.1", user: str = "") -> str:
        return f"{self._scheme}://{user}{host}:{self.port}{path}"

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [request.range for request in self.requests]


def serve(body: bytes) -> Answer:
    """Ranges of `body`, as a web server should."""
    return lambda request: [reply_range(request, body)]


def always(*pieces: bytes) -> Answer:
    """The same for every request."""
    return lambda request: pieces


def in_turn(*answers: Any) -> Answer:
    """One answer a request, the last of them again and again."""
    return lambda request: answers[min(request.number, len(answers) - 1)](request)
