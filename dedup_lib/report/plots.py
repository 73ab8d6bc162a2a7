"""Every picture of the project: drawn from records and arrays, decided and read nowhere here.

`plot_x` draws on the axes it is given; `figure_x` sizes a figure, draws and returns it. A figure is closed
before it is drawn on, so a notebook that ends its cell with it shows it exactly once, with words for those who do
not see it. A colour always means
the same thing (`COLOURS`), and never carries a meaning alone. Colours: Okabe & Ito, *Color Universal
Design*, 2008, which people with any common colour blindness tell apart.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from dedup_lib.evaluate.metrics import CurvePoint, Rows, VariantScore
from dedup_lib.groups.scored import is_match
from dedup_lib.records import INVALID_STATUSES, KEPT_STATUSES, Group, Pair, Status, SweepPoint, video_key
from dedup_lib.sanitise import show_line

COLOURS = {
    "kept": "#009E73",
    "duplicate": "#0072B2",
    "repeated": "#56B4E9",
    "invalid": "#E69F00",
    "failed": "#D55E00",
    "excerpt": "#CC79A7",
    "review": "#CCBB44",
    "threshold": "#882255",
    "neutral": "#8A9099",
}
"""What each colour means, in every picture and page."""

DARK_COLOURS = {"duplicate": "#3E9BDC", "threshold": "#DD8FBE"}
"""In place of those that cannot be seen on a dark page; pictures are always light."""

PAGE_COLOURS = {
    "page": ("#F6F7F9", "#14171C"),
    "card": ("#FFFFFF", "#1C2027"),
    "ink": ("#20242B", "#E7EAEE"),
    "soft": ("#59616D", "#A4ADBA"),
    "line": ("#DFE2E8", "#333A45"),
    "link": ("#005A94", "#7CC4F5"),
    "bad": ("#FDF0EA", "#33211A"),
    "stream": ("#C9CED6", "#4A525E"),
}
"""What a page is made of besides, on light and on dark."""

INK = "#2B2F36"
PALE = "#ECEEF1"
SERIES_COLOURS = (INK, "#7B62C9", "#A67C1F", COLOURS["neutral"])
SERIES_MARKERS = "os^Dv*"
"""Of settings that are compared, which mean none of `COLOURS`: neither carries a meaning alone."""

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#B4B9C1",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": PALE,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 10.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}

NOTHING: NDArray[np.float64] = np.zeros(0)

FEWEST_DECIDED = 20
"""Of fewer pairs that people decided, precision and recall say little."""

HISTOGRAM_BINS = 40
DWARFING_FACTOR = 50
STRIP_HEIGHT_IN = 0.95
WIDE_ASPECT = 4.0
"""Strips wider than this many times their height are stacked instead of set side by side."""

FLOW_WORDS = {
    "input": "rows in the list",
    "text_duplicates": "repeated URLs",
    "invalid": "not videos",
    "failed": "could not be read",
    "duplicates": "copies of kept videos",
    "unaccounted": "unaccounted for",
    "final": "videos kept",
}
FLOW_MEANINGS = {
    "input": "neutral",
    "text_duplicates": "repeated",
    "invalid": "invalid",
    "failed": "failed",
    "duplicates": "duplicate",
    "unaccounted": "threshold",
    "final": "kept",
}
FLOW_LOSSES = ("text_duplicates", "invalid", "failed", "duplicates")


def shorten_middle(text: str, *, most: int) -> str:
    """`text` in at most `most` characters: what is too long loses its middle, for both ends tell URLs apart."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return text[: most - 1 - tail] + "…" + text[len(text) - tail :]


def short_url(url: str, *, most: int) -> str:
    """A URL as a caption: without credentials and the scheme of the web, in at most `most` characters."""
    return shorten_middle(show_line(url).removeprefix("https://").removeprefix("http://"), most=most)


def thumbnail_path(url: str, *, thumbnails_dir: Path) -> Path:
    """Where the strip of a video's sampled frames lies, whether or not there is one."""
    return thumbnails_dir / f"{video_key(url)}.jpg"


def status_meaning(status: Status) -> str:
    """Which meaning of `COLOURS` a status has."""
    if status in KEPT_STATUSES:
        return "kept"
    if status is Status.PENDING:
        return "neutral"
    return "invalid" if status in INVALID_STATUSES else "failed"


