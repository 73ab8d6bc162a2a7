"""Groups and doubtful pairs as rows of frames, with the evidence in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dedup_lib.match.evidence import Verdict
from dedup_lib.records import video_key
from dedup_lib.report.evidence_words import OUTLINE_WORDS, explain, read_number
from dedup_lib.report.pictures import Pictures, SharedPart, Shots


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video of a contact sheet."""

    url: str
    caption: tuple[tuple[str, str], ...] = ()
    """Columns of the list that name it, and their cells."""
    facts: str = ""
    """Frame size, duration, codec and file size, as far as the ledger has them."""
    shots: Shots = ()
    beside: Shots = ()
    """Frames of the other video at the same moments as `shots`; none where those of its own row are at these
    moments."""
    similarity: float | None = None
    role: str = "kept"
    explained: str = ""
    kept_because: str = ""
    shared: tuple[SharedPart, SharedPart] | None = None
    """The shared part in the other video and in this one, where that is not all of both."""
    legend: str = ""
    """What is outlined in the frames, in words; "" where nothing is."""

    @property
    def key(self) -> str:
        return video_key(self.url)

    @classmethod
    def of(cls, url: str, pictures: Pictures, **values: Any) -> Video:
        """A video with what the list and the ledger say about it."""
        return cls(url=url, caption=pictures.captions.about(url), facts=pictures.describe(url), **values)

    @property
    def shown_similarity(self) -> str:
        return "" if self.similarity is None else f"{self.similarity:.4f}"

    @property
    def is_tall(self) -> bool:
        return any(shot.height_px > shot.width_px for shot in self.shots)

    @property
    def weight(self) -> int:
        """Number of characters that its images take in a page."""
        return sum(len(shot.picture) for shot in (*self.shots, *self.beside))


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
        copies = [
            _draw_beside(
                row,
                pictures,
                urls=(kept_url, row["url"]),
                role="excerpt" if row.get("verdict") == Verdict.EXCERPT else "copy",
                explained=explain(row),
                kept_because=str(row.get("kept_because", "")),
            )
            for row in group.head(most_copies).to_dict("records")
        ]
        kept = Video.of(kept_url, pictures, shots=pictures.draw_shots(kept_url))
        yield Sheet(number=number, kept=kept, copies=tuple(copies), size=len(group) + 1)


def draw_gallery(urls: Sequence[str], pictures: Pictures) -> list[Video]:
    """Videos with one frame each, from their middle."""
    return [Video.of(url, pictures, shots=pictures.draw_shots(url, count=1)) for url in urls]


def _draw_beside(row: Mapping[Any, object], pictures: Pictures, *, urls: tuple[str, str], **values: Any) -> Video:
    """The second of two videos, with the evidence of the pair in a row of a CSV."""
    outlines = pictures.find_outlines(*urls, row)
    beside, shots = pictures.draw_beside(*urls, row, outlines=outlines)
    return Video.of(
        urls[1],
        pictures,
        beside=beside,
        shots=shots,
        similarity=read_number(row.get("score")),
        shared=pictures.find_shared(*urls, row),
        legend=OUTLINE_WORDS if any(outlines) else "",
        **values,
    )


def draw_pair(row: Mapping[Any, object], pictures: Pictures) -> tuple[Video, Video]:
    """The two videos in a row of the CSV of review; the second one carries the evidence of the pair."""
    urls = str(row["first_url"]), str(row["second_url"])
    second = _draw_beside(
        row,
        pictures,
        urls=urls,
        role=str(row.get("verdict", "")),
        explained=explain(row, first="the first", second="the second"),
    )
    shots = second.beside or pictures.draw_shots(urls[0])
    return Video.of(urls[0], pictures, shots=shots, role="first"), replace(second, beside=())
