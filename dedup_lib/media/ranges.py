"""A file on a web server, read part by part, through redirects."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO
from urllib.parse import urljoin

from dedup_lib.errors import VideoTrouble
from dedup_lib.lists.urls import is_web_url, url_for_request
from dedup_lib.media.answers import (
    Held,
    is_packed,
    is_whole,
    is_whole_unasked,
    may_be_about_range,
    may_pass,
    read_part,
    read_whole,
    refusal,
    size_of,
)
from dedup_lib.media.connections import Answer, Source
from dedup_lib.media.cookies import Cookies
from dedup_lib.media.limits import Deadline, FetchLimits, Meter
from dedup_lib.records import Status
from dedup_lib.sanitise import without_credentials

CHUNK_BYTES = 128 * 1024

MAX_REDIRECTS = 10
"""Most redirects in a row for one request."""

MAX_RETURNS = 16
"""How often a video's listed URL is asked again when the address that it led to no longer answers: some addresses are
good for one request or for a minute. After that, the whole file is fetched."""

GUESS_PATIENCE_S = 5.0
"""Seconds to connect with https, which is tried first when the list gives no scheme."""

_CACHED_CHUNKS = 64

MAX_CHUNKS_AT_ONCE = 8

_MAX_PIECES = 64
"""Most answers that are joined to fill one range."""

_MAX_BREAKS = 3
"""How often a connection may break off while parts of a file are fetched; a long film takes many requests."""

_DIGEST_TAG = re.compile('"([0-9A-Fa-f]{32,128})(-[0-9]{1,5})?"')
"""A strong entity tag (RFC 9110, section 8.8.3) that looks like a content hash, MD5 or longer; object stores append
the number of upload parts. Other tags, for example of a length and a time, only distinguish two versions of one file
and say nothing about two files."""


class Route:
    """The way from a listed URL, through redirects, to the server that has the file; counts the bytes fetched."""

    def __init__(self, url: str, *, limits: FetchLimits, deadline: Deadline, scheme_is_guessed: bool = False) -> None:
        self.limits = limits
        self.fetched = Meter(limits, what="fetched")
        self.has_connected = False
        self._url = url
        self._deadline = deadline
        self._scheme_is_guessed = scheme_is_guessed
        self._was_redirected = False
        self._returns = 0
        self._headers: dict[str, str] = {}
        self._cookies = Cookies()
        self._source = self._open(url)

    def _open(self, url: str) -> Source:
        return Source(url, limits=self.limits, deadline=self._deadline, fetched=self.fetched)

    def ask(self, span: tuple[int, int] | None) -> Answer:
        """Requests the bytes `span` (first, last), or the whole file, and returns the answer. Follows redirects; later
        requests begin where they led. Raises VideoTrouble."""
        headers = {} if span is None else {"Range": f"bytes={span[0]}-{span[1]}"}
        for _ in range(MAX_REDIRECTS + 1):
            place = self._source
            is_guess = self._scheme_is_guessed and not self.has_connected
            try:
                answer = place.ask(
                    self._headers | headers | self._cookies.header_for(place.url),
                    connect_s=GUESS_PATIENCE_S if is_guess else math.inf,
                )
            finally:
                self.has_connected = self.has_connected or place.has_connected
            self._cookies.keep(place.url, answer.fields("Set-Cookie"))
            with contextlib.ExitStack() as until_known:
                until_known.callback(answer.close)
                target = find_redirect(place.url, answer, may_leave_tls=self._scheme_is_guessed)
                if not target:
                    until_known.pop_all()
                    return answer
            place.close()
            self._was_redirected = True
            self._source = self._open(target)
        raise VideoTrouble(Status.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects in a row")

    def may_return(self) -> bool:
        """Whether the listed URL may be asked for a new redirect once more."""
        return self._was_redirected and self._returns < MAX_RETURNS

    def return_to_start(self) -> None:
        """Makes the next request begin at the listed URL, without cookies, like a first visit."""
        if self._was_redirected:
            self._returns += 1
            self._was_redirected = False
            self._cookies = Cookies()
            self._source.close()
            self._source = self._open(self._url)

    @property
    def url(self) -> str:
        """Where the last request led to."""
        return self._source.url

    @property
    def may_leave_tls(self) -> bool:
        """Whether https may lead to http: when the list did not ask for https."""
        return self._scheme_is_guessed

    @property
    def deadline(self) -> Deadline:
        """When reading the video ends."""
        return self._deadline

    def send_always(self, headers: Mapping[str, str]) -> None:
        """Sends these headers with every further request."""
        self._headers = dict(headers)

    def turn_to(self, url: str) -> None:
        """Makes the next request begin at the URL of another file of the same video. The limits, the counts and the
        cookies stay; so do the connections when it is on the same server. Raises VideoTrouble."""
        self._url, self._was_redirected, self._returns = url, False, 0
        if not self._source.turn_to(url):
            self._source.close()
            self._source = self._open(url)

    def close(self) -> None:
        self._source.close()


class NoRanges(Exception):
    """The server does not give the file in parts. `whole` is an answer with the whole file, or None."""

    def __init__(self, whole: Answer | None = None) -> None:
        self.whole = whole
        super().__init__()


class Ranges:
    """A file on a server that answers range requests, read in chunks of `CHUNK_BYTES`.

    Each request that continues the last one is twice as large, up to 1 MiB: a file that is read through needs few
    requests, and a file that is sampled needs few bytes.
    """

    def __init__(self, route: Route, answer: Answer, start: Held, size_bytes: int, *, first: int = 0) -> None:
        """`start` holds the bytes of the first answer, from the byte `first` on, a multiple of `CHUNK_BYTES`. Raises
        VideoTrouble and NoRanges."""
        self.size_bytes = size_bytes
        self.marks: dict[int, str] = {}
        """Hashes of the fetched chunks, by chunk number."""
        named = answer.field("ETag")
        self.tag = f"{answer.server} {named}" if _DIGEST_TAG.fullmatch(named) else ""
        self._route = route
        self._version = _version_of(answer)
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        self._chunks_at_once = 1
        self._next_index = self._breaks = 0
        self._fetch_chunks(first // CHUNK_BYTES, math.ceil(len(start.data) / CHUNK_BYTES), start.data)

    def read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position` on; fewer only at the end. Raises VideoTrouble and NoRanges."""
        end = min(position + size, self.size_bytes)
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
            self._chunks_at_once = min(self._chunks_at_once * 2, MAX_CHUNKS_AT_ONCE) if index == self._next_index else 1
            self._fetch_chunks(index, self._chunks_at_once)
        self._chunks.move_to_end(index)
        return self._chunks[index]

    def _fetch_chunks(self, index: int, count: int, start: bytes = b"") -> None:
        """Fetches `count` chunks from `index` on. `start` holds the first bytes, which were fetched before."""
        first = index * CHUNK_BYTES
        last = min(first + count * CHUNK_BYTES, self.size_bytes) - 1
        data = self._fetch(first, last, start)
        for place in range(0, len(data), CHUNK_BYTES):
            number = index + place // CHUNK_BYTES
            self._chunks[number] = data[place : place + CHUNK_BYTES]
            self.marks[number] = hashlib.sha256(self._chunks[number]).hexdigest()
        self._next_index = last // CHUNK_BYTES + 1
        while len(self._chunks) > _CACHED_CHUNKS:
            self._chunks.popitem(last=False)

    def _fetch(self, first: int, last: int, start: bytes) -> bytes:
        """Returns bytes `first` to `last`, by several requests when the server gives less than requested."""
        data = bytearray(start[: last - first + 1])
        for _ in range(_MAX_PIECES):
            if len(data) == last - first + 1:
                return bytes(data)
            try:
                data += self._fetch_piece(first + len(data), last)
            except VideoTrouble as trouble:
                if trouble.status != Status.UNREACHABLE or not trouble.retryable or self._breaks == _MAX_BREAKS:
                    raise
                self._breaks += 1
        raise NoRanges

    def _fetch_piece(self, first: int, last: int) -> bytes:
        """Returns some bytes from `first` on, of the same file as before."""
        answer = self._route.ask((first, last))
        if answer.status >= 400 and may_pass(answer) and not may_be_about_range(answer):
            answer.close()
            raise refusal(answer, " when asked for a part of the file")
        if answer.status >= 400 and self._route.may_return():
            answer.close()
            self._route.return_to_start()
            answer = self._route.ask((first, last))
        if is_whole(answer):
            raise NoRanges(answer)
        with answer:
            # A new tag, or date, may only mean another server. NoRanges makes the caller compare the bytes of the whole
            # file.
            if _differ(_version_of(answer), self._version):
                raise NoRanges
            held = read_part(answer, first, last)
            if held is None:
                raise NoRanges
        if held.size_bytes not in (None, self.size_bytes):
            raise file_changed()
        return held.data


