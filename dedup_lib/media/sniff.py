"""What kind of file it is, by its first bytes, never by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.streams import MediaStream
from dedup_lib.records import Status

HEAD_BYTES = 4096
"""Bytes at the beginning of a file that tell what it is."""

MAX_JPEG_BYTES = 8 * 1024 * 1024
"""A larger JPEG counts as one photograph; nothing is searched behind it."""

MAX_JPEG_PARTS = 1000
MAX_PADDING_BYTES = 256
MAX_PNG_CHUNKS = 100

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PICTURE_MAGIC = (
    b"II*\x00",
    b"MM\x00*",
    b"8BPS",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
)
_ICON_MAGIC = b"\x00\x00\x01\x00"
"""A film whose first box is 256 bytes long begins with the same bytes."""
_MATROSKA_MAGIC = b"\x1aE\xdf\xa3"
_MEDIA_MAGIC = (
    _MATROSKA_MAGIC,
    b"OggS",
    b"FLV\x01",
    b"GIF87a",
    b"GIF89a",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x00\x01",  # H.264 and H.265, annex B
    b".RMF",
    b"DKIF",  # IVF
)
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx", b"styp"})
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"})
_MOVING_BRANDS = frozenset({b"avis", b"hevc", b"hevx", b"msf1"})
"""Brands of image sequences (ISO/IEC 23008-12, B.3); such a file also names a still brand."""

_UNLIKE_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The marker that ends compressed data (ITU-T T.81, B.1.1.2): no stuffed byte, restart or fill byte."""


_MANIFEST = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?MPD[\s>]")


class PlaylistKind(Enum):
    """A format of playlists whose film can be read."""

    HLS = "hls"
    DASH = "dash"


class Content(Enum):
    """How to read the frames of a file."""

    FILM = "film"
    """With the demuxer that FFmpeg chooses."""
    PICTURES = "pictures"
    """Like FILM, but a file with a single frame is an image: GIF, APNG, AVIF."""
    JPEGS = "jpegs"
    """JPEGs one after the other, and nothing else."""
    WEBP = "webp"
    """WebP with more than one frame."""


def tell_content(head: bytes, stream: MediaStream) -> Content:
    """Returns what a stream holds. `head` is its beginning; more is read only when `head` does not decide.

    Raises VideoTrouble, with the matching status, for content that is certainly no video."""
    try:
        return _tell(head, stream)
    finally:
        stream.seek(0)


