"""Edits that people make before they post a clip again: crop, logo, caption, cut, speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dedup_lib.records import Frames

RATE = 12
"""Frames per second of the reference."""

Timed = tuple[float, Frames]
"""The time of a frame in seconds, and the frame: RGB uint8 (H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The frames of a clip, `RATE` per second, all of one size."""

    frames: tuple[Frames, ...]

    @property
    def duration_s(self) -> float:
        return len(self.frames) / RATE

    def shown_at(self, time_s: float) -> Frames:
        """The frame shown at a time; after the end, the last frame."""
        return self.frames[min(int(time_s * RATE), len(self.frames) - 1)]

    def play(self) -> Iterator[Timed]:
        for index, frame in enumerate(self.frames):
            yield index / RATE, frame


Edit = Callable[[Clip, Clip], Iterable[Timed]]
"""Makes the frames of a variant from a clip; some edits mix in frames of a second clip."""


def each(change: Callable[[Frames], Any]) -> Edit:
    """Returns the edit that applies `change` to every frame separately."""
    return lambda clip, other: ((time_s, change(frame)) for time_s, frame in clip.play())


def resize(frame: Frames, *, width: float = 1.0, height: float = 1.0) -> Frames:
    """Shrinks or stretches a frame by two factors."""
    size_px = max(2, round(frame.shape[1] * width)), max(2, round(frame.shape[0] * height))
    return cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def crop(frame: Frames, fraction: float) -> Frames:
    """Cuts off the share `fraction` of the width and of the height, half of it on each side."""
    down, across = round(frame.shape[0] * fraction / 2), round(frame.shape[1] * fraction / 2)
    return frame[down : frame.shape[0] - down, across : frame.shape[1] - across]


def add_bars(frame: Frames, *, height: float = 0.0, width: float = 0.0) -> Any:
    """Adds black bars above and below (`height`) or left and right (`width`), each as this share of the frame."""
    down, across = round(frame.shape[0] * height), round(frame.shape[1] * width)
    return cv2.copyMakeBorder(frame, down, down, across, across, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def add_noise(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Adds grain that differs from frame to frame."""
    generator = np.random.default_rng(0)
    for time_s, frame in clip.play():
        noisy = frame + generator.normal(0, 20, frame.shape).astype(np.float32)
        yield time_s, np.clip(noisy, 0, 255).astype(np.uint8)


def brighten(frame: Frames) -> Frames:
    """Raises the contrast around the middle grey, and the brightness."""
    brightened: Frames = np.clip((frame - 128.0) * 1.3 + 148, 0, 255).astype(np.uint8)
    return brightened


def add_logo(frame: Frames) -> Frames:
    """Draws a disc with a ring and a letter in the upper right corner; its diameter is a sixth of the shorter side."""
    marked = frame.copy()
    radius = max(2, min(frame.shape[:2]) // 12)
    centre = frame.shape[1] - radius - radius // 2 - 1, radius + radius // 2
    cv2.circle(marked, centre, radius, (220, 30, 40), -1, cv2.LINE_AA)
    cv2.circle(marked, centre, radius, (255, 255, 255), max(1, radius // 6), cv2.LINE_AA)
    start = centre[0] - radius // 2, centre[1] + radius // 2
    cv2.putText(marked, "A", start, cv2.FONT_HERSHEY_SIMPLEX, radius / 22, (255, 255, 255), max(1, radius // 8))
    return marked


def add_caption(frame: Frames) -> Frames:
    """Draws a black bar with white text over the lowest seventh of the frame."""
    marked = frame.copy()
    height = frame.shape[0] // 7
    marked[-height:] = 0
    start = frame.shape[1] // 20, frame.shape[0] - height // 3
    thickness = max(1, height // 20)
    cv2.putText(marked, "JUST WATCH THIS", start, cv2.FONT_HERSHEY_SIMPLEX, height / 45, (255, 255, 255), thickness)
    return marked


def rotate(frame: Frames, degrees: float) -> Any:
    """Rotates a frame without changing its size; the free corners become black."""
    height, width = frame.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(frame, turn, (width, height), flags=cv2.INTER_LINEAR)


def put_in_picture(frame: Frames, fraction: float) -> Frames:
    """Shrinks the frame to the share `fraction` of its size, in the middle of a colour gradient."""
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
    """Puts a wide frame into the middle of an upright one of 9:16, or an upright frame into a wide one of 16:9. Fills
    the rest with the same frame, enlarged and blurred."""
    height, width = frame.shape[:2]
    size_px = (width, width * 16 // 9) if width >= height else (height * 16 // 9, height)
    filled: Any = cv2.GaussianBlur(cv2.resize(frame, size_px, interpolation=cv2.INTER_LINEAR), (0, 0), size_px[0] / 20)
    down, across = (size_px[1] - height) // 2, (size_px[0] - width) // 2
    filled[down : down + height, across : across + width] = frame
    return filled


def put_beside_plot(frame: Frames) -> Frames:
    """Puts a brightness histogram of the pixels to the right of the frame, of the same size."""
    counts = np.bincount(frame.mean(axis=2).astype(int).ravel() // 16, minlength=16)
    bars = np.repeat(counts / counts.max(), -(-frame.shape[1] // 16))[: frame.shape[1]]
    is_bar = np.linspace(1, 0, frame.shape[0])[:, None] < 0.9 * bars
    return np.hstack([frame, np.where(is_bar[..., None], (40, 90, 200), 245).astype(np.uint8)])


def add_subtitles(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Draws white letters with a shadow over the lower part; the text changes every 1.5 s."""
    lines = ("WAIT FOR IT", "I never thought so", "- Who is there?", "and then it went", "Look at that!")
    height, width = clip.frames[0].shape[:2]
    scale, thickness = height / 300, max(1, height // 160)
    for time_s, frame in clip.play():
        marked, line = frame.copy(), lines[int(time_s / 1.5) % len(lines)]
        for colour, off in (((0, 0, 0), thickness), ((255, 255, 255), 0)):
            start = width // 8 + off, height - height // 10 + off
            cv2.putText(marked, line, start, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness)
        yield time_s, marked


def fade(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Fades in from black and out to black, an eighth of the clip each."""
    for time_s, frame in clip.play():
        left = min(time_s, clip.duration_s - time_s) / (clip.duration_s / 8)
        yield time_s, (frame * min(1.0, left)).astype(np.uint8)


def tilt(frame: Frames) -> Any:
    """Shows the frame as from below, its upper side a sixth shorter; the free corners become black."""
    height, width = frame.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.array([[width / 12, 0], [-width / 12, 0], [0, 0], [0, 0]], np.float32)
    return cv2.warpPerspective(frame, cv2.getPerspectiveTransform(corners, moved), (width, height))


def shake(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Enlarges every frame by 6 %, and moves it in circles by 1.5 % of its size, about once a second."""
    for time_s, frame in clip.play():
        turn = 7 * time_s
        yield time_s, _zoom(frame, 1.06, across=0.015 * np.sin(turn), down=0.015 * np.cos(turn))


def zoom_in(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Enlarges the frame slowly, by 30 % at the end."""
    for time_s, frame in clip.play():
        yield time_s, _zoom(frame, 1 + 0.3 * time_s / clip.duration_s)


def _zoom(frame: Frames, factor: float, *, across: float = 0.0, down: float = 0.0) -> Any:
    height, width = frame.shape[:2]
    left, top = width * (across + (1 - factor) / 2), height * (down + (1 - factor) / 2)
    matrix = np.array([[factor, 0, left], [0, factor, top]])
    return cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def add_ticker(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Draws a blue band over the lowest seventh of the frame, through which text runs to the left."""
    for time_s, frame in clip.play():
        marked = frame.copy()
        height, width = frame.shape[0] // 7, frame.shape[1]
        marked[-height:] = (20, 30, 110)
        start = round(width * (1 - time_s / 4)), frame.shape[0] - height // 3
        text = "MARKETS RISE AS STORMS MOVE NORTH   " * 4
        cv2.putText(marked, text, start, cv2.FONT_HERSHEY_SIMPLEX, height / 45, (255, 255, 255), max(1, height // 20))
        yield time_s, marked


def put_in_corner(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Plays another clip in the lower right corner, 0.3 times as wide and high."""
    for time_s, frame in clip.play():
        marked = frame.copy()
        height, width = max(1, frame.shape[0] * 3 // 10), max(1, frame.shape[1] * 3 // 10)
        shown = other.shown_at(time_s % other.duration_s)
        marked[-height:, -width:] = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
        yield time_s, marked


def draw_card(clip: Clip) -> Frames:
    """Draws a card of one colour with words, of the size of the clip."""
    card = np.full_like(clip.frames[0], (30, 60, 120))
    height, width = card.shape[:2]
    for row, words in enumerate(("FOLLOW US", "for more")):
        start = width // 10, height * (row + 2) // 5
        cv2.putText(card, words, start, cv2.FONT_HERSHEY_SIMPLEX, width / 200, (255, 255, 255), max(1, width // 100))
    return card


def cut(start: float, end: float) -> Edit:
    """Keeps the part between two fractions of the duration."""

    def edit(clip: Clip, other: Clip) -> Iterator[Timed]:
        first = round(len(clip.frames) * start)
        last = max(first + 1, round(len(clip.frames) * end))
        return Clip(frames=clip.frames[first:last]).play()

    return edit


def speed_up(factor: float) -> Edit:
    """Plays the same frames `factor` times as fast."""
    return lambda clip, other: ((time_s / factor, frame) for time_s, frame in clip.play())


def change_rate(rate: float) -> Edit:
    """Changes the number of frames per second; the duration stays."""
    return lambda clip, other: (
        (index / rate, clip.shown_at(index / rate)) for index in range(max(1, round(clip.duration_s * rate)))
    )


def show_slides(count: int) -> Edit:
    """Keeps `count` frames, each shown equally long; the duration stays."""
    return lambda clip, other: change_rate(count / clip.duration_s)(clip, other)


def stall(every_s: float, for_s: float) -> Edit:
    """Freezes the frame for `for_s` seconds every `every_s` seconds; everything after it comes later."""
    return lambda clip, other: ((time_s + int(time_s / every_s) * for_s, frame) for time_s, frame in clip.play())


def swap_halves(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Plays the second half first."""
    middle = len(clip.frames) // 2
    return Clip(frames=clip.frames[middle:] + clip.frames[:middle]).play()


def end_with_card(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Shows a card in place of the last fifth."""
    card = draw_card(clip)
    for time_s, frame in clip.play():
        yield time_s, frame if time_s < 0.8 * clip.duration_s else card


def insert(clip: Clip, other: Clip) -> Iterator[Timed]:
    """Plays `FOREIGN_S` seconds of another video: the first half before the clip, the second half after it."""
    yield from put_before(draw_foreign, FOREIGN_S / 2)(clip, other)
    for index in range(round(FOREIGN_S / 2 * RATE)):
        time_s = FOREIGN_S / 2 + index / RATE
        yield clip.duration_s + time_s, draw_foreign(clip, other, time_s)


def put_before(picture: Callable[[Clip, Clip, float], Frames], duration_s: float) -> Edit:
    """Puts `duration_s` seconds in front of the clip; `picture` gives the frame at each time."""

    def edit(clip: Clip, other: Clip) -> Iterator[Timed]:
        for index in range(round(duration_s * RATE)):
            yield index / RATE, picture(clip, other, index / RATE)
        for time_s, frame in clip.play():
            yield duration_s + time_s, frame

    return edit


def draw_foreign(clip: Clip, other: Clip, time_s: float) -> Any:
    """The frame of the other clip at a time, in the size of this clip."""
    height, width = clip.frames[0].shape[:2]
    return cv2.resize(other.shown_at(time_s % other.duration_s), (width, height), interpolation=cv2.INTER_AREA)


FOREIGN_S = 3
