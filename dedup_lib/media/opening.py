"""A URL of a list as the stream of its video: of a file, or of the segments that a playlist names."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace

from dedup_lib.errors import SettingError, VideoTrouble
from dedup_lib.media.dash import read_dash
from dedup_lib.media.hls import read_hls
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.playlists import MAX_PLAYLIST_BYTES, Base, Playlist, damaged
from dedup_lib.media.ranges import Route, check_link
from dedup_lib.media.segments import SegmentedStream
from dedup_lib.media.sniff import HEAD_BYTES, PlaylistKind, is_page, is_segment, tell_playlist
from dedup_lib.media.streams import MediaStream, WebStream, open_next, open_stream
from dedup_lib.records import Status
from dedup_lib.settings import ExtractSettings

_MAX_WAYS = 4
"""Most renditions, or mirrors, that are tried."""

_MAY_BE_ALIVE_ELSEWHERE = frozenset({Status.HTTP_ERROR, Status.UNREACHABLE, Status.TIMEOUT, Status.DECODE_ERROR})


def check_resolver(settings: ExtractSettings) -> None:
    """Raises SettingError where web pages are to be followed, and the package that does it is not installed."""
    if settings.resolve_pages and importlib.util.find_spec("yt_dlp") is None:
        raise SettingError(
            "resolve_pages",
            True,
            "it needs the package yt-dlp, which is not installed: .venv/bin/pip install -r requirements-pages.txt "
            "-c constraints.txt",
        )


def open_video(url: str, *, limits: FetchLimits, deadline: Deadline) -> MediaStream:
    """Opens a web URL or the path of a local file for reading; follows a web page to its video, where `limits` say so,
    and an HLS or DASH playlist to its film.

    Raises VideoTrouble with the status that the video gets.
    """
    stream = open_stream(url, limits=limits, deadline=deadline)
    with contextlib.ExitStack() as until_open:
        until_open.callback(stream.close)
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        if isinstance(stream, WebStream) and is_page(head):
            until_open.callback(stream.route.close)
            stream = _resolve(stream)
            until_open.callback(stream.close)
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
        kind = tell_playlist(head)
        if kind is not None:
            if not isinstance(stream, WebStream):
                raise VideoTrouble(Status.NOT_VIDEO, "a playlist is read from a web server only, not from a file")
            # The route is one for all files of the playlist, whichever of them is read when an error occurs.
            until_open.callback(stream.route.close)
            stream = _follow(stream, kind)
        until_open.pop_all()
        return stream


def _resolve(page: WebStream) -> WebStream:
    """The video of a web page, as a stream in the place of this one. After an error, this one may still be open."""
    route = page.route
    if not route.limits.resolve_pages:
        raise VideoTrouble(
            Status.HTML,
            "the URL gives a web page, not a video (resolve_pages would look for its video)",
            refused_by=route.limits.spell("resolve_pages"),
        )
    # yt-dlp is no requirement of what else happens here.
    from dedup_lib.media.page_resolver import resolve_page

    page.release()
    found = resolve_page(route.url, limits=route.limits, deadline=route.deadline, fetched=route.fetched)
    check_link(route.url, found.url, may_leave_tls=route.may_leave_tls, leads="the web page leads")
    route.send_always(found.headers)
    return open_next(route, found.url)


def _follow(stream: WebStream, kind: PlaylistKind) -> MediaStream:
    """The film of a playlist, as a stream in the place of this one. After an error, this one may still be open."""
    text, base = _read(stream)
    route = stream.release()
    if kind is PlaylistKind.HLS:
        found = read_hls(text.decode("utf-8", "replace"), base)
        if isinstance(found, Playlist):
            return _open_film(route, found)
        # A list of renditions leads to the segments of one of them (RFC 8216, 2).
        return _first_alive([functools.partial(_open_rendition, route, url) for url in found], route)
    film = read_dash(text, base)
    others = [replace(base, mirror=number) for number in range(1, film.mirrors)]
    others += [replace(base, rendition=number) for number in range(1, film.renditions)]
    ways = [functools.partial(_open_other, route, text, other) for other in others]
    return _first_alive([functools.partial(_open_film, route, film), *ways], route)


def _read(stream: WebStream) -> tuple[bytes, Base]:
    text = stream.read(MAX_PLAYLIST_BYTES + 1)
    if len(text) > MAX_PLAYLIST_BYTES:
        raise VideoTrouble(Status.TOO_LARGE, f"the playlist has more than {MAX_PLAYLIST_BYTES:,} bytes")
    return text, Base(url=stream.route.url, may_leave_tls=stream.route.may_leave_tls)


def _first_alive(ways: Sequence[Callable[[], MediaStream]], route: Route) -> MediaStream:
    """The film by the first of several ways that leads to it. Raises VideoTrouble: where none does, that of a way that
    may lead there later, or else that of the first one."""
    ways = ways[:_MAX_WAYS]
    troubles: list[VideoTrouble] = []
    for number, way in enumerate(ways):
        try:
            # A server that does not answer must leave time for the next one.
            with route.deadline.halved() if number < len(ways) - 1 else contextlib.nullcontext():
                return way()
        except VideoTrouble as trouble:
            if not number and trouble.status not in _MAY_BE_ALIVE_ELSEWHERE:
                raise
            troubles.append(trouble)
    raise next((trouble for trouble in troubles if trouble.retryable), troubles[0])


def _open_rendition(route: Route, url: str) -> MediaStream:
    stream = open_next(route, url)
    try:
        text, base = _read(stream)
    finally:
        stream.release()
    found = read_hls(text.decode("utf-8", "replace"), base)
    if not isinstance(found, Playlist):
        raise damaged("it leads from one list of renditions to another")
    return _open_film(route, found)


def _open_other(route: Route, text: bytes, base: Base) -> MediaStream:
    return _open_film(route, read_dash(text, base))


def _open_film(route: Route, found: Playlist) -> MediaStream:
    """The film of a playlist, from its start. Raises VideoTrouble when it begins like no film: with a web page, or
    another playlist; the route stays open."""
    film = open_next(route, found.file_url) if found.file_url else SegmentedStream(route, found)
    with contextlib.ExitStack() as until_known:
        until_known.callback(film.release)
        head = film.read(HEAD_BYTES)
        film.seek(0)
        if not is_segment(head):
            raise VideoTrouble(
                Status.DECODE_ERROR, "what the playlist leads to is in no format of segments (MPEG-TS, MP4, WebM)"
            )
        until_known.pop_all()
    return film
