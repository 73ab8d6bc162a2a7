"""Fetching from servers that do as they should, as they please, or as an attacker would."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import os
import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_server import FaultServer, Request, always, in_turn, reply, reply_range, serve

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import VideoTrouble
from dedup_lib.media import addresses, connections, ranges
from dedup_lib.media.addresses import find_addresses, is_public_address
from dedup_lib.media.answers import MAX_RETRY_AFTER_S
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.ranges import CHUNK_BYTES
from dedup_lib.media.streams import MediaStream
from dedup_lib.media.streams import open_stream as open_media
from dedup_lib.records import Status

BODY = np.random.default_rng(1).bytes(5 * CHUNK_BYTES + 1234)


def open_stream(
    url: str,
    *,
    timeout_s: float = 20,
    max_bytes: int = 50_000_000,
    allow_private: bool = True,
    allow_local: bool = True,
) -> MediaStream:
    limits = FetchLimits(
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        allow_private_addresses=allow_private,
        allow_local_paths=allow_local,
    )
    return open_media(url, limits=limits, deadline=Deadline(timeout_s))


def read_all(url: str, **limits: int) -> bytes:
    with open_stream(url, **limits) as stream:
        return stream.read()


def trouble_of(url: str, **limits: float) -> VideoTrouble:
    """What goes wrong when a URL is opened and read to its end."""
    with pytest.raises(VideoTrouble) as caught, open_stream(url, **limits) as stream:  # type: ignore[arg-type] # mixed
        stream.read()
    return caught.value


# Reading


def test_a_file_on_a_server_with_ranges_is_read_whole_and_anywhere() -> None:
    with FaultServer(serve(BODY)) as server, open_stream(server.url()) as stream:
        assert stream.size_bytes == len(BODY)
        assert stream.read() == BODY and stream.read(10) == b""
        for position, size in ((0, 1), (CHUNK_BYTES - 1, 2), (3 * CHUNK_BYTES, CHUNK_BYTES), (len(BODY) - 5, 50)):
            assert stream.seek(position) == stream.tell() == position
            assert stream.read(size) == BODY[position : position + size]
        assert stream.seek(-7, os.SEEK_END) == len(BODY) - 7
        assert stream.seek(3, os.SEEK_CUR) == len(BODY) - 4 and stream.read() == BODY[-4:]
        stream.seek(len(BODY) + 10)
        assert stream.read(4) == b""
        with pytest.raises(ValueError, match="before the start"):
            stream.seek(-1)
        assert stream.fetched_bytes == len(BODY)


def test_reading_on_takes_ever_larger_ranges_and_each_byte_once() -> None:
    with FaultServer(serve(BODY)) as server:
        assert read_all(server.url()) == BODY
        assert [last + 1 - first for first, last in server.ranges] == [
            CHUNK_BYTES,
            2 * CHUNK_BYTES,
            2 * CHUNK_BYTES + 1234,
        ]


def test_reading_the_end_of_a_file_fetches_its_ends_only() -> None:
    with FaultServer(serve(BODY)) as server, open_stream(server.url()) as stream:
        stream.read(100)
        stream.seek(-100, os.SEEK_END)
        assert stream.read() == BODY[-100:]
        assert stream.fetched_bytes == CHUNK_BYTES + 1234
        stream.seek(0)
        stream.read(100)
        assert len(server.requests) == 2


def test_a_file_smaller_than_one_range() -> None:
    with FaultServer(serve(BODY[:1000])) as server:
        assert read_all(server.url()) == BODY[:1000]
        assert len(server.requests) == 1


def test_chunks_that_are_no_longer_kept_are_fetched_again() -> None:
    body = bytes(70 * CHUNK_BYTES)
    with FaultServer(serve(body)) as server, open_stream(server.url(), max_bytes=10**9) as stream:
        stream.read()
        before = len(server.requests)
        stream.seek(0)
        assert stream.read(10) == bytes(10)
        assert len(server.requests) == before + 1


@pytest.mark.parametrize("length", [None, len(BODY)])
def test_a_server_that_ignores_ranges_is_read_from_the_start(length: int | None) -> None:
    with FaultServer(always(reply("200 OK", BODY, Content_Length=length))) as server:
        with open_stream(server.url()) as stream:
            assert stream.size_bytes == length
            stream.seek(-10, os.SEEK_END)
            assert stream.read() == BODY[-10:]
            stream.seek(5)
            assert stream.read(10) == BODY[5:15]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("codings", "length"), [("chunked", None), ("chunked", 0), ("gzip, chunked", None), ("gzip, chunked", 0)]
)
def test_a_body_in_chunks_is_read_whole(codings: str, length: int | None) -> None:
    content = gzip.compress(BODY) if "gzip" in codings else BODY
    parts = [content[start : start + 99_999] for start in range(0, len(content), 99_999)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with FaultServer(always(reply("200 OK", body, Content_Length=length, Transfer_Encoding=codings))) as server:
        assert read_all(server.url()) == BODY


def test_without_ranges_no_more_is_fetched_than_is_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(BODY)
    with ClipServer(tmp_path, ranges=False) as server, open_stream(server.url("clip.mp4")) as stream:
        stream.read(1000)
        assert stream.fetched_bytes <= 64 * 1024
        stream.seek(10 * len(BODY))
        assert stream.read(1000) == b""
        assert stream.fetched_bytes <= 64 * 1024


def test_a_server_that_closes_every_connection_unannounced_is_read_whole() -> None:
    with (
        FaultServer(lambda request: [reply_range(request, BODY, Connection="keep-alive")]) as server,
        open_stream(server.url()) as stream,
    ):
        for position in range(0, len(BODY), CHUNK_BYTES):
            stream.seek(position)
            assert stream.read(10) == BODY[position : position + 10]


def test_the_request_says_what_it_needs_to() -> None:
    with FaultServer(serve(BODY)) as server:
        read_all(server.url("/a%20b/ü/../[x]|.mp4?x=%e4&y=1 2&z='{}'#part"))
        request = server.requests[0]
    assert request.path == "/a%20b/%C3%BC/../[x]|.mp4?x=%e4&y=1%202&z='{}'"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("dedup-lib/")
    assert "authorization" not in request.headers


def test_many_blanks_in_the_place_of_a_range_take_no_time() -> None:
    # Tried in every way of dividing them, they took minutes.
    blank = reply("206 Partial Content", BODY, Content_Range=f"bytes{' ' * 60_000}x")
    with FaultServer(always(blank)) as server:
        assert read_all(server.url()) == BODY


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_every_kind_of_redirect_is_followed(status: str) -> None:
    with FaultServer(in_turn(always(reply(status, b"gone", Location="end.mp4?a=b")), serve(BODY))) as server:
        assert read_all(server.url("/way/start.mp4")) == BODY
        assert [request.path for request in server.requests][:2] == ["/way/start.mp4", "/way/end.mp4?a=b"]


def test_a_redirect_to_another_server_by_its_full_address() -> None:
    with (
        FaultServer(serve(BODY)) as second,
        FaultServer(always(reply("302 Found", Location=second.url("/x")))) as first,
    ):
        assert read_all(first.url()) == BODY


def test_bytes_beyond_ascii_in_a_redirect_arrive_as_they_are() -> None:
    location = "/ü ber.mp4".encode().decode("latin-1")
    with FaultServer(in_turn(always(reply("302 Found", Location=location)), serve(BODY))) as server:
        assert read_all(server.url()) == BODY
        assert server.requests[1].path == "/%C3%BC%20ber.mp4"


def test_of_several_redirects_in_one_answer_the_first_counts() -> None:
    twice = reply("302 Found", Location="/first.mp4\r\nLocation: /second.mp4")
    with FaultServer(in_turn(always(twice), serve(BODY))) as server:
        assert read_all(server.url()) == BODY
        assert server.requests[1].path == "/first.mp4"


# Credentials


def test_credentials_in_a_url_are_decoded_and_sent() -> None:
    with FaultServer(serve(BODY)) as server:
        read_all(server.url(user="us%40er:pä%3Ass@"))
        assert (
            server.requests[0].headers["authorization"] == "Basic " + base64.b64encode("us@er:pä:ss".encode()).decode()
        )


def test_credentials_stay_with_their_server() -> None:
    with (
        FaultServer(serve(BODY)) as other,
        FaultServer(
            in_turn(
                always(reply("302 Found", Location="/second")), always(reply("302 Found", Location=other.url("/third")))
            )
        ) as server,
    ):
        assert read_all(server.url(user="user:secret@")) == BODY
        assert ["authorization" in request.headers for request in server.requests] == [True, True]
        assert [request.headers.keys() & {"authorization", "cookie"} for request in other.requests[:1]] == [set()]


@pytest.mark.parametrize("spelling", ["http://{}/x", "//{}/x", "http:////{}/x", "\\\\{}/x", "/\\{}/x", "HTTP://{}"])
def test_no_spelling_of_a_redirect_takes_credentials_elsewhere(spelling: str) -> None:
    with FaultServer(serve(BODY)) as other:
        elsewhere = spelling.format(f"127.0.0.1:{other.port}")
        with FaultServer(
            in_turn(always(reply("302 Found", Location=elsewhere)), always(reply("404 Not Found")))
        ) as server:
            with contextlib.suppress(VideoTrouble):
                read_all(server.url(user="user:secret@"))
            assert server.requests[0].headers["authorization"]
            assert not [request for request in other.requests if "authorization" in request.headers]


def test_a_reason_shows_no_password_even_where_it_is_cut() -> None:
    with FaultServer(always(reply("302 Found", Location=f"http://user:{'secret' * 20}@[x"))) as server:
        assert trouble_of(server.url()).reason == "redirects to 'http://[x', which is not a URL"


def set_cookie(*fields: str, to: str) -> bytes:
    """A redirect that sets cookies."""
    lines = "".join(f"Set-Cookie: {field}\r\n" for field in fields)
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{lines}\r\n".encode()


def test_cookies_stay_with_their_server_and_their_video() -> None:
    fields = ("a=secret; Path=/", "b=secret; Domain=127.0.0.1", "c=secret; Domain=localhost")
    with FaultServer(serve(BODY)) as other, FaultServer(serve(BODY)) as third:
        answers = [always(set_cookie(*fields, to=place)) for place in ("/2", other.url(), third.url(host="localhost"))]
        with FaultServer(in_turn(*answers, serve(BODY))) as server:
            read_all(server.url())
            read_all(server.url())
            read_all(server.url())
            sent = [request.headers.get("cookie") for request in server.requests]
        assert sent[:3] == [None, "a=secret; b=secret", None] and set(sent[3:]) == {None}
        assert not [request for request in (*other.requests, *third.requests) if "cookie" in request.headers]


def test_a_cookie_is_sent_with_every_part_where_its_path_fits() -> None:
    with FaultServer(
        in_turn(always(set_cookie("a=1", "b=2; Path=/way", "c=3; Path=/wa", "d=4; Path=/", to="/way/x")), serve(BODY))
    ) as server:
        read_all(server.url("/way/start"))
        assert {request.headers.get("cookie") for request in server.requests[1:]} == {"a=1; b=2; d=4"}
        assert len(server.requests) > 3


# Answers that are no video


def test_a_refusal_that_is_not_about_the_range_is_not_asked_again() -> None:
    for status, requests in (("404 Not Found", 1), ("401 Unauthorized", 1), ("429 Slow Down", 1), ("403 No", 2)):
        with FaultServer(always(reply(status))) as server:
            assert trouble_of(server.url()).reason == f"HTTP {status}"
            assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("value", "least_s", "most_s"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("300", MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        ("301", MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0, 0),
    ],
)
def test_the_pause_that_a_server_asks_for_is_known(value: str, least_s: float, most_s: float) -> None:
    for status in ("429 Too Many Requests", "503 Busy"):
        with FaultServer(always(reply(status, Retry_After=value))) as server:
            found = trouble_of(server.url())
        assert found.retryable and found.retry_after_s is not None
        assert least_s <= found.retry_after_s <= most_s


@pytest.mark.parametrize(
    ("status", "value"),
    [
        ("429 Too Many Requests", None),
        ("503 Busy", ""),
        ("503 Busy", "soon"),
        ("503 Busy", "-5"),
        ("503 Busy", "1.5"),
        ("503 Busy", "\xb2"),
        ("503 Busy", "Fri, 99 Dec 2026 23:59:59 GMT"),
        ("404 Not Found", "7"),
    ],
)
def test_a_pause_that_is_none_is_not_kept(status: str, value: str | None) -> None:
    with FaultServer(always(reply(status, Retry_After=value))) as server:
        assert trouble_of(server.url()).retry_after_s is None


def test_a_pause_until_a_moment_is_counted_from_now() -> None:
    moment = email.utils.formatdate(time.time() + 100, usegmt=True)
    with FaultServer(always(reply("503 Busy", Retry_After=moment))) as server:
        paused_s = trouble_of(server.url()).retry_after_s
    assert paused_s is not None and 50 < paused_s <= 100


# Ranges that end


def refuse_from(number: int, status: str = "403 Forbidden") -> Callable[[Request], list[bytes]]:
    """Ranges up to this request, and then none any more."""
    return lambda request: (
        [reply(status)] if request.number >= number and "range" in request.headers else [reply_range(request, BODY)]
    )


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_server_that_gives_no_more_ranges_is_read_from_the_start_and_asked_once(number: int) -> None:
    with FaultServer(refuse_from(number)) as server, open_stream(server.url()) as stream:
        for position in (0, len(BODY) - 10, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES):
            stream.seek(position)
            assert stream.read(10) == BODY[position : position + 10]
        stream.seek(0)
        assert stream.read() == BODY and stream.size_bytes == len(BODY)
        assert len(server.requests) == number + 2
        assert ["range" in request.headers for request in server.requests].count(False) == 1
        assert stream.fetched_bytes <= len(BODY) + number * 2 * CHUNK_BYTES


def test_what_came_by_ranges_is_compared_with_the_whole_file() -> None:
    other = bytearray(BODY)
    other[3 * CHUNK_BYTES + 5] ^= 1
    with FaultServer(
        in_turn(serve(BODY), serve(BODY), always(reply("403 No")), always(reply("200 OK", bytes(other))))
    ) as server:
        with open_stream(server.url()) as stream:
            stream.seek(3 * CHUNK_BYTES)
            assert stream.read(10) == BODY[3 * CHUNK_BYTES :][:10]
            stream.seek(CHUNK_BYTES)
            assert stream.read(10) == BODY[CHUNK_BYTES:][:10]
            stream.seek(4 * CHUNK_BYTES)
            with pytest.raises(VideoTrouble, match="the file changed while it was read") as caught:
                stream.read(10)
        assert caught.value.retryable


def test_an_address_that_ends_is_asked_for_again_and_not_without_end() -> None:
    body = bytes(100 * CHUNK_BYTES)
    tickets: set[str] = set()

    def answer(request: Request) -> list[bytes]:
        if "ticket" not in request.path:
            return [reply("302 Found", Location=f"/?ticket={request.number}")]
        if request.path in tickets:
            return [reply("410 Gone")]
        tickets.add(request.path)
        return [reply_range(request, body)]

    with FaultServer(answer) as server:
        with open_stream(server.url(), max_bytes=10**9) as stream:
            for position in range(0, len(body), 2 * CHUNK_BYTES):
                stream.seek(position)
                assert stream.read(1) == body[:1]
        assert len(server.requests) < 4 * ranges.MAX_RETURNS
        assert [request for request in server.requests if "range" not in request.headers]


# Connections


def test_more_than_was_asked_for_is_not_taken() -> None:
    def endless(request: Request) -> Iterator[bytes]:
        first, _ = request.range
        yield reply("206 Partial Content", Content_Length=None, Content_Range=f"bytes {first}-{first}/{len(BODY)}")
        yield BODY[first:]
        while not request.closing.is_set():
            yield bytes(100_000)

    with FaultServer(endless) as server, open_stream(server.url()) as stream:
        assert stream.read() == BODY
        assert stream.fetched_bytes == len(BODY)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_port_where_nobody_listens() -> None:
    found = trouble_of(f"http://127.0.0.1:{closed_port()}/x.mp4")
    assert (found.status, found.retryable) == (Status.UNREACHABLE, True)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_used_and_named_where_no_connection_comes_about(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(serve(BODY)) as proxy, FaultServer(serve(BODY)) as server:
        monkeypatch.setenv(name, proxy.url("", user="user:secret@"))
        assert read_all(server.url()) == BODY
        url = f"http://127.0.0.1:{closed_port()}/x.mp4"
        hint = f"; the environment names a proxy ({name}), which is not used for videos"
        assert trouble_of(url).reason == f"the server refuses the connection{hint}"
        assert trouble_of("http://%5bx/").reason.count("proxy") == 0, "no host to reach"
        with pytest.raises(VideoTrouble, match="does not resolve; the environment names a proxy"):
            find_addresses("http", "fe80::1%no-such-interface", 80, limits=FetchLimits(timeout_s=20, max_bytes=1))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert trouble_of(url).reason == "the server refuses the connection"
        assert proxy.connections == 0


def test_a_name_without_an_address() -> None:
    with pytest.raises(VideoTrouble) as caught:
        find_addresses("http", "fe80::1%no-such-interface", 80, limits=FetchLimits(timeout_s=20, max_bytes=1))
    assert caught.value.status == Status.UNREACHABLE and "does not resolve" in caught.value.reason


def test_all_addresses_of_a_name_are_tried() -> None:
    # The server listens on IPv4 only, and localhost may be an IPv6 address first.
    with FaultServer(serve(BODY)) as server:
        assert read_all(server.url(host="localhost")) == BODY
        assert server.requests[0].headers["host"] == f"localhost:{server.port}"


# Limits


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """One that takes no further connection: as many as may wait for it do."""
    with contextlib.ExitStack() as waiting:
        listening = waiting.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@contextlib.contextmanager
def mute_port() -> Iterator[int]:
    """One that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def stalling_port() -> Iterator[int]:
    """One that says nothing more in the middle of a file."""

    def answer(request: Request) -> Iterator[bytes]:
        yield reply_range(request, BODY)[:1000]
        yield from request.stall()

    with FaultServer(answer) as server:
        yield server.port