@cache
def has_glyph(character: str) -> bool:
    """Whether the font of the figures can draw a character."""
    return font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_char_index(ord(character)) != 0


def drawable(text: str) -> str:
    """`text` with a box for each character that the font lacks or that would break the line."""
    return "".join(character if character.isprintable() and has_glyph(character) else "□" for character in text)


def count_on(axis: Axis) -> None:
    """Whole numbers on an axis of counts, 10,000 written so."""
    axis.set_major_locator(MaxNLocator(integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def has_dwarfing_bar(counts: NDArray[Any]) -> bool:
    """Whether one count makes the smaller ones invisible, so that a log scale is due."""
    seen = counts[counts > 0]
    return bool(len(seen) and seen.max() > DWARFING_FACTOR * np.quantile(seen, 0.25, method="lower"))


MOST_COLUMNS = 3

SHOWN_DPI = 100
CHART_PIXELS = 1.5
"""Pixels of a shown chart to one of the page, so that it stays sharp where it is enlarged. Frames are no larger."""
CHART_COLOURS = 64
JPEG_QUALITY = 80


class ShownFigure(Figure):
    """A figure that a notebook shows as a picture with words, of frames as a JPEG, which is a tenth of a PNG."""

    def _ipython_display_(self) -> None:
        # Only notebooks show figures.
        from IPython.display import display

        words = describe_figure(self)
        data = {"text/html": figure_html(self, words=words), "text/plain": words}
        display(data, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types


def figure_html(figure: Figure, *, words: str) -> str:
    """A figure as an `img` that holds its own data."""
    of_frames = any(ax.images for ax in figure.axes)
    dots = 1.0 if of_frames else CHART_PIXELS
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=SHOWN_DPI * dots, bbox_inches="tight")
    picture = Image.open(drawn).convert("RGB")
    if of_frames:
        picture.save(packed, "JPEG", quality=JPEG_QUALITY, optimize=True)
    else:
        picture.quantize(CHART_COLOURS).save(packed, "PNG", optimize=True)
    data = f"data:image/{'jpeg' if of_frames else 'png'};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"
    style = "max-width: 100%; height: auto; background: #fff"
    return f'<img src="{data}" alt="{escape(words)}" width="{round(picture.width / dots)}" style="{style}">'


def describe_figure(figure: Figure) -> str:
    """What a figure says, in words: titles, axes, names and counts of its bars, legends, captions."""
    parts = [figure.get_suptitle(), *map(_describe_axes, figure.axes), figure.get_supxlabel()]
    return ". ".join(" ".join(part.split()).rstrip(".") for part in parts if part)


def _describe_axes(ax: Axes) -> str:
    title, said = ax.get_title(loc="left"), [text.get_text().replace("\n", ", ") for text in ax.texts]
    if isinstance(ax.yaxis.get_major_locator(), FixedLocator | StrCategoryLocator):
        names = [label.get_text() for label in ax.get_yticklabels()]
        said = [f"{name} {text}" for name, text in zip(names, said, strict=False)] or said
    labels = " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))).replace("\n", ", ")
    if not labels:
        # A strip of frames, or words alone.
        return ": ".join(filter(None, (*said, title)))
    legend = ax.get_legend()
    said += [text.get_text() for text in legend.get_texts()] if legend is not None else []
    return ": ".join(filter(None, (title, "; ".join([labels, *said]))))


def new_figure(rows: int, columns: int, *, width_in: float, height_in: float, **options: Any) -> tuple[Figure, Any]:
    """A closed figure and its axes of shape (rows, columns)."""
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width_in, height_in),
        layout="constrained",
        squeeze=False,
        FigureClass=ShownFigure,
        **options,
    )
    plt.close(figure)
    return figure, axes


