"""Renders the films of the demo and their copies, and writes the list of their URLs.

The clips are pans and zooms over the photographs that scikit-image ships, cut like short commercials: three shots each,
a tagline on the last one, a little grain. Everything is seeded and encoded by one thread, so the same library versions
write the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd

from dedup_lib.demo.films import FILMS, Colour, Film, Layer, Picture, Shot
from dedup_lib.demo.planted import (
    BLACK_NAME,
    COPIES,
    HTML_NAME,
    HTML_PAGE,
    IMAGE_NAME,
    PLANTED,
    TEASER_FRACTION,
    TRUNCATED_NAME,
    Planted,
    Treatment,
)
from dedup_lib.errors import DedupError
from dedup_lib.lists.tables import save_table
from dedup_lib.records import Frames
from dedup_lib.run.files import write_text_atomically

RECIPE_VERSION = 1
"""Raise this when the drawing or the encoding changes; a change of the tables is detected automatically."""

MANIFEST_NAME = ".manifest.json"

URL_COLUMN = "video_url"


@dataclass(frozen=True)
class Manifest:
    """The clips: their folder, the rows planted in the list, and the size of every file in bytes."""

    folder: Path
    rows: tuple[Planted, ...]
    file_bytes: dict[str, int]
    is_new: bool
    """False when the folder already held the clips."""


def make_clips(folder: Path) -> Manifest:
    """Writes all clips and traps below `folder`, unless it already holds those of the same recipe.

    The manifest is written last, so that the next call repairs an interrupted one. Raises DedupError when the
    photographs of scikit-image or a video encoder are missing.
    """
    manifest_path = folder / MANIFEST_NAME
    recipe = recipe_key()
    if manifest_path.exists():
        saved = json.loads(manifest_path.read_text(encoding="utf-8"))
        if saved["recipe"] == recipe and saved["files"] == _file_sizes(folder, saved["files"]):
            return Manifest(folder, PLANTED, saved["files"], is_new=False)
    manifest_path.unlink(missing_ok=True)

    names = [film.name for film in FILMS] + [copy.name for copy in COPIES]
    names += [BLACK_NAME, IMAGE_NAME, HTML_NAME, TRUNCATED_NAME]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)

    for number, film in enumerate(FILMS):
        frames = render_film(film, seed=number)
        encode_clip(folder / film.name, frames, fps=film.fps, faststart=number % 2 == 0)
        for copy in COPIES:
            if copy.of == film.name:
                encode_copy(folder / copy.name, frames, fps=film.fps, treatment=copy.treatment)
        if film.name == "spots/under-the-lens.mp4":
            still = cv2.cvtColor(frames[len(frames) // 2], cv2.COLOR_RGB2BGR)
            (folder / IMAGE_NAME).write_bytes(cv2.imencode(".png", still)[1].tobytes())
    encode_clip(folder / BLACK_NAME, np.zeros((60, 180, 320, 3), np.uint8), fps=15)
    (folder / HTML_NAME).write_text(HTML_PAGE, encoding="utf-8")
    # The index of this film is at its end, so half of the file cannot be decoded at all.
    whole = (folder / "spots/night-ride.mp4").read_bytes()
    (folder / TRUNCATED_NAME).write_bytes(whole[: len(whole) // 2])

    sizes = _file_sizes(folder, names)
    write_text_atomically(manifest_path, json.dumps({"recipe": recipe, "files": sizes}, indent=2) + "\n")
    return Manifest(folder, PLANTED, sizes, is_new=True)


def write_list(csv_path: Path, *, base_url: str) -> Path:
    """Writes the list as CSV (id, title, brand, video_url, year); returns its path."""
    rows = [(row.id, row.title, row.brand, row.url(base_url), row.year) for row in PLANTED]
    save_table(pd.DataFrame(rows, columns=["id", "title", "brand", URL_COLUMN, "year"]), csv_path)
    return csv_path


def recipe_key() -> str:
    """12 hexadecimal digits that identify everything the clips are made from."""
    return hashlib.sha256(repr((RECIPE_VERSION, FILMS, COPIES, TEASER_FRACTION, HTML_PAGE)).encode()).hexdigest()[:12]


def render_film(film: Film, *, seed: int) -> Frames:
    """Draws all frames of a film: RGB uint8 (N, H, W, 3). `seed` decides the grain and the sway of the camera."""
    rng = np.random.default_rng(seed)
    width, height = film.size_px
    grain = rng.normal(0, 2.0, (height + 32, width + 32, 1)).astype(np.float32)
    offsets = rng.integers(0, 32, (film.frames, 2))
    phase = float(rng.uniform(0, 2 * np.pi))
    photos = [_load_photo(shot.photo, tint=shot.tint) for shot in film.shots]
    caption, opacity = _draw_caption(film)

    frames = np.empty((film.frames, height, width, 3), np.uint8)
    for number, (y, x) in enumerate(offsets):
        time_s = number / film.fps
        picture = np.zeros((height, width, 3), np.float32)
        for index, weight in _shot_weights(film, time_s):
            progress = time_s * len(film.shots) / film.duration_s - index
            view = _look_at(photos[index], film.shots[index], progress, size_px=film.size_px, sway=phase + time_s)
            picture += weight * view.astype(np.float32)
            if index == len(film.shots) - 1:
                picture += (weight * opacity) * (caption - picture)
        # Lift the blacks a little, as on film stock, so that only bars and planted black frames are truly black.
        picture *= 0.9 + 0.011 * math.sin(2.3 * time_s + phase)
        picture += 20 + grain[y : y + height, x : x + width]
        if film.black_start_s:
            picture *= min(1.0, max(0.0, (time_s - film.black_start_s) / 0.3))
        frames[number] = np.clip(picture, 0, 255)
    return frames


def encode_clip(
    path: Path, frames: Frames, *, fps: int, quality: int = 27, faststart: bool = False, webm: bool = False
) -> None:
    """Writes RGB uint8 frames (N, H, W, 3; even sides) as H.264 in MP4, or VP9 in WebM, by one thread.

    `quality` is the constant rate factor of the encoder: higher is smaller and worse. When the build of FFmpeg lacks an
    encoder, the next older one is used. Raises DedupError when there is none.
    """
    codec = _choose_codec("libvpx-vp9", "libvpx") if webm else _choose_codec("libx264", "libopenh264", "mpeg4")
    options = {"crf": str(quality), "threads": "1"}
    if codec == "libx264":
        # The macroblock tree of x264 gives different bytes in each call, even with one thread.
        options |= {"preset": "veryfast", "x264-params": "mbtree=0"}
    if codec.startswith("libvpx"):
        options |= {"b": "0" if codec == "libvpx-vp9" else "300k", "deadline": "realtime", "cpu-used": "6"}
    if codec == "mpeg4":
        options["qscale"] = "6"
    # Without bitexact, WebM files would carry a random identifier.
    container_options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if faststart else {})
    with av.open(str(path), "w", format="webm" if webm else "mp4", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def encode_copy(path: Path, frames: Frames, *, fps: int, treatment: Treatment) -> None:
    """Writes the frames of an original (see `encode_clip`) as a copy with this treatment."""
    height, width = frames.shape[1:3]
    match treatment:
        case "low_bitrate":
            encode_clip(path, frames, fps=fps, quality=40)
        case "webm":
            encode_clip(path, frames, fps=fps, quality=40, webm=True)
        case "half_size":
            half = (_even(width / 2), _even(height / 2))
            small = [cv2.resize(frame, half, interpolation=cv2.INTER_AREA) for frame in frames[::2]]
            encode_clip(path, np.stack(small).astype(np.uint8), fps=fps // 2)
        case "letterbox" | "pillarbox":
            x, y = bar_size_px(width, height, treatment=treatment)
            # The edges of the bars cost bits: at the same quality, the copy would seem the better encoding.
            encode_clip(path, np.pad(frames, ((0, 0), (y, y), (x, x), (0, 0))), fps=fps, quality=34)
        case "grey":
            grey = frames @ np.array([0.299, 0.587, 0.114], np.float32)
            encode_clip(path, np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8), fps=fps)
        case "logo":
            encode_clip(path, _stamp_logo(frames), fps=fps)
        case "square":
            left = _even((width - height) / 2)
            encode_clip(path, frames[:, :, left : left + height], fps=fps)
        case "teaser":
            encode_clip(path, frames[: round(len(frames) * TEASER_FRACTION)], fps=fps)


def bar_size_px(width: int, height: int, *, treatment: Treatment) -> tuple[int, int]:
    """The width of the bars left and right, and the height of those above and below, that a treatment adds.

    The sizes are whole macroblocks of 16 pixels, so that the edge of a bar stays sharp.
    """
    if treatment == "letterbox":
        return 0, 16 * round((width * 3 / 4 - height) / 32)
    if treatment == "pillarbox":
        return 16 * round((height * 16 / 9 - width) / 32), 0
    return 0, 0


def _stamp_logo(frames: Frames) -> Frames:
    """Draws the logo of a channel in the upper right corner: a ring around a triangle, half transparent."""
    height, width = frames.shape[1:3]
    radius = width // 28
    x, y = width - 2 * radius, 2 * radius
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (x, y), radius, 200, max(2, radius // 5), cv2.LINE_AA)
    triangle = np.array([(x - radius // 3, y - radius // 2), (x - radius // 3, y + radius // 2), (x + radius // 2, y)])
    cv2.fillPoly(mask, [triangle.astype(np.int32)], 200, cv2.LINE_AA)
    weight = (mask / 255.0).astype(np.float32)[..., None]
    return (frames * (1 - weight) + 245 * weight).astype(np.uint8)


def _shot_weights(film: Film, time_s: float) -> Iterator[tuple[int, float]]:
    """Yields the shots visible at a time with their weights: two shots in a crossfade, otherwise one."""
    shot_s = film.duration_s / len(film.shots)
    index = min(int(time_s / shot_s), len(film.shots) - 1)
    to_next = (index + 1) * shot_s - time_s
    since_last = time_s - index * shot_s
    half = film.crossfade_s / 2
    if to_next < half and index + 1 < len(film.shots):
        share = 0.5 - to_next / film.crossfade_s
        yield from ((index, 1 - share), (index + 1, share))
    elif since_last < half and index > 0:
        share = 0.5 + since_last / film.crossfade_s
        yield from ((index - 1, 1 - share), (index, share))
    else:
        yield index, 1.0


def _look_at(photo: Picture, shot: Shot, progress: float, *, size_px: tuple[int, int], sway: float) -> Picture:
    """The view of a photograph at a moment of a shot (`progress` from 0 to 1, slightly outside in a crossfade)."""
    photo_height, photo_width = photo.shape[:2]
    width, height = size_px
    share = min(1.0, max(0.0, 0.08 + 0.84 * progress))
    share = share * share * (3 - 2 * share)
    x, y, view = (a + (b - a) * share for a, b in zip(shot.start, shot.end, strict=True))
    view_width = min(view * photo_width, photo_height * width / height)
    view_height = view_width * height / width
    left = x * photo_width - view_width / 2 + 0.004 * view_width * math.sin(1.7 * sway)
    top = y * photo_height - view_height / 2 + 0.004 * view_width * math.cos(1.3 * sway)
    left = min(max(left, 0.0), photo_width - view_width)
    top = min(max(top, 0.0), photo_height - view_height)
    scale = view_width / width
    # The inverse map leads from the pixels of the view to those of the photograph.
    matrix = np.array([[scale, 0, left], [0, scale, top]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(photo, matrix, size_px, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _draw_caption(film: Film) -> tuple[Layer, Layer]:
    """The tagline over a soft shadow: its brightness from 0 to 255 and its opacity from 0 to 1, both (H, W, 1)."""
    width, height = film.size_px
    mask = np.zeros((height, width), np.uint8)
    origin = (round(width * 0.06), round(height * 0.92))
    scale = min(width, height) / 300
    cv2.putText(mask, film.tagline, origin, cv2.FONT_HERSHEY_DUPLEX, scale, 255, 1, cv2.LINE_AA)
    text = mask.astype(np.float32) / 255
    opacity = np.maximum(text, np.clip(1.6 * cv2.GaussianBlur(text, (0, 0), 3), 0, 0.6))
    brightness = 250 * text / np.maximum(opacity, 1e-6)
    return brightness[..., None].astype(np.float32), opacity[..., None].astype(np.float32)


def _load_photo(name: str, *, tint: Colour) -> Picture:
    """Loads a photograph of scikit-image: RGB uint8 (H, W, 3), at most 800 px wide, with stretched contrast."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DedupError(
            "the demo needs the photographs of scikit-image, which is not installed: pip install scikit-image"
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.exists():
        raise DedupError(f"the installed scikit-image ships no {name}: pip install 'scikit-image>=0.26'")
    with av.open(str(path)) as container:
        photo = np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)
    shrink = min(1.0, 800 / photo.shape[1])
    resized = cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(resized, (0.5, 99.5))
    gain = min(1.6, 255 / float(high - low))
    stretched = ((resized - (low + high) / 2) * gain + 127.5) * np.array(tint)
    return np.asarray(np.clip(stretched, 0, 255), np.uint8)


def _choose_codec(*names: str) -> str:
    for name in names:
        if name in av.codecs_available:
            return name
    raise DedupError(f"this build of FFmpeg has none of the encoders {', '.join(names)}: reinstall PyAV from its wheel")


def _file_sizes(folder: Path, names: Any) -> dict[str, int]:
    return {name: (folder / name).stat().st_size if (folder / name).exists() else -1 for name in names}


def _even(size: float) -> int:
    return 2 * round(size / 2)
