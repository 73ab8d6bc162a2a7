"""Which stream of a file is the film, and what the container says of it."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import av
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.limits import Deadline
from dedup_lib.media.playlists import encrypted
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Status

MAX_PIXELS = 8192 * 8192
"""Larger frames are refused by their header: 8K passes, a decompression bomb does not."""

MAX_DECODED_FRAMES = 100_000
"""Most frames decoded for one video, including those on the way to a wanted frame. Frames of a usual size reach the
deadline first; tiny frames at absurd rates end at this count, which is the same on every machine."""

MAX_PEEKED_PACKETS = 400
MAX_PEEKED_BYTES = 8 * 1024 * 1024
"""Most packets and bytes to read ahead in order to see which of several streams is the film."""

ENOUGH_PACKETS = 32

FILM_FRACTION = 1 / 8
"""A stream with less than this share of another stream's frames, or of its duration, is a preview of it."""

SHAPE_TOLERANCE = 0.03
"""Streams whose aspect ratios (width / height) differ by at most this share show the same film in several sizes."""

_NO_FILMS = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails

_CONTAINERS = (
    "3g2,3gp,apng,asf,av1,avi,dv,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mj2,mjpeg,mov,mp4,m4a,mpeg,mpegts,mpegvideo,"
    "mpjpeg,mxf,nut,obu,ogg,rm,vc1,webm,wtv,yuv4mpegpipe,aac,flac,mp3,wav,amr,gxf,h261,swf"
)
"""Demuxers that read only the stream they are given. Playlists (hls, dash, concat, sdp) are left out: they open further
addresses or files. `opening` follows those of HLS and DASH itself. Audio formats are included, so that they get the
status no_video_stream."""

BROKEN_ENDS = (av.InvalidDataError, av.EOFError, av.PatchWelcomeError)
"""What a demuxer raises where it cannot go on: the file is damaged, is cut off, or goes on as another recording."""

BROKEN_PACKETS = (
    av.InvalidDataError,
    av.PatchWelcomeError,
    av.UnknownError,
    av.PermissionError,
    av.ArgumentError,
)
"""What a decoder raises for a damaged packet, or one that is not for it; some decoders return -1, which is EPERM."""

_MAX_PAUSES = 1_000
"""How often in a row a demuxer may stop without a packet: that of MPEG-TS does after each 64 KiB that make no sense."""

_END_TOLERANCE_FRACTION = 0.1

_SPAN = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def end_tolerance_s(target_s: float) -> float:
    """Seconds by which a film may end before its stated end, and by which its last frame may be earlier."""
    return max(0.5, target_s * _END_TOLERANCE_FRACTION)


def check_size(width_px: int, height_px: int) -> None:
    """Raises VideoTrouble for frames of more than `MAX_PIXELS`."""
    if width_px * height_px > MAX_PIXELS:
        raise VideoTrouble(Status.TOO_LARGE, f"pictures of {width_px} × {height_px} px are larger than 8192 × 8192 px")


def check_count(decoded_frames: int) -> None:
    """Raises VideoTrouble when more than `MAX_DECODED_FRAMES` have been decoded."""
    if decoded_frames > MAX_DECODED_FRAMES:
        raise VideoTrouble(Status.TOO_LARGE, f"more than {MAX_DECODED_FRAMES:,} frames would have to be decoded")