def say_empty(text: str, *, ax: Axes) -> Axes:
    """Words in place of a picture that has no data."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=INK, transform=ax.transAxes, parse_math=False)
    return ax


def figure_of_words(text: str) -> Figure:
    """Words in place of a whole figure."""
    figure, axes = new_figure(1, 1, width_in=10, height_in=0.8)
    say_empty(text, ax=axes[0, 0])
    return figure


def mark_threshold(threshold: float, *, ax: Axes) -> Axes:
    """The threshold as a line with its value above the axes."""
    ax.axvline(threshold, color=COLOURS["threshold"], linewidth=1.4, linestyle=(0, (4, 2)))
    ax.annotate(
        f"threshold {threshold:.4f}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=COLOURS["threshold"],
        fontsize=10.5,
    )
    return ax


def histogram_edges(values: NDArray[np.floating[Any]], *, threshold: float) -> NDArray[np.float64]:
    """Edges of about `HISTOGRAM_BINS` bins over `values` and `threshold`, one of them the threshold itself,
    so that no bar holds both matches and others."""
    low = min(float(values.min()), threshold)
    high = max(float(values.max()), threshold)
    width = max(high - low, 0.02) / HISTOGRAM_BINS
    below = math.floor((threshold - low) / width) + 1
    above = math.floor((high - threshold) / width) + 1
    edges: NDArray[np.float64] = threshold + width * np.arange(-below, above + 1, dtype=np.float64)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges


def label_counts(counts: NDArray[Any], *, noun: str, ax: Axes) -> bool:
    """Scale and label the axis of a histogram's counts; whether it became logarithmic, because one bar dwarfs the
    others."""
    is_log = has_dwarfing_bar(counts)
    if is_log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.6)
    else:
        count_on(ax.yaxis)
    ax.set_ylabel(f"{noun}, log scale" if is_log else noun)
    return is_log


def describe_no_copies(compared: int, *, existing: int = 0) -> str:
    """What is said where no copy was found among so many videos of a list and those that were there before it."""
    if not compared or compared + existing < 2:
        return "Fewer than two videos could be read, so nothing was compared."
    return f"None of the {compared:,} videos that were compared has a copy."


def plot_similarities(
    values: NDArray[np.floating[Any]], *, threshold: float, title: str, noun: str, x_label: str, ax: Axes
) -> Axes:
    """Histogram of similarities (N,), bars at or above the threshold in the colour of duplicates.

    Values that are not finite, such as the nearest similarity of a video without any neighbour, are counted
    in the axis label instead.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    ax.set_title(title, pad=22)
    if not len(finite):
        return say_empty(f"No {noun} with a similarity.", ax=ax)
    edges = histogram_edges(finite, threshold=threshold)
    counts, _ = np.histogram(finite, bins=edges)
    matching = np.array([is_match(edge, threshold) for edge in edges[:-1]])
    for chosen, meaning, words in ((~matching, "neutral", "below"), (matching, "duplicate", "match")):
        ax.bar(
            edges[:-1][chosen],
            counts[chosen],
            width=np.diff(edges)[chosen],
            align="edge",
            color=COLOURS[meaning],
            edgecolor="white",
            linewidth=0.6,
            label=f"{words}: {counts[chosen].sum():,}",
        )
    label_counts(counts, noun=noun, ax=ax)
    missing = len(values) - len(finite)
    ax.set_xlabel(x_label + (f" ({missing:,} {noun} without one)" if missing else ""))
    ax.margins(x=0.02)
    ax.legend(loc="best")
    return mark_threshold(threshold, ax=ax)


