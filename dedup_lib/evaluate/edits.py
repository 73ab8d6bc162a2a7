"""Edits that people make before they post a clip again: crop, logo, caption, cut, speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dedup_lib.records import Frames

RATE = 12
"""Frames a second of the reference."""

Timed = tuple[float, Frames]
"""When a picture is shown, in seconds, and the picture: RGB uint8 (H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The pictures of a clip, `RATE` a second, all of one size."""

    frames: tuple[Frames, ...]

    @property
    def duration_s(self) -> float:
        return len(self.frames) / RATE

    def shown_at(self, time_s: float) -> Frames:
        """The picture on show at a time; behind the end, the last one."""
        return self.frames[min(int(time_s * RATE), len(self.frames) - 1)]

    def play(self) -> Iterator[Timed]:
        for index, frame in enumerate(self.frames):
            yield index / RATE, frame


Edit = Callable[[Clip, Clip], Iterable[Timed]]
"""A clip, and another that it may be mixed with, to the pictures of the variant."""


def each(change: Callable[[Frames], Any]) -> Edit:
    """The edit that changes every picture by itself."""
    return lambda clip, other: ((time_s, change(frame)) for time_s, frame in clip.play())


def resize(frame: Frames, *, width: float = 1.0, height: float = 1.0) -> Frames:
    """A picture shrunk or stretched by factors."""
    size_px = max(2, round(frame.shape[1] * width)), max(2, round(frame.shape[0] * height))
    return cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def crop(frame: Frames, fraction: float) -> Frames:
    """A picture without that share of its width and of its height, half of it on each side."""
    down, across = round(frame.shape[0] * fraction / 2), round(frame.shape[1] * fraction / 2)
    return frame[down : frame.shape[0] - down, across : frame.shape[1] - across]


def add_bars(frame: Frames, *, height: float = 0.0, width: float = 0.0) -> Any:
    """Black bars on two sides, each that share of the picture."""
    down, across = round(frame.shape[0] * height), round(frame.shape[1] * width)
    return cv2.copyMakeBorder(frame, down, down, across, across, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def add_noise(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Grain that differs from frame to frame."""
    generator = np.random.default_rng(0)
    for time_s, frame in clip.play():
        noisy = frame + generator.normal(0, 20, frame.shape).astype(np.float32)
        yield time_s, np.clip(noisy, 0, 255).astype(np.uint8)


def brighten(frame: Frames) -> Frames:
    """More contrast around the middle grey, and more light."""
    brightened: Frames = np.clip((frame - 128.0) * 1.3 + 148, 0, 255).astype(np.uint8)
    return brightened


def add_logo(frame: Frames) -> Frames:
    """A disc with a ring and a letter in the upper right corner, a sixth of the shorter side across."""
    marked = frame.copy()
    radius = max(2, min(frame.shape[:2]) // 12)
    centre = frame.shape[1] - radius - radius // 2 - 1, radius + radius // 2
    cv2.circle(marked, centre, radius, (220, 30, 40), -1, cv2.LINE_AA)
    cv2.circle(marked, centre, radius, (255, 255, 255), max(1, radius // 6), cv2.LINE_AA)
    start = centre[0] - radius // 2, centre[1] + radius // 2
    cv2.putText(marked, "A", start, cv2.FONT_HERSHEY_SIMPLEX, radius / 22, (255, 255, 255), max(1, radius // 8))
    return marked


def add_caption(frame: Frames) -> Frames:
    """A black bar with white text over the lowest seventh of the picture."""
    marked = frame.copy()
    height = frame.shape[0] // 7
    marked[-height:] = 0
    start = frame.shape[1] // 20, frame.shape[0] - height // 3
    thickness = max(1, height // 20)
    cv2.putText(marked, "JUST WATCH THIS", start, cv2.FONT_HERSHEY_SIMPLEX, height / 45, (255, 255, 255), thickness)
    return marked


def rotate(frame: Frames, degrees: float) -> Any:
    """A picture turned within its frame; the corners that come free are black."""
    height, width = frame.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(frame, turn, (width, height), flags=cv2.INTER_LINEAR)


def put_in_picture(frame: Frames, fraction: float) -> Frames:
    """The picture at that share of its size, in the middle of a slope of colours."""
    height, width = frame.shape[:2]
    framed = np.empty_like(frame)
    framed[..., 0] = np.linspace(20, 200, width)[None, :]
    framed[..., 1] = np.linspace(180, 40, height)[:, None]
    framed[..., 2] = 120
    inner = resize(frame, width=fraction, height=fraction)
    down, across = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    framed[down : down + inner.shape[0], across : across + inner.shape[1]] = inner
    return framed


def put_in_blur(frame: Frames) -> Any:
    """A wide picture in the middle of an upright one, or an upright one of a wide one, both of 9 to 16; what is left
    beside it is filled with the picture itself, enlarged and blurred."""
    height, width = frame.shape[:2]
    size_px = (width, width * 16 // 9) if width >= height else (height * 16 // 9, height)
    filled: Any = cv2.GaussianBlur(cv2.resize(frame, size_px, interpolation=cv2.INTER_LINEAR), (0, 0), size_px[0] / 20)
    down, across = (size_px[1] - height) // 2, (size_px[0] - width) // 2
    filled[down : down + height, across : across + width] = frame
    return filled


def put_beside_plot(frame: Frames) -> Frames:
    """At its right, as large, bars that say how bright the pixels are."""
    counts = np.bincount(frame.mean(axis=2).astype(int).ravel() // 16, minlength=16)
    bars = np.repeat(counts / counts.max(), -(-frame.shape[1] // 16))[: frame.shape[1]]
    is_bar = np.linspace(1, 0, frame.shape[0])[:, None] < 0.9 * bars
    return np.hstack([frame, np.where(is_bar[..., None], (40, 90, 200), 245).astype(np.uint8)])


def add_subtitles(clip: Clip, other: Clip) -> Iterator[Timed]:
    """White letters with a shadow over the lower part, other ones every 1.5 s."""
    lines = ("WAIT FOR IT", "I never thought so", "- Who is there?", "and then it went", "Look at that!")
    height, width = clip.frames[0].shape[:2]
    scale, thickness = height / 300, max(1, height // 160)
    for time_s, frame in clip.play():
        marked, line = frame.copy(), lines[int(time_s / 1.5) % len(lines)]
        for colour, off in (((0, 0, 0), thickness), ((255, 255, 255), 0)):
            start = width // 8 + off, height - height // 10 + off
            cv2.putText(marked, line, start, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness)
        yield time_s, marked


def draw_card(clip: Clip) -> Frames:
    """A card of one colour with words, as large as the clip."""
    card = np.full_like(clip.frames[0], (30, 60, 120))
    height, width = card.shape[:2]
    for row, words in enumerate(("FOLLOW US", "for more")):
        start = width // 10, height * (row + 2) // 5
        cv2.putText(card, words, start, cv2.FONT_HERSHEY_SIMPLEX, width / 200, (255, 255, 255), max(1, width // 100))
    return card


def cut(start: float, end: float) -> Edit:
    """What lies between two fractions of the duration."""

    def edit(clip: Clip, other: Clip) -> Iterator[Timed]:
        first = round(len(clip.frames) * start)
        last = max(first + 1, round(len(clip.frames) * end))
        return Clip(frames=clip.frames[first:last]).play()

    return edit


def speed_up(factor: float) -> Edit:
    """The same pictures in less time."""
    return lambda clip, other: ((time_s / factor, frame) for time_s, frame in clip.play())


def change_rate(rate: float) -> Edit:
    """Another number of frames a second; the duration stays."""
    return lambda clip, other: (
        (index / rate, clip.shown_at(index / rate)) for index in range(max(1, round(clip.duration_s * rate)))
    )


def show_slides(count: int) -> Edit:
    """So many pictures, each shown equally long; the duration stays."""
    return lambda clip, other: change_rate(count / clip.duration_s)(clip, other)


def stall(every_s: float, for_s: float) -> Edit:
    """Every so many seconds the picture stands still for a while, and all that follows is later."""
    return lambda clip, other: ((time_s + int(time_s / every_s) * for_s, frame) for time_s, frame in clip.play())


def swap_halves(clip: Clip, other: Clip) -> Iterator[Timed]:
    """The second half first."""
    middle = len(clip.frames) // 2
    return Clip(frames=clip.frames[middle:] + clip.frames[:middle]).play()


def end_with_card(clip: Clip, other: Clip) -> Iterator[Timed]:
    """A card in place of the last fifth."""
    card = draw_card(clip)
    for time_s, frame in clip.play():
        yield time_s, frame if time_s < 0.8 * clip.duration_s else card


def insert(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Half of `FOREIGN_S` of another video before it, what follows there behind it."""
    yield from put_before(draw_foreign, FOREIGN_S / 2)(clip, other)
    for index in range(round(FOREIGN_S / 2 * RATE)):
        time_s = FOREIGN_S / 2 + index / RATE
        yield clip.duration_s + time_s, draw_foreign(clip, other, time_s)


def put_before(picture: Callable[[Clip, Clip, float], Frames], duration_s: float) -> Edit:
    """A start of `duration_s` in front, its picture at each time given by a function."""

    def edit(clip: Clip, other: Clip) -> Iterator[Timed]:
        for index in range(round(duration_s * RATE)):
            yield index / RATE, picture(clip, other, index / RATE)
        for time_s, frame in clip.play():
            yield duration_s + time_s, frame

    return edit


def draw_foreign(clip: Clip, other: Clip, time_s: float) -> Any:
    """What another clip shows at some time, in the size of this one."""
    height, width = clip.frames[0].shape[:2]
    return cv2.resize(other.shown_at(time_s % other.duration_s), (width, height), interpolation=cv2.INTER_AREA)


FOREIGN_S = 3