@pytest.mark.parametrize(
    ("opened", "scheme"), [(deaf_port, "http"), (mute_port, "http"), (mute_port, "https"), (stalling_port, "http")]
)
def test_silence_is_not_waited_out(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[], contextlib.AbstractContextManager[int]], scheme: str
) -> None:
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT_S", 0.3)
    limits, deadline = (
        FetchLimits(timeout_s=30, max_bytes=10**9, allow_private_addresses=True, allow_local_paths=True),
        Deadline(30),
    )
    with opened() as port, pytest.raises(VideoTrouble) as caught:
        open_media(f"{scheme}://127.0.0.1:{port}/clip.mp4", limits=limits, deadline=deadline)
    assert (caught.value.status, caught.value.retryable) == (Status.TIMEOUT, True)
    assert caught.value.reason == "the server does not answer"
    assert deadline.remaining_s() > 0, "all the time of the video went by"


CHUNKED = reply("200 OK", Content_Length=None, Transfer_Encoding="chunked")


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (reply("206 Partial Content", BODY[:10], Content_Length=len(BODY)), b"x"),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (CHUNKED, b"0"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
    ],
    ids=["body", "status line", "field", "fields", "size of a chunk", "trailers"],
)
def test_a_drip_meets_the_deadline_of_the_video(head: bytes, drip: bytes) -> None:
    def answer(request: Request) -> Iterator[bytes]:
        yield head
        while not request.closing.wait(0.05):
            yield drip

    with FaultServer(answer) as server:
        found = trouble_of(server.url(), timeout_s=1)
    assert (found.status, found.reason) == (Status.TIMEOUT, "not finished within 1 s (timeout_s)") and found.retryable