def figure_similarities(
    nearest: NDArray[np.floating[Any]],
    measures: Mapping[str, NDArray[np.floating[Any]]],
    *,
    threshold: float,
    measure: str,
) -> Figure:
    """How alike the videos are: each one's nearest similarity (N,), and every pair that was compared, by its verdict.
    `measure` is score or cosine."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.7)
        plot_similarities(
            nearest,
            threshold=threshold,
            title="Each video's nearest neighbour",
            noun="videos",
            x_label=MEASURE_LABELS[measure],
            ax=axes[0, 0],
        )
        plot_verdicts(measures, threshold=threshold, measure=measure, ax=axes[0, 1])
    return figure


VERDICT_MEANINGS = {"duplicate": "duplicate", "excerpt": "excerpt", "review": "review", "different": "neutral"}
"""Which colour a verdict has."""

MEASURE_LABELS = {"score": "score: how surely the two are the same", "cosine": "cosine of the vectors"}


def plot_verdicts(
    measures: Mapping[str, NDArray[np.floating[Any]]], *, threshold: float, measure: str, ax: Axes
) -> Axes:
    """Histogram of every pair that was compared, a bar for each verdict in front of those of more pairs, counts on a
    log scale: the rejected pairs are many."""
    ax.set_title("Every compared pair, by verdict", pad=22)
    every = np.concatenate([*measures.values(), np.zeros(0)]).astype(np.float64)
    if not len(every):
        return say_empty("No pair was compared.", ax=ax)
    edges = histogram_edges(np.append(every, [0.0, 1.0]), threshold=threshold)
    for verdict in sorted(measures, key=lambda verdict: -len(measures[verdict])):
        counts, _ = np.histogram(measures[verdict], bins=edges)
        ax.bar(
            edges[:-1],
            counts,
            width=np.diff(edges),
            align="edge",
            color=COLOURS[VERDICT_MEANINGS[verdict]],
            alpha=0.85,
            edgecolor="white",
            linewidth=0.6,
            label=f"{verdict}: {len(measures[verdict]):,}",
        )
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.6)
    ax.set_ylabel("pairs, log scale")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel(f"{MEASURE_LABELS[measure]}\npairs that nothing proposed were not compared")
    # Most pairs lie near 0 and near 1.
    ax.legend(loc="center")
    return mark_threshold(threshold, ax=ax)


def plot_pairs_over(pairs: pd.DataFrame, *, column: str, title: str, x_label: str, y_label: str, ax: Axes) -> Axes:
    """The score of compared pairs over one of the columns of `dedup_lib.groups.pairs`: a point for each pair that has
    both, in the colour of its verdict, few on many."""
    ax.set_title(title, pad=10)
    known = pairs[pairs[column].notna()]
    if not len(known):
        return say_empty("No pair was compared, or none of them has this.", ax=ax)
    for verdict, some in sorted(known.groupby("verdict", observed=True), key=lambda one: -len(one[1])):
        ax.scatter(
            some[column],
            some["score"],
            s=26,
            color=COLOURS[VERDICT_MEANINGS[str(verdict)]],
            alpha=0.75,
            edgecolor="white",
            linewidth=0.5,
            label=f"{verdict}: {len(some):,}",
            rasterized=True,
        )
    ax.set(xlabel=x_label, ylabel=y_label, ylim=(-0.04, 1.04))
    ax.legend(loc="center left")
    return ax


def figure_measured(pairs: pd.DataFrame, *, measure: str) -> Figure:
    """The score of every pair that was compared beside what the encoder's vectors say, and beside how much both show.
    `pairs` is the table of `dedup_lib.groups.pairs`, and `measure` is score or cosine."""
    if measure == "cosine":
        return figure_of_words("The cosine alone decides: no pictures were compared.")
    if not len(pairs):
        return figure_of_words("No pair was compared.")
    panels = (
        ("cosine", "Vectors beside pictures", "cosine of the vectors of their frames"),
        ("term_coverage", "How much both show", "the larger share of the two videos that both show"),
    )
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.9)
        for ax, (column, title, x_label) in zip(axes[0], panels, strict=True):
            plot_pairs_over(pairs, column=column, title=title, x_label=x_label, y_label="score", ax=ax)
    return figure


def plot_sweep(
    points: Sequence[SweepPoint], *, threshold: float, lines: Mapping[str, tuple[str, str]], title: str, ax: Axes
) -> Axes:
    """Counts over the threshold; `lines` maps a field of SweepPoint to its label and meaning of colour."""
    ax.set_title(title, pad=22)
    thresholds = [point.threshold for point in points]
    for (name, (label, meaning)), marker in zip(lines.items(), "os", strict=False):
        counts = [getattr(point, name) for point in points]
        ax.plot(
            thresholds,
            counts,
            color=COLOURS[meaning],
            marker=marker if len(points) <= HISTOGRAM_BINS else None,
            markersize=4,
            linewidth=1.8,
            label=label,
        )
    ax.set_ylim(bottom=0)
    count_on(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel("threshold")
    ax.set_ylabel("count")
    ax.legend(loc="best")
    return mark_threshold(threshold, ax=ax)


def plot_decided(
    same: NDArray[np.floating[Any]], different: NDArray[np.floating[Any]], *, threshold: float, ax: Axes
) -> Axes:
    """The scores of pairs that people called the same (P,) and different (Q,), a mark for each; from
    `FEWEST_DECIDED` on also the precision and the recall of every threshold among them."""
    ax.set_title("What people decided", pad=22)
    for scores, height, meaning, marker, words in (
        (same, 1.0, "kept", "^", "the same"),
        (different, 0.0, "failed", "v", "different"),
    ):
        if len(scores):
            colour = COLOURS[meaning]
            ax.scatter(
                scores, np.full(len(scores), height), s=42, color=colour, marker=marker, alpha=0.7, clip_on=False
            )
        ax.plot([], [], color=COLOURS[meaning], marker=marker, linestyle="", label=f"{words}: {len(scores):,}")
    if len(same) + len(different) >= FEWEST_DECIDED and len(same):
        at = np.linspace(0, 1, 201)
        found, wrong = ((scores[None] >= at[:, None]).sum(axis=1) for scores in (same, different))
        joined = found + wrong
        ax.plot(at[joined > 0], (found / np.maximum(joined, 1))[joined > 0], color=INK, label="precision")
        ax.plot(at, found / len(same), color=INK, linestyle="--", label="recall")
    ax.set(xlabel="threshold, or score of a pair", ylabel="share", xlim=(0, 1), ylim=(-0.05, 1.05))
    ax.legend(loc="center")
    return mark_threshold(threshold, ax=ax)


def figure_sweep(
    points: Sequence[SweepPoint],
    *,
    threshold: float,
    same: NDArray[np.floating[Any]] = NOTHING,
    different: NDArray[np.floating[Any]] = NOTHING,
) -> Figure:
    """What each threshold would decide: videos kept and removed; number and size of the groups; and beside it the
    scores of the pairs that people called the same and different, where there are any."""
    if not points:
        return figure_of_words("No thresholds were tried.")
    panels = (
        ("Videos", {"kept": ("videos kept", "kept"), "duplicates": ("copies removed", "duplicate")}),
        (
            "Groups of copies",
            {"groups": ("groups", "neutral"), "largest_group": ("videos in the largest group", "duplicate")},
        ),
    )
    has_decided = bool(len(same) + len(different))
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2 + has_decided, width_in=14 if has_decided else 10, height_in=3.7)
        for ax, (title, lines) in zip(axes[0], panels, strict=False):
            plot_sweep(points, threshold=threshold, lines=lines, title=title, ax=ax)
        if has_decided:
            plot_decided(same, different, threshold=threshold, ax=axes[0, 2])
    return figure


def load_strip(url: str, *, thumbnails_dir: Path) -> NDArray[Any] | None:
    """The picture of a video's sampled frames, or None where there is none that can be read."""
    try:
        strip: NDArray[Any] = plt.imread(thumbnail_path(url, thumbnails_dir=thumbnails_dir))
    except (OSError, ValueError):
        return None
    return strip


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
        ax.imshow(strip, cmap="gray")
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
        strips = {url: load_strip(url, thumbnails_dir=thumbnails_dir) for row in rows for url, _ in row.videos}
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
                videos=(
                    (urls[group.kept], "kept"),
                    *((urls[copy], "duplicate") for _, copy in ranked[:copies_shown]),
                ),
            )
        )
    title = f"Groups of copies: the {len(largest)} largest of {len(groups)}, the kept video first in green"
    return figure_strips(rows, thumbnails_dir=thumbnails_dir, title=title, nothing=nothing)


