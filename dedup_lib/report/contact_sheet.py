"""Groups and doubtful pairs as rows of frames, with the evidence in words."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from dedup_lib.errors import RunFolderError
from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.match.evidence import Criterion, Verdict
from dedup_lib.media.frames import encode_preview, load_picture, resize_frame
from dedup_lib.records import Frames, Outcome, Recipe, video_key
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import LedgerView
from dedup_lib.sanitise import sanitise_line

STRIP_HEIGHT_PX = 72
MOMENT_HEIGHT_PX = 54
MOMENTS = 5
"""Number of moments at which frames of two videos are shown one above the other."""

OFFSET_WORTH_SAYING_S = 0.25
ROW_GAP_PX = 2

CRITERION_WORDS = {
    Criterion.EXACT: "both files decode to exactly the same pictures",
    Criterion.FRAMES: "{share} frames agree at the same moments",
    Criterion.CONFIRMED: "{share} frames agree at the same moments, and local features confirm it",
    Criterion.REGISTERED: "{share} frames agree once one is laid on the other (another crop, a caption, a turn)",
    Criterion.MOTION: "the movement is alike in {share} pictures",
    Criterion.REGISTERED_MOTION: "the movement is alike in {share} pictures once one is laid on the other",
    Criterion.SHORT: "only a part is shared: {share} frames agree there",
    Criterion.UNCONFIRMED: "{share} frames agree, but local features or movement do not",
    Criterion.DIFFERS: "{share} frames agree, but a region differs throughout",
    Criterion.UNLIKE: "{share} frames agree, but the encoder finds the frames unlike",
    Criterion.ALIKE: "the encoder finds the frames alike, but their pictures do not prove it",
    Criterion.WEAK: "too few frames agree: {share}",
    Criterion.PERSON: "a person decided so",
    Criterion.COSINE: "only their vectors were compared",
}
"""The finding of each rule, in words."""


def show_seconds(seconds: float) -> str:
    """A time or a duration as text: 0:05.3, 12:04 or 1:02:03."""
    if round(seconds, 1) < 60:
        return f"0:{seconds:04.1f}"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def show_bytes(size: int) -> str:
    """A file size as text: 640 KB or 1.2 MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3)):,} KB"


def read_number(text: object) -> float | None:
    """Reads a number from a CSV cell; None when the cell is empty or no finite number."""
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


ALL_COVERED = 0.995
"""A share from here on is all of a video."""

VERDICT_WORDS = {
    Verdict.DUPLICATE: "they count as copies, and one of them is removed",
    Verdict.EXCERPT: "one counts as an excerpt of the other",
    Verdict.REVIEW: "it is undecided, and both are kept",
    Verdict.DIFFERENT: "they count as different, and both are kept",
}
"""The consequence of each verdict, as long as no person decides."""


def explain(row: Mapping[Any, object], *, first: str = "the other", second: str = "the copy") -> str:
    """The evidence that two videos show the same, as one sentence that calls them `first` and `second`. `row` is a row
    of the CSV of duplicates or of review; "copy" in its columns means the second video."""
    rule = str(row.get("rule", ""))
    share = "none" if rule == Criterion.WEAK else "enough"
    if row.get("frames_compared"):
        share = f"{row['frames_agreeing']} of {row['frames_compared']}"
    try:
        found = CRITERION_WORDS[Criterion(rule)].format(share=share)
    except ValueError:
        # Another version of the project wrote this rule.
        return rule
    if rule == Criterion.PERSON:
        return found
    parts = [f"{found} ({row['differs']})" if rule == Criterion.DIFFERS and row.get("differs") else found]
    numbers = {name: read_number(row.get(name)) for name in ("offset_s", "speed", "kept_coverage", "copy_coverage")}
    offset_s, speed = numbers["offset_s"], numbers["speed"]
    kept, copy = numbers["kept_coverage"], numbers["copy_coverage"]
    if kept is not None and copy is not None and min(kept, copy) < ALL_COVERED:
        parts.append(f"they share {copy:.0%} of {second} and {kept:.0%} of {first}")
    if offset_s is not None and abs(offset_s) >= OFFSET_WORTH_SAYING_S:
        parts.append(f"{second} shows it {abs(offset_s):.1f} s {'later' if offset_s > 0 else 'earlier'}")
    if speed is not None and abs(speed - 1) >= 0.005:
        parts.append(f"it runs {speed:.2f} times as fast")
    return "; ".join(parts)