def test_silence_in_the_middle_of_a_body_is_waited_out_until_the_deadline_only() -> None:
    hung_up = queue.SimpleQueue[bool]()

    def answer(request: Request) -> Iterator[bytes]:
        yield reply_range(request, BODY)[:1000]
        for _ in range(7):
            request.closing.wait(0.5)
            yield b"x"
        hung_up.put(request.closing.wait(3.4))

    with FaultServer(answer) as server:
        found = trouble_of(server.url(), timeout_s=4)
    assert (found.status, found.retryable) == (Status.TIMEOUT, True)
    assert hung_up.get(timeout=10), "the timeout of the request began again with each byte"


@pytest.mark.parametrize("ranges", [True, False])
def test_no_more_is_fetched_than_allowed(tmp_path: Path, ranges: bool) -> None:
    (tmp_path / "clip.mp4").write_bytes(BODY)
    with ClipServer(tmp_path, ranges=ranges) as server:
        url = server.url("clip.mp4")
        found = trouble_of(url, max_bytes=len(BODY) - 1)
        assert (found.status, found.retryable) == (Status.TOO_LARGE, False)
        assert read_all(url, max_bytes=len(BODY)) == BODY
        # The size of the file does not matter, only what is read of it.
        with open_stream(url, max_bytes=CHUNK_BYTES) as stream:
            assert stream.read(1000) == BODY[:1000]