def plot_statuses(counts: Mapping[Status, int], *, ax: Axes) -> Axes:
    """Horizontal bars, the largest on top, with the count at the end of each."""
    shown = sorted(((count, status) for status, count in counts.items() if count), key=lambda bar: (bar[0], bar[1]))
    if not shown:
        return say_empty("No URLs were read.", ax=ax)
    numbers = np.array([count for count, _ in shown])
    bars = ax.barh(
        [status.value for _, status in shown],
        numbers,
        color=[COLOURS[status_meaning(status)] for _, status in shown],
        height=0.7,
    )
    ax.bar_label(bars, labels=[f"{count:,}" for count in numbers], padding=4, fontsize=10.5)
    is_log = has_dwarfing_bar(numbers)
    if is_log:
        ax.set_xscale("log")
        ax.set_xlim(left=0.6)
    else:
        count_on(ax.xaxis)
    ax.grid(visible=False)
    ax.margins(x=0.12)
    ax.set_xlabel("URLs, log scale" if is_log else "URLs")
    meanings = {status_meaning(status) for _, status in shown}
    words = {"kept": "read", "invalid": "not a video", "failed": "could not be read", "neutral": "not tried"}
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[meaning]) for meaning in words if meaning in meanings]
    ax.legend(handles, [word for meaning, word in words.items() if meaning in meanings], loc="lower right")
    return ax


