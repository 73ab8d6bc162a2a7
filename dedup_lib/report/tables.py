"""Tables for notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from html import escape, unescape
from types import MappingProxyType
from typing import Any, ClassVar, cast

import pandas as pd

from dedup_lib.sanitise import sanitise

MAX_SHOWN_CHARACTERS = 200
"""Most characters of a cell that a notebook shows."""

MAX_UNBROKEN = 32
"""Most characters of a cell that stays on one line: an id, a date, a number."""

SHOWN_DIGITS = 4
"""Digits after the point of a number that a notebook shows."""


class ShownTable(pd.DataFrame):
    """A table for a notebook. The keyboard can scroll it, and it has a name for screen readers.

    Cells are aligned to the left, because URLs are read from there; notebooks would align them to the right. Cells are
    cut off late, because a URL ends with the name of its file. URLs and long texts are broken over lines; an id stays
    whole. `pictures` are images as `data:` URIs by the text of a cell; each is shown above its cell."""

    _metadata: ClassVar[list[str]] = ["pictures"]
    pictures: Mapping[str, str] = MappingProxyType({})

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_colwidth", MAX_SHOWN_CHARACTERS):
            table = super()._repr_html_()  # type: ignore[misc]  # the stubs of pandas lack it
        if table is None:
            return None
        table = table.replace("<th>", '<th style="text-align: left">')
        table = re.sub(r"<td>(.*?)</td>", self._draw_cell, table, flags=re.DOTALL)
        rows = f"{len(self):,} {'row' if len(self) == 1 else 'rows'}"
        name = escape(f"Table of {', '.join(map(str, self.columns))}: {rows}")
        frame = f'class="scroll" role="region" aria-label="{name}" tabindex="0" style="overflow-x: auto"'
        return f"<div {frame}>{table}</div>"

    def _draw_cell(self, found: re.Match[str]) -> str:
        text = found[1]
        is_short = len(unescape(text)) <= MAX_UNBROKEN and "://" not in text
        style = "white-space: nowrap" if is_short else "min-width: 11em; overflow-wrap: anywhere"
        picture = self.pictures.get(unescape(text), "")
        size = "display: block; max-width: 20em; max-height: 3.5em"
        image = f'<img src="{picture}" alt="Frames of {text}" style="{size}">' if picture else ""
        return f'<td style="text-align: left; vertical-align: top; {style}">{image}{text}</td>'


def shown_table(frame: pd.DataFrame, *, pictures: Mapping[str, str] = MappingProxyType({})) -> ShownTable:
    """A table that is safe to show: without control characters and credentials of URLs (see `sanitise.sanitise`).
    `pictures` are images of videos as `data:` URIs by URL; a cell with such a URL shows its image."""
    table = ShownTable(frame.map(_shown).rename(columns=_shown))
    table.pictures = {sanitise(url): picture for url, picture in pictures.items() if picture}
    return table


def _shown(cell: object) -> object:
    if isinstance(cell, float):
        return round(cell, SHOWN_DIGITS)
    return sanitise(cell) if isinstance(cell, str) else cell


def describe_record(record: object) -> ShownTable:
    """A frozen record as a table with one row per field; fields of inner records get names like `recipe.encoder`."""
    rows = list(_fields_of(record, prefix=""))
    return ShownTable({"value": [value for _, value in rows]}, index=[name for name, _ in rows], dtype=object)


def _fields_of(record: object, *, prefix: str) -> Iterator[tuple[str, str]]:
    for field in fields(cast(Any, record)):
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from _fields_of(value, prefix=f"{prefix}{field.name}.")
        elif value not in ("", None):
            yield f"{prefix}{field.name}", str(value)
