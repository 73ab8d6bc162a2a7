"""What a playlist leads to: segments with their times, and which rendition of a film is read.

A playlist may come from anyone. So everything that it may multiply is bounded here: its size, its segments, its times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar
from urllib.parse import urljoin

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.frames import FRAME_SIDE_PX
from dedup_lib.media.ranges import check_link
from dedup_lib.records import Status

MAX_PLAYLIST_BYTES = 4 * 1024 * 1024
MAX_SEGMENTS = 50_000
"""A day of film in segments of two seconds has 43,200."""

MAX_URL_CHARACTERS = 50_000_000
"""Most characters in the URLs of all segments: a short template, or a long base, would make gigabytes of them."""

MAX_RENDITIONS = 1_000
MAX_DURATION_S = 7 * 24 * 3600.0

_ENOUGH_BITS_PER_S = 400_000
"""A rendition that states no size but at least this many bits per second is large enough."""

_Link = TypeVar("_Link")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A file on a web server, or `size_bytes` of it from the byte `first` on."""

    url: str
    first: int = 0
    size_bytes: int | None = None
    """None means up to the end of the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A segment of a film, and its place in it."""

    piece: Piece
    beginning: Piece | None
    """What a decoder needs before any segment of this run; None where each segment has it."""
    start_s: float
    """Seconds from the start of the film, by the playlist."""
    run: int
    """Segments of one run continue each other: joined, they are one file."""
    is_assumed: bool = False
    """Whether only the duration of the film makes one expect it."""


@dataclass(frozen=True, kw_only=True)
class Playlist:
    """A film as a playlist tells it."""

    segments: tuple[Segment, ...]
    duration_s: float
    mirrors: int = 1
    renditions: int = 1
    """How many addresses it names for the same files, and how many renditions, at most in one part of it."""

    @property
    def file_url(self) -> str:
        """The URL of the file that is the whole film; "" when it is in several files or in a part of one."""
        piece = self.segments[0].piece
        is_file = len(self.segments) == 1 and self.segments[0].beginning is None and piece.size_bytes is None
        return piece.url if is_file else ""


@dataclass(frozen=True, kw_only=True)
class Rendition(Generic[_Link]):
    """One version of a film: where it is, the size of its frames and its bits per second, 0 where not stated."""

    link: _Link
    width_px: int = 0
    height_px: int = 0
    bits_per_s: int = 0


@dataclass(frozen=True, kw_only=True)
class Base:
    """What the links of a playlist are relative to."""

    url: str
    may_leave_tls: bool
    mirror: int = 0
    rendition: int = 0
    """Which one to take of several addresses of the same files, and of the renditions, from the best one on; the last
    one where there are fewer."""

    def join(self, link: str) -> str:
        """The URL that a link means. Raises VideoTrouble when the rules for redirects forbid to follow it."""
        link = link.strip()
        try:
            target = urljoin(self.url, link)
        except ValueError:
            raise damaged("it has a link that is not a URL") from None
        check_link(self.url, target, may_leave_tls=self.may_leave_tls, leads="the playlist leads")
        return target

    def at(self, link: str) -> Base:
        """The base that such a link makes."""
        return replace(self, url=self.join(link))


class Assembly:
    """Puts the segments of a playlist together, within the bounds."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._at_s = 0.0
        self._run = -1
        self._characters = 0

    def begin_run(self) -> None:
        """Makes the next segment begin a run."""
        self._run += 1

    def move_to(self, at_s: float) -> None:
        """Says that the last segment ends at `at_s`, and the next one begins there. Raises VideoTrouble when the film
        gets too long."""
        last_s = self._segments[-1].start_s if self._segments else 0.0
        self._at_s = max(last_s, at_s)
        if not self._at_s <= MAX_DURATION_S:
            raise VideoTrouble(Status.TOO_LARGE, f"the playlist lasts more than {MAX_DURATION_S / 3600:g} hours")

    def add(self, piece: Piece, *, beginning: Piece | None, duration_s: float, is_assumed: bool = False) -> None:
        """Adds a segment behind the others. Raises VideoTrouble when there are too many."""
        if len(self._segments) >= MAX_SEGMENTS:
            raise VideoTrouble(Status.TOO_LARGE, f"the playlist has more than {MAX_SEGMENTS:,} segments")
        self._characters += len(piece.url)
        if self._characters > MAX_URL_CHARACTERS:
            raise VideoTrouble(
                Status.TOO_LARGE, f"the URLs of the playlist have more than {MAX_URL_CHARACTERS:,} characters"
            )
        if self._run < 0:
            self.begin_run()
        self._segments.append(
            Segment(piece=piece, beginning=beginning, start_s=self._at_s, run=self._run, is_assumed=is_assumed)
        )
        self.skip(duration_s)

    def skip(self, duration_s: float) -> None:
        """Leaves out so many seconds. Raises VideoTrouble when the film gets too long."""
        self.move_to(self._at_s + duration_s)

    def finish(self) -> Playlist:
        """The whole. Raises VideoTrouble when there is no segment, or when all segments together last 0 seconds."""
        if not self._segments:
            raise damaged("it has no segments")
        if not self._at_s:
            raise damaged("its segments last 0 seconds")
        return Playlist(segments=tuple(self._segments), duration_s=self._at_s)


def rank_renditions(renditions: Sequence[Rendition[_Link]]) -> list[Rendition[_Link]]:
    """Puts the smallest rendition that loses nothing first, then larger ones, then those that are too small.

    Frames are shrunk to `FRAME_SIDE_PX` for the encoder, and to less for the fingerprint. So a larger frame costs
    bytes and time, and gives the same result. Renditions without a stated size are often sound only: they count only
    when no size is stated at all.
    """
    sized = [one for one in renditions if one.width_px and one.height_px]

    def rank(one: Rendition[_Link]) -> tuple[bool, float, float]:
        if not sized:
            is_small = one.bits_per_s < _ENOUGH_BITS_PER_S
            return is_small, -_bits(one) if is_small else _bits(one), 0
        is_small = max(one.width_px, one.height_px) < FRAME_SIDE_PX
        pixels = one.width_px * one.height_px
        return is_small, -pixels if is_small else pixels, _bits(one)

    return sorted(sized or renditions, key=rank)


def _bits(one: Rendition[_Link]) -> float:
    return one.bits_per_s or math.inf


def damaged(what: str) -> VideoTrouble:
    """Returns the trouble to raise for a playlist that makes no sense."""
    return VideoTrouble(Status.DECODE_ERROR, f"the playlist is damaged: {what}")


def live() -> VideoTrouble:
    """Returns the trouble to raise for a live stream."""
    return VideoTrouble(
        Status.LIVE, "a live stream, which has no end yet: list the recording, once its playlist is complete"
    )


def encrypted(how: str) -> VideoTrouble:
    """Returns the trouble to raise for an encrypted film. `how` is what the playlist or the file says of it."""
    return VideoTrouble(Status.ENCRYPTED, f"the film is encrypted ({how}): list a copy that is not")