def figure_statuses(counts: Mapping[Status, int]) -> Figure:
    """How the attempt to read each video ended."""
    with rc_context(STYLE):
        shown = sum(1 for count in counts.values() if count)
        figure, axes = new_figure(1, 1, width_in=8, height_in=1.4 + 0.32 * shown)
        axes[0, 0].set_title("How each URL turned out")
        plot_statuses(counts, ax=axes[0, 0])
    return figure


@dataclass(frozen=True, kw_only=True)
class FlowStep:
    """One bar of the way from the rows of the list to the videos kept: it spans `low`..`high` rows."""

    name: str
    low: int
    high: int
    is_loss: bool

    @property
    def count(self) -> int:
        """Rows that the bar stands for."""
        return self.high - self.low

    @property
    def shown(self) -> str:
        """The rows as a label: a loss has a minus sign."""
        return f"{'−' if self.is_loss and self.count else ''}{self.count:,}"

    @property
    def words(self) -> str:
        """The step as people call it."""
        return FLOW_WORDS[self.name]

    @property
    def meaning(self) -> str:
        """Which meaning of `COLOURS` the bar has."""
        return FLOW_MEANINGS[self.name]


def flow_steps(rows: Mapping[str, int]) -> list[FlowStep]:
    """The bars from `input` by every loss to `final`; rows that the losses do not explain get their own bar."""
    left = rows["input"]
    steps = [FlowStep(name="input", low=0, high=left, is_loss=False)]
    for name in FLOW_LOSSES:
        steps.append(FlowStep(name=name, low=left - rows[name], high=left, is_loss=True))
        left -= rows[name]
    if left != rows["final"]:
        low, high = sorted((left, rows["final"]))
        steps.append(FlowStep(name="unaccounted", low=low, high=high, is_loss=left > rows["final"]))
    return [*steps, FlowStep(name="final", low=0, high=rows["final"], is_loss=False)]