def _version_of(answer: Answer) -> tuple[str, str]:
    """The tag of the file, and the date of its last change, each "" where the server states none."""
    return answer.field("ETag"), answer.field("Last-Modified")


def _differ(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two answers name two versions of a file: by their tags where both have one, otherwise by their dates."""
    pairs = [pair for pair in zip(one, other, strict=True) if all(pair)]
    return bool(pairs) and pairs[0][0] != pairs[0][1]


class Whole:
    """A file that is fetched from the start, and only as far as it is read."""

    def __init__(self, answer: Answer, limits: FetchLimits) -> None:
        """Raises VideoTrouble; the answer then stays open."""
        self.size_bytes = None if is_packed(answer) else size_of(answer)
        self.held_bytes = 0
        self._answer = answer
        self.is_complete = False
        self._pieces = read_whole(answer, limits)
        # `close` closes it.
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115

    def end(self) -> int:
        """Size of the whole file in bytes. Raises VideoTrouble."""
        if self.size_bytes is None:
            self._fetch_to(None)
            self.size_bytes = self.held_bytes
        return self.size_bytes

    def read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position` on; fewer only at the end. Raises VideoTrouble."""
        if self.size_bytes is not None and position >= self.size_bytes:
            return b""
        self._fetch_to(position + size)
        self._spool.seek(position)
        return self._spool.read(size)

    def _fetch_to(self, end: int | None) -> None:
        while not self.is_complete and (end is None or self.held_bytes < end):
            data = next(self._pieces, b"")
            if not data:
                # An empty file states its length. An answer without a length may have been cut off in its head.
                if not self.held_bytes and self.size_bytes is None and not self._answer.field("Transfer-Encoding"):
                    raise VideoTrouble(
                        Status.UNREACHABLE, "the connection closed before any content came", retryable=True
                    )
                self.is_complete = True
                break
            try:
                self._spool.seek(0, io.SEEK_END)
                self._spool.write(data)
                self._spool.flush()
            except OSError as error:
                place, reason = tempfile.gettempdir(), error.strerror or error
                raise VideoTrouble(
                    Status.TOO_LARGE, f"{place} has no room for the file ({reason})", retryable=True
                ) from None
            self.held_bytes += len(data)

    def close(self) -> None:
        self._spool.close()
        self._answer.close()


def file_changed() -> VideoTrouble:
    """Returns the trouble to raise when parts of two versions of a file would be joined."""
    return VideoTrouble(Status.HTTP_ERROR, "the file changed while it was read", retryable=True)


def ask_whole(route: Route, answer: Answer | None) -> Whole:
    """Returns the file from the start. Uses `answer`, or sends a new request without a range to the listed URL (the
    address that it led to may be good for one request only). Raises VideoTrouble."""
    if answer is None:
        route.return_to_start()
        answer = route.ask(None)
        if not is_whole_unasked(answer):
            answer.close()
            if answer.status == 206:
                raise VideoTrouble(
                    Status.HTTP_ERROR, "the server gives parts of the file alone, and not as it was asked"
                )
            raise refusal(answer)
    try:
        return Whole(answer, route.limits)
    except VideoTrouble:
        answer.close()
        raise


def find_redirect(url: str, answer: Answer, *, may_leave_tls: bool) -> str:
    """The address that an answer redirects to, checked like a URL of a list; "" when it does not redirect. Raises
    VideoTrouble."""
    # Browsers take the first of several.
    location = next(iter(answer.fields("Location")), "").strip()
    if answer.status not in (301, 302, 303, 307, 308) or not location:
        return ""
    try:
        # http.client reads header fields as Latin-1: this restores the bytes that the server sent.
        target = urljoin(url, re.sub("[\x80-\xff]", lambda match: f"%{ord(match[0]):02X}", location))
        if is_web_url(target):
            url_for_request(target)
    except ValueError:
        shown = without_credentials(location)[:60]
        raise VideoTrouble(Status.HTTP_ERROR, f"redirects to {shown!r}, which is not a URL") from None
    check_link(url, target, may_leave_tls=may_leave_tls, leads="redirects")
    return target


def check_link(url: str, target: str, *, may_leave_tls: bool, leads: str) -> None:
    """Raises VideoTrouble when `url` may not lead to `target`, which must be a web URL and stay with https. `leads` is
    the verb, for the reason."""
    if not is_web_url(target):
        scheme = target.split(":", 1)[0][:20]
        raise VideoTrouble(Status.BLOCKED_ADDRESS, f"{leads} to {scheme}:, and only http and https are followed")
    if not may_leave_tls and url.lower().startswith("https:") and target.lower().startswith("http:"):
        raise VideoTrouble(Status.BLOCKED_ADDRESS, f"{leads} from https to http, which is not followed")
