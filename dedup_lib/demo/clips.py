"""Small clips with planted copies and traps, and the list of URLs that leads to them.

The clips are pans and zooms over the photographs that scikit-image ships, cut like short commercials: three
shots each, a tagline on the last one, a little grain. Everything is seeded and encoded by one thread, so the
same library versions write the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import DedupError
from dedup_lib.match.evidence import Rule, Verdict
from dedup_lib.records import Frames, Status
from dedup_lib.run.files import write_text_atomically

RECIPE_VERSION = 1
"""Raised when the drawing or the encoding changes; a change of the tables below is noticed by itself."""

MANIFEST_NAME = ".manifest.json"
URL_COLUMN = "video_url"

Window = tuple[float, float, float]
"""Centre x, centre y and width of a view, as fractions of a photograph's width and height."""
Colour = tuple[float, float, float]
Picture = NDArray[np.uint8]
Layer = NDArray[np.float32]
Treatment = Literal["low_bitrate", "webm", "half_size", "letterbox", "pillarbox", "grey", "logo", "square", "teaser"]
Spelling = Literal["plain", "fragment", "escaped_tilde", "wholly_encoded", "doubly_encoded", "https", "empty"]
Output = Literal["final", "text_duplicate", "duplicate", "invalid", "failed"]

PLAIN: Colour = (1.0, 1.0, 1.0)
WARM: Colour = (1.08, 0.96, 0.78)
COLD: Colour = (0.80, 0.95, 1.10)
MEADOW: Colour = (0.80, 1.06, 0.58)
COPPER: Colour = (1.12, 0.84, 0.60)
DUSK: Colour = (0.92, 0.84, 1.12)


@dataclass(frozen=True)
class Shot:
    """One slow camera move over one photograph."""

    photo: str
    start: Window
    end: Window
    tint: Colour = PLAIN


@dataclass(frozen=True)
class Film:
    """One original clip."""

    name: str
    tagline: str
    size_px: tuple[int, int]
    fps: int
    duration_s: float
    shots: tuple[Shot, ...]
    crossfade_s: float = 0.0
    black_start_s: float = 0.0

    @property
    def frames(self) -> int:
        return round(self.duration_s * self.fps)


@dataclass(frozen=True)
class Copy:
    """One clip that shows the same as the film `of`."""

    name: str
    of: str
    treatment: Treatment


@dataclass(frozen=True)
class Planted:
    """One row of the list and where a run has to put it.

    `name` is the file that its URL leads to (it need not exist), `status` is None for a row that is dropped
    before anything is fetched, and `copy_of` names the file that the row duplicates. `verdict` and `rule` are what
    the evidence must say of a copy, empty where more than one will do.
    """

    id: str
    name: str
    title: str
    brand: str
    year: int
    expected: Output = "final"
    status: Status | None = Status.OK
    copy_of: str = ""
    verdict: str = ""
    rule: str = ""
    spelling: Spelling = "plain"

    def url(self, base_url: str) -> str:
        """The URL as the list spells it."""
        path = quote(f"/{self.name}")
        plain = base_url + path
        match self.spelling:
            case "plain":
                return plain
            case "fragment":
                return f"{plain}#t=2"
            case "escaped_tilde":
                return base_url.replace("http:", "HTTP:") + path.replace("~", "%7E") + "?"
            case "wholly_encoded":
                return quote(plain, safe="")
            case "doubly_encoded":
                return quote(quote(plain, safe=""), safe="")
            case "https":
                return plain.replace("http:", "https:", 1)
            case "empty":
                return ""


@dataclass(frozen=True)
class Manifest:
    """The made clips: their folder, the rows planted in the list, and the size of every file in bytes."""

    folder: Path
    rows: tuple[Planted, ...]
    file_bytes: dict[str, int]
    is_new: bool
    """False when the folder held the clips already."""