def as_data_uri(picture: bytes, kind: str) -> str:
    """An image as a `data:` URI, so that it needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


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
class Video:
    """One video of a contact sheet."""

    url: str
    facts: str = ""
    """Frame size, duration, codec and file size, as far as the ledger has them."""
    picture: str = ""
    similarity: float | None = None
    role: str = "kept"
    explained: str = ""
    kept_because: str = ""
    moments: str = ""
    moments_words: str = ""
    shared: tuple[SharedPart, SharedPart] | None = None
    """The shared part in the other video and in this one, where that is not all of both."""

    @property
    def key(self) -> str:
        return video_key(self.url)

    @property
    def shown_similarity(self) -> str:
        return "" if self.similarity is None else f"{self.similarity:.4f}"

    @property
    def weight(self) -> int:
        """Number of characters that its images take in a page."""
        return len(self.picture) + len(self.moments)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A group of copies: the kept video and the nearest of its copies."""

    number: int
    kept: Video
    copies: tuple[Video, ...]
    size: int

    @property
    def hidden(self) -> int:
        """Number of copies that are not shown."""
        return self.size - 1 - len(self.copies)

    @property
    def weight(self) -> int:
        """Number of characters that its images take in a page."""
        return self.kept.weight + sum(copy.weight for copy in self.copies)

    @property
    def reasons(self) -> str:
        """The criteria by which the kept video was preferred to its copies."""
        return ", ".join(dict.fromkeys(copy.kept_because for copy in self.copies if copy.kept_because))

    @property
    def lowest(self) -> str:
        """The lowest similarity of the copies shown."""
        known = [copy.similarity for copy in self.copies if copy.similarity is not None]
        return f"{min(known):.4f}" if known else ""


class Pictures:
    """Images and facts of the videos in a run folder: strips of frames, fingerprints, and data from the ledger.

    Use it as a context manager, any number of times; it closes the ledger on exit. With a missing or damaged ledger,
    the pages have no facts and no moments."""

    def __init__(self, run: RunFolder, *, recipe: Recipe | None) -> None:
        self._run = run
        self._recipe = recipe
        self._fingerprint = lru_cache(maxsize=64)(self._load_fingerprint)

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

    def draw_strip(self, key: str) -> str:
        """The sampled frames of a video as a `data:` URI; "" when they cannot be read."""
        try:
            strip = load_picture(self._run.thumbnails_dir / f"{key}.jpg")
        except (OSError, ValueError):
            return ""
        height, width = strip.shape[:2]
        if height > STRIP_HEIGHT_PX:
            strip = resize_frame(strip, (max(1, round(width * STRIP_HEIGHT_PX / height)), STRIP_HEIGHT_PX))
        return as_data_uri(encode_preview(strip), "webp")

    def describe(self, url: str) -> str:
        """Frame size, duration, codec and file size of a video, as far as known."""
        found = self._load_outcome(url)
        if found is None:
            return ""
        facts = (
            f"{found.width_px} × {found.height_px}" if found.width_px else "",
            show_seconds(found.duration_s) if found.duration_s else "",
            found.codec,
            show_bytes(found.size_bytes) if found.size_bytes else "",
        )
        return " · ".join(sanitise_line(fact) for fact in facts if fact)

    def _load_outcome(self, url: str) -> Outcome | None:
        if self._ledger is None or self._recipe is None:
            return None
        try:
            return self._ledger.load_outcome(self._recipe.key, video_key(url))
        except RunFolderError:
            return None

    def _load_fingerprint(self, url: str) -> Fingerprint | None:
        if self._ledger is None:
            return None
        try:
            data = self._ledger.load_fingerprint(video_key(url))
            return Fingerprint.from_bytes(data) if data is not None else None
        except (RunFolderError, ValueError):
            return None

    def draw_moments(self, first_url: str, second_url: str, row: Mapping[Any, object]) -> tuple[str, str]:
        """Frames of two videos at the same moments of their shared part, the first above the second. Returns a `data:`
        URI and the times in words; both are "" when the evidence gives no times."""
        numbers = [read_number(row.get(name)) for name in ("kept_from_s", "kept_to_s", "offset_s")]
        first, second = self._fingerprint(first_url), self._fingerprint(second_url)
        if first is None or second is None or any(number is None for number in numbers):
            return "", ""
        begin_s, end_s, offset_s = (float(number or 0.0) for number in numbers)
        speed = read_number(row.get("speed")) or 1.0
        shares = (np.arange(MOMENTS) + 0.5) / MOMENTS
        moments_s = begin_s + shares * (end_s - begin_s)
        others_s = begin_s + offset_s + (moments_s - begin_s) / speed
        rows = [_draw_row(first, moments_s), _draw_row(second, others_s)]
        width = max(one.shape[1] for one in rows)
        height = 2 * MOMENT_HEIGHT_PX + ROW_GAP_PX
        sheet = np.full((height, width), 128, np.uint8)
        sheet[:MOMENT_HEIGHT_PX, : rows[0].shape[1]] = rows[0]
        sheet[MOMENT_HEIGHT_PX + ROW_GAP_PX :, : rows[1].shape[1]] = rows[1]
        times = ", ".join(
            f"{show_seconds(one)} and {show_seconds(max(0.0, other))}"
            for one, other in zip(moments_s, others_s, strict=True)
        )
        return as_data_uri(encode_preview(sheet), "webp"), times

    def find_shared(
        self, first_url: str, second_url: str, row: Mapping[Any, object]
    ) -> tuple[SharedPart, SharedPart] | None:
        """The shared part of two videos in both; None where it is nearly all of both, or unknown."""
        names = ("kept_from_s", "kept_to_s", "offset_s", "kept_coverage", "copy_coverage")
        numbers = [number for name in names if (number := read_number(row.get(name))) is not None]
        first, second = self._load_outcome(first_url), self._load_outcome(second_url)
        if len(numbers) < len(names) or first is None or second is None or not (first.duration_s and second.duration_s):
            return None
        begin_s, end_s, offset_s, *coverages = numbers
        if min(coverages) >= ALL_COVERED:
            return None
        other_s = begin_s + offset_s
        length_s = (end_s - begin_s) / (read_number(row.get("speed")) or 1.0)
        return (
            SharedPart(begin_s=begin_s, end_s=min(end_s, first.duration_s), duration_s=first.duration_s),
            SharedPart(
                begin_s=max(0.0, other_s),
                end_s=min(other_s + length_s, second.duration_s),
                duration_s=second.duration_s,
            ),
        )


