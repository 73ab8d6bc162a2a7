"""Variants of a clip: its edits, encoded to files.

Every variant is made from the same reference: the first seconds of the clip, shrunk, at one frame rate. So a variant
differs from its reference only by what its name says. `VARIANTS` is the table. The same clip always gives the same
frames.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from dedup_lib.errors import ListError
from dedup_lib.evaluate import edits
from dedup_lib.evaluate.edits import FOREIGN_S, RATE, Clip, Edit, Timed, each
from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.media.frames import is_flat
from dedup_lib.media.timestamps import repeats_frame
from dedup_lib.records import Frames
from dedup_lib.sanitise import without_credentials

VERSION = 1
"""Raise this with every change here that changes the files, so that older files are not used again."""

MAX_S = 15

MAX_SIDE_PX = 480

MAX_S_PER_CLIP = 900.0
"""Most seconds for one clip with all its variants; some of the codecs are slow."""

TICKS = 1000
"""Time stamp ticks per second: the files use milliseconds."""

Task = TypeVar("Task")

Done = TypeVar("Done")


@dataclass(frozen=True)
class Variant:
    """One way to copy a clip: its description, the edit of its frames, and their encoding."""

    what: str
    edit: Edit = lambda clip, other: clip.play()
    codec: str = "libx264"
    suffix: str = ".mp4"
    pixels: str = "yuv420p"
    """FFmpeg's name of the pixel format."""
    options: Mapping[str, str] = field(default_factory=lambda: x264_options(23))


def x264_options(crf: int) -> dict[str, str]:
    """Options of H.264 at a constant rate factor: higher is coarser."""
    # With macroblock trees, some builds of x264 do not always encode the same frames in the same way.
    return {"preset": "veryfast", "mbtree": "0", "crf": str(crf)}


REFERENCE = "reference"

FOREIGN_INTRO = "foreign_intro"

INSERTED = "inserted"

MIN_MIXED_S = 2 * FOREIGN_S
"""Shortest duration in seconds of both clips for variants that mix them; with a shorter clip, the file would be a copy
of neither."""