FILMS = (
    Film(
        "spots/slow-mornings.mp4",
        "slow mornings",
        (480, 270),
        24,
        5.0,
        (
            Shot("coffee.png", (0.50, 0.50, 1.00), (0.52, 0.48, 0.84)),
            Shot("coffee.png", (0.44, 0.28, 0.52), (0.54, 0.32, 0.46)),
            Shot("chelsea.png", (0.55, 0.42, 0.94), (0.48, 0.45, 0.82), WARM),
        ),
        crossfade_s=0.5,
    ),
    Film(
        "spots/night-ride.mp4",
        "ride on",
        (480, 270),
        25,
        5.0,
        (
            Shot("motorcycle_left.png", (0.46, 0.60, 0.80), (0.52, 0.58, 0.92)),
            Shot("motorcycle_left.png", (0.20, 0.74, 0.36), (0.28, 0.70, 0.40)),
            Shot("rocket.jpg", (0.30, 0.86, 0.52), (0.45, 0.84, 0.52), WARM),
        ),
    ),
    Film(
        "spots/lift-off.mp4",
        "lift-off",
        (426, 240),
        24,
        5.5,
        (
            Shot("rocket.jpg", (0.50, 0.55, 1.00), (0.54, 0.52, 0.80)),
            Shot("rocket.jpg", (0.66, 0.38, 0.42), (0.66, 0.62, 0.42)),
            Shot("hubble_deep_field.jpg", (0.30, 0.30, 0.50), (0.40, 0.34, 0.60)),
        ),
        crossfade_s=0.6,
    ),
    Film(
        "spots/far-away.mp4",
        "far away is near",
        (426, 240),
        20,
        6.0,
        (
            Shot("hubble_deep_field.jpg", (0.70, 0.62, 0.46), (0.64, 0.66, 0.34)),
            Shot("moon.png", (0.45, 0.40, 0.90), (0.48, 0.48, 0.74), COLD),
            Shot("hubble_deep_field.jpg", (0.28, 0.76, 0.50), (0.36, 0.70, 0.42), DUSK),
        ),
        crossfade_s=0.8,
    ),
    Film(
        "spots/whiskers.mp4",
        "purr.",
        (400, 224),
        25,
        4.5,
        (
            Shot("chelsea.png", (0.40, 0.30, 0.62), (0.50, 0.34, 0.58)),
            Shot("grass.png", (0.40, 0.50, 0.70), (0.56, 0.50, 0.62), MEADOW),
            Shot("chelsea.png", (0.56, 0.68, 0.60), (0.60, 0.62, 0.66)),
        ),
    ),
    Film(
        "spots/under-the-lens.mp4",
        "look closer",
        (360, 240),
        15,
        5.0,
        (
            Shot("ihc.png", (0.40, 0.36, 0.78), (0.50, 0.40, 0.66)),
            Shot("retina.jpg", (0.40, 0.48, 0.48), (0.48, 0.50, 0.52)),
            Shot("ihc.png", (0.60, 0.74, 0.66), (0.54, 0.72, 0.58)),
        ),
        crossfade_s=0.4,
    ),
    Film(
        "spots/clear-sight.mp4",
        "clear sight",
        (360, 240),
        25,
        4.0,
        (
            Shot("retina.jpg", (0.26, 0.50, 0.36), (0.32, 0.46, 0.42)),
            Shot("chelsea.png", (0.36, 0.30, 0.40), (0.38, 0.30, 0.30)),
            Shot("retina.jpg", (0.62, 0.34, 0.44), (0.56, 0.30, 0.38), WARM),
        ),
    ),
    Film(
        "spots/small-change.mp4",
        "small change",
        (384, 256),
        12,
        6.0,
        (
            Shot("coins.png", (0.40, 0.36, 0.72), (0.60, 0.40, 0.72), COPPER),
            Shot("coins.png", (0.74, 0.80, 0.50), (0.50, 0.78, 0.50), COPPER),
            Shot("page.png", (0.45, 0.40, 0.66), (0.55, 0.55, 0.66), WARM),
        ),
        crossfade_s=0.5,
    ),
    Film(
        "spots/garage-days.mp4",
        "garage days",
        (480, 270),
        20,
        5.0,
        (
            Shot("motorcycle_left.png", (0.84, 0.26, 0.32), (0.80, 0.26, 0.36)),
            Shot("gravel.png", (0.40, 0.60, 0.66), (0.46, 0.50, 0.76), COPPER),
            Shot("motorcycle_left.png", (0.80, 0.72, 0.40), (0.74, 0.68, 0.46)),
        ),
    ),
    Film(
        "~studio/stone by stone.mp4",
        "stone by stone",
        (320, 180),
        25,
        5.0,
        (
            Shot("gravel.png", (0.40, 0.40, 0.50), (0.50, 0.44, 0.62), COLD),
            Shot("coins.png", (0.30, 0.24, 0.56), (0.42, 0.28, 0.50), PLAIN),
            Shot("brick.png", (0.60, 0.70, 0.54), (0.54, 0.60, 0.62), WARM),
        ),
        crossfade_s=0.5,
    ),
    Film(
        "tall/up-the-tower.mp4",
        "all the way up",
        (240, 426),
        24,
        5.0,
        (
            Shot("rocket.jpg", (0.18, 0.55, 0.36), (0.26, 0.52, 0.36)),
            Shot("astronaut.png", (0.84, 0.30, 0.30), (0.84, 0.34, 0.34)),
            Shot("rocket.jpg", (0.62, 0.56, 0.26), (0.66, 0.48, 0.32), DUSK),
        ),
        crossfade_s=0.4,
    ),
    Film(
        "tall/second-cup.mp4",
        "one more?",
        (270, 480),
        20,
        5.0,
        (
            Shot("coffee.png", (0.72, 0.62, 0.30), (0.66, 0.58, 0.34)),
            Shot("chelsea.png", (0.74, 0.50, 0.36), (0.66, 0.50, 0.37)),
            Shot("coffee.png", (0.36, 0.50, 0.36), (0.46, 0.48, 0.37)),
        ),
        crossfade_s=0.5,
    ),
    Film(
        "tall/green-weekend.mp4",
        "go outside",
        (240, 426),
        15,
        4.5,
        (
            Shot("grass.png", (0.70, 0.50, 0.40), (0.62, 0.52, 0.48), MEADOW),
            Shot("motorcycle_left.png", (0.22, 0.50, 0.34), (0.30, 0.52, 0.36)),
            Shot("gravel.png", (0.66, 0.60, 0.46), (0.56, 0.52, 0.40), WARM),
        ),
    ),
    Film(
        "spots/landing-site.mp4",
        "a quiet place",
        (384, 216),
        25,
        5.0,
        (
            Shot("moon.png", (0.40, 0.72, 0.62), (0.50, 0.70, 0.54)),
            Shot("astronaut.png", (0.74, 0.82, 0.48), (0.70, 0.80, 0.54)),
            Shot("moon.png", (0.60, 0.26, 0.64), (0.54, 0.28, 0.56), COPPER),
        ),
        crossfade_s=0.6,
    ),
    Film(
        "spots/curtain-up.mp4",
        "curtain up",
        (320, 180),
        25,
        5.0,
        (
            Shot("astronaut.png", (0.30, 0.80, 0.50), (0.34, 0.78, 0.52)),
            Shot("ihc.png", (0.30, 0.70, 0.56), (0.36, 0.66, 0.64)),
            Shot("coffee.png", (0.70, 0.60, 0.48), (0.64, 0.64, 0.54)),
        ),
        black_start_s=1.0,
    ),
    Film(
        "spots/lights-out.mp4",
        "lights out",
        (320, 180),
        25,
        5.0,
        (
            Shot("motorcycle_left.png", (0.30, 0.40, 0.50), (0.36, 0.40, 0.56)),
            Shot("rocket.jpg", (0.46, 0.74, 0.64), (0.50, 0.70, 0.72)),
            Shot("moon.png", (0.34, 0.40, 0.70), (0.40, 0.46, 0.80), COLD),
        ),
        black_start_s=1.0,
    ),
)
"""The originals. The last two start with the same second of black and are otherwise unlike."""

