"""Frames and facts of the videos of a run, for pages and widgets."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dedup_lib.errors import RunFolderError
from dedup_lib.match.aligned_frames import Box
from dedup_lib.media.frames import draw_outline, encode_preview, resize_frame
from dedup_lib.media.storyboard import MIN_STEP_S, Storyboard
from dedup_lib.records import Frames, Outcome, Recipe, video_key
from dedup_lib.report.captions import Captions
from dedup_lib.report.evidence_words import ALL_COVERED, read_number
from dedup_lib.report.words import describe_bytes, show_seconds
from dedup_lib.run.folder import RunFolder, thumbnail_path
from dedup_lib.run.ledger import LedgerView
from dedup_lib.sanitise import sanitise_line

MOMENTS = 5
"""Number of moments at which the frames of videos are shown one below the other."""

STRIP_FRAMES = 4
STRIP_HEIGHT_PX = 72

WHOLE_SHARE = 0.85
"""A copy that shows at least this share of the kept video is shown at the moments of the kept video."""

OUTLINE_MARGIN = 0.03
"""Distance of an outline from what it is around, as a share of the frame, so that the line hides nothing of it."""

BARS_TOLERANCE = 0.06
"""Largest difference between the share of the frame without bars, as 03_extract measured it, and as the storyboard
shows it: with a larger one, a place in the frame is not known."""


def as_data_uri(picture: bytes, kind: str) -> str:
    """An image as a `data:` URI, so that it needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def draw_strip(board: Storyboard | None, *, rows: int = 1) -> Frames | None:
    """Up to four frames of a video side by side, RGB uint8 (72, W, 3), or as many `rows` of four below each other as
    the video fills; None without a storyboard."""
    if board is None:
        return None
    height, width = board.frames[0].shape[:2]
    size_px = max(1, round(width * STRIP_HEIGHT_PX / height)), STRIP_HEIGHT_PX
    full_rows = min(rows, max(1, len(board.frames) // STRIP_FRAMES))
    shown = [resize_frame(board.frames[index], size_px) for index in board.spread(full_rows * STRIP_FRAMES)]
    return np.vstack([np.hstack(shown[start : start + STRIP_FRAMES]) for start in range(0, len(shown), STRIP_FRAMES)])


def load_strip(url: str, *, thumbnails_dir: Path, rows: int = 1) -> str:
    """Frames of a video as `draw_strip` draws them, as a `data:` URI; "" when they cannot be read."""
    return _strip_of(thumbnail_path(url, thumbnails_dir=thumbnails_dir), rows=rows)


def load_strips(urls: Iterable[str], *, thumbnails_dir: Path) -> dict[str, str]:
    """The strips of videos by URL, as `load_strip`."""
    return {url: load_strip(url, thumbnails_dir=thumbnails_dir) for url in dict.fromkeys(urls)}


def _strip_of(path: Path, *, rows: int = 1) -> str:
    strip = draw_strip(Storyboard.load(path), rows=rows)
    return as_data_uri(encode_preview(strip), "webp") if strip is not None else ""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame of a video: a `data:` URI, its time in words, and its size in pixels."""

    picture: str
    time: str
    width_px: int
    height_px: int


Shots = tuple[Shot, ...]


@dataclass(frozen=True, kw_only=True)
class SharedPart:
    """The part of one video that another one shows too: begin and end in seconds, of `duration_s`."""

    begin_s: float
    end_s: float
    duration_s: float

    @property
    def start(self) -> float:
        """Where it begins, as a percentage of the video."""
        return round(100 * self.begin_s / self.duration_s, 1)

    @property
    def width(self) -> float:
        """Its length, likewise; wide enough to be seen."""
        return round(max(0.7, 100 * (self.end_s - self.begin_s) / self.duration_s), 1)

    def __str__(self) -> str:
        return f"{show_seconds(self.begin_s)} to {show_seconds(self.end_s)} of {show_seconds(self.duration_s)}"


@dataclass(frozen=True, kw_only=True)
class _Timeline:
    """Which times of two videos belong together: the part that both show in the first one, and how to get from there
    to the second."""

    begin_s: float
    end_s: float
    offset_s: float
    speed: float

    @classmethod
    def of(cls, row: Mapping[Any, object]) -> _Timeline | None:
        """The times in a row of evidence; None when it has none."""
        numbers = [read_number(row.get(name)) for name in ("kept_from_s", "kept_to_s", "offset_s")]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers):
            return None
        begin_s, end_s, offset_s = known
        return cls(begin_s=begin_s, end_s=end_s, offset_s=offset_s, speed=read_number(row.get("speed")) or 1.0)

    @property
    def moments_s(self) -> list[float]:
        """Times in the first video, evenly over the shared part."""
        length_s = self.end_s - self.begin_s
        return [self.begin_s + (number + 0.5) / MOMENTS * length_s for number in range(MOMENTS)]

    def in_first(self, time_s: float) -> float:
        """The time at which the first video shows what the second one shows at `time_s`."""
        return self.begin_s + (time_s - self.begin_s - self.offset_s) * self.speed

    def in_second(self, time_s: float) -> float:
        """The time at which the second video shows what the first one shows at `time_s`."""
        return self.begin_s + self.offset_s + (time_s - self.begin_s) / self.speed


class Pictures:
    """Frames, captions and facts of the videos in a run folder: from storyboards, the list and the ledger.

    Use it as a context manager, any number of times; it closes the ledger on exit. With a missing or damaged ledger,
    the pages have no facts."""

    def __init__(self, run: RunFolder, *, recipe: Recipe | None) -> None:
        self._run = run
        self._recipe = recipe
        self.captions = Captions(run)
        self.load_board = lru_cache(maxsize=64)(
            lambda url: Storyboard.load(thumbnail_path(url, thumbnails_dir=run.thumbnails_dir))
        )

    @cached_property
    def _ledger(self) -> LedgerView | None:
        if not self._run.ledger_path.exists():
            return None
        try:
            return LedgerView(self._run.ledger_path)
        except RunFolderError:
            return None

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        ledger = self.__dict__.pop("_ledger", None)
        if ledger is not None:
            ledger.close()

    def load_sheet(self, url: str) -> str:
        """The file of a storyboard as a `data:` URI; "" when it cannot be read."""
        try:
            data = thumbnail_path(url, thumbnails_dir=self._run.thumbnails_dir).read_bytes()
        except OSError:
            return ""
        return as_data_uri(data, "jpeg")

    def pair_moments(
        self, url: str, other_url: str, row: Mapping[Any, object]
    ) -> tuple[list[tuple[int | None, int | None]], int]:
        """The frames of two videos that belong together, by their indexes in the storyboards, in the order of time;
        None where one of the two shows nothing. Also the place of the first moment that both show. `row` has the
        evidence; without times in it, both begin together."""
        board, other = self.load_board(url), self.load_board(other_url)
        timeline = _Timeline.of(row) or _Timeline(begin_s=0.0, end_s=0.0, offset_s=0.0, speed=1.0)
        times_s = board.times_s if board is not None else ()
        others_s = [timeline.in_first(time_s) for time_s in other.times_s] if other is not None else []
        moments: list[tuple[int | None, int | None]] = []
        for time_s in sorted({*times_s, *others_s}):
            moment = _index_near(times_s, time_s), _index_near(others_s, time_s)
            if moment not in moments[-1:]:
                moments.append(moment)
        start = next((place for place, moment in enumerate(moments) if None not in moment), 0)
        return moments, start

    def draw_strip(self, key: str) -> str:
        """Up to four frames of the video with this key, as `load_strip`."""
        return _strip_of(self._run.thumbnails_dir / f"{key}.jpg")

    def draw_shots(self, url: str, *, count: int = MOMENTS) -> Shots:
        """Frames of a video, evenly over all of it; none when they cannot be read."""
        board = self.load_board(url)
        return _draw_frames(board, board.spread(count)) if board is not None else ()

    def find_outlines(self, url: str, other_url: str, row: Mapping[Any, object]) -> tuple[Box | None, Box | None]:
        """The boxes around the region that differs, in the frames of the storyboards of two videos: left, top, right
        and bottom as shares of the frame. None where nothing differs, or where it is not known how much of the frame is
        bars. `row` has the evidence."""
        return (
            self._find_outline(url, row.get("differs_in_kept")),
            self._find_outline(other_url, row.get("differs_in_copy")),
        )

    def _find_outline(self, url: str, text: object) -> Box | None:
        shares = [read_number(word) for word in str(text or "").split()]
        board = self.load_board(url)
        if board is None or len(shares) != 4 or None in shares:
            return None
        # Fingerprints have no bars, storyboards have.
        inner = board.find_content_box()
        found = self._load_outcome(url)
        share = (inner[2] - inner[0]) * (inner[3] - inner[1])
        if found is not None and abs(found.picture_fraction - share) > BARS_TOLERANCE:
            return None
        left, top, right, bottom = (
            inner[side % 2] + number * (inner[side % 2 + 2] - inner[side % 2])
            for side, number in enumerate(number for number in shares if number is not None)
        )
        return (
            max(inner[0], left - OUTLINE_MARGIN),
            max(inner[1], top - OUTLINE_MARGIN),
            min(inner[2], right + OUTLINE_MARGIN),
            min(inner[3], bottom + OUTLINE_MARGIN),
        )

    def draw_beside(
        self,
        url: str,
        other_url: str,
        row: Mapping[Any, object],
        *,
        outlines: tuple[Box | None, Box | None] = (None, None),
    ) -> tuple[Shots, Shots]:
        """Frames of two videos at the same moments: those of the first, and those of the other one. `row` has the
        evidence; the first video counts as kept there. `outlines` are drawn in the frames (see `find_outlines`).

        The first ones are empty when they are those of `draw_shots`: the other video shows nearly all of the first
        one, and no outline is drawn."""
        board, other = self.load_board(url), self.load_board(other_url)
        timeline, share = _Timeline.of(row), read_number(row.get("kept_coverage"))
        if board is None or other is None or timeline is None or share is None:
            return (), self.draw_shots(other_url)
        is_whole = share >= WHOLE_SHARE
        indexes = board.spread(MOMENTS) if is_whole else list(dict.fromkeys(map(board.nearest, timeline.moments_s)))
        others = [other.nearest(timeline.in_second(board.times_s[index])) for index in indexes]
        is_plain = is_whole and outlines[0] is None
        return (
            () if is_plain else _draw_frames(board, indexes, outline=outlines[0]),
            _draw_frames(other, others, outline=outlines[1]),
        )

    def describe(self, url: str) -> str:
        """Frame size, duration, codec and file size of a video, as far as known."""
        found = self._load_outcome(url)
        if found is None:
            return ""
        facts = (
            f"{found.width_px} × {found.height_px}" if found.width_px else "",
            show_seconds(found.duration_s) if found.duration_s else "",
            found.codec,
            describe_bytes(found.size_bytes) if found.size_bytes else "",
        )
        return " · ".join(sanitise_line(fact) for fact in facts if fact)

    def _load_outcome(self, url: str) -> Outcome | None:
        if self._ledger is None or self._recipe is None:
            return None
        try:
            return self._ledger.load_outcome(self._recipe.key, video_key(url))
        except RunFolderError:
            return None

    def find_shared(
        self, first_url: str, second_url: str, row: Mapping[Any, object]
    ) -> tuple[SharedPart, SharedPart] | None:
        """The shared part of two videos in both; None where it is nearly all of both, or unknown."""
        timeline = _Timeline.of(row)
        coverages = [read_number(row.get(name)) for name in ("kept_coverage", "copy_coverage")]
        known = [coverage for coverage in coverages if coverage is not None]
        if timeline is None or len(known) < len(coverages) or min(known) >= ALL_COVERED:
            return None
        first, second = self._load_outcome(first_url), self._load_outcome(second_url)
        if first is None or second is None or not (first.duration_s and second.duration_s):
            return None
        begin_s, end_s = (timeline.in_second(time_s) for time_s in (timeline.begin_s, timeline.end_s))
        return (
            SharedPart(
                begin_s=timeline.begin_s, end_s=min(timeline.end_s, first.duration_s), duration_s=first.duration_s
            ),
            SharedPart(begin_s=max(0.0, begin_s), end_s=min(end_s, second.duration_s), duration_s=second.duration_s),
        )


def _index_near(times_s: Sequence[float], time_s: float) -> int | None:
    """The index of the time nearest to another one; None when none is as near as two frames are to each other."""
    if not times_s:
        return None
    distances = np.abs(np.asarray(times_s) - time_s)
    apart_s = (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1)
    return int(distances.argmin()) if distances.min() <= max(MIN_STEP_S, 0.75 * apart_s) else None


def _draw_frames(board: Storyboard, indexes: Sequence[int], *, outline: Box | None = None) -> Shots:
    frames = {index: board.frames[index] for index in indexes}
    if outline is not None:
        frames = {index: draw_outline(frame, outline) for index, frame in frames.items()}
    return tuple(
        Shot(
            picture=as_data_uri(encode_preview(frames[index]), "webp"),
            time=show_seconds(board.times_s[index]),
            width_px=board.frames[index].shape[1],
            height_px=board.frames[index].shape[0],
        )
        for index in indexes
    )
