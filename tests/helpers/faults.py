"""Faults of servers and of files: what each sends, and what a video behind it must come to."""

from __future__ import annotations

import functools
import gzip
import math
import random
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from extraction import LIMITS, RECIPE, SCAN
from fault_server import Answer, Request, always, in_turn, reply, reply_range, serve
from media import number_frame, save_clip, save_rapid_clip, save_sound

from dedup_lib.extract.worker import read_video
from dedup_lib.features.pdq import hash_frame
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Outcome, Recipe, Status

CLIPS: dict[str, dict[str, Any]] = {
    "index-last.mp4": {},
    "index-first.mp4": {"options": {"movflags": "+faststart"}},
    "clip.webm": {"codec": "libvpx-vp9"},
    "clip.mkv": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "raw.avi": {"codec": "rawvideo", "pixels": "bgr24"},
    "clip.gif": {"codec": "gif", "pixels": "rgb8"},
    "clip.ts": {"file_format": "mpegts"},
    "fragments.mp4": {"options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
    "before-zero.mkv": {"options": {"output_ts_offset": "-100", "avoid_negative_ts": "disabled"}},
    "before-zero.mp4": {"options": {"output_ts_offset": "-1", "avoid_negative_ts": "disabled"}},
    "days-late.mkv": {"options": {"output_ts_offset": "1000000"}},
    # The times of MPEG-TS are 33 bits of 1/90000 s, and start again at 0 in the middle of this one.
    "over-again.ts": {"file_format": "mpegts", "options": {"output_ts_offset": "95442"}},
}


@functools.cache
def clip(name: str = "index-first.mp4") -> bytes:
    """The content of a small clip; all but raw.avi (1.7 MB) fit into one range."""
    with tempfile.TemporaryDirectory() as folder:
        return save_clip(Path(folder) / name, **CLIPS[name]).read_bytes()


def read(url: str, *, limits: FetchLimits = LIMITS, recipe: Recipe = RECIPE) -> Outcome:
    outcome = read_video((0, url), recipe=recipe, scan=SCAN, limits=limits, prepare=hash_frame).outcome
    assert "unexpectedly" not in outcome.reason and len(outcome.reason) < 300, outcome.reason
    return outcome


# Servers


def whole(name: str = "index-first.mp4", /, **headers: object) -> Answer:
    """The whole file for whatever is asked."""
    return lambda request: [reply("200 OK", clip(name), **headers)]


def part(name: str = "index-first.mp4", /, **headers: object) -> Answer:
    """The part that is asked for, with other headers."""
    return lambda request: [reply_range(request, clip(name), **headers)]


def staying_open(line: bytes) -> Answer:
    """The whole file, whose head has this line with its length, on a connection that is not closed."""

    def answer(request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n" + line % len(clip()) + b"\r\n\r\n" + clip()
        yield from request.stall()

    return answer


def late(request: Request) -> Iterator[bytes]:
    request.closing.wait(0.3)
    yield reply_range(request, clip())


def tardy_redirect(request: Request) -> Iterator[bytes]:
    request.closing.wait(0.3)
    yield reply("302 Found", Location="/clip.mp4")


def drip(size: int) -> Answer:
    """The whole file, `size` bytes at a time with pauses between."""

    def answer(request: Request) -> Iterator[bytes]:
        content = reply("200 OK", clip())
        for start in range(0, len(content), size):
            yield content[start : start + size]
            request.closing.wait(0.05)

    return answer


def stop_after(size: int, *, ranges: bool) -> Answer:
    def answer(request: Request) -> Iterator[bytes]:
        yield (reply_range(request, clip()) if ranges else reply("200 OK", clip()))[:size]
        yield from request.stall()

    return answer


def without_end(head: bytes, piece: Callable[[], bytes]) -> Answer:
    def answer(request: Request) -> Iterator[bytes]:
        yield head
        while not request.closing.is_set():
            yield piece()

    return answer


def trickle(head: bytes, piece: bytes) -> Answer:
    """What keeps the parser of HTTP itself busy, out of reach of any deadline."""

    def answer(request: Request) -> Iterator[bytes]:
        yield head
        while not request.closing.wait(0.02):
            yield piece

    return answer


def chunked(*chunks: bytes, **headers: object) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return reply("200 OK", body, **{"Content_Length": None, "Transfer_Encoding": "chunked"} | headers)


def in_chunks(content: bytes, **headers: object) -> Answer:
    return always(chunked(content[:1000], content[1000:], b"", **headers))


def second_part(answer: Answer) -> Answer:
    """A large file whose first range is right."""
    return in_turn(serve(clip("raw.avi")), answer)


def shorter(request: Request) -> list[bytes]:
    first, last = 0, len(clip()) - 1000
    return [reply("206 Partial Content", clip()[:last], Content_Range=f"bytes {first}-{last}/{len(clip())}")]


def ranges_of(name: str, show: Callable[[int, int, int], tuple[int, int, str]], status: str = "") -> Answer:
    """Ranges of a clip as `show` makes them of the first and last byte that are asked for and the size of the file:
    the bytes that come, first and behind the last, and how the answer calls them."""
    content = clip(name)

    def answer(request: Request) -> list[bytes]:
        if "range" not in request.headers:
            return [reply("200 OK", content)]
        first, last = request.range
        start, stop, said = show(first, min(last, len(content) - 1), len(content))
        return [reply(status or "206 Partial Content", content[start:stop], Content_Range=said)]

    return answer


def large(show: Callable[[int, int, int], tuple[int, int, str]], status: str = "") -> Answer:
    return ranges_of("raw.avi", show, status)


def refusing_ranges(status: str, *, of: str = "index-first.mp4", **headers: object) -> Answer:
    """The file for whoever asks for all of it."""
    return lambda request: [reply(status, **headers) if "range" in request.headers else reply("200 OK", clip(of))]


def in_parts(name: str, size: int, *, boundary: str = "a b", quote: str = '"') -> Answer:
    """Ranges as a body in parts of `size` bytes (RFC 9110, section 14.6)."""
    content = clip(name)

    def answer(request: Request) -> list[bytes]:
        if "range" not in request.headers:
            return [reply("400 Bad Request")]
        first, last = request.range
        body, last = b"", min(last, len(content) - 1)
        for start in range(first, last + 1, size):
            stop = min(start + size, last + 1)
            head = (
                f"\r\n--{boundary}\r\nContent-Type: video/mp4\r\ncontent-range: bytes {start}-{stop - 1}/{len(content)}"
            )
            body += head.encode() + b"\r\n\r\n" + content[start:stop]
        kind = f"Multipart/ByteRanges; boundary={quote}{boundary}{quote}"
        return [reply("206 Partial Content", body + f"\r\n--{boundary}--\r\n".encode(), Content_Type=kind)]

    return answer


def interim(*heads: str) -> Answer:
    """Ranges, with interim answers before each."""
    words = "".join(f"HTTP/1.1 {head}\r\n\r\n" for head in heads).encode()
    return lambda request: [words, reply_range(request, clip("raw.avi"))]


def with_cookie(*fields: str, wanted: str) -> Answer:
    """Sends everyone round who does not bring the cookie that it sets."""

    def answer(request: Request) -> list[bytes]:
        if wanted in request.headers.get("cookie", ""):
            return [reply_range(request, clip("raw.avi"))]
        lines = "".join(f"Set-Cookie: {field}\r\n" for field in fields)
        return [f"HTTP/1.1 302 Found\r\nLocation: /clip.mp4\r\nContent-Length: 0\r\n{lines}\r\n".encode()]

    return answer


def good_for(
    uses: int, *, then: str = "403 Forbidden", body: Callable[[int], bytes] = lambda ticket: clip("raw.avi")
) -> Answer:
    """Leads to an address of its own for everyone, which is good for so many requests."""
    used: Counter[int] = Counter()

    def answer(request: Request) -> list[bytes]:
        if "ticket" not in request.path:
            return [reply("302 Found", Location=f"/once.avi?ticket={len(used)}")]
        ticket = int(request.path.rpartition("=")[2])
        used[ticket] += 1
        return [reply(then) if used[ticket] > uses else reply_range(request, body(ticket))]

    return answer


def moving(request: Request) -> list[bytes]:
    """Leads elsewhere for every part but the first."""
    if "elsewhere" in request.path or request.headers.get("range", "").startswith("bytes=0-"):
        return [reply_range(request, clip("raw.avi"))]
    return [reply("307 Temporary Redirect", Location="/elsewhere.avi")]


def packed(content: bytes, coding: str, *, name: str = "raw.avi") -> Answer:
    return lambda request: [reply("200 OK", content, Content_Encoding=coding)]


def deflated(content: bytes) -> bytes:
    """Without the envelope that RFC 9110 asks for."""
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(content) + engine.flush()


def overstated(request: Request) -> list[bytes]:
    content = clip("raw.avi")
    if "range" not in request.headers:
        return [reply("200 OK", content)]
    first, last = request.range
    content_range = f"bytes {first}-{last}/{2 * len(content)}"
    return [reply("206 Partial Content", content[first : last + 1], Content_Range=content_range)]


def redirect(location: str) -> Answer:
    return always(reply("302 Found", Location=location))


def hops(count: int) -> Answer:
    return in_turn(*[redirect("/again.mp4")] * count, serve(clip()))


PATIENCE_S = 0.6
"""For faults that last until the time is up."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    answer: Answer
    status: Status
    retryable: bool = False
    words: str = ""
    """Part of the reason."""
    timeout_s: float = LIMITS.timeout_s
    max_bytes: int = 1_000_000_000


def lasting(answer: Answer) -> Fault:
    return Fault(answer=answer, status=Status.TIMEOUT, retryable=True, timeout_s=PATIENCE_S)


def fine(answer: Answer) -> Fault:
    return Fault(answer=answer, status=Status.OK)


def broken_off(answer: Answer) -> Fault:
    return Fault(answer=answer, status=Status.UNREACHABLE, retryable=True)


def refused(answer: Answer, words: str, *, retryable: bool = False) -> Fault:
    return Fault(answer=answer, status=Status.HTTP_ERROR, retryable=retryable, words=words)


def refused_by_code(status: str, *, retryable: bool = False) -> Fault:
    length = None if status.startswith(("204", "304")) else 4
    return refused(always(reply(status, b"oops", Content_Length=length)), f"HTTP {status}", retryable=retryable)


DATES = ("Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:07 GMT")

BOMB = zlib.compress(bytes(50_000_000))

FAULTS: dict[str, Fault] = {
    # Time
    "a slow start": fine(late),
    "a slow drip": fine(drip(2000)),
    "a drip too slow": lasting(drip(10)),
    "no answer": lasting(lambda request: request.stall()),
    "half a status line": lasting(trickle(b"HTTP/1.1 2", b"")),
    "a stall in the head": lasting(stop_after(40, ranges=True)),
    "a stall in a part": lasting(stop_after(3000, ranges=True)),
    "a stall in the whole": lasting(stop_after(3000, ranges=False)),
    "slow redirects": lasting(tardy_redirect),
    "a stall in a later part": lasting(second_part(lambda request: request.stall())),
    # Connections
    "closed without a word": broken_off(always(b"")),
    **{
        f"closed behind {head!r}": broken_off(always(head))
        for head in (
            b"HTT",
            b"HTTP/1.1 2",
            b"HTTP/1.1 206 Partial",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 206 Partial Content\r\n",
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: 900\r\nContent-Range: bytes 0-899/9",
            b"HTTP/1.1 302 Found\r\nLocation: /cl",
            b"HTTP/1.1 404 Not Found\r\nDate: ",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2",
        )
    },
    "closed in the head of a later part": broken_off(second_part(always(b"HTTP/1.1 206 Partial Content\r\n"))),
    "closed in a part": broken_off(lambda request: [reply_range(request, clip())[:-1000]]),
    "closed in the whole": broken_off(lambda request: [reply("200 OK", clip())[:-1000]]),
    "closed in the whole of a large file": broken_off(lambda request: [reply("200 OK", clip("raw.avi"))[:-200_000]]),
    "closed in a later part": broken_off(second_part(lambda request: [reply_range(request, clip("raw.avi"))[:-9]])),
    "no HTTP": Fault(answer=always(b"220 ready\r\n\r\n"), status=Status.UNREACHABLE, words="HTTP"),
    "a header without end": Fault(
        answer=without_end(b"HTTP/1.1 200 OK\r\nX: ", lambda: b"x" * 9999), status=Status.UNREACHABLE, words="HTTP"
    ),
    "headers without end": Fault(
        answer=without_end(b"HTTP/1.1 200 OK\r\n", lambda: b"X: x\r\n" * 99), status=Status.UNREACHABLE, words="HTTP"
    ),
    "300 fields in the head": fine(part(**{f"X_{number}": "x" * 40 for number in range(300)})),
    **{
        f"{name} in the head": fine(staying_open(line))
        for name, line in {
            "a line without a colon": b"X-Powered-By PHP\r\nContent-Length: %d",
            "a blank before a colon": b"Content-Length \t: %d",
            "many lines without a colon": b"none\r\n" * 90 + b"Content-Length: %d",
        }.items()
    },
    "lines without a colon without end": Fault(
        answer=without_end(b"HTTP/1.1 200 OK\r\n", lambda: b"none\r\n" * 99), status=Status.UNREACHABLE, words="HTTP"
    ),
    "three connections closed in later parts": fine(
        lambda request: [reply_range(request, clip("raw.avi"))[: -9 if request.number in (1, 2, 4) else None]]
    ),
    # Lengths
    "a length too long": broken_off(whole(Content_Length=10**12)),
    "a length too short": Fault(
        answer=lambda request: [reply("200 OK", clip(), Content_Length=len(clip()) // 2)],
        status=Status.DECODE_ERROR,
        words="cut off",
    ),
    "no length": fine(whole(Content_Length=None)),
    "a negative length": fine(whole(Content_Length=-5)),
    **{
        f"a length of {name}": fine(whole(Content_Length=length))
        for name, length in {"words": "many", "a raised two": "\xb2", "5000 digits": "9" * 5000}.items()
    },
    "two lengths": refused(whole(Content_Length="5, 7"), "malformed"),
    "the length of a part too long": fine(part(Content_Length=10**12)),
    "a part shorter than asked for, and the same one again": refused(shorter, "parts of the file alone"),
    "the length of a part too short": fine(part(Content_Length=1000)),
    "a length of 0 for a part": fine(ranges_of("index-first.mp4", lambda a, b, n: (0, 0, f"bytes {a}-{b}/{n}"))),
    "a length of 0 for a later part": fine(large(lambda a, b, n: (0, 0 if a else b + 1, f"bytes {a}-{b}/{n}"))),
    # Ranges
    "ranges": fine(part()),
    "ranges of a large file": fine(part("raw.avi")),
    "ranges ignored": fine(whole()),
    "ranges ignored, a large file": fine(whole("raw.avi")),
    "ranges ignored later on": fine(second_part(whole("raw.avi"))),
    **{
        f"a range of {name}": fine(part(Content_Range=value))
        for name, value in {
            "nothing": None,
            "blank": "",
            "other bytes": "bytes 5-9/100",
            "no known whole": "bytes 0-9/*",
            "no whole": "bytes 0-9",
            "less than nothing": "bytes 0-9/-10",
            "items": "items 0-9/10",
            "5000 digits": "bytes 0-9/" + "9" * 5000,
            "a raised two": "bytes \xb2-9/10",
            "two": "bytes 0-9/100, bytes 10-19/100",
            "nothing at all": "bytes 0-0/0",
            "backwards": "bytes 9-0/10",
        }.items()
    },
    **{
        f"ranges {name}": fine(large(show))
        for name, show in {
            "of no known whole": lambda a, b, n: (a, b + 1, f"bytes {a}-{b}/*"),
            "of no known whole later on": lambda a, b, n: (a, b + 1, f"bytes {a}-{b}/{'*' if a else n}"),
            "without a Content-Range later on": lambda a, b, n: (a, b + 1, f"bytes {a}-{b}/{n}" if not a else None),
            "in capitals": lambda a, b, n: (a, b + 1, f"Bytes {a}-{b}/{n}"),
            "with an equals sign": lambda a, b, n: (a, b + 1, f"bytes={a}-{b}/{n}"),
            "with the end that was asked for": lambda a, b, n: (a, b + 1, f"bytes {a}-{a + 1048575}/{n}"),
            "from blocks of 100,000": lambda a, b, n: (
                a // 100_000 * 100_000,
                b + 1,
                f"bytes {a // 100_000 * 100_000}-{b}/{n}",
            ),
            "from the start": lambda a, b, n: (0, b + 1, f"bytes 0-{b}/{n}"),
            "from a byte too late": lambda a, b, n: (a + 1, b + 1, f"bytes {a + 1}-{b}/{n}"),
            "of 64 KiB at most": lambda a, b, n: (a, min(b + 1, a + 65536), f"bytes {a}-{min(b, a + 65535)}/{n}"),
            "of 10,000 bytes later on": lambda a, b, n: (
                (a, a + 10_000, f"bytes {a}-{a + 9999}/{n}") if a else (a, b + 1, f"bytes {a}-{b}/{n}")
            ),
            "of a byte": lambda a, b, n: (a, a + 1, f"bytes {a}-{a}/{n}"),
            "of a byte more": lambda a, b, n: (a, min(b + 2, n), f"bytes {a}-{min(b + 1, n - 1)}/{n}"),
            "of a byte more that is not mentioned": lambda a, b, n: (a, b + 2, f"bytes {a}-{b}/{n}"),
            "of a byte less": lambda a, b, n: (a, max(b, a + 1), f"bytes {a}-{b}/{n}"),
            "to the end": lambda a, b, n: (a, n, f"bytes {a}-{n - 1}/{n}"),
        }.items()
    },
    "parts called the whole": fine(large(lambda a, b, n: (a, b + 1, f"bytes {a}-{b}/{n}"), "200 OK")),
    "the whole called a part": fine(lambda request: [reply("206 Partial Content", clip("raw.avi"))]),
    "the whole called a whole part": fine(whole("raw.avi", Content_Range="bytes 0-9/10")),
    "one range in parts": fine(in_parts("raw.avi", 2**30)),
    "several ranges in parts": fine(in_parts("raw.avi", 30_000)),
    "several ranges with a plain boundary": fine(in_parts("raw.avi", 2**30, boundary="x'y", quote="")),
    "parts that are none": fine(part(Content_Type="multipart/byteranges; boundary=x", Content_Range=None)),
    "parts without a boundary": fine(part(Content_Type="multipart/byteranges", Content_Range=None)),
    "a film called parts": fine(part(Content_Type="multipart/byteranges; boundary=x")),
    "a whole far too large": fine(part(Content_Range=f"bytes 0-9/{10**17}")),
    "a whole twice too large": refused(overstated, "changed", retryable=True),
    "a whole too small": Fault(
        answer=part(Content_Range="bytes 0-999/1000"), status=Status.DECODE_ERROR, words="damaged or cut off"
    ),
    "a whole that changes": refused(
        second_part(lambda request: [reply_range(request, clip("raw.avi") + b"more")]), "changed", retryable=True
    ),
    "an earlier part again": fine(second_part(part("raw.avi", Content_Range="bytes 0-99/1000000"))),
    "a later part with another tag": fine(
        in_turn(part("raw.avi", ETag='"a"'), part("raw.avi", ETag='"b"'), whole("raw.avi"))
    ),
    "a later part with another tag, of another file": refused(
        in_turn(
            part("raw.avi", ETag='"a"'),
            lambda request: [reply_range(request, clip("raw.avi")[::-1], ETag='"b"')],
            lambda request: [reply("200 OK", clip("raw.avi")[::-1])],
        ),
        "changed",
        retryable=True,
    ),
    **{
        f"a later part of another date, {name}, of another file": refused(
            in_turn(
                part("raw.avi", Last_Modified=DATES[0], **first),
                lambda request, then=then: [
                    reply_range(request, clip("raw.avi")[::-1], Last_Modified=DATES[1], **then)
                ],
            ),
            "changed",
            retryable=True,
        )
        for name, first, then in (
            ("without a tag", {}, {}),
            ("with a tag at first", {"ETag": '"a"'}, {}),
            ("with a tag later on", {}, {"ETag": '"a"'}),
        )
    },
    "a later part of another date": fine(
        in_turn(part("raw.avi", Last_Modified=DATES[0]), part("raw.avi", Last_Modified=DATES[1]), whole("raw.avi"))
    ),
    "later parts of other dates with one tag": fine(
        lambda request: [
            reply_range(request, clip("raw.avi"), ETag='"a"', Last_Modified=DATES[request.number % 2])
            if "range" in request.headers
            else reply("403 Forbidden")
        ]
    ),
    "ranges ignored later on, and of another file": refused(
        second_part(lambda request: [reply("200 OK", clip("raw.avi")[::-1])]), "changed", retryable=True
    ),
    "ranges ignored later on, and of a file of another size": refused(
        second_part(whole("clip.mkv")), "changed", retryable=True
    ),
    "an empty file": Fault(answer=always(reply("200 OK")), status=Status.NOT_VIDEO, words="empty"),
    "an empty file in chunks": Fault(answer=always(chunked(b"")), status=Status.NOT_VIDEO, words="empty"),
    "an empty file has no range": Fault(
        answer=always(reply("416 Range Not Satisfiable", Content_Range="bytes */0")), status=Status.NOT_VIDEO
    ),
    "the whole from a proxy": fine(always(reply("203 Non-Authoritative Information", clip()))),
    # Refusals of ranges
    **{
        f"{status} for a range": fine(refusing_ranges(status))
        for status in (
            "400 Bad Request",
            "403 Forbidden",
            "405 Method Not Allowed",
            "406 Not Acceptable",
            "412 Precondition Failed",
            "416 Range Not Satisfiable",
            "418 I'm a teapot",
            "500 Oops",
            "501 Not Implemented",
        )
    },
    "416 with the size": fine(refusing_ranges("416 Range Not Satisfiable", Content_Range=f"bytes */{len(clip())}")),
    "416 with the size in the body of a page": fine(refusing_ranges("416 Range Not Satisfiable", Content_Length=None)),
    "403 for a later range": fine(in_turn(serve(clip("raw.avi")), refusing_ranges("403 Forbidden", of="raw.avi"))),
    "416 for a later range": fine(in_turn(serve(clip("raw.avi")), refusing_ranges("416 No", of="raw.avi"))),
    # Interim answers
    **{
        f"interim answers {codes}": fine(interim(*codes))
        for codes in (
            ("100 Continue",),
            ("102 Processing",),
            ("103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b>",),
            ("103 Early Hints", "100 Continue", "102", "104 Upload Resumption", "199 \xff"),
            ("103 Early Hints",) * 20,
        )
    },
    "interim answers without end": Fault(
        answer=without_end(b"", lambda: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9),
        status=Status.UNREACHABLE,
        words="HTTP",
    ),
    "another protocol": refused(always(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "HTTP 101"),
    # Cookies
    "a cookie": fine(with_cookie("seen=1; Path=/", wanted="seen=1")),
    "two cookies, one of them again": fine(with_cookie("a=0", "b=2; HttpOnly; SameSite=Lax", "a=1", wanted="a=1; b=2")),
    "a cookie of no value": fine(with_cookie("seen=", wanted="seen=")),
    "a cookie for a day": fine(
        with_cookie("seen=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Max-Age=86400", wanted="seen=1")
    ),
    **{
        f"the cookie {field[:40]!r}": refused(with_cookie(field, wanted="seen"), "more than 10 redirects")
        for field in (
            "seen=1; Path=/elsewhere",
            "seen=1; Secure",
            "seen=1; Domain=example.org",
            "seen=1; Max-Age=0",
            "seen=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "seen=1\x07",
            "seen one=1",
            "seen",
            "seen=" + "1" * 5000,
        )
    },
    "cookies without number": refused(
        with_cookie(*(f"c{number}={'x' * 400}" for number in range(60)), wanted="c59"), "more than 10 redirects"
    ),
    # Addresses that are good for a while
    "an address for one request": fine(good_for(1)),
    "an address for two requests": fine(good_for(2)),
    "an address that is gone": fine(good_for(1, then="410 Gone")),
    "an address that is not found": fine(good_for(1, then="404 Not Found")),
    "an address for one request, of another file each": refused(
        good_for(1, body=lambda ticket: clip("raw.avi") + bytes(ticket)), "changed", retryable=True
    ),
    "an address that shows a page behind its time": fine(good_for(1, then="200 OK")),
    "ranges ignored later on, and of a page of unknown length": refused(
        second_part(lambda request: [reply("200 OK", b"<html>", Content_Length=None)]), "changed", retryable=True
    ),
    "an address for no request": refused(good_for(0), "HTTP 403 Forbidden"),
    "later parts elsewhere": fine(moving),
    "later parts on no address": Fault(
        answer=second_part(redirect("http://127.0.0.1:1/")), status=Status.UNREACHABLE, retryable=True
    ),
    # Bodies without end
    "zeros without end": Fault(
        answer=without_end(reply("200 OK", Content_Length=None), lambda: bytes(99_999)), status=Status.NOT_VIDEO
    ),
    "a video without end": Fault(
        answer=without_end(reply("200 OK", Content_Length=None), lambda: clip("clip.ts")),
        status=Status.TOO_LARGE,
        words="max_bytes",
        max_bytes=3_000_000,
    ),
    # Codings
    "gzip": fine(packed(gzip.compress(clip("raw.avi")), "gzip")),
    "x-gzip": fine(packed(gzip.compress(clip()), "X-GZip")),
    "gzip in two members and padding": fine(
        packed(gzip.compress(clip()[:999]) + gzip.compress(clip()[999:]) + bytes(99), "gzip")
    ),
    "deflate": fine(packed(zlib.compress(clip("raw.avi")), "Deflate")),
    "deflate without its envelope": fine(packed(deflated(clip("raw.avi")), "deflate")),
    "gzip over deflate": fine(packed(gzip.compress(zlib.compress(clip("raw.avi"))), "deflate, gzip")),
    "gzip of nothing": Fault(
        answer=packed(gzip.compress(b""), "gzip"), status=Status.UNREACHABLE, retryable=True, words="any content"
    ),
    "gzip that is none": fine(packed(clip(), "gzip")),
    "deflate that is none": fine(packed(clip(), "deflate")),
    "gzip cut off": broken_off(packed(gzip.compress(clip("raw.avi"))[:-1000], "gzip")),
    "gzip that is damaged": refused(
        packed(gzip.compress(clip("raw.avi"))[:1000] + random.Random(1).randbytes(20_000), "gzip"), "cannot be unpacked"
    ),
    **{
        f"a bomb of {name}": Fault(
            answer=packed(bomb, coding), status=Status.TOO_LARGE, words="unpacked (max_bytes)", max_bytes=3_000_000
        )
        for name, (bomb, coding) in {
            "zeros behind a film": (gzip.compress(clip("clip.ts") + bytes(50_000_000)), "gzip"),
            "films in a bomb": (gzip.compress(zlib.compress(clip("clip.ts") + bytes(50_000_000))), "deflate, gzip"),
        }.items()
    },
    "a bomb of zeros": Fault(answer=packed(BOMB, "deflate"), status=Status.NOT_VIDEO),
    "a bomb in three envelopes": refused(packed(BOMB, "gzip, gzip, deflate"), "compresses the file (3 times over)"),
    "what is not unpacked here": refused(packed(BOMB, "identity, br, gzip"), "compresses the file (br)"),
    "compressed parts": fine(
        lambda request: [reply_range(request, gzip.compress(clip("raw.avi")), Content_Encoding="gzip")]
    ),
    "a later part compressed": fine(
        in_turn(part("raw.avi"), part("raw.avi", Content_Encoding="zstd"), whole("raw.avi"))
    ),
    "a bomb that says nothing of it": Fault(answer=always(reply("200 OK", BOMB)), status=Status.NOT_VIDEO),
    "a coding that is none": fine(part(Content_Encoding="utf-8")),
    "chunks": fine(lambda request: [chunked(clip()[:1000], clip()[1000:], b"")]),
    "chunks of a byte": fine(lambda request: [chunked(*(clip()[at : at + 1] for at in range(len(clip()))), b"")]),
    **{
        f"chunks called {coding!r}": fine(in_chunks(pack(clip()), Transfer_Encoding=coding))
        for coding, pack in {
            "Chunked ": bytes,
            "identity, chunked": bytes,
            "chunked, chunked": bytes,
            "gzip, chunked": gzip.compress,
            "deflate,chunked": zlib.compress,
        }.items()
    },
    "chunks beside a length": fine(in_chunks(clip(), Content_Length=5)),
    "chunks without end": Fault(
        answer=without_end(chunked(), lambda: b"1ffff\r\n" + bytes(0x1FFFF) + b"\r\n"), status=Status.NOT_VIDEO
    ),
    "a chunk as large as the world": broken_off(always(chunked(), b"f" * 16 + b"\r\n", bytes(99_999))),
    "a chunk of no size": broken_off(always(chunked(), b"none\r\n", bytes(999))),
    "the size of a chunk without end": Fault(
        answer=without_end(chunked(), lambda: b"1" * 9999), status=Status.UNREACHABLE, words="HTTP"
    ),
    # Redirects
    "ten redirects": fine(hops(10)),
    "eleven redirects": refused(hops(11), "more than 10 redirects"),
    "a loop of redirects": refused(redirect("/clip.mp4"), "more than 10 redirects"),
    "a redirect to nowhere": refused_by_code("302 Found"),
    **{
        f"a redirect to {location}": Fault(
            answer=redirect(location), status=Status.BLOCKED_ADDRESS, words="only http and https"
        )
        for location in (
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "ftp://127.0.0.1/x",
            "data:video/mp4;base64,AAAA",
            "gopher://127.0.0.1:70/",
        )
    },
    **{
        f"a redirect to {location}": refused(redirect(location), "not a URL")
        for location in ("http://[::1", "http://127.0.0.1:99999/", "http://0x7f.1/")
    },
    # Answers of a server that has no video
    **{
        status: refused_by_code(status)
        for status in (
            "204 No Content",
            "304 Not Modified",
            "400 Bad Request",
            "401 Unauthorized",
            "403 Forbidden",
            "404 Not Found",
            "410 Gone",
            "416 Range Not Satisfiable",
            "501 Not Implemented",
            "505 HTTP Version Not Supported",
        )
    },
    **{
        status: refused_by_code(status, retryable=True)
        for status in (
            "408 Timeout",
            "425 Too Early",
            "429 Too Many Requests",
            "500 Oops",
            "502 Bad Gateway",
            "503 Busy",
            "504 Late",
            "522 Origin Late",
        )
    },
    "a reason without end": refused(always(reply("404 " + "no " * 20_000)), "HTTP 404 no no"),
    "404 for a later part": refused(second_part(always(reply("404 Not Found"))), "HTTP 404 Not Found"),
    "503 for a later part": refused(
        second_part(always(reply("503 Busy"))), "HTTP 503 Busy when asked for a part", retryable=True
    ),
    # Names of a content do not matter
    **{
        f"a video called {kind}": fine(part(Content_Type=kind))
        for kind in ("image/png", "text/html", "application/json", "audio/mpeg", "", "video/mp4; charset=\xff")
    },
}


# Contents


def picture(suffix: str) -> bytes:
    return cv2.imencode(suffix, number_frame(5))[1].tobytes()


def sound(name: str, **facts: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_sound(Path(folder) / name, **facts).read_bytes()


def rapid(name: str, **facts: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save_rapid_clip(Path(folder) / name, **facts).read_bytes()


def with_flips(count: int) -> bytes:
    """A clip with `count` bits of its pictures flipped."""
    content, chance = bytearray(clip("index-last.mp4")), random.Random(count)
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    for _ in range(count):
        content[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return bytes(content)


def with_vp9_size(width_px: int, height_px: int) -> bytes:
    """A clip whose container states a small picture, and whose stream a large one (VP9 bitstream, 7.2)."""
    content = bytearray(clip("clip.webm"))
    place = -1
    while (place := content.find(b"\x49\x83\x42", place + 1)) >= 0:
        # Three bits of colour space and one of its range stand between the sync code and the size.
        word = int.from_bytes(content[place + 3 : place + 8], "big")
        word = word >> 36 << 36 | (width_px - 1) << 20 | (height_px - 1) << 4 | word & 15
        content[place + 3 : place + 8] = word.to_bytes(5, "big")
    return bytes(content)


def with_avi_size(side_px: int) -> bytes:
    content = bytearray(clip("raw.avi"))
    # Width and height of the BITMAPINFOHEADER, 4 and 8 bytes behind the chunk's own header.
    header = content.index(b"strf") + 8
    content[header + 4 : header + 12] = side_px.to_bytes(4, "little") * 2
    return bytes(content)


def with_mkv_duration(duration: float) -> bytes:
    """A clip that states its duration as any number that a double can be."""
    content = clip("clip.mkv")
    place = content.index(b"\x44\x89\x88") + 3
    return content[:place] + struct.pack(">d", duration) + content[place + 8 :]


def with_mp4_durations(duration: int) -> bytes:
    """A clip that states a duration (of the film, of its track and of its media) in units that it chose itself."""
    content = bytearray(clip())
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = content.index(box) + offset
        content[place : place + 4] = duration.to_bytes(4, "big")
    return bytes(content)


def with_mp4_steps(step: int) -> bytes:
    """A clip whose frames are shown `step` units after one another (its first entry of the time-to-sample table)."""
    content = bytearray(clip())
    place = content.index(b"stts") + 16
    content[place : place + 4] = step.to_bytes(4, "big")
    return bytes(content)


CONTENTS: dict[str, tuple[Callable[[], bytes], Status, str]] = {
    # No video
    "one byte": (lambda: b"\0", Status.NOT_VIDEO, ""),
    "zeros": (lambda: bytes(100_000), Status.NOT_VIDEO, ""),
    "noise": (lambda: random.Random(1).randbytes(20_000), Status.NOT_VIDEO, ""),
    "text": (lambda: b"This is a film about a film.\n" * 2000, Status.NOT_VIDEO, ""),
    "short text": (lambda: b"Not found", Status.NOT_VIDEO, ""),
    "json": (lambda: b'{"error": "expired"}', Status.NOT_VIDEO, ""),
    "csv": (lambda: b"BMW,1\nAudi,2\n" * 100, Status.NOT_VIDEO, ""),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(range(256)) * 40, Status.NOT_VIDEO, ""),
    "zip": (lambda: b"PK\x03\x04" + bytes(range(256)) * 40, Status.NOT_VIDEO, ""),
    "gzip": (lambda: gzip.compress(clip()), Status.NOT_VIDEO, ""),
    "png": (lambda: picture(".png"), Status.IMAGE, ""),
    "jpeg": (lambda: picture(".jpg"), Status.IMAGE, ""),
    "webp": (lambda: picture(".webp"), Status.IMAGE, ""),
    "bmp": (lambda: picture(".bmp"), Status.IMAGE, ""),
    "tiff": (lambda: picture(".tiff"), Status.IMAGE, ""),
    "avif": (lambda: b"\0\0\0\x20ftypavif" + bytes(200), Status.IMAGE, ""),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', Status.IMAGE, ""),
    "svg with prolog": (lambda: b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><svg/>', Status.IMAGE, ""),
    "svg with a file in it": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        Status.IMAGE,
        "",
    ),
    "html": (lambda: b"<!DOCTYPE html><html><body><video src=x.mp4></body></html>", Status.HTML, ""),
    "html with bom": (lambda: b"\xef\xbb\xbf\r\n  <HTML><head></head>", Status.HTML, ""),
    "html behind a comment": (lambda: b"<!-- served by 7 -->\n<html><svg></svg></html>", Status.HTML, ""),
    "xhtml": (lambda: b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>', Status.HTML, ""),
    "aac": (lambda: sound("a.m4a"), Status.NO_VIDEO_STREAM, ""),
    "mp3": (lambda: sound("a.mp3", codec="libmp3lame"), Status.NO_VIDEO_STREAM, ""),
    "sound in mkv": (lambda: sound("a.mkv"), Status.NO_VIDEO_STREAM, ""),
    "a cover": (
        lambda: sound("song.mp3", codec="libmp3lame", cover=picture(".png")),
        Status.NO_VIDEO_STREAM,
        "",
    ),
    "ico": (lambda: b"\0\0\1\0\1\0\x10\x10" + bytes(200), Status.IMAGE, ""),
    # Order and damage
    "a first box of 256 bytes": (
        lambda: b"\0\0\1\0free" + bytes(248) + clip("fragments.mp4"),
        Status.OK,
        "",
    ),
    "index at the end": (lambda: clip("index-last.mp4"), Status.OK, ""),
    "cut off behind its index": (lambda: clip()[: len(clip()) * 6 // 10], Status.DECODE_ERROR, "of 3.0 s"),
    "cut off before its index": (
        lambda: clip("index-last.mp4")[: len(clip()) * 6 // 10],
        Status.DECODE_ERROR,
        "cut off",
    ),
    "cut off in its index": (lambda: clip()[:500], Status.DECODE_ERROR, "cut off"),
    "nothing but a type": (lambda: clip()[:32], Status.DECODE_ERROR, "cut off"),
    "no frame": (lambda: clip("clip.mkv")[: clip("clip.mkv").index(b"\x1f\x43\xb6\x75")], Status.DECODE_ERROR, ""),
    "a codec that nobody knows": (lambda: clip().replace(b"avc1", b"zzz9"), Status.DECODE_ERROR, "codec"),
    "a few flipped bits": (lambda: with_flips(4), Status.OK, ""),
    "many flipped bits": (lambda: with_flips(5000), Status.DECODE_ERROR, "no frame can be decoded"),
    # Sizes
    "a header of 12336 × 12336": (lambda: with_vp9_size(12_336, 12_336), Status.TOO_LARGE, ""),
    "a header of 65536 × 65536": (lambda: with_vp9_size(65_536, 65_536), Status.DECODE_ERROR, ""),
    "a container of 12000 × 12000": (lambda: with_avi_size(12_000), Status.TOO_LARGE, "12000 × 12000"),
    # Times
    "20,000 frames in a third of a second": (lambda: rapid("a.mp4", count=20_000, fps=60_000), Status.OK, ""),
    "20,000 frames in 20 s": (lambda: rapid("a.mkv", count=20_000, fps=1000), Status.OK, ""),
    **{
        f"a duration of {number} ms": (functools.partial(with_mkv_duration, number), Status.OK, "")
        for number in (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300)
    },
    **{
        f"durations of {number}": (functools.partial(with_mp4_durations, number), Status.OK, "")
        for number in (0, 2**31 - 1, 2**31, 2**32 - 1)
    },
    # Its edit list names three seconds, and its frames stand elsewhere: what is shown in them is one picture.
    **{
        f"steps of {number}": (functools.partial(with_mp4_steps, number), Status.OK, "")
        for number in (0, 2**31 - 1, 2**31)
    },
    "times before zero": (lambda: clip("before-zero.mkv"), Status.OK, ""),
    "times before zero in an edit list": (lambda: clip("before-zero.mp4"), Status.OK, ""),
    "times of another day": (lambda: clip("days-late.mkv"), Status.OK, ""),
    "times that start over again": (lambda: clip("over-again.ts"), Status.OK, ""),
}


def edit(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Changes at places given as fractions of the content; most hit the head, where more is at stake."""
    for kind, fraction, data in edits:
        place = int(fraction**3 * len(content))
        before, after = content[:place], content[place:]
        match kind:
            case "flip":
                content = before + bytes(byte ^ 1 << data[0] % 8 for byte in after[:1]) + after[1:]
            case "insert":
                content = before + data + after
            case "delete":
                content = before + after[len(data) :]
            case "overwrite":
                content = before + data + after[len(data) :]
            case "truncate":
                content = before
    return content