def test_a_stream_remembers_its_trouble() -> None:
    with FaultServer(in_turn(serve(BODY), always(reply("503 Busy")))) as server, open_stream(server.url()) as stream:
        stream.read(CHUNK_BYTES)
        assert stream.trouble is None
        with pytest.raises(VideoTrouble) as caught:
            stream.read(1)
        assert stream.trouble is caught.value


# Addresses


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)


def test_a_redirect_is_no_way_around_the_check_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    # A test can reach no public server, so one loopback address plays its part, and localhost is private beside it.
    monkeypatch.setattr(addresses, "is_public_address", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with FaultServer(serve(BODY)) as inner:
        target = inner.url(host="localhost")
        with FaultServer(
            in_turn(always(reply("302 Found", Location="/2")), always(reply("302 Found", Location=target)))
        ) as outer:
            refused = trouble_of(outer.url(), allow_private=False)
            assert len(outer.requests) == 2
        assert (refused.status, refused.retryable) == (Status.BLOCKED_ADDRESS, False)
        assert "localhost is at 127.0.0.2" in refused.reason and "allow_private_addresses" in refused.reason
        assert inner.connections == 0


@pytest.mark.parametrize("way", ["/2", "/start"])
def test_a_later_range_is_no_way_around_the_check_of_addresses(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public_address", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with FaultServer(serve(BODY)) as inner:
        inside = always(reply("302 Found", Location=inner.url(host="localhost")))

        def answer(request: Request) -> Iterable[bytes]:
            if request.number < 2:
                return ([reply("302 Found", Location="/2")], [reply_range(request, BODY)])[request.number]
            return inside(request) if request.path == way else [reply("403 Forbidden")]

        with FaultServer(answer) as outer:
            refused = trouble_of(outer.url("/start", user="user:secret@"), allow_private=False)
        assert (refused.status, refused.retryable) == (Status.BLOCKED_ADDRESS, False)
        assert inner.connections == 0


def look_up(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
    """Finds two addresses for localhost, of which one is private."""
    addresses = ["127.0.0.1", "127.0.0.2"] if host == "localhost" else [host]
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


# Local paths


def test_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "ü b.mp4").write_bytes(BODY)
    with open_stream(str(tmp_path / "ü b.mp4")) as stream:
        assert stream.size_bytes == len(BODY)
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == BODY[-3:] and stream.fetched_bytes == 3


def test_places_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("", "fifo", "missing.mp4", "file/below.mp4", "loop", "x" * 5000, "nul\0.mp4"):
        assert trouble_of(str(tmp_path / name)).status == Status.INVALID_URL, name
    assert trouble_of("/dev/zero").status == Status.INVALID_URL


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").touch(mode=0)
    assert trouble_of(str(tmp_path / "secret.mp4")).status == Status.UNREACHABLE


# Cells that hold no URL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  \t",
        "ftp://example.org/x.mp4",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:video/mp4;base64,AAAA",
        "concat:a.mp4|b.mp4",
        "http:",
        "http://",
        "https:///x.mp4",
        "http:/one-slash/x.mp4",
        "http://exa mple/x.mp4",
        "http://example.org:0/x.mp4",
        "http://example.org:port/",
        "http://example.org/\x00.mp4",
        "http://example.org/\r\nX-Injected: yes",
        "http://[::1/x.mp4",
        "http://-/\ud800",
        "\ud800",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(url: str) -> None:
    refused = trouble_of(url)
    assert (refused.status, refused.retryable) == (Status.INVALID_URL, False) and refused.reason


def test_a_url_longer_than_the_store_holds_is_refused() -> None:
    with FaultServer(serve(BODY)) as server:
        fits = server.url("/")
        fits += "ü" * ((65_535 - len(fits)) // 2)
        assert trouble_of(fits + "üü").status == Status.INVALID_URL
        assert server.connections == 0
        with open_stream(fits) as stream:
            assert stream.read(10) == BODY[:10]


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost`, with its key in the same file."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def test_https_with_a_certificate_that_is_trusted(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FaultServer(serve(BODY), tls=tls) as server:
        assert read_all(server.url(host="localhost")) == BODY
        refused = trouble_of(server.url(host="127.0.0.1"))
    assert (refused.status, refused.retryable) == (Status.UNREACHABLE, False) and "TLS" in refused.reason


def test_the_final_dot_of_a_host_is_not_looked_for_in_its_certificate(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    # Not every machine knows "localhost.".
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **how: real(host.rstrip("."), *args, **how))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FaultServer(serve(BODY), tls=tls) as server:
        assert read_all(server.url(host="localhost.")) == BODY


def test_https_with_a_certificate_that_nobody_trusts(tls: ssl.SSLContext) -> None:
    with FaultServer(serve(BODY), tls=tls) as server:
        refused = trouble_of(server.url(host="localhost"))
        assert (refused.status, refused.retryable) == (Status.UNREACHABLE, False) and "TLS" in refused.reason
        assert server.requests == []


# URLs without a scheme


def bare(url: str) -> str:
    return url.partition(":")[2]


def test_a_url_without_a_scheme_is_read_by_https(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FaultServer(serve(BODY), tls=tls) as server:
        assert read_all(bare(server.url(host="localhost"))) == BODY
    with FaultServer(always(reply("404 Not Found")), tls=tls) as server:
        assert trouble_of(bare(server.url(host="localhost"))).reason == "HTTP 404 Not Found"


def test_a_url_without_a_scheme_is_read_by_http_where_nobody_speaks_https() -> None:
    with FaultServer(serve(BODY)) as server:
        assert read_all(bare(server.url())) == BODY
        assert {request.headers["host"] for request in server.requests} == {f"127.0.0.1:{server.port}"}
    with FaultServer(always(reply("404 Not Found"))) as server:
        found = trouble_of(bare(server.url()))
    words = "the server does not speak https (the list gave no scheme)"
    assert found.reason == f"{words}: TLS fails: wrong version number; by http: HTTP 404 Not Found"
    assert (found.status, found.retryable) == (Status.HTTP_ERROR, False)
    found = trouble_of(f"//127.0.0.1:{closed_port()}/x")
    assert found.reason.startswith(f"{words}: the server refuses the connection; by http: ") and found.retryable


def test_silence_is_not_waited_out_where_the_scheme_is_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "GUESS_PATIENCE_S", 0.2)
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT_S", 0.5)
    with mute_port() as port:
        found = trouble_of(f"//127.0.0.1:{port}/x")
    assert (found.status, found.retryable) == (Status.TIMEOUT, True)
    assert found.reason.endswith("by http: the server does not answer")


def test_a_password_is_not_sent_by_http_for_want_of_https() -> None:
    with FaultServer(serve(BODY)) as server:
        for user in ("user:secret@", "\u2100:secret@", "user@"):
            found = trouble_of(bare(server.url(user=user)))
            assert (found.status, found.retryable) == (Status.UNREACHABLE, False)
            assert "write http:// if it may" in found.reason and "secret" not in found.reason
        assert server.requests == []


def test_https_may_lead_to_http_where_the_list_asks_for_neither(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        FaultServer(serve(BODY)) as plain,
        FaultServer(always(set_cookie("a=1; Secure", "b=2", to=plain.url())), tls=tls) as server,
    ):
        assert read_all(bare(server.url(host="localhost"))) == BODY
        assert not [request for request in plain.requests if "cookie" in request.headers]


def test_no_spelling_without_a_scheme_reaches_a_private_address() -> None:
    with FaultServer(serve(BODY)) as server:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            refused = trouble_of(bare(server.url(host=host)), allow_private=False)
            assert (refused.status, refused.retryable) == (Status.BLOCKED_ADDRESS, False)
        assert server.connections == 0


def hang_up(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    connection.close()


def test_a_server_that_hangs_up_on_a_greeting_may_answer_another_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=hang_up, args=(listening,))
        server.start()
        found = trouble_of(f"https://127.0.0.1:{listening.getsockname()[1]}/")
        server.join()
    assert (found.status, found.retryable) == (Status.UNREACHABLE, True) and "breaks off" in found.reason


def test_a_redirect_from_https_to_http_is_refused(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        FaultServer(serve(BODY)) as plain,
        FaultServer(always(reply("302 Found", Location=plain.url())), tls=tls) as server,
    ):
        assert trouble_of(server.url(host="localhost")).status == Status.BLOCKED_ADDRESS
        assert plain.connections == 0
