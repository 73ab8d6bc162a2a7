"""What the answer of a web server means: which part of a file it holds, when to ask again.

Servers answer range requests in many odd ways (RFC 9110, section 14, defines the right ones). This module uses what it
understands of an answer. When it understands nothing, the caller asks for the whole file.
"""

from __future__ import annotations

import email.message
import email.utils
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.connections import Answer
from dedup_lib.media.limits import FetchLimits, Meter
from dedup_lib.records import Status

MAX_RETRY_AFTER_S = 300.0
"""Longest pause in seconds that a Retry-After may ask for, so that one answer does not hold up a run for hours."""

_RETRYABLE_CODES = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
"""Temporary failures (RFC 9110, section 15). 501 and 505 are left out: the server can never do what is asked."""

_NOT_FOR_THE_RANGE = frozenset({401, 404, 407, 408, 410, 425, 429, 451, 502, 503, 504, *range(520, 600)})
"""Refusals that concern the file, the client or the moment; a request without a range would get them too. Any other
refusal may concern the range."""

_FILE_SIZE = "[0-9]{1,18}"
_CONTENT_RANGE = re.compile(
    rf"bytes(?=[ \t:=])[ \t]*+[:=]?[ \t]*({_FILE_SIZE})-({_FILE_SIZE})/({_FILE_SIZE}|\*)", re.IGNORECASE
)
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"})
_UNPACKED_HERE = frozenset({"gzip", "x-gzip", "deflate"})
_MAX_CODINGS = 2
_PIECE_BYTES = 64 * 1024
_MAX_SKIPPED_BYTES = 1024 * 1024
"""A part that begins more than this many bytes before the requested byte is not used."""

_MULTIPART_ROOM = 16 * 1024
"""Bytes allowed for the boundaries and headers between the parts of one answer."""

_PART_HEAD = re.compile(rb"[^\r\n]*\r?\n((?:[^\r\n]+\r?\n)*)\r?\n")
_PART_RANGE = re.compile(rb"^content-range[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_GZIP_WINDOW = 31
"""The `wbits` value that makes zlib expect a gzip header."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes from the requested position on, and the size of the whole file, None when the answer does not state it."""

    data: bytes
    size_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Span:
    """What a Content-Range says (section 14.4): first byte, last byte, and size of the whole file (None for `*`)."""

    first: int
    last: int
    size_bytes: int | None


def size_of(answer: Answer) -> int | None:
    """Length of the body in bytes; None when it is not stated or not a number. Chunks have their own lengths, and a
    length beside them does not count (RFC 9112, section 6.3)."""
    length = "" if "chunked" in answer.field("Transfer-Encoding").lower() else answer.field("Content-Length")
    return int(length) if re.fullmatch(_FILE_SIZE, length) else None


def is_whole(answer: Answer) -> bool:
    """Whether the answer to a range request holds the whole file: status 200, unless Content-Range and Content-Length
    agree that it is a part."""
    if answer.status != 200:
        return False
    span, length = _span_of(answer.field("Content-Range")), size_of(answer)
    return (
        span is None
        or (span.first, span.last + 1) == (0, span.size_bytes)
        or length not in (None, span.last - span.first + 1)
    )


def is_whole_unasked(answer: Answer) -> bool:
    """Whether the answer to a request without a range holds the whole file. Some servers send status 206 (a part) with
    every answer."""
    if answer.status != 206 or _boundary_of(answer):
        return answer.status == 200
    span = _span_of(answer.field("Content-Range"))
    return span is None or (span.first == 0 and span.size_bytes in (None, span.last + 1))


def is_empty_file(answer: Answer) -> bool:
    """Whether the server says that the file has 0 bytes (section 15.5.17)."""
    return answer.status == 416 and bool(
        re.fullmatch(r"bytes[ \t]+\*/0+", answer.field("Content-Range"), re.IGNORECASE)
    )


def may_be_about_range(answer: Answer) -> bool:
    """Whether the same request without a range may get a better answer than this one."""
    return answer.status in (200, 206) or (answer.status >= 400 and answer.status not in _NOT_FOR_THE_RANGE)


def may_pass(answer: Answer) -> bool:
    """Whether a retry may succeed."""
    return answer.status in _RETRYABLE_CODES


def refusal(answer: Answer, occasion: str = "") -> VideoTrouble:
    """Returns the trouble for the status code of an answer, with the pause that the server asks for."""
    retry_after_s = _retry_after_s(answer.field("Retry-After")) if may_pass(answer) else None
    return VideoTrouble(
        Status.HTTP_ERROR, f"{answer.title}{occasion}", retryable=may_pass(answer), retry_after_s=retry_after_s
    )


def _retry_after_s(value: str) -> float | None:
    """Seconds from now, 0 to `MAX_RETRY_AFTER_S`, that a Retry-After states as a number or as a date (RFC 9110,
    section 10.2.3); None when it is neither."""
    if re.fullmatch("[0-9]+", value):
        # A long run of digits is over the limit anyway, and int() refuses more than 4300 of them.
        return min(float(value[:18]), MAX_RETRY_AFTER_S)
    try:
        moment_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(moment_s - time.time(), 0.0), MAX_RETRY_AFTER_S)