COPIES = (
    Copy("mirror/morning_lq.mp4", "spots/slow-mornings.mp4", "low_bitrate"),
    Copy("mirror/morning_small.mp4", "spots/slow-mornings.mp4", "half_size"),
    Copy("mirror/ride.webm", "spots/night-ride.mp4", "webm"),
    Copy("mirror/liftoff_bw.mp4", "spots/lift-off.mp4", "grey"),
    Copy("mirror/cup_wide.mp4", "tall/second-cup.mp4", "pillarbox"),
    Copy("mirror/cat_4x3.mp4", "spots/whiskers.mp4", "letterbox"),
    Copy("mirror/garage_channel.mp4", "spots/garage-days.mp4", "logo"),
    Copy("mirror/far_square.mp4", "spots/far-away.mp4", "square"),
    Copy("mirror/tower_teaser.mp4", "tall/up-the-tower.mp4", "teaser"),
)

TEASER_FRACTION = 0.4
"""Share of a film that its teaser shows, from the start."""

BLACK_NAME = "spots/signal-lost.mp4"
IMAGE_NAME = "spots/storyboard.mp4"
HTML_NAME = "spots/press-room.mp4"
TRUNCATED_NAME = "spots/half-a-story.mp4"

PLANTED = (
    Planted("TVC-2041", "spots/lift-off.mp4", "Up, up and away", "Tarnwick Travel", 2009),
    Planted("TVC-0317", "spots/small-change.mp4", "Small change", "Pellbrook Savings", 1998),
    Planted("TVC-1188", "~studio/stone by stone.mp4", "Stone by stone", "Grausel & Sons", 2004),
    Planted("TVC-0952", "spots/slow-mornings.mp4", "Café au matin", "Velmora Coffee", 2012),
    Planted("TVC-1433", HTML_NAME, "Press room special", "Oddlemere TV", 2015, expected="invalid", status=Status.HTML),
    Planted("TVC-0664", "spots/night-ride.mp4", "Night ride", "Kettrick Motors", 2007),
    Planted("TVC-2210", "spots/curtain-up.mp4", "Curtain up", "Oddlemere TV", 2011),
    Planted(
        "TVC-0087",
        "mirror/morning_lq.mp4",
        "Café au matin (tape transfer)",
        "Velmora Coffee",
        2012,
        expected="duplicate",
        copy_of="spots/slow-mornings.mp4",
    ),
    Planted("TVC-1719", "spots/clear-sight.mp4", "Clear sight", "Optivane", 2016, spelling="wholly_encoded"),
    Planted("TVC-0526", "tall/second-cup.mp4", "Second cup", "Velmora Coffee", 2018),
    Planted(
        "TVC-1305",
        "spots/lost-reel.mp4",
        "The lost reel",
        "Grausel & Sons",
        1996,
        expected="failed",
        status=Status.HTTP_ERROR,
    ),
    Planted(
        "TVC-1189",
        "~studio/stone by stone.mp4",
        "Stone by stone",
        "Grausel & Sons",
        2004,
        expected="text_duplicate",
        status=None,
        copy_of="~studio/stone by stone.mp4",
        spelling="escaped_tilde",
    ),
    Planted("TVC-0743", "spots/whiskers.mp4", "Whiskers", "Mauzelin", 2010),
    Planted("TVC-1960", "spots/under-the-lens.mp4", "Under the lens", "Labriance", 2014),
    Planted(
        "TVC-2042",
        "mirror/liftoff_bw.mp4",
        "Up, up and away (black and white)",
        "Tarnwick Travel",
        2009,
        expected="duplicate",
        copy_of="spots/lift-off.mp4",
    ),
    Planted(
        "TVC-0401",
        "",
        "Untitled, no tape",
        "unknown",
        1994,
        expected="invalid",
        status=Status.INVALID_URL,
        spelling="empty",
    ),
    Planted("TVC-0875", "spots/far-away.mp4", "Far away is near", "Tarnwick Travel", 2013),
    Planted("TVC-1552", BLACK_NAME, "Signal lost", "Oddlemere TV", 2001, status=Status.FEATURELESS),
    Planted("TVC-0229", "spots/garage-days.mp4", "Garage days", "Kettrick Motors", 2006),
    Planted(
        "TVC-0318",
        "spots/small-change.mp4",
        "Small change",
        "Pellbrook Savings",
        1998,
        expected="text_duplicate",
        status=None,
        copy_of="spots/small-change.mp4",
        spelling="wholly_encoded",
    ),
    Planted(
        "TVC-0665",
        "mirror/ride.webm",
        "Night ride, director's cut",
        "Kettrick Motors",
        2008,
        expected="duplicate",
        copy_of="spots/night-ride.mp4",
    ),
    Planted("TVC-1624", "spots/lights-out.mp4", "Lights out", "Kettrick Motors", 2011),
    Planted("TVC-2107", "tall/up-the-tower.mp4", "Up the tower", "Tarnwick Travel", 2019),
    Planted(
        "TVC-1006",
        TRUNCATED_NAME,
        "Half a story",
        "Pellbrook Savings",
        2003,
        expected="failed",
        status=Status.DECODE_ERROR,
    ),
    Planted(
        "TVC-0744",
        "mirror/cat_4x3.mp4",
        "Whiskers (4:3)",
        "Mauzelin",
        2010,
        expected="duplicate",
        copy_of="spots/whiskers.mp4",
    ),
    Planted("TVC-1871", "spots/landing-site.mp4", "A quiet place", "Grausel & Sons", 2017, spelling="doubly_encoded"),
    Planted(
        "TVC-0527",
        "mirror/cup_wide.mp4",
        "Second cup – wide",
        "Velmora Coffee",
        2018,
        expected="duplicate",
        copy_of="tall/second-cup.mp4",
    ),
    Planted("TVC-1434", IMAGE_NAME, "Storyboard", "Oddlemere TV", 2015, expected="invalid", status=Status.IMAGE),
    Planted(
        "TVC-0088",
        "mirror/morning_small.mp4",
        "Café au matin (web)",
        "Velmora Coffee",
        2013,
        expected="duplicate",
        copy_of="spots/slow-mornings.mp4",
    ),
    Planted(
        "TVC-1190",
        "~studio/stone by stone.mp4",
        "Stone by stone (from 0:02)",
        "Grausel & Sons",
        2004,
        expected="text_duplicate",
        status=None,
        copy_of="~studio/stone by stone.mp4",
        spelling="fragment",
    ),
    Planted(
        "TVC-0876",
        "mirror/far_square.mp4",
        "Far away is near (square)",
        "Tarnwick Travel",
        2019,
        expected="duplicate",
        copy_of="spots/far-away.mp4",
        verdict=Verdict.DUPLICATE,
        rule=Rule.REGISTERED,
    ),
    Planted("TVC-2305", "tall/green-weekend.mp4", "Ab ins Grüne", "Mauzelin", 2020),
    Planted(
        "TVC-2108",
        "mirror/tower_teaser.mp4",
        "Up the tower (teaser)",
        "Tarnwick Travel",
        2019,
        expected="duplicate",
        copy_of="tall/up-the-tower.mp4",
        verdict=Verdict.EXCERPT,
    ),
    Planted(
        "TVC-0230",
        "mirror/garage_channel.mp4",
        "Garage days (as aired)",
        "Kettrick Motors",
        2006,
        expected="duplicate",
        copy_of="spots/garage-days.mp4",
    ),
    Planted(
        "TVC-1777",
        "spots/harbour-at-five.mp4",
        "Harbour at five",
        "Optivane",
        2016,
        expected="failed",
        status=Status.UNREACHABLE,
        spelling="https",
    ),
)
"""Every row of the list, in its order: an original always comes before its copies, and no copy of it is better.

The demo's server does not speak https, which one row asks for.
"""