VARIANTS: dict[str, Variant] = {
    REFERENCE: Variant("the video itself", options=x264_options(16)),
    "low_bitrate": Variant("H.264 at crf 42", options=x264_options(42)),
    "vp9": Variant(
        "VP9 in WebM",
        codec="libvpx-vp9",
        suffix=".webm",
        options={"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"},
    ),
    "mpeg4": Variant("MPEG-4 part 2", codec="mpeg4", options={"b": "300k"}),
    "size_30": Variant("0.3 times the size", each(lambda frame: edits.resize(frame, width=0.3, height=0.3))),
    "grey": Variant(
        "grey", each(lambda frame: cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    ),
    "bright": Variant("contrast × 1.3, brightness + 20", each(edits.brighten)),
    "blur": Variant("Gaussian blur, 3 px", each(lambda frame: cv2.GaussianBlur(frame, (0, 0), 3.0))),
    "noise": Variant("Gaussian noise, 20 of 255", edits.add_noise),
    "letterbox": Variant("bars above and below, 1/6 each", each(lambda frame: edits.add_bars(frame, height=1 / 6))),
    "pillarbox": Variant("bars left and right, 1/6 each", each(lambda frame: edits.add_bars(frame, width=1 / 6))),
    "crop_10": Variant("a tenth of the width and height cut off", each(lambda frame: edits.crop(frame, 0.1))),
    "crop_20": Variant("a fifth of the width and height cut off", each(lambda frame: edits.crop(frame, 0.2))),
    "logo": Variant("a logo in a corner", each(edits.add_logo)),
    "caption": Variant("a caption bar over the lowest seventh", each(edits.add_caption)),
    "stretch": Variant("1.3 times as wide", each(lambda frame: edits.resize(frame, width=1.3))),
    "mirror": Variant("mirrored left to right", each(lambda frame: frame[:, ::-1])),
    "rotate_5": Variant("turned by 5°", each(lambda frame: edits.rotate(frame, 5))),
    "speed_105": Variant("1.05 times as fast", edits.speed_up(1.05)),
    "speed_125": Variant("1.25 times as fast", edits.speed_up(1.25)),
    "trim_start": Variant("the first fifth cut off", edits.cut(0.2, 1.0)),
    "trim_end": Variant("the last 30 % cut off", edits.cut(0.0, 0.7)),
    "black_intro": Variant(
        "2 s of black before it", edits.put_before(lambda clip, other, time_s: np.zeros_like(clip.frames[0]), 2)
    ),
    FOREIGN_INTRO: Variant(
        f"{FOREIGN_S} s of another video before it", edits.put_before(edits.draw_foreign, FOREIGN_S)
    ),
    "other_rate": Variant(f"7.5 frames a second instead of {RATE}", edits.change_rate(7.5)),
    "in_picture": Variant(
        "0.7 times the size, inside another video", each(lambda frame: edits.put_in_picture(frame, 0.7))
    ),
    "speed_025": Variant("0.25 times as fast", edits.speed_up(0.25)),
    "speed_050": Variant("0.5 times as fast", edits.speed_up(0.5)),
    "speed_200": Variant("2 times as fast", edits.speed_up(2)),
    "speed_250": Variant("2.5 times as fast", edits.speed_up(2.5)),
    "speed_400": Variant("4 times as fast", edits.speed_up(4)),
    "rate_2": Variant("2 frames a second", edits.change_rate(2)),
    "slides_8": Variant("eight frames in all, a slide show", edits.show_slides(8)),
    "stalls": Variant("every 2 s the picture stands still for 0.5 s", edits.stall(2, 0.5)),
    "gif": Variant(
        "GIF of 256 fixed colours, 6 frames a second",
        edits.change_rate(6),
        codec="gif",
        suffix=".gif",
        pixels="rgb8",
        options={},
    ),
    "beside": Variant("a moving plot at its right", each(edits.put_beside_plot)),
    "in_blur": Variant("upright or wide, the rest filled with its blurred self", each(edits.put_in_blur)),
    "subtitles": Variant("a subtitle, another one every 1.5 s", edits.add_subtitles),
    "end_card": Variant("a card in place of the last fifth", edits.end_with_card),
    "recut": Variant("the second half first", edits.swap_halves),
    INSERTED: Variant(f"{FOREIGN_S} s of another video around it", edits.insert),
    "fade": Variant("fades in from black and out to black, an eighth each", edits.fade),
    "tilt": Variant("seen from below, its upper side a sixth shorter", each(edits.tilt)),
    "shake": Variant("shaken like a camera in the hand", edits.shake),
    "zoom_in": Variant("slowly enlarged, by 30 % at the end", edits.zoom_in),
    "ticker": Variant("a band with running text over the lowest seventh", edits.add_ticker),
    "in_corner": Variant("another video in a corner, 0.3 times as wide and high", edits.put_in_corner),
    "mirror_crop_115": Variant(
        "mirrored, a tenth of the width and height cut off, 1.15 times as fast",
        lambda clip, other: (
            (time_s / 1.15, np.ascontiguousarray(edits.crop(frame[:, ::-1], 0.1))) for time_s, frame in clip.play()
        ),
    ),
}


def load_clip(path: Path) -> Clip:
    """Loads the first `MAX_S` seconds of a video, shrunk to `MAX_SIDE_PX`, at `RATE` frames per second.

    Raises ListError when it cannot be decoded.
    """
    try:
        frames = _load_frames(path)
    except (av.FFmpegError, IndexError) as error:
        raise ListError(f"{path} cannot be decoded ({error}): no variant can be made of it") from None
    if not frames:
        raise ListError(f"{path} holds no picture that can be decoded: no variant can be made of it")
    return Clip(frames=tuple(frame for frame in frames if frame.shape == frames[0].shape))


def _load_frames(path: Path) -> list[Frames]:
    frames: list[Frames] = []
    before: VideoFrame | None = None
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        # A packet that repeats a frame is an error to the decoder.
        packets = (packet for packet in container.demux(stream) if not repeats_frame(packet))
        for count, frame in enumerate(frame for packet in packets for frame in packet.decode()):
            time_s = count / float(stream.guessed_rate or 25) if frame.time is None else frame.time - start_s
            # 2 ms of tolerance, because some formats round times to milliseconds.
            while before is not None and len(frames) / RATE < time_s - 0.002 and len(frames) < MAX_S * RATE:
                frames.append(_to_rgb(before))
            if len(frames) >= MAX_S * RATE:
                break
            before = frame
        else:
            if before is not None:
                frames.append(_to_rgb(before))
    return frames


def _to_rgb(frame: VideoFrame) -> Frames:
    scale = min(1.0, MAX_SIDE_PX / max(frame.width, frame.height))
    width_px, height_px = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    rgb = frame.to_ndarray(width=width_px, height=height_px, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(rgb, k=round(frame.rotation / 90) % 4)).astype(np.uint8, copy=False)


def save_pictures(path: Path, pictures: Iterable[Timed], *, variant: Variant) -> None:
    """Encodes frames of one size; drops an odd last row or column. Writes the file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        # bitexact leaves random numbers out of the header.
        with av.open(str(scratch), "w", container_options={"fflags": "bitexact"}) as container:
            stream: Any = None
            for time_s, picture in pictures:
                height, width = (side - side % 2 for side in picture.shape[:2])
                if stream is None:
                    stream = container.add_stream(variant.codec, rate=RATE, options=dict(variant.options))
                    stream.width, stream.height, stream.pix_fmt = width, height, variant.pixels
                    # Several threads may split a frame differently, and the same clip would give other files.
                    stream.codec_context.thread_count = 1
                    stream.codec_context.time_base = Fraction(1, TICKS)
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                frame.pts, frame.time_base = round(time_s * TICKS), Fraction(1, TICKS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A clip to make variants of, its name or URL, and the clip that is mixed into some of them."""

    name: str
    path: Path
    other_path: Path

    def folder(self, work_dir: Path) -> Path:
        """The folder of its variants; another file with the same name gets another folder."""
        facts = [VERSION, self.name, self.path.stat().st_size, self.other_path.name, self.other_path.stat().st_size]
        stem = re.sub(r"[^\w.-]", "_", Path(without_credentials(self.name)).stem)[:60]
        return work_dir / f"{stem}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}"


def make_variants(source: Source, *, names: Sequence[str], work_dir: Path) -> dict[str, Path]:
    """Makes the named variants of one clip and its reference; returns their paths by name. Keeps existing files."""
    folder = source.folder(work_dir)
    paths = {name: folder / f"{name}{VARIANTS[name].suffix}" for name in (REFERENCE, *names)}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing:
        clip, other = load_clip(source.path), load_clip(source.other_path)
        for name in missing:
            save_pictures(paths[name], VARIANTS[name].edit(clip, other), variant=VARIANTS[name])
    return paths


def make_all_variants(
    sources: Sequence[Source],
    *,
    names: Sequence[str],
    work_dir: Path,
    workers: int | None,
    progress: Callable[[int], object] = lambda count: None,
) -> list[dict[str, Path]]:
    """Calls `make_variants` for several clips in parallel; returns the results in their order. Calls `progress` with 1
    after each.

    Leaves out the mixed variants when the clip or the one mixed into it is too short. Raises ListError for the first
    clip that cannot be decoded.
    """
    made = []
    work = partial(_make_or_explain, names=names, work_dir=work_dir)
    for source, one in _side_by_side(work, sources, workers=workers, progress=progress):
        if isinstance(one, str):
            raise ListError(f"no variants of {source.name} can be made: {one}")
        made.append(one)
    return made


def _make_or_explain(source: Source, *, names: Sequence[str], work_dir: Path) -> dict[str, Path] | str:
    try:
        paths = make_variants(source, names=names, work_dir=work_dir)
        if min(map(_duration_s, (paths[REFERENCE], source.other_path))) < MIN_MIXED_S:
            for name in (FOREIGN_INTRO, INSERTED):
                paths.pop(name, None)
    except (ListError, OSError, av.FFmpegError) as error:
        return str(error)
    return paths


def _duration_s(path: Path) -> float:
    with av.open(str(path), metadata_errors="replace") as container:
        return float((container.duration or 0) / av.time_base)


def explain_clips(paths: Sequence[Path], *, workers: int | None) -> list[str]:
    """For each clip, why no variants can be made of it, or "": it cannot be decoded, or shows one flat colour."""
    done = _side_by_side(_explain_clip, paths, workers=workers, progress=lambda count: None)
    return [reason for _, reason in done]


def _explain_clip(path: Path) -> str:
    try:
        clip = load_clip(path)
    except ListError as error:
        return str(error)
    return "every frame is one flat colour" if all(map(is_flat, clip.frames)) else ""


def _side_by_side(
    work: Callable[[Task], Done], tasks: Sequence[Task], *, workers: int | None, progress: Callable[[int], object]
) -> list[tuple[Task, Done | str]]:
    """Returns each task with its result, or with the reason why it has none, in the order of the tasks.

    The work runs in worker processes, because a clip can crash its decoder.
    """
    done: dict[Task, Done | str] = {}
    with WorkerPool(work, workers=workers, timeout_s=MAX_S_PER_CLIP) as pool:
        for task, result in pool.run(tasks):
            done[task] = result.reason if isinstance(result, WorkerFailure) else result
            progress(1)
    return [(task, done[task]) for task in tasks]
