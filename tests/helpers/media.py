"""Small clips whose frames carry their own number, so that a test can say which of them it got."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from dedup_lib.records import Frames

_BITS = 8


def number_frame(number: int, *, size_px: tuple[int, int] = (160, 120)) -> Frames:
    """A picture that spells `number` in bright and dark columns; its lower half is a slope of colours."""
    width, height = size_px
    frame = np.zeros((height, width, 3), np.uint8)
    column = np.arange(width) * _BITS // width
    frame[: height // 2] = np.where((number >> column) & 1, 220, 30).astype(np.uint8)[None, :, None]
    frame[height // 2 :, :, 0] = np.linspace(20, 230, width).astype(np.uint8)
    frame[height // 2 :, :, 2] = np.linspace(230, 20, width).astype(np.uint8)
    return frame


def read_number(frame: Frames) -> int:
    """The number that a picture of any size spells."""
    height, width = frame.shape[:2]
    places = ((np.arange(_BITS) + 0.5) * width / _BITS).astype(int)
    bright = frame[height // 8 : height * 3 // 8, places].mean(axis=(0, 2)) > 125
    return int((bright << np.arange(_BITS)).sum())


class _Pipe(io.RawIOBase):
    """What a muxer writes to when it cannot go back to fill in the duration."""

    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.content += data
        return len(data)


def save_clip(
    path: Path,
    *,
    count: int = 30,
    fps: int = 10,
    size_px: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    file_format: str | None = None,
    options: dict[str, str] | None = None,
    key_every: int = 10,
    sound: bool = False,
    sound_s: float | None = None,
    metadata: dict[str, str] | None = None,
    title: str = "",
    piped: bool = False,
    frames: Sequence[Frames] | None = None,
) -> Path:
    """Encode these frames, all of `size_px`, or `count` numbered ones; with `piped` the muxer cannot seek. The sound is
    as long as they are, or lasts `sound_s`. `title` is the name of the video stream."""
    frames = [number_frame(number, size_px=size_px) for number in range(count)] if frames is None else frames
    target = _Pipe() if piped else str(path)
    with av.open(target, "w", format=file_format, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size_px
        stream.pix_fmt = pixels
        if title:
            stream.metadata["title"] = title
        stream.codec_context.gop_size = key_every
        stream.codec_context.thread_count = 1
        voice: Any = container.add_stream("aac", rate=8000) if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        if voice:
            lasts = round(8000 * (count / fps if sound_s is None else sound_s))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, lasts), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(voice.encode(silence))
            container.mux(voice.encode())
    if isinstance(target, _Pipe):
        path.write_bytes(bytes(target.content))
    return path


def join_tracks(path: Path, sources: Sequence[tuple[Path, bool]], *, options: dict[str, str] | None = None) -> Path:
    """The video streams of some files side by side in one, in their order, each marked as the default or not."""
    with contextlib.ExitStack() as opened:
        target = opened.enter_context(av.open(str(path), "w", options=options or {}))
        packets = []
        for source, is_default in sources:
            container = opened.enter_context(av.open(str(source)))
            stream = target.add_stream_from_template(container.streams.video[0])
            stream.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            target.mux(packet)
    return path


def save_repeats(path: Path, *, count: int, every: int, until: int) -> Path:
    """`count` steps of a tenth of a second. One of `every` has its numbered frame, up to step `until`; the others say,
    where the container can, that the frame before them stays."""
    codec = {".nut": "mpeg4", ".wmv": "wmv2"}[path.suffix]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.max_b_frames = 0
        for number in range(count):
            if number % every == 0 and number <= until:
                frame = av.VideoFrame.from_ndarray(number_frame(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            else:
                packet = av.Packet(b"")
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 10), 1
                packet.pts = packet.dts = number
                container.mux(packet)
        container.mux(stream.encode())
    return path


def save_still_end(path: Path, *, moving: int, stands_s: float) -> Path:
    """`moving` numbered frames, ten a second, of which the last one stands for `stands_s`."""
    if path.suffix in (".webp", ".png", ".avif"):
        first, *others = (Image.fromarray(number_frame(number)) for number in range(moving))
        shown_ms = [100] * len(others) + [round(stands_s * 1000)]
        first.save(path, save_all=True, append_images=others, duration=shown_ms, quality=90)
        return path
    codec, pixels = {".gif": ("gif", "rgb8"), ".webm": ("libvpx-vp9", "yuv420p")}.get(
        path.suffix, ("libx264", "yuv420p")
    )
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, pixels
        stream.codec_context.max_b_frames = 0
        stream.codec_context.thread_count = 1
        packets = [
            packet
            for number in range(moving)
            for packet in stream.encode(av.VideoFrame.from_ndarray(number_frame(number), format="rgb24"))
        ] + stream.encode()
        packets[-1].duration = round(stands_s / packets[-1].time_base)
        container.mux(packets)
    return path


def save_sound(path: Path, *, codec: str = "aac", cover: bytes | None = None) -> Path:
    """One second of silence; with `cover`, a PNG that goes along as attached picture."""
    with av.open(str(path), "w") as container:
        voice: Any = container.add_stream(codec, rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        if cover is not None:
            picture: Any = container.add_stream("png")
            picture.width, picture.height = struct.unpack(">II", cover[16:24])
            picture.pix_fmt = "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            packet = av.Packet(cover)
            packet.stream = picture
            container.mux(packet)
        container.mux(voice.encode(silence))
        container.mux(voice.encode())
    return path


def save_rapid_clip(path: Path, *, count: int, fps: int) -> Path:
    """`count` frames of 64 × 48 px behind one key frame; encoded are two, the second is there again and again."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        first, second = (
            packet
            for number in (1, 2)
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(number_frame(number, size_px=(64, 48)), format="rgb24")
            )
        )
        content = bytes(second)
        container.mux(first)
        for number in range(1, count):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.duration = stream, second.time_base, second.duration
            packet.pts = packet.dts = number * (second.pts - first.pts)
            container.mux(packet)
    return path
