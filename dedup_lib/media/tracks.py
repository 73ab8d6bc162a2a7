"""Which stream of a file is the film, and what the container says of it."""

from __future__ import annotations

import re
from typing import cast

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.limits import Deadline
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Status

MAX_PIXELS = 8192 * 8192
"""Larger pictures are refused by their header: 8K passes, a decompression bomb does not."""

MAX_PEEKED_PACKETS = 400
MAX_PEEKED_BYTES = 8 * 1024 * 1024
"""So much is read ahead to see which of several streams is a film."""

ENOUGH_PACKETS = 32

FILM_FRACTION = 1 / 8
"""A stream with less than this share of another one's pictures, or of its duration, is a preview of it."""

SHAPE_TOLERANCE = 0.03
"""Streams whose width by height differs by less show the same, in several sizes."""

_NO_FILMS = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails

_CONTAINERS = (
    "3g2,3gp,apng,asf,av1,avi,dv,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mj2,mjpeg,mov,mp4,m4a,mpeg,mpegts,mpegvideo,"
    "mpjpeg,mxf,nut,obu,ogg,rm,vc1,webm,wtv,yuv4mpegpipe,aac,flac,mp3,wav,amr"
)
"""Demuxers that only read the stream they are given. Playlists (hls, dash, concat, sdp), which open further
addresses or files, are left out; sound formats are in, so that they get the status no_video_stream."""

_SPAN = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def open_container(stream: MediaStream, demuxer: str | None) -> InputContainer:
    """Open a stream with the demuxer that knows it, or the one that is named. Raises what PyAV does."""
    # FFmpeg only ever reads from our stream: no protocol of its own is allowed.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    return av.open(stream, mode="r", format=demuxer, metadata_errors="replace", container_options=options)


def is_mp4(container: InputContainer) -> bool:
    """Whether its index names every picture."""
    return container.format.name.startswith("mov,")


def has_times(container: InputContainer) -> bool:
    """Whether it says when pictures are shown; bare streams (H.264, JPEGs) do not."""
    return not container.format.flags & cast("int", Flags.no_timestamps.value)


def is_matroska(container: InputContainer) -> bool:
    """Whether it counts all durations from zero, and states none of a video but in a tag."""
    return container.format.name.startswith("matroska")


def find_films(container: InputContainer) -> list[VideoStream]:
    """The video streams that may be the film. Raises VideoTrouble where there is none."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoTrouble(Status.NO_VIDEO_STREAM, "the file has no video stream")
    # The stub does not say that there is no context where no decoder is.
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise VideoTrouble(Status.DECODE_ERROR, "there is no decoder for the codec of the video")
    return [s for s in streams if not s.disposition & _NO_FILMS] or streams


def choose_film(films: list[VideoStream], counts: dict[int, int]) -> VideoStream:
    """The film among its previews, posters and other sizes, given how many pictures each stream has: the one that has
    about as many as any, and lasts about as long; of these the one that players show, in its largest size."""
    most = max(counts.values(), default=0)
    # Of a film of few pictures, one is still a poster.
    fewest = max(most * FILM_FRACTION, min(most, 2))
    films = [film for film in films if counts.get(film.index, 0) >= fewest] or films
    longest_s = max(map(told_duration_s, films))
    films = [film for film in films if told_duration_s(film) >= longest_s * FILM_FRACTION or not told_duration_s(film)]
    shown = max([film for film in films if film.disposition & Disposition.default] or films, key=_pixels)
    return max((film for film in films if _has_shape_of(film, shown)), key=_pixels)


def count_pictures(
    container: InputContainer, films: list[VideoStream], stream: MediaStream, deadline: Deadline
) -> dict[int, int]:
    """How many pictures each of these streams has, by its index: of an MP4 file as its own index says, of others among
    the first packets, which are passed over by that."""
    if is_mp4(container) and all(film.frames for film in films):
        return {film.index: len(film.index_entries) for film in films}
    counts = {film.index: 0 for film in films}
    first_byte = stream.tell()
    try:
        for packet in container.demux(films):
            deadline.remaining_s()
            counts[packet.stream.index] += bool(packet.size)
            if (
                min(counts.values()) >= ENOUGH_PACKETS
                or sum(counts.values()) >= MAX_PEEKED_PACKETS
                or stream.tell() - first_byte > MAX_PEEKED_BYTES
            ):
                break
    except (av.InvalidDataError, av.EOFError):
        if stream.trouble:
            raise stream.trouble from None
    return counts


def _pixels(film: VideoStream) -> int:
    return film.codec_context.width * film.codec_context.height


def _has_shape_of(film: VideoStream, other: VideoStream) -> bool:
    shapes = [one.codec_context.width / max(1, one.codec_context.height) for one in (film, other)]
    return abs(shapes[0] - shapes[1]) <= SHAPE_TOLERANCE * shapes[1]


def own_duration_s(video: VideoStream) -> float:
    """Duration that a video stream states of itself, 0 where it states none."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    return 0.0


def told_duration_s(video: VideoStream) -> float:
    """The same, or what a tag says of it, as most that write Matroska leave one."""
    if own_s := own_duration_s(video):
        return own_s
    for name, text in video.metadata.items():
        if name.upper().startswith("DURATION") and (found := _SPAN.match(text)):
            hours, minutes, seconds = found.groups()
            # It counts from zero.
            return max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start_s(video))
    return 0.0


def start_s(video: VideoStream) -> float:
    """When the first picture is shown by the stamps of the file."""
    return float((video.start_time or 0) * (video.time_base or 0))


def end_of_segment(head: bytes) -> int | None:
    """Where a Matroska file ends by its own word, in bytes, given its beginning; None where it does not say
    (RFC 8794, 4 to 6; RFC 9559, 5.1)."""
    place = 4
    for identifier in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
        if head[place - 4 : place] != identifier or place >= len(head):
            return None
        length = 9 - head[place].bit_length()
        number = int.from_bytes(head[place : place + length], "big") & ((1 << 7 * length) - 1)
        if length > 8 or number == (1 << 7 * length) - 1:
            return None
        place += length + number + (4 if identifier[0] == 0x1A else 0)
    return place