def open_container(
    stream: MediaStream, demuxer: str | None, options: Mapping[str, str] = MappingProxyType({})
) -> InputContainer:
    """Opens a stream with the named demuxer, or with the one that FFmpeg chooses, and with further options of FFmpeg.
    Raises the exceptions of PyAV."""
    # FFmpeg may only read from this stream, not by a protocol of its own.
    options = {**options, "format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    return av.open(stream, mode="r", format=demuxer, metadata_errors="replace", container_options=options)


def read_packets(container: InputContainer, streams: Sequence[av.stream.Stream]) -> Iterator[av.Packet[Any]]:
    """Yields the packets of these streams, and at the end, for each of them, one without content. Raises the exceptions
    of PyAV."""
    # MPEG files may begin further streams anywhere, such as subtitles. PyAV knows only those from the beginning: behind
    # the last packet, it takes unset memory for whether a further one was asked for, and then does not find it.
    pauses = 0
    while pauses < _MAX_PAUSES:
        try:
            with contextlib.suppress(IndexError):
                for packet in container.demux(*streams):
                    pauses = 0
                    yield packet
            return
        except av.BlockingIOError:
            # What follows may be read all the same: recorders leave such gaps, and fill up their files.
            pauses += 1


def describe_error(error: av.FFmpegError) -> str:
    """What FFmpeg says of a damaged file, after a colon. Decoders also use codes of the system, such as EPERM: these
    say nothing of a file, and are left out."""
    return "" if error.errno in errno.errorcode else f": {error.strerror}"


def is_mp4(container: InputContainer) -> bool:
    """Whether it is an MP4 file, whose index names every frame."""
    return container.format.name.startswith("mov,")


def is_edited_away(container: InputContainer) -> bool:
    """Whether the edit lists of an MP4 file leave out all its pictures: as edits of no length, or outside the film."""
    films = [film for film in container.streams.video if film.frames]
    return is_mp4(container) and bool(films) and all(entry.is_discard for film in films for entry in film.index_entries)


def is_encrypted(packet: av.Packet[Any]) -> bool:
    """Whether a packet of an MP4 file is encrypted (ISO/IEC 23001-7). Decoded, it gives nothing, or a wrong frame."""
    return packet.has_sidedata("encryption_info")


def has_times(container: InputContainer) -> bool:
    """Whether it states when frames are shown; bare streams (H.264, JPEGs) do not."""
    return not container.format.flags & cast("int", Flags.no_timestamps.value)


def is_joinable(container: InputContainer) -> bool:
    """Whether such files may be joined by putting one behind the other, as those of MPEG-TS and MPEG-PS. They state no
    duration: what FFmpeg tells of it is the difference of their first and last time stamps."""
    return bool(container.format.flags & cast("int", Flags.ts_discont.value))


def is_matroska(container: InputContainer) -> bool:
    """Whether it is a Matroska file, which counts durations from zero and states that of a video only in a tag."""
    return container.format.name.startswith("matroska")


def find_films(container: InputContainer) -> list[VideoStream]:
    """The video streams that may be the film. Raises VideoTrouble when there is none."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoTrouble(Status.NO_VIDEO_STREAM, "the file has no video stream")
    # The type stub does not know that a stream without a decoder has no context.
    streams = [s for s in streams if s.codec_context is not None]
    if not streams:
        raise VideoTrouble(Status.DECODE_ERROR, "there is no decoder for the codec of the video")
    # WebM encrypts whole streams, with the ID of the key beside them.
    streams = [s for s in streams if "enc_key_id" not in s.metadata]
    if not streams:
        raise encrypted("WebM with a key")
    return [s for s in streams if not s.disposition & _NO_FILMS] or streams


def choose_film(films: list[VideoStream], counts: dict[int, int]) -> VideoStream:
    """Chooses the film among its previews, posters and other sizes; `counts` has the number of frames of each stream.

    Streams with far fewer frames or a far shorter duration than another drop out. Of the rest, the stream that players
    show is chosen, in its largest size."""
    most = max(counts.values(), default=0)
    # Even beside a film of few frames, a stream with one frame is a poster.
    fewest = max(most * FILM_FRACTION, min(most, 2))
    films = [film for film in films if counts.get(film.index, 0) >= fewest] or films
    longest_s = max(map(told_duration_s, films))
    films = [film for film in films if told_duration_s(film) >= longest_s * FILM_FRACTION or not told_duration_s(film)]
    shown = max([film for film in films if film.disposition & Disposition.default] or films, key=_pixels)
    return max((film for film in films if _has_shape_of(film, shown)), key=_pixels)


def count_frames(
    container: InputContainer, films: list[VideoStream], stream: MediaStream, deadline: Deadline
) -> dict[int, int]:
    """Counts the frames of each of these streams, by stream index. An MP4 file states the counts in its index. For
    other files, this counts the first packets, and leaves the container behind them."""
    if is_mp4(container) and all(film.frames for film in films):
        return {film.index: len(film.index_entries) for film in films}
    counts = {film.index: 0 for film in films}
    first_byte = stream.tell()
    try:
        for packet in read_packets(container, films):
            deadline.check()
            counts[packet.stream.index] += bool(packet.size)
            if (
                min(counts.values()) >= ENOUGH_PACKETS
                or sum(counts.values()) >= MAX_PEEKED_PACKETS
                or stream.tell() - first_byte > MAX_PEEKED_BYTES
            ):
                break
    except BROKEN_ENDS:
        if stream.trouble:
            raise stream.trouble from None
    return counts


def _pixels(film: VideoStream) -> int:
    return film.codec_context.width * film.codec_context.height


def _has_shape_of(film: VideoStream, other: VideoStream) -> bool:
    shapes = [one.codec_context.width / max(1, one.codec_context.height) for one in (film, other)]
    return abs(shapes[0] - shapes[1]) <= SHAPE_TOLERANCE * shapes[1]


def own_duration_s(video: VideoStream) -> float:
    """Duration that a video stream states for itself, 0 when it states none."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    return 0.0


def told_duration_s(video: VideoStream) -> float:
    """Duration that a video stream, or else a tag, states; 0 without both. Most Matroska writers set such a tag."""
    if own_s := own_duration_s(video):
        return own_s
    for name, text in video.metadata.items():
        if name.upper().startswith("DURATION") and (found := _SPAN.match(text)):
            hours, minutes, seconds = found.groups()
            # The tag counts from zero.
            return max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start_s(video))
    return 0.0


def start_s(video: VideoStream) -> float:
    """When the first frame is shown, by the time stamps of the file."""
    return float((video.start_time or 0) * (video.time_base or 0))


_ASF_FILE = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
"""Begins the object of an ASF file that holds the length of the file (Advanced Systems Format, 3.2)."""


def find_stated_end(head: bytes) -> int | None:
    """Where a Matroska or ASF file ends by its own statement, in bytes; None when it does not say. `head` is the
    beginning of the file."""
    return _end_of_asf(head) if _ASF_FILE in head else _end_of_segment(head)


def _end_of_asf(head: bytes) -> int | None:
    place = head.index(_ASF_FILE) + 40
    # A broadcast states 0.
    return int.from_bytes(head[place : place + 8], "little") or None


def _end_of_segment(head: bytes) -> int | None:
    """RFC 8794, 4 to 6; RFC 9559, 5.1."""
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