def plot_flow(steps: Sequence[FlowStep], *, ax: Axes) -> Axes:
    """Waterfall from the first bar on top to the last, each labelled with its rows."""
    for place, step in enumerate(steps):
        ax.barh(place, step.count, left=step.low, color=COLOURS[step.meaning], height=0.66)
        ax.annotate(
            step.shown,
            (step.high, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontweight="normal" if step.is_loss else "bold",
        )
        if place + 1 < len(steps):
            edge = step.low if step.is_loss else step.high
            ax.plot([edge, edge], [place + 0.33, place + 0.67], color="#B4B9C1", linewidth=1)
    ax.set_yticks(range(len(steps)), [step.words for step in steps])
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set_xlim(0, max(1, *(step.high for step in steps)) * 1.12)
    count_on(ax.xaxis)
    ax.set_xlabel("rows")
    return ax


def figure_flow(rows: Mapping[str, int]) -> Figure:
    """Where every row of the list went; `rows` counts input, text_duplicates, invalid, failed, duplicates, final."""
    with rc_context(STYLE):
        steps = flow_steps(rows)
        figure, axes = new_figure(1, 1, width_in=8, height_in=1 + 0.36 * len(steps))
        axes[0, 0].set_title("Where every row went")
        if not rows["input"]:
            say_empty("The list has no rows.", ax=axes[0, 0])
        else:
            plot_flow(steps, ax=axes[0, 0])
    return figure


def figure_throughput(finished_s: NDArray[np.floating[Any]]) -> Figure:
    """Videos finished and their rate over time; `finished_s` (N,) seconds since the start, in any order."""
    times_s = np.sort(np.asarray(finished_s, dtype=np.float64))
    with rc_context(STYLE):
        if not len(times_s):
            return figure_of_words("No video was read by this call.")
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.2)
        total, rate = axes[0]
        total.set_title(f"{len(times_s):,} videos in {times_s[-1]:,.1f} s")
        total.step(
            np.concatenate(([0.0], times_s)),
            np.arange(len(times_s) + 1),
            where="post",
            color=COLOURS["neutral"],
            linewidth=1.8,
        )
        total.set(xlabel="seconds since the start", ylabel="videos finished", ylim=(0, None), xlim=(0, None))
        count_on(total.yaxis)
        bins = int(np.clip(len(times_s) // 4, 1, HISTOGRAM_BINS))
        counts, edges = np.histogram(times_s, bins=bins, range=(0, max(times_s[-1], 1e-3)))
        mean_rate = len(times_s) / edges[-1]
        rate.set_title(f"{mean_rate:,.2f} videos per second on average")
        rate.stairs(counts / np.diff(edges), edges, fill=True, color=COLOURS["neutral"])
        rate.axhline(mean_rate, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        rate.set(xlabel="seconds since the start", ylabel="videos per second", ylim=(0, None), xlim=(0, None))
    return figure


def figure_resources(samples: pd.DataFrame) -> Figure:
    """Memory and processor use over time; columns time_s, memory_mib, cpu_percent."""
    with rc_context(STYLE):
        if samples.empty:
            return figure_of_words("No samples were taken.")
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.2)
        panels = (
            ("memory_mib", "Memory", "MiB"),
            ("cpu_percent", "Processor", "% of one core"),
        )
        for ax, (column, title, unit) in zip(axes[0], panels, strict=True):
            ax.set_title(f"{title}, at most {samples[column].max():,.0f} {unit}")
            ax.fill_between(samples["time_s"], samples[column], color=COLOURS["neutral"], alpha=0.25, linewidth=0)
            ax.plot(samples["time_s"], samples[column], color=COLOURS["neutral"], linewidth=1.8)
            ax.set(xlabel="seconds since the start", ylabel=f"{title.lower()}, {unit}", ylim=(0, None), xlim=(0, None))
            count_on(ax.yaxis)
    return figure


def plot_curve(
    points: Sequence[CurvePoint], *, label: str, threshold: float, colour: str, marker: str, ax: Axes
) -> Axes:
    """Precision over recall, a point a threshold, with a large mark where `threshold` stands."""
    known = [(p.recall, p.precision, p.threshold) for p in points if p.recall is not None and p.precision is not None]
    recalls, precisions = [recall for recall, *_ in known], [precision for _, precision, _ in known]
    ax.plot(recalls, precisions, color=colour, linewidth=1.6, marker=marker, markersize=3, label=label)
    for recall, precision, at in known:
        if at == threshold:
            ax.plot([recall], [precision], color=colour, marker=marker, markersize=10, linestyle="none")
    ax.set(xlabel="recall over pairs", ylabel="precision over pairs", xlim=(0, 1.02), ylim=(0, 1.04))
    return ax


def plot_recall(
    points: Sequence[CurvePoint], *, label: str, threshold: float, colour: str, marker: str, ax: Axes
) -> Axes:
    """Recall over the threshold, with a large mark where `threshold` stands."""
    known = [(p.threshold, p.recall) for p in points if p.recall is not None]
    ax.plot([at for at, _ in known], [recall for _, recall in known], color=colour, linewidth=1.6, label=label)
    for at, recall in known:
        if at == threshold:
            ax.plot([at], [recall], color=colour, marker=marker, markersize=10, linestyle="none")
    ax.set(xlabel="threshold", ylabel="recall over pairs", ylim=(0, 1.04))
    return ax


def figure_curves(curves: Mapping[str, Sequence[CurvePoint]], *, thresholds: Mapping[str, float]) -> Figure:
    """Precision over recall of several settings, by their name; the large mark is the threshold in use."""
    with rc_context(STYLE):
        if not curves:
            return figure_of_words("No settings were compared.")
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.9)
        left, right = axes[0]
        for place, (name, points) in enumerate(curves.items()):
            look = {
                "colour": SERIES_COLOURS[place % len(SERIES_COLOURS)],
                "marker": SERIES_MARKERS[place % len(SERIES_MARKERS)],
            }
            plot_curve(points, label=name, threshold=thresholds[name], ax=left, **look)
            plot_recall(points, label=name, threshold=thresholds[name], ax=right, **look)
        left.set_title("Precision against recall, one point per threshold")
        right.set_title("Recall against the threshold")
        left.legend(loc="lower left", title="large mark: in use")
    return figure


def plot_recalls(scores: Sequence[VariantScore], *, words: Mapping[str, str], ax: Axes) -> Axes:
    """A bar a kind of variant, the best found on top, with the number of clips found at its end."""
    ranked = sorted(scores, key=lambda score: score.recall)
    bars = ax.barh(
        [words.get(score.name, score.name) for score in ranked],
        [score.recall for score in ranked],
        color=COLOURS["duplicate"],
        height=0.7,
    )
    ax.bar_label(bars, labels=[f"{score.found} of {score.clips}" for score in ranked], padding=4, fontsize=10.5)
    ax.set(xlabel="share of the videos found again", xlim=(0, 1.12))
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.margins(y=0.01)
    return ax


def figure_recalls(scores: Sequence[VariantScore], *, words: Mapping[str, str], threshold: float) -> Figure:
    """How many clips are found again in each kind of variant; `words` say what a kind is."""
    with rc_context(STYLE):
        if not scores:
            return figure_of_words("No variants were compared.")
        figure, axes = new_figure(1, 1, width_in=8, height_in=1.1 + 0.24 * len(scores))
        axes[0, 0].set_title(f"Variants found again at {threshold:.4f}")
        plot_recalls(scores, words=words, ax=axes[0, 0])
    return figure


def plot_likeness(
    values: NDArray[np.floating[Any]],
    *,
    edges: NDArray[np.float64],
    threshold: float,
    words: tuple[str, str],
    meaning: str,
    ax: Axes,
) -> Axes:
    """Histogram of the similarities of labelled pairs (P,), NaN where it is below `edges`.

    `words` name the pairs at or above the threshold, drawn in the colour of `meaning`, and those below it.
    """
    counts, _ = np.histogram(values[np.isfinite(values)], bins=edges)
    matching = np.array([is_match(edge, threshold) for edge in edges[:-1]])
    hidden = int(np.isnan(values).sum())
    above, below = int(counts[matching].sum()), int(counts[~matching].sum()) + hidden
    for chosen, colour, label in (
        (matching, COLOURS[meaning], f"{words[0]}: {above:,}"),
        (~matching, COLOURS["neutral"], f"{words[1]}: {below:,}, {hidden:,} of them further left"),
    ):
        ax.bar(
            edges[:-1][chosen],
            counts[chosen],
            width=np.diff(edges)[chosen],
            align="edge",
            color=colour,
            edgecolor="white",
            linewidth=0.6,
            label=label,
        )
    if not label_counts(counts, noun="pairs", ax=ax):
        ax.set_ylim(0, max(1, counts.max()) * 1.25)
    ax.set(xlabel="similarity", xlim=(edges[0], edges[-1]))
    ax.legend(loc="upper center")
    return mark_threshold(threshold, ax=ax)


def figure_likeness(
    copies: NDArray[np.floating[Any]], unlike: NDArray[np.floating[Any]], *, threshold: float
) -> Figure:
    """How alike labelled pairs are: similarities of copies (P,) and of unlike videos (Q,), NaN for those not known."""
    known = np.concatenate((copies, unlike))
    known = known[np.isfinite(known)]
    with rc_context(STYLE):
        if not len(known):
            return figure_of_words("No two videos are alike.")
        edges = histogram_edges(known, threshold=threshold)
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.7)
        panels = (
            ("Pairs of copies", copies, ("found", "missed"), "duplicate"),
            ("Pairs of different videos", unlike, ("wrong", "told apart"), "failed"),
        )
        for ax, (title, values, words, meaning) in zip(axes[0], panels, strict=True):
            ax.set_title(title, pad=22)
            plot_likeness(values, edges=edges, threshold=threshold, words=words, meaning=meaning, ax=ax)
    return figure


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