def is_media(head: bytes) -> bool:
    """Whether a file begins like a known video or audio format."""
    return (
        head.startswith((*_MEDIA_MAGIC, _JPEG_MAGIC, _PNG_MAGIC))
        or head[4:8] in _BOXES
        or (head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WEBP"))
        or is_transport_stream(head)
    )


def tell_playlist(head: bytes) -> PlaylistKind | None:
    """Returns which playlist a file is by its beginning, None for anything else."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"#EXTM3U"):
        return PlaylistKind.HLS
    is_manifest = text.startswith((b"<?xml", b"<!--")) or _MANIFEST.match(text)
    return PlaylistKind.DASH if is_manifest and _MANIFEST.search(text) else None


def is_page(head: bytes) -> bool:
    """Whether a file begins like a web page."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    begins = text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in text[:1024]
    # The title in a film's header may contain such words, but a film also holds bytes that no text has.
    return begins and not _UNLIKE_TEXT.search(head[:1024])


def is_segment(head: bytes) -> bool:
    """Whether a file begins as a segment of a playlist may: like MPEG-TS, MP4, WebM, or sound alone (AAC, MP3)."""
    is_sound = head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    return head[4:8] in _BOXES or head.startswith(_MATROSKA_MAGIC) or is_transport_stream(head) or is_sound


def is_transport_stream(head: bytes) -> bool:
    """Whether a file begins like MPEG-TS, of packets of 188 bytes or, by cameras, of 192."""
    return len(head) > 388 and (head[0] == head[188] == head[376] == 0x47 or head[4] == head[196] == head[388] == 0x47)


def _tell(head: bytes, stream: MediaStream) -> Content:
    if not head:
        raise VideoTrouble(Status.NOT_VIDEO, "the file is empty")
    if head.startswith(b"GIF8"):
        return Content.PICTURES
    if head.startswith(_PNG_MAGIC) and _is_animated_png(stream):
        return Content.PICTURES
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return Content.WEBP
    if head.startswith(_JPEG_MAGIC) and _is_jpeg_sequence(stream):
        return Content.JPEGS
    brands = _brands(head)
    if brands & _MOVING_BRANDS and brands & _STILL_BRANDS:
        return Content.PICTURES
    if (
        head.startswith((_JPEG_MAGIC, _PNG_MAGIC, *_PICTURE_MAGIC))
        or (head.startswith(_ICON_MAGIC) and head[4:8] not in _BOXES)
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (brands and head[8:12] in _STILL_BRANDS)
    ):
        raise still_image()
    if is_page(head):
        raise VideoTrouble(Status.HTML, "the URL gives a web page, not a video")
    if not _UNLIKE_TEXT.search(head[:1024]):
        _refuse_text(head.lstrip(b"\xef\xbb\xbf \t\r\n").lower())
    return Content.FILM


def still_image() -> VideoTrouble:
    """Returns the trouble to raise for a file with one picture."""
    return VideoTrouble(Status.IMAGE, "the URL gives an image, not a video")


def _refuse_text(text: bytes) -> None:
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        raise still_image()
    if text.startswith((b"#extm3u", b"ffconcat", b"v=0", b"<?xml", b"<mpd", b"<smil")):
        raise VideoTrouble(Status.NOT_VIDEO, "the URL gives a playlist, not a video")


def _brands(head: bytes) -> set[bytes]:
    """The brands that the first box of an MP4 file names."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))}


def _is_animated_png(stream: MediaStream) -> bool:
    """Whether a PNG states, before its image data, that it has several frames (APNG)."""
    place = len(_PNG_MAGIC)
    for _ in range(MAX_PNG_CHUNKS):
        stream.seek(place)
        chunk = stream.read(12)
        if chunk[4:8] == b"acTL":
            return int.from_bytes(chunk[8:12], "big") > 1
        if len(chunk) < 12 or chunk[4:8] == b"IDAT":
            return False
        place += 12 + int.from_bytes(chunk[:4], "big")
    return False


def _is_jpeg_sequence(stream: MediaStream) -> bool:
    """Whether another JPEG of the same size follows the first directly.

    Cameras also store further images behind a photograph, but then name them in the photograph (CIPA DC-007).
    """
    stream.seek(0)
    reader = _JpegReader(stream)
    first = reader.size_px()
    if first is None or not reader.go_to_next():
        return False
    return reader.size_px() == first


class _JpegReader:
    """Goes from one JPEG of a stream to the next."""

    def __init__(self, stream: MediaStream) -> None:
        self._stream = stream
        self._data = bytearray()
        self._place = 0
        self._parts: Iterator[tuple[int, bytes]] = self._read_parts()

    def size_px(self) -> tuple[int, int] | None:
        """Height and width of the current JPEG; None when it names further images, or is no JPEG."""
        for marker, content in self._parts:
            if marker == 0xE2 and content.startswith(b"MPF\x00"):
                return None
            # Frame headers; the excluded markers among them are tables and an extension (T.81, table B.1).
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                return int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        return None

    def go_to_next(self) -> bool:
        """Goes behind the end of this JPEG; returns whether another one begins there."""
        if not any(marker == 0xD9 for marker, _ in self._parts):
            return False
        padding = self._bytes(MAX_PADDING_BYTES)
        self._place += len(padding) - len(padding.lstrip(b"\x00\r\n"))
        self._parts = self._read_parts()
        return self._bytes(3) == _JPEG_MAGIC

    def _bytes(self, count: int) -> bytes:
        """The next `count` bytes at the current place; fewer at the end, or beyond twice `MAX_JPEG_BYTES`."""
        while len(self._data) < self._place + count <= 2 * MAX_JPEG_BYTES:
            more = self._stream.read(256 * 1024)
            if not more:
                break
            self._data += more
        return bytes(self._data[self._place : self._place + count])

    def _read_parts(self) -> Iterator[tuple[int, bytes]]:
        """Yields the markers from here to the end of the image, each with the content of its segment."""
        for _ in range(MAX_JPEG_PARTS):
            start = self._bytes(4)
            if len(start) < 2 or start[0] != 0xFF:
                return
            marker = start[1]
            if marker == 0xFF:
                self._place += 1
                continue
            self._place += 2
            if marker == 0xD9:
                yield marker, b""
                return
            if marker == 0xD8:
                continue
            length = int.from_bytes(start[2:4], "big")
            content = self._bytes(length)[2:]
            self._place += length
            if marker == 0xDA and not self._pass_compressed():
                return
            yield marker, content

    def _pass_compressed(self) -> bool:
        """Goes to the marker behind compressed data; returns False when there is none."""
        while len(self._data) <= MAX_JPEG_BYTES:
            if found := _JPEG_MARKER.search(self._data, self._place):
                self._place = found.start()
                return True
            # The bytes read so far may end with the first half of a marker.
            self._place = max(self._place, len(self._data) - 1)
            if len(self._bytes(2)) < 2:
                return False
        return False
