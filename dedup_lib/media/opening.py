"""A URL of a list as the stream of its video: of a file, or of the segments that a playlist names."""

from __future__ import annotations

import contextlib

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.dash import read_dash
from dedup_lib.media.hls import read_hls
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.playlists import MAX_PLAYLIST_BYTES, Base, Playlist, damaged
from dedup_lib.media.segments import SegmentedStream
from dedup_lib.media.sniff import HEAD_BYTES, PlaylistKind, is_segment, tell_playlist
from dedup_lib.media.streams import MediaStream, WebStream, open_next, open_stream
from dedup_lib.records import Status


def open_video(url: str, *, limits: FetchLimits, deadline: Deadline) -> MediaStream:
    """Opens a web URL or the path of a local file for reading; follows an HLS or DASH playlist to its film.

    Raises VideoTrouble with the status that the video gets.
    """
    stream = open_stream(url, limits=limits, deadline=deadline)
    with contextlib.ExitStack() as until_open:
        until_open.callback(stream.close)
        kind = tell_playlist(stream.read(HEAD_BYTES))
        stream.seek(0)
        if kind is not None:
            if not isinstance(stream, WebStream):
                raise VideoTrouble(Status.NOT_VIDEO, "a playlist is read from a web server only, not from a file")
            # The route is one for all files of the playlist, whichever of them is read when an error occurs.
            until_open.callback(stream.route.close)
            stream = _follow(stream, kind)
        until_open.pop_all()
        return stream


def _follow(stream: WebStream, kind: PlaylistKind) -> MediaStream:
    """The film of a playlist, as a stream in the place of this one. After an error, this one may still be open."""
    found = _read(stream, kind)
    if isinstance(found, str):
        # A list of renditions leads to the segments of one of them (RFC 8216, 2).
        stream = open_next(stream.release(), found)
        found = _read(stream, kind)
    if isinstance(found, str):
        raise damaged("it leads from one list of renditions to another")
    if found.file_url:
        return _checked(open_next(stream.release(), found.file_url))
    return _checked(SegmentedStream(stream.release(), found))


def _read(stream: WebStream, kind: PlaylistKind) -> str | Playlist:
    text = stream.read(MAX_PLAYLIST_BYTES + 1)
    if len(text) > MAX_PLAYLIST_BYTES:
        raise VideoTrouble(Status.TOO_LARGE, f"the playlist has more than {MAX_PLAYLIST_BYTES:,} bytes")
    base = Base(url=stream.route.url, may_leave_tls=stream.route.may_leave_tls)
    return read_dash(text, base) if kind is PlaylistKind.DASH else read_hls(text.decode("utf-8", "replace"), base)


def _checked(film: SegmentedStream | WebStream) -> MediaStream:
    """The same film, from its start. Raises VideoTrouble when it begins like no film: with a web page, or another
    playlist."""
    head = film.read(HEAD_BYTES)
    film.seek(0)
    if not is_segment(head):
        raise VideoTrouble(
            Status.DECODE_ERROR, "what the playlist leads to is in no format of segments (MPEG-TS, MP4, WebM)"
        )
    return film
