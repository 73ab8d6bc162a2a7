"""What the list itself says about a video: its title, its brand, its number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from dedup_lib.errors import DedupError
from dedup_lib.lists.tables import load_table
from dedup_lib.run.folder import RunFolder
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import ExtractSettings

MAX_COLUMNS = 3

MAX_ROWS_LOOKED_AT = 2_000

MAX_SHOWN = 80
"""Most characters of a cell that a page shows."""

_LETTERS = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, kw_only=True)
class _Column:
    """How the cells of a column look."""

    name: str
    filled: float
    """Share of cells that are not empty."""
    distinct: float
    """Share of those that occur for the first time."""
    words: float
    """Words of a cell, on average."""
    length: float
    """Characters of a cell, likewise."""
    has_letters: bool
    has_urls: bool

    @classmethod
    def of(cls, name: str, cells: Sequence[str]) -> _Column:
        filled = [text for cell in cells if (text := cell.strip())]
        count = max(1, len(filled))
        return cls(
            name=name,
            filled=len(filled) / max(1, len(cells)),
            distinct=len(set(filled)) / count,
            words=sum(len(text.split()) for text in filled) / count,
            length=sum(map(len, filled)) / count,
            has_letters=sum(bool(_LETTERS.search(text)) for text in filled) > 0.5 * len(filled),
            has_urls=sum("://" in text or "%3a%2f%2f" in text.lower() for text in filled) > 0.2 * len(filled),
        )

    @property
    def is_usable(self) -> bool:
        return self.filled >= 0.5 and not self.has_urls and self.length <= 2 * MAX_SHOWN

    @property
    def titleness(self) -> float:
        """How much it looks like titles: nearly all differ, of a few words."""
        return self.distinct * min(self.words, 3.0) if self.has_letters else 0.0

    @property
    def is_name(self) -> bool:
        """Whether it looks like brands or kinds: words that occur again and again."""
        return self.has_letters and 0 < self.distinct < 0.9

    @property
    def is_number(self) -> bool:
        """Whether it looks like the numbers of the videos: short, without spaces, each another one."""
        return self.distinct > 0.98 and self.words == 1 and self.length <= 32


def choose_columns(frame: pd.DataFrame, *, without: Sequence[str] = ()) -> list[str]:
    """Up to three columns of a list, as text, by which people know its videos: titles, then names, then numbers. They
    are chosen by what the first rows hold. `without` names columns that are out of the question."""
    looked_at = frame.head(MAX_ROWS_LOOKED_AT)
    columns = [_Column.of(name, list(looked_at[name])) for name in frame.columns if name not in without]
    usable = [column for column in columns if column.is_usable]
    titles = sorted((one for one in usable if one.titleness > 0 and not one.is_number), key=lambda one: -one.titleness)
    # Of names, those that say most: a column of one value says nothing.
    names = sorted((one for one in usable if one.is_name and one not in titles[:1]), key=lambda one: -one.distinct)
    numbers = [one for one in usable if one.is_number]
    chosen = [*titles[:1], *names[: MAX_COLUMNS - 1 - len(titles[:1])], *numbers]
    return [one.name for one in chosen[:MAX_COLUMNS]]


class Captions:
    """The cells of the list that name each video of a run. It reads the list when it is first asked."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def about(self, url: str) -> tuple[tuple[str, str], ...]:
        """Columns and cells about a video; empty when the list says nothing, or can no longer be read."""
        return self._cells.get(url, ())

    @cached_property
    def _cells(self) -> dict[str, tuple[tuple[str, str], ...]]:
        try:
            record = self._run.read_record(ExtractSettings.stage)
            if record is None or "input_csv" not in record.get("files", {}):
                return {}
            frame = load_table(self._run.recorded_path(record, "input_csv"))
            url_column = record["url_column"]
        except (DedupError, OSError, KeyError):
            return {}
        columns = choose_columns(frame, without=(url_column, "original_url"))
        shown = [[_shorten(cell) for cell in frame[name]] for name in columns]
        return {
            url: tuple((name, cell) for name, cell in zip(columns, cells, strict=True) if cell)
            for url, *cells in zip(frame[url_column], *shown, strict=True)
        }


def _shorten(cell: str) -> str:
    text = sanitise_line(cell).strip()
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