def read_part(answer: Answer, first: int, last: int) -> Held | None:
    """Returns the bytes from `first` up to `last`, or fewer when the answer ends early. None when the answer does not
    hold byte `first`, or does not say which bytes it holds. Raises VideoTrouble.

    The answer may begin earlier (servers that keep a file in blocks), end earlier or later, and consist of several
    parts (section 14.6).
    """
    # A range of the compressed bytes is no range of the file.
    if answer.status not in (200, 206) or _codings_of(answer):
        return None
    wanted = last - first + 1
    boundary = _boundary_of(answer)
    if boundary:
        return _join(_parts_of(answer.read(wanted + _MULTIPART_ROOM), boundary), first, last)
    span = _span_of(answer.field("Content-Range"))
    if span is None or not span.first <= first <= span.last or first - span.first > _MAX_SKIPPED_BYTES:
        return None
    # Content-Range may be wrong about the length of the body, so read what comes.
    skipped = first - span.first
    if span.size_bytes is not None:
        wanted = min(wanted, span.size_bytes - first)
    return _held(answer.read(skipped + wanted)[skipped:], span.size_bytes)


def _held(data: bytes, size_bytes: int | None) -> Held | None:
    return Held(data=data, size_bytes=size_bytes) if data else None


def _span_of(value: str) -> _Span | None:
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    size_bytes = None if match[3] == "*" else int(match[3])
    # Some servers repeat the requested end even when the file ends earlier.
    last = int(match[2]) if size_bytes is None else min(int(match[2]), size_bytes - 1)
    return _Span(first=int(match[1]), last=last, size_bytes=size_bytes) if int(match[1]) <= last else None


def _boundary_of(answer: Answer) -> bytes:
    """The boundary between the parts of a multipart answer, b"" for any other answer."""
    if not answer.field("Content-Type").lower().startswith(("multipart/byteranges", "multipart/x-byteranges")):
        return b""
    message = email.message.Message()
    message["Content-Type"] = re.sub(r"[\r\n]+", " ", answer.field("Content-Type"))
    return str(message.get_param("boundary") or "").encode("latin-1", "ignore")


def _parts_of(body: bytes, boundary: bytes) -> Iterator[tuple[_Span, bytes]]:
    """Yields the parts of a body; the last one may be cut off."""
    place = body.find(b"--" + boundary)
    while place >= 0:
        head = _PART_HEAD.match(body, place + len(boundary) + 2)
        if head is None:
            return
        field = _PART_RANGE.search(head[1])
        span = _span_of(field[1].decode("latin-1")) if field else None
        end = head.end() if span is None else head.end() + span.last - span.first + 1
        if span is not None:
            yield span, body[head.end() : end]
        place = body.find(b"--" + boundary, end)


