"""HLS playlists (RFC 8216) as text: the renditions of a film, or its segments.

The text is only read here. Nothing is fetched.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.playlists import (
    MAX_RENDITIONS,
    Assembly,
    Base,
    Piece,
    Playlist,
    Rendition,
    damaged,
    encrypted,
    live,
    rank_renditions,
)
from dedup_lib.records import Status

_ATTRIBUTE = re.compile(r'([A-Z0-9-]{1,40})=("[^"]*"|[^",]*)')
_LINE_END = re.compile(r"\r\n|\r|\n")
_DURATION = re.compile(r"\s*(-?)([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)\s*(?:,.*)?")
_VOD = re.compile(r"#EXT-X-PLAYLIST-TYPE:\s*VOD")
_BYTE_RANGE = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,12}")
_SOUND = re.compile(r"(mp4a|[ae]c-[34]|opus|flac|vorbis|mp3|dts|alac)[^,]*", re.IGNORECASE)


def read_hls(text: str, base: Base) -> list[str] | Playlist:
    """Reads a playlist: URLs are those of the renditions' own playlists, the one to read first, and behind it those to
    read where it cannot be. `base` is for relative links.

    Raises VideoTrouble for what is live, encrypted, damaged or no HLS.
    """
    lines = [line.strip() for line in _LINE_END.split(text.lstrip("\ufeff \t\r\n"))]
    if not lines or not lines[0].startswith("#EXTM3U"):
        raise damaged("it does not begin with #EXTM3U")
    tags = {line.partition(":")[0] for line in lines}
    if "#EXT-X-STREAM-INF" in tags:
        first, *others = (one.link for one in rank_renditions(_find_renditions(lines)))
        return list(dict.fromkeys([base.join(first), *_join_those_allowed(others, base)]))
    if not any(tag.startswith("#EXT-X-") for tag in tags):
        raise VideoTrouble(Status.NOT_VIDEO, "the URL gives a list of files (M3U), not a video")
    if "#EXT-X-ENDLIST" not in tags and not any(map(_VOD.fullmatch, lines)):
        raise live()
    return _Reader(base).read(lines)


def _join_those_allowed(links: list[str], base: Base) -> Iterator[str]:
    for link in links:
        with contextlib.suppress(VideoTrouble):
            yield base.join(link)


def _find_renditions(lines: list[str]) -> list[Rendition[str]]:
    renditions: list[Rendition[str]] = []
    stated: dict[str, str] | None = None
    sound_only = 0
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            stated = _attributes(line)
        elif line and not line.startswith("#") and stated is not None:
            if len(renditions) >= MAX_RENDITIONS:
                raise VideoTrouble(Status.TOO_LARGE, f"the playlist has more than {MAX_RENDITIONS:,} renditions")
            codecs = [codec.strip() for codec in stated.get("CODECS", "").split(",")]
            size = _SIZE.fullmatch(stated.get("RESOLUTION", ""))
            bits = _WHOLE_NUMBER.fullmatch(stated.get("BANDWIDTH", ""))
            if size is None and all(map(_SOUND.fullmatch, codecs)):
                sound_only += 1
            else:
                width_px, height_px = (int(size[1]), int(size[2])) if size else (0, 0)
                renditions.append(
                    Rendition(link=line, width_px=width_px, height_px=height_px, bits_per_s=int(bits[0]) if bits else 0)
                )
            stated = None
    if not renditions and sound_only:
        raise VideoTrouble(Status.NO_VIDEO_STREAM, "the playlist has sound only")
    if not renditions:
        raise damaged("it names no rendition")
    return renditions


class _Reader:
    """Goes through the lines of a playlist of segments."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._film = Assembly()
        self._beginning: Piece | None = None
        self._usual_s = 0.0
        """The longest duration of a segment, rounded."""
        self._duration_s: float | None = None
        self._range = ""
        self._is_missing = False
        self._last: Piece | None = None

    def read(self, lines: list[str]) -> Playlist:
        for line in lines:
            if not line.startswith("#"):
                if line:
                    self._add(line)
                continue
            tag, _, value = line.partition(":")
            match tag:
                case "#EXTINF":
                    found = _DURATION.fullmatch(value)
                    if found is None:
                        raise damaged(f"the duration of a segment is {value[:40]!r}")
                    # A negative one means that it is not known.
                    self._duration_s = self._usual_s if found[1] else float(found[2])
                case "#EXT-X-TARGETDURATION":
                    found = _DURATION.fullmatch(value)
                    self._usual_s = float(found[2]) if found is not None else 0.0
                case "#EXT-X-BYTERANGE":
                    self._range = value
                case "#EXT-X-MAP":
                    self._begin(_attributes(line))
                case "#EXT-X-DISCONTINUITY":
                    self._film.begin_run()
                case "#EXT-X-GAP":
                    self._is_missing = True
                case "#EXT-X-KEY":
                    method = _attributes(line).get("METHOD", "")
                    if method != "NONE":
                        raise encrypted(f"#EXT-X-KEY, method {method[:40] or 'unknown'}")
        return self._film.finish()

    def _begin(self, stated: dict[str, str]) -> None:
        if not stated.get("URI"):
            raise damaged("#EXT-X-MAP has no URI")
        beginning = self._piece(self._base.join(stated["URI"]), stated.get("BYTERANGE", ""), None)
        if beginning != self._beginning:
            self._beginning = beginning
            self._film.begin_run()

    def _add(self, link: str) -> None:
        if self._duration_s is None:
            raise damaged("a segment has no #EXTINF before it")
        self._last = self._piece(self._base.join(link), self._range, self._last)
        if self._is_missing:
            self._film.skip(self._duration_s)
            self._film.begin_run()
        else:
            self._film.add(self._last, beginning=self._beginning, duration_s=self._duration_s)
        self._duration_s, self._range, self._is_missing = None, "", False

    def _piece(self, url: str, span: str, before: Piece | None) -> Piece:
        """A part of a file, behind the part `before` when it does not say where it begins (4.3.2.2)."""
        if not span:
            return Piece(url=url)
        found = _BYTE_RANGE.fullmatch(span.strip())
        if found is None:
            raise damaged(f"a byte range is {span[:40]!r}")
        first = int(found[2] or 0)
        if not found[2] and before is not None and before.url == url and before.size_bytes is not None:
            first = before.first + before.size_bytes
        return Piece(url=url, first=first, size_bytes=int(found[1]))


def _attributes(line: str) -> dict[str, str]:
    """The attributes of a tag (4.2)."""
    return {name: value.strip().strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}