def _draw_row(fingerprint: Fingerprint, times_s: Sequence[float] | np.ndarray) -> Frames:
    """The frames nearest to these times, side by side, grey (H, W)."""
    width_px, height_px = fingerprint.size_px
    width = int(np.clip(round(MOMENT_HEIGHT_PX * width_px / height_px), 16, 2 * MOMENT_HEIGHT_PX))
    nearest = np.abs(fingerprint.times_s[None] - np.asarray(times_s)[:, None]).argmin(axis=1)
    pictures = [resize_frame(fingerprint.tiny_frames[index], (width, MOMENT_HEIGHT_PX)) for index in nearest]
    gap = np.full((MOMENT_HEIGHT_PX, ROW_GAP_PX), 128, np.uint8)
    return np.hstack([part for picture in pictures for part in (picture, gap)][:-1])


def rank_groups(copies: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """The groups in the CSV of duplicates, each with its number: the largest group first, and the nearest copy first
    in each. Copies that only a person added come last."""
    if copies.empty:
        return []
    ranked = copies.assign(
        score=pd.to_numeric(copies["score"]),
        group=pd.to_numeric(copies["group"]),
        size=copies.groupby("group")["url"].transform("size"),
    ).sort_values(["size", "group", "score", "url"], ascending=[False, True, False, True])
    return [(int(str(number)), group) for number, group in ranked.groupby("group", sort=False)]


def draw_groups(ranked: Sequence[tuple[int, pd.DataFrame]], pictures: Pictures, *, most_copies: int) -> Iterator[Sheet]:
    """Yields a sheet for each group, with at most `most_copies` copies."""
    for number, group in ranked:
        kept_url = group["duplicate_of"].iloc[0]
        copies = []
        for row in group.head(most_copies).to_dict("records"):
            moments, words = pictures.draw_moments(kept_url, row["url"], row)
            copies.append(
                Video(
                    url=row["url"],
                    facts=pictures.describe(row["url"]),
                    picture=pictures.draw_strip(video_key(row["url"])),
                    similarity=read_number(row["score"]),
                    role="excerpt" if row.get("verdict") == Verdict.EXCERPT else "copy",
                    explained=explain(row),
                    kept_because=str(row.get("kept_because", "")),
                    moments=moments,
                    moments_words=words,
                    shared=pictures.find_shared(kept_url, row["url"], row),
                )
            )
        kept = Video(url=kept_url, facts=pictures.describe(kept_url), picture=pictures.draw_strip(video_key(kept_url)))
        yield Sheet(number=number, kept=kept, copies=tuple(copies), size=len(group) + 1)


def draw_pair(row: Mapping[Any, object], pictures: Pictures) -> tuple[Video, Video]:
    """The two videos in a row of the CSV of review; the second one carries the evidence of the pair."""
    first, second = str(row["first_url"]), str(row["second_url"])
    moments, words = pictures.draw_moments(first, second, row)
    return (
        Video(url=first, facts=pictures.describe(first), picture=pictures.draw_strip(video_key(first)), role="first"),
        Video(
            url=second,
            facts=pictures.describe(second),
            picture=pictures.draw_strip(video_key(second)),
            similarity=read_number(row.get("score")),
            role=str(row.get("verdict", "")),
            explained=explain(row, first="the first", second="the second"),
            moments=moments,
            moments_words=words,
            shared=pictures.find_shared(first, second, row),
        ),
    )