def _join(parts: Iterator[tuple[_Span, bytes]], first: int, last: int) -> Held | None:
    """Joins consecutive parts from byte `first` on."""
    data, size_bytes = b"", None
    for span, part in parts:
        place = first + len(data)
        if span.first <= place < span.first + len(part):
            data += part[place - span.first :]
            size_bytes = span.size_bytes
    return _held(data[: last - first + 1], size_bytes)


def _codings_of(answer: Answer) -> list[str]:
    """The compressions of the body, in the order in which they were applied, those of the file before those of its
    transfer. Other names are ignored: they change no byte (some servers name a character set there)."""
    fields = f"{answer.field('Content-Encoding')},{answer.field('Transfer-Encoding')}"
    named = re.split("[ \t,]+", fields.lower())
    return [coding for coding in named if coding in _COMPRESSIONS]


def read_whole(answer: Answer, limits: FetchLimits) -> Iterator[bytes]:
    """Returns the body piece by piece as it arrives. It is decompressed when the server compressed it although asked
    not to (some servers store their files compressed).

    Raises VideoTrouble: at the call for a compression that is not supported, during iteration for the rest. A few
    kilobytes may expand to terabytes, so the decompressed bytes count against `max_bytes` too.
    """
    codings = _codings_of(answer)
    unknown = [coding for coding in codings if coding not in _UNPACKED_HERE]
    if unknown or len(codings) > _MAX_CODINGS:
        named = min(unknown) if unknown else f"{len(codings)} times over"
        raise VideoTrouble(Status.HTTP_ERROR, f"the server compresses the file ({named}) although asked not to")
    pieces = iter(answer.read_some, b"")
    for coding in reversed(codings):
        pieces = _unpack(pieces, coding, Meter(limits, what="unpacked"))
    return pieces


def is_packed(answer: Answer) -> bool:
    """Whether the body is compressed, so that its size is not the size of the file."""
    return bool(_codings_of(answer))


def _unpack(pieces: Iterator[bytes], coding: str, unpacked: Meter) -> Iterator[bytes]:
    """Yields the decompressed content (RFC 1950 to 1952). Bytes that are not really compressed are passed on as they
    are, whatever the server says."""
    start = b""
    while len(start) < 512 and (piece := next(pieces, b"")):
        start += piece
    window_bits = _window_bits(start, coding)
    if window_bits is None:
        yield start
        yield from pieces
        return
    engine, data = zlib.decompressobj(window_bits), start
    while data or (data := next(pieces, b"")):
        if engine.eof:
            # More gzip members may follow; anything else is padding.
            if window_bits != _GZIP_WINDOW or not data.startswith(b"\x1f"):
                return
            engine = zlib.decompressobj(window_bits)
        is_full = True
        while is_full and not engine.eof:
            try:
                content = engine.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                reason = f"the server packs the file ({coding}), and what it sends cannot be unpacked: {error}"
                raise VideoTrouble(Status.HTTP_ERROR, reason[:200]) from None
            data = engine.unconsumed_tail
            is_full = bool(data) or len(content) == _PIECE_BYTES
            unpacked.add(len(content))
            if content:
                yield content
        data = engine.unused_data
    if not engine.eof:
        raise VideoTrouble(Status.UNREACHABLE, "the connection closed in the middle of the file", retryable=True)


def _window_bits(start: bytes, coding: str) -> int | None:
    """The `wbits` value for zlib, chosen by the first bytes; None when they are not compressed."""
    if coding != "deflate":
        return _GZIP_WINDOW if start.startswith(b"\x1f\x8b") else None
    if len(start) >= 2 and start[0] & 15 == 8 and int.from_bytes(start[:2], "big") % 31 == 0:
        return 15
    # Some servers send raw deflate data, without the zlib header.
    try:
        return -15 if zlib.decompressobj(-15).decompress(start, 1) else None
    except zlib.error:
        return None