HTML_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Press room</title></head>
<body><h1>Press room</h1><p>This film has moved. Please ask the archive for a new link.</p></body>
</html>
"""


def make_clips(folder: Path) -> Manifest:
    """Write all clips and traps below `folder`, unless it holds those of the same recipe already.

    The manifest is written last, so an interrupted call is made good by the next one. Raises DedupError when
    scikit-image's photographs or a video encoder are missing.
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
            _write_image(folder / IMAGE_NAME, frames[len(frames) // 2])
    encode_clip(folder / BLACK_NAME, np.zeros((60, 180, 320, 3), np.uint8), fps=15)
    (folder / HTML_NAME).write_text(HTML_PAGE, encoding="utf-8")
    # The index of this film lies at its end, so half of the file cannot be decoded at all.
    whole = (folder / "spots/night-ride.mp4").read_bytes()
    (folder / TRUNCATED_NAME).write_bytes(whole[: len(whole) // 2])

    sizes = _file_sizes(folder, names)
    write_text_atomically(manifest_path, json.dumps({"recipe": recipe, "files": sizes}, indent=2) + "\n")
    return Manifest(folder, PLANTED, sizes, is_new=True)


def write_list(csv_path: Path, *, base_url: str) -> Path:
    """Write the list as CSV (id, title, brand, video_url, year); returns its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "title", "brand", URL_COLUMN, "year"])
    writer.writerows([row.id, row.title, row.brand, row.url(base_url), row.year] for row in PLANTED)
    write_text_atomically(csv_path, text.getvalue())
    return csv_path


def recipe_key() -> str:
    """12 hexadecimal digits that name everything the clips are made from."""
    return hashlib.sha256(repr((RECIPE_VERSION, FILMS, COPIES, TEASER_FRACTION, HTML_PAGE)).encode()).hexdigest()[:12]


def render_film(film: Film, *, seed: int) -> Frames:
    """Draw all frames of a film: RGB uint8 (N, H, W, 3). `seed` decides the grain and the camera's sway."""
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
        # Blacks are lifted a little, as on film stock: only bars and planted black frames are truly black.
        picture *= 0.9 + 0.011 * math.sin(2.3 * time_s + phase)
        picture += 20 + grain[y : y + height, x : x + width]
        if film.black_start_s:
            picture *= min(1.0, max(0.0, (time_s - film.black_start_s) / 0.3))
        frames[number] = np.clip(picture, 0, 255)
    return frames


def encode_clip(
    path: Path, frames: Frames, *, fps: int, quality: int = 27, faststart: bool = False, webm: bool = False
) -> None:
    """Write RGB uint8 frames (N, H, W, 3; even sides) as H.264 in MP4, or VP9 in WebM, by one thread.

    `quality` is the encoder's constant rate factor: higher is smaller and worse. Where the build of FFmpeg
    lacks an encoder, the next older one takes its place. Raises DedupError when there is none.
    """
    codec = _choose_codec("libvpx-vp9", "libvpx") if webm else _choose_codec("libx264", "libopenh264", "mpeg4")
    options = {"crf": str(quality), "threads": "1"}
    if codec == "libx264":
        # x264's macroblock tree gives other bytes from call to call, even on one thread.
        options |= {"preset": "veryfast", "x264-params": "mbtree=0"}
    if codec.startswith("libvpx"):
        options |= {"b": "0" if codec == "libvpx-vp9" else "300k", "deadline": "realtime", "cpu-used": "6"}
    if codec == "mpeg4":
        options["qscale"] = "6"
    # Without bitexact, WebM files carry a random identifier.
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
    """Write the frames of an original (see `encode_clip`) as the copy that a treatment makes of it."""
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
            # The edges of the bars cost bits: at the same quality it would seem the better encoding.
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
    """Width of the bars left and right, and height of those above and below, that a treatment adds.

    Whole macroblocks of 16 pixels, so that the edge between bar and picture stays sharp.
    """
    if treatment == "letterbox":
        return 0, 16 * round((width * 3 / 4 - height) / 32)
    if treatment == "pillarbox":
        return 16 * round((height * 16 / 9 - width) / 32), 0
    return 0, 0


def _stamp_logo(frames: Frames) -> Frames:
    """A channel's mark in the upper right corner: a ring around a triangle, half transparent."""
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
    """Which shots are seen at a time, and how strongly: two of them within a crossfade, else one."""
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
    """The view of a photograph at a moment of a shot (`progress` from 0 to 1, a little more in a crossfade)."""
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
    # The inverse map leads from the view's pixels to the photograph's.
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
    """A photograph of the scikit-image package, RGB uint8 (H, W, 3), at most 800 px wide, contrast stretched."""
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


def _write_image(path: Path, frame: Picture) -> None:
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes())


def _choose_codec(*names: str) -> str:
    for name in names:
        if name in av.codecs_available:
            return name
    raise DedupError(f"this build of FFmpeg has none of the encoders {', '.join(names)}: reinstall PyAV from its wheel")


def _file_sizes(folder: Path, names: Any) -> dict[str, int]:
    return {name: (folder / name).stat().st_size if (folder / name).exists() else -1 for name in names}


def _even(size: float) -> int:
    return 2 * round(size / 2)
