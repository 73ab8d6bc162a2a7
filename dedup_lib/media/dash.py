"""DASH manifests (ISO/IEC 23009-1) as text: the segments of the film in them.

The text is only read here. Nothing is fetched: neither the links of the manifest nor the entities of XML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.playlists import (
    MAX_RENDITIONS,
    MAX_SEGMENTS,
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

_DURATION = re.compile(
    r"P(?:0+Y)?(?:0+M)?(?:([0-9]{1,4})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,9}(?:\.[0-9]{0,9})?)S)?)?"
)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_BYTE_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_PLACE = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0([0-9]{1,2})d)?)?\$")
_MAX_TEXT = 2_000
_TRICK_MODE = "http://dashif.org/guidelines/trickmode"
"""Marks frames for fast winding: few, and not in the time of the film."""


def read_dash(text: bytes, base: Base) -> Playlist:
    """Reads the manifest of a film: its periods one after the other, of each the chosen rendition. `base` is for
    relative links.

    Raises VideoTrouble for what is live, encrypted, damaged or no DASH.
    """
    try:
        root: Element = fromstring(text.strip(), forbid_dtd=True)
    except DefusedXmlException:
        raise damaged("it declares entities or a document type, which are not read") from None
    except (ParseError, ValueError, LookupError) as error:
        raise damaged(f"it is no XML: {str(error)[:80]}") from None
    if _name(root) != "MPD":
        raise VideoTrouble(Status.NOT_VIDEO, "the URL gives a document in XML, not a video")
    if root.get("type") == "dynamic":
        raise live()
    base = _base_at(root, base)
    film = Assembly()
    ends_s = _seconds(root.get("mediaPresentationDuration"))
    periods = list(_children(root, "Period"))
    if not periods:
        raise damaged("it has no periods")
    at_s, most = 0.0, 1
    for number, period in enumerate(periods):
        start_s = _seconds(period.get("start"))
        at_s = at_s if start_s is None else start_s
        duration_s = _seconds(period.get("duration"))
        following_s = _seconds(periods[number + 1].get("start")) if number + 1 < len(periods) else ends_s
        if duration_s is None and following_s is not None:
            duration_s = max(0.0, following_s - at_s)
        film.begin_run()
        film.move_to(at_s)
        most = max(most, _add_period(film, period, base, duration_s))
        if duration_s is not None:
            # The last segment of a template may reach beyond the end.
            at_s += duration_s
            film.move_to(at_s)
    mirrors = max(sum(1 for _ in _children(element, "BaseURL")) for element in root.iter())
    return replace(film.finish(), mirrors=max(1, mirrors), renditions=most)


def _add_period(film: Assembly, period: Element, base: Base, duration_s: float | None) -> int:
    """Adds a period that lasts so long; returns how many renditions it has."""
    base = _base_at(period, base)
    renditions: list[Rendition[tuple[Element, Element]]] = []
    protected = others = 0
    for adaptations in _children(period, "AdaptationSet"):
        for one in _children(adaptations, "Representation"):
            if not _is_film(adaptations, one):
                others += 1
                continue
            if any(True for of in (adaptations, one) for _ in _children(of, "ContentProtection")):
                protected += 1
                continue
            if len(renditions) >= MAX_RENDITIONS:
                raise VideoTrouble(Status.TOO_LARGE, f"the playlist has more than {MAX_RENDITIONS:,} renditions")
            renditions.append(
                Rendition(
                    link=(adaptations, one),
                    width_px=_stated(one, adaptations, "width"),
                    height_px=_stated(one, adaptations, "height"),
                    bits_per_s=_number(one.get("bandwidth"), 0),
                )
            )
    if not renditions and protected:
        raise encrypted("ContentProtection")
    if not renditions and others:
        raise VideoTrouble(Status.NO_VIDEO_STREAM, "the playlist has no video")
    if not renditions:
        raise damaged("a period has no renditions")
    ranked = rank_renditions(renditions)
    chosen = ranked[min(base.rendition, len(ranked) - 1)]
    _Source(period, *chosen.link, base=base, bits_per_s=chosen.bits_per_s).add_to(film, duration_s)
    return len(ranked)


def _is_film(adaptations: Element, one: Element) -> bool:
    kind = one.get("mimeType") or adaptations.get("mimeType") or adaptations.get("contentType") or ""
    marks = [mark.get("schemeIdUri") for of in (adaptations, one) for mark in _children(of, "EssentialProperty")]
    # Without any type, the size of the frames tells.
    is_video = kind.startswith("video") if kind else bool(_stated(one, adaptations, "width"))
    return is_video and _TRICK_MODE not in marks


def _stated(one: Element, adaptations: Element, name: str) -> int:
    return _number(one.get(name) or adaptations.get(name), 0)


@dataclass(frozen=True)
class _Timed:
    """One segment by the timeline: its number, its time in ticks, its duration in seconds, and whether it is the last
    one by the duration of the period alone, which counts the sound too, and that may be longer."""

    number: int
    time: int
    duration_s: float
    is_assumed: bool = False


class _Source:
    """Where the segments of one representation are. What its own elements leave out, those around it may state."""

    def __init__(self, period: Element, adaptations: Element, one: Element, *, base: Base, bits_per_s: int) -> None:
        self._around = (one, adaptations, period)
        self._base = _base_at(one, _base_at(adaptations, base))
        self._values = {"RepresentationID": one.get("id", ""), "Bandwidth": str(bits_per_s)}

    def add_to(self, film: Assembly, duration_s: float | None) -> None:
        """Adds the segments of a period that lasts so long, None where that is unknown. Raises VideoTrouble."""
        if kinds := self._kinds("SegmentTemplate"):
            media = _first(kinds, "media")
            if media is None:
                raise damaged("SegmentTemplate names no media")
            initialization = _first(kinds, "initialization")
            beginning = (
                self._beginning(kinds) if initialization is None else Piece(url=self._url(self._fill(initialization)))
            )
            for timed in _timeline(kinds, duration_s, None):
                url = self._url(self._fill(media, Number=timed.number, Time=timed.time))
                film.add(Piece(url=url), beginning=beginning, duration_s=timed.duration_s, is_assumed=timed.is_assumed)
        elif kinds := self._kinds("SegmentList"):
            beginning = self._beginning(kinds)
            parts = next((found for kind in kinds if (found := list(_children(kind, "SegmentURL")))), [])
            timeline = _timeline(kinds, duration_s, len(parts))
            for part, timed in zip(parts, timeline, strict=False):
                piece = self._piece(part.get("media"), part.get("mediaRange"))
                film.add(piece, beginning=beginning, duration_s=timed.duration_s)
        elif duration_s:
            # One file, with an index of its own (SegmentBase) or without.
            film.add(Piece(url=self._base.url), beginning=None, duration_s=duration_s)
        else:
            raise damaged("a period states no duration")

    def _kinds(self, name: str) -> list[Element]:
        return [found for around in self._around for found in _children(around, name)]

    def _beginning(self, kinds: list[Element]) -> Piece | None:
        for kind in kinds:
            for found in _children(kind, "Initialization"):
                return self._piece(found.get("sourceURL"), found.get("range"))
        return None

    def _piece(self, link: str | None, span: str | None) -> Piece:
        url = self._url(link) if link else self._base.url
        if span is None:
            return Piece(url=url)
        found = _BYTE_RANGE.fullmatch(span.strip())
        if found is None or int(found[2]) < int(found[1]):
            raise damaged(f"a byte range is {span[:40]!r}")
        return Piece(url=url, first=int(found[1]), size_bytes=int(found[2]) - int(found[1]) + 1)

    def _url(self, link: str) -> str:
        return self._base.join(link)

    def _fill(self, template: str, **numbers: int) -> str:
        """The link that a template makes (5.3.9.4.4)."""
        if max(map(len, (template, *self._values.values()))) > _MAX_TEXT:
            raise damaged(f"a template, or what is to be put in, has more than {_MAX_TEXT:,} characters")

        def value(place: re.Match[str]) -> str:
            name, width = place[1], int(place[2] or 1)
            if not name:
                return "$"
            if name in numbers:
                return f"{numbers[name]:0{width}d}"
            found = self._values.get(name)
            if found is None:
                raise damaged(f"a template has ${name}$ where it has no value")
            return found

        return _PLACE.sub(value, template)


def _timeline(kinds: list[Element], duration_s: float | None, count: int | None) -> Iterator[_Timed]:
    """Yields the segments of a template or a list; `count` is how many are listed, None when that is open."""
    ticks_per_s = _number(_first(kinds, "timescale"), 1) or 1
    number = _number(_first(kinds, "startNumber"), 1)
    shift = _number(_first(kinds, "presentationTimeOffset"), 0)
    lines = next((list(_children(found, "S")) for kind in kinds for found in _children(kind, "SegmentTimeline")), None)
    if lines is not None:
        time = 0
        for place, line in enumerate(lines):
            time = _number(line.get("t"), time)
            ticks = _number(line.get("d"), 0)
            if not ticks:
                raise damaged("a segment of the timeline has no duration")
            following = lines[place + 1].get("t") if place + 1 < len(lines) else None
            for _ in range(_repeats(line, time, ticks, following, duration_s, shift, ticks_per_s)):
                yield _Timed(number, time, ticks / ticks_per_s)
                number, time = number + 1, time + ticks
        return
    ticks = _number(_first(kinds, "duration"), 0)
    if not ticks:
        # A list of a single segment needs no duration of its own.
        if count == 1 and duration_s:
            yield _Timed(number, 0, duration_s)
            return
        raise damaged("its segments state no duration")
    is_counted = False
    if count is None:
        last = _number(_first(kinds, "endNumber"), 0)
        if duration_s is None and not last:
            raise damaged("a period states no duration")
        # A little less than a whole segment comes of rounding, and is none.
        of_duration = math.ceil((duration_s or 0.0) * ticks_per_s / ticks - 0.01)
        count = max(1, last - number + 1 if last else of_duration)
        is_counted = not last
    for index in range(count):
        is_assumed = is_counted and index == count - 1
        yield _Timed(number + index, shift + index * ticks, ticks / ticks_per_s, is_assumed)


def _repeats(
    line: Element,
    time: int,
    ticks: int,
    following: str | None,
    duration_s: float | None,
    shift: int,
    ticks_per_s: int,
) -> int:
    """How many segments one line of the timeline stands for; a negative `r` means up to the next line, or to the end
    of the period."""
    repeat = line.get("r", "0").strip()
    if not repeat.startswith("-"):
        count = 1 + _number(repeat, 0)
    elif following is not None:
        count = math.ceil((_number(following, 0) - time) / ticks)
    elif duration_s is not None:
        count = math.ceil((duration_s * ticks_per_s + shift - time) / ticks - 0.01)
    else:
        raise damaged("a period states no duration")
    return min(max(count, 0), MAX_SEGMENTS + 1)


def _base_at(element: Element, base: Base) -> Base:
    """The base for what is in an element, by the BaseURL of the mirror that `base` names."""
    links = [text for found in _children(element, "BaseURL") if (text := (found.text or "").strip())]
    return base.at(links[min(base.mirror, len(links) - 1)]) if links else base


def _children(element: Element, name: str) -> Iterator[Element]:
    """The children of this name, in any namespace."""
    return (child for child in element if _name(child) == name)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _first(elements: list[Element], name: str) -> str | None:
    """The attribute of the first element that has it."""
    return next((value for element in elements if (value := element.get(name)) is not None), None)


def _number(text: str | None, otherwise: int) -> int:
    """A whole number; `otherwise` where there is none. Raises VideoTrouble for anything else."""
    if text is None:
        return otherwise
    if not _WHOLE_NUMBER.fullmatch(text.strip()):
        raise damaged(f"{text[:40]!r} stands where a whole number belongs")
    return int(text)


def _seconds(text: str | None) -> float | None:
    """A duration such as `PT1H2M3.5S` in seconds; None without one. Raises VideoTrouble for anything else."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise damaged(f"{text[:40]!r} stands where a duration belongs")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
