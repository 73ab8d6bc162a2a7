"""Made-up clips as a scan of a video gives them: slow camera moves over crowded pictures, cut into shots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_lib.evaluate.edits import add_caption, add_logo, crop, put_in_picture, resize, rotate
from dedup_lib.features.fingerprint import Fingerprint, make_fingerprint
from dedup_lib.records import Frames

STEP_S = 0.25
SIZE_PX = (256, 144)
"""Width and height: the size at which a fingerprint looks for points."""


def draw_canvas(generator: np.random.Generator, *, size_px: tuple[int, int]) -> Frames:
    """A picture full of blots, shapes and words, RGB."""
    width, height = size_px
    canvas = np.full((height, width, 3), 120, np.float32)
    for cells, depth in ((3, 60), (9, 30), (40, 14)):
        blots = generator.normal(0, depth, (cells * height // width + 1, cells, 3)).astype(np.float32)
        canvas += cv2.resize(blots, size_px, interpolation=cv2.INTER_CUBIC)
    picture: Any = np.clip(canvas, 20, 235).astype(np.uint8)
    for _ in range(24):
        x, y, size = (int(generator.integers(low, high)) for low, high in ((0, width), (0, height), (3, height // 5)))
        colour = [int(value) for value in generator.integers(20, 235, 3)]
        match int(generator.integers(3)):
            case 0:
                cv2.circle(picture, (x, y), size, colour, -1, cv2.LINE_AA)
            case 1:
                cv2.rectangle(picture, (x, y), (x + size, y + 2 * size), colour, -1)
            case _:
                word = "".join(generator.choice(list("AEKMRSTW257"), 4))
                cv2.putText(picture, word, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.3 + size / 30, colour, 2, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def draw_clip(seed: int, *, count: int = 40, size_px: tuple[int, int] = SIZE_PX, shots: int = 4) -> list[Frames]:
    """`count` frames; the same seed gives the same ones."""
    generator = np.random.default_rng(seed)
    width, height = size_px
    frames: list[Frames] = []
    for shot in np.array_split(np.arange(count), shots):
        canvas = draw_canvas(generator, size_px=(width + width // 4, height + height // 4))
        start, end = generator.uniform(0, 1, (2, 2)) * (width // 4, height // 4)
        for progress in np.linspace(0, 1, len(shot)):
            x, y = start + (end - start) * progress
            move = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
            frames.append(np.asarray(cv2.warpAffine(canvas, move, size_px), np.uint8))
    return frames


def title_card(text: str = "GREEN HILL FILMS", *, size_px: tuple[int, int] = SIZE_PX) -> Frames:
    """The same still picture for everyone who shows it."""
    card: Any = draw_canvas(np.random.default_rng(10_000), size_px=size_px)
    cv2.putText(card, text, (8, size_px[1] // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA)
    return np.asarray(card, np.uint8)


def each(change: Callable[[Frames], Any], frames: Sequence[Frames]) -> list[Frames]:
    """Every frame changed in the same way."""
    return [np.ascontiguousarray(change(frame), dtype=np.uint8) for frame in frames]


def times(count: int, *, start_s: float = 0.0, speed: float = 1.0) -> list[float]:
    """When the frames of a scan are shown."""
    return [start_s + index * STEP_S / speed for index in range(count)]


def fingerprint(frames: Sequence[Frames], *, speed: float = 1.0) -> Fingerprint:
    """The fingerprint of frames that are not all flat."""
    made = make_fingerprint(frames, times_s=times(len(frames), speed=speed))
    assert made is not None
    return made


COPIES: dict[str, Callable[[list[Frames]], list[Frames]]] = {
    "itself": lambda frames: frames,
    "smaller": lambda frames: each(partial(resize, width=0.5, height=0.5), frames),
    "logo": lambda frames: each(add_logo, frames),
    "mirrored": lambda frames: each(lambda frame: frame[:, ::-1], frames),
    "crop 10 %": lambda frames: each(partial(crop, fraction=0.1), frames),
    "crop 20 %": lambda frames: each(partial(crop, fraction=0.2), frames),
    "caption": lambda frames: each(add_caption, frames),
    "turned by 5°": lambda frames: each(partial(rotate, degrees=5), frames),
    "picture in picture": lambda frames: each(partial(put_in_picture, fraction=0.7), frames),
}
"""What people do to a clip."""


@cache
def copy_of(seed: int, name: str = "itself") -> Fingerprint:
    """The fingerprint of one of the `COPIES` of a clip."""
    return fingerprint(COPIES[name](draw_clip(seed)))


def draw_take(seed: int, *, count: int = 40, scene: int = 1) -> list[Frames]:
    """One take of a scene: what stands still is the same in every take, and somebody moves in it."""
    width, height = SIZE_PX
    still = draw_canvas(np.random.default_rng(scene), size_px=SIZE_PX)
    # Somewhere else every second, on the way in between.
    places = np.random.default_rng(1000 + seed).uniform(-1, 1, (4, count // 4 + 2))
    frames = []
    for index in range(count):
        across, down, arm, nod = (np.interp(index / 4, np.arange(len(path)), path) for path in places)
        frame: Any = still.copy()
        centre = round(width * (0.5 + 0.1 * across)), round(height * (0.55 + 0.08 * down))
        hand = round(centre[0] + 40 * arm), round(centre[1] + 24 * nod)
        cv2.circle(frame, centre, height // 6, (90, 60, 50), -1, cv2.LINE_AA)
        cv2.line(frame, centre, hand, (230, 190, 170), 8, cv2.LINE_AA)
        frames.append(np.asarray(frame, np.uint8))
    return frames


@lru_cache(maxsize=2)
def _draw_grain(shape: tuple[int, ...], *, seed: int, deviation: float) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, deviation, shape)


def add_grain(frames: Sequence[Frames], *, seed: int, deviation: float = 4.0) -> list[Frames]:
    """Noise as an encoder or a sensor adds it."""
    grain = _draw_grain((len(frames), *frames[0].shape), seed=seed, deviation=deviation)
    return [(frame + noise).clip(0, 255).astype(np.uint8) for frame, noise in zip(frames, grain, strict=True)]


@cache
def encoded(draw: Callable[..., list[Frames]], *what: Any, grain: int, **how: Any) -> Fingerprint:
    """The fingerprint of one encoding of what this draws."""
    return fingerprint(add_grain(draw(*what, **how), seed=grain))
