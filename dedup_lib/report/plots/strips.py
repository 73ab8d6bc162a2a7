"""Plots of videos as rows of frames: pairs, groups, mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dedup_lib.evaluate.metrics import Rows
from dedup_lib.groups.scored import is_match
from dedup_lib.media.storyboard import Storyboard
from dedup_lib.records import Group, Pair
from dedup_lib.report.figures import drawable, new_figure, say_empty
from dedup_lib.report.pictures import draw_strip
from dedup_lib.report.style import COLOURS, INK, PALE, STYLE
from dedup_lib.report.words import short_url
from dedup_lib.run.folder import thumbnail_path

STRIP_HEIGHT_IN = 0.95

WIDE_ASPECT = 4.0
"""Strips wider than this many times their height are stacked instead of set side by side."""


def plot_strip(strip: NDArray[Any] | None, *, caption: str, colour: str, ax: Axes) -> Axes:
    """A strip of frames with a caption above, or a grey box that says that there is no picture."""
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set(visible=True, color=colour, linewidth=1.6)
    ax.set_anchor("W")
    ax.set_title(drawable(caption), fontsize=9.5, fontweight="normal", pad=4, parse_math=False)
    if strip is None:
        ax.set_facecolor(PALE)
        ax.set_box_aspect(9 / 16)
        ax.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=9.5, color=INK, transform=ax.transAxes)
    else:
        ax.imshow(strip)
    return ax


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """Videos shown together: a heading at the left and for each video its URL and the meaning of its frame."""

    heading: str
    videos: tuple[tuple[str, str], ...]


def figure_strips(
    rows: Sequence[StripRow],
    *,
    thumbnails_dir: Path,
    title: str,
    nothing: str,
    captions: Mapping[str, str] | None = None,
) -> Figure:
    """Rows of strips; `nothing` is said when there are none. `captions` stand in place of URLs."""
    with rc_context(STYLE):
        if not rows:
            figure, axes = new_figure(1, 1, width_in=10, height_in=1.6)
            figure.suptitle(drawable(title), x=0.01, ha="left", fontweight="bold", fontsize=12, parse_math=False)
            say_empty(nothing, ax=axes[0, 0])
            return figure
        boards = {url: thumbnail_path(url, thumbnails_dir=thumbnails_dir) for row in rows for url, _ in row.videos}
        strips = {url: draw_strip(Storyboard.load(path)) for url, path in boards.items()}
        widest = max((strip.shape[1] / strip.shape[0] for strip in strips.values() if strip is not None), default=1.8)
        most_columns = 1 if widest > WIDE_ASPECT else 2 if widest > WIDE_ASPECT / 2 else 4
        columns = min(most_columns, max(len(row.videos) for row in rows))
        lines = [math.ceil(len(row.videos) / columns) for row in rows]
        strip_width_in = min(8.5 / columns, STRIP_HEIGHT_IN * widest * 1.15 + 0.9)
        strip_height_in = min(STRIP_HEIGHT_IN, 8.5 / columns / widest)
        figure, axes = new_figure(
            sum(lines),
            columns,
            width_in=max(1.5 + columns * strip_width_in, 6),
            height_in=0.4 + sum(lines) * (strip_height_in + 0.3),
        )
        figure.suptitle(drawable(title), x=0.01, ha="left", fontweight="bold", fontsize=12, parse_math=False)
        most_characters = int(strip_width_in * 11)
        line = 0
        for row, line_count in zip(rows, lines, strict=True):
            cells = axes[line : line + line_count].ravel()
            line += line_count
            for cell in cells[len(row.videos) :]:
                cell.set_axis_off()
            for cell, (url, meaning) in zip(cells, row.videos, strict=False):
                caption = short_url((captions or {}).get(url, url), most=most_characters)
                plot_strip(strips[url], caption=caption, colour=COLOURS[meaning], ax=cell)
            cells[0].annotate(
                row.heading,
                (0, 1),
                xycoords="axes fraction",
                xytext=(-12, 0),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=10.5,
                color=INK,
                parse_math=False,
            )
    return figure


def figure_pairs(
    pairs: Sequence[Pair], *, urls: Sequence[str], thumbnails_dir: Path, threshold: float, title: str
) -> Figure:
    """The two videos of each pair, with their similarity and whether it is a match at the threshold."""
    rows = []
    for pair in pairs:
        matches = is_match(pair.similarity, threshold)
        meaning = "duplicate" if matches else "neutral"
        rows.append(
            StripRow(
                heading=f"{pair.similarity:.4f}\n{'match' if matches else 'no match'}",
                videos=((urls[pair.first], meaning), (urls[pair.second], meaning)),
            )
        )
    return figure_strips(rows, thumbnails_dir=thumbnails_dir, title=title, nothing="No such pairs.")


def figure_groups(
    groups: Sequence[Group], *, urls: Sequence[str], thumbnails_dir: Path, nothing: str, most: int = 8
) -> Figure:
    """The `most` largest groups: the kept video first, then its nearest copies, up to three. `nothing` is said where
    there are none."""
    copies_shown = 3
    largest = sorted(groups, key=lambda group: (-group.size, group.number))[:most]
    rows = []
    for group in largest:
        # Copies that only a person brought together were never compared, and come last.
        ranked = sorted(
            zip(group.similarities, group.copies, strict=True),
            key=lambda copy: (math.inf if math.isnan(copy[0]) else -copy[0], copy[1]),
        )
        hidden = len(ranked) - copies_shown
        rows.append(
            StripRow(
                heading=f"group {group.number}\n{group.size} videos" + (f"\n{hidden} not shown" if hidden > 0 else ""),
                videos=((urls[group.kept], "kept"), *((urls[copy], "duplicate") for _, copy in ranked[:copies_shown])),
            )
        )
    title = f"Groups of copies: the {len(largest)} largest of {len(groups)}, the kept video first in green"
    return figure_strips(rows, thumbnails_dir=thumbnails_dir, title=title, nothing=nothing)


def figure_mistakes(
    wrong: Sequence[tuple[Rows, float | None]],
    missed: Sequence[tuple[Rows, float | None]],
    *,
    urls: Sequence[str],
    captions: Sequence[str],
    thumbnails_dir: Path,
    title: str,
    most: int = 6,
) -> Figure:
    """The first of the wrong and of the missed pairs, given with their similarity; a caption for each file."""
    rows = [
        StripRow(
            heading=f"{word}\n{'not alike' if similarity is None else f'{similarity:.4f}'}",
            videos=tuple((urls[row], meaning) for row in pair),
        )
        for word, meaning, pairs in (("wrong", "failed", wrong), ("missed", "neutral", missed))
        for pair, similarity in pairs[:most]
    ]
    return figure_strips(
        rows,
        thumbnails_dir=thumbnails_dir,
        title=title,
        nothing="No pair is wrong, and none is missed.",
        captions=dict(zip(urls, captions, strict=True)),
    )
