"""A figure as a notebook shows it, and the parts that all plots share."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.category import StrCategoryLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from dedup_lib.report.style import COLOURS, INK

HISTOGRAM_BINS = 40

DWARFING_FACTOR = 50


@cache
def has_glyph(character: str) -> bool:
    """Whether the font of the figures can draw a character."""
    return font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_char_index(ord(character)) != 0


def drawable(text: str) -> str:
    """`text` with a box for each character that the font lacks or that would break the line."""
    return "".join(character if character.isprintable() and has_glyph(character) else "□" for character in text)


def count_on(axis: Axis) -> None:
    """Sets whole numbers on a count axis, written like 10,000."""
    axis.set_major_locator(MaxNLocator(integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def has_dwarfing_bar(counts: NDArray[Any]) -> bool:
    """Whether one count makes the smaller ones invisible, so that a log scale is needed."""
    seen = counts[counts > 0]
    return bool(len(seen) and seen.max() > DWARFING_FACTOR * np.quantile(seen, 0.25, method="lower"))


SHOWN_DPI = 100

CHART_PIXELS = 1.5
"""Chart pixels per page pixel, so that an enlarged chart stays sharp. Figures with frames use 1."""

CHART_COLOURS = 64

JPEG_QUALITY = 80


class ShownFigure(Figure):
    """A figure that a notebook shows as an image with a description for screen readers. Frames become a JPEG, a tenth
    as large as a PNG.

    The output also holds the image alone, for exports and previews that read no HTML.
    """

    def _ipython_display_(self) -> None:
        # Imported here, because only notebooks show figures.
        from IPython.display import display

        words, image = describe_figure(self), draw_image(self)
        data = {"text/html": image.as_html(words), image.mime: image.data, "text/plain": words}
        display(data, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """A figure as an image: `data` is base64, `width` in pixels of the page."""

    mime: str
    data: str
    width: int

    def as_html(self, words: str) -> str:
        """An `img` element with embedded data, in a frame that the keyboard can scroll where the page is narrow."""
        readable = f"min-width: min(var(--readable, 0px), {self.width}px)"
        style = f"max-width: 100%; {readable}; height: auto; background: #fff"
        source = f"data:{self.mime};base64,{self.data}"
        image = f'<img src="{source}" alt="{escape(words)}" width="{self.width}" style="{style}">'
        frame = 'class="scroll" role="region" aria-label="Figure" tabindex="0" style="overflow-x: auto"'
        return f"<div {frame}>{image}</div>"


def draw_image(figure: Figure) -> DrawnImage:
    """Draws a figure as a JPEG when it shows frames, otherwise as a PNG with few colours."""
    of_frames = any(ax.images for ax in figure.axes)
    dots = 1.0 if of_frames else CHART_PIXELS
    picture, packed = Image.fromarray(_draw(figure, dpi=SHOWN_DPI * dots)), io.BytesIO()
    if of_frames:
        picture.save(packed, "JPEG", quality=JPEG_QUALITY, optimize=True)
    else:
        # Of the methods of Pillow only this one keeps a colour that few pixels have, such as that of a single point.
        picture.quantize(CHART_COLOURS, Image.Quantize.MAXCOVERAGE).save(packed, "PNG", optimize=True)
    data = base64.b64encode(packed.getvalue()).decode("ascii")
    return DrawnImage(mime=f"image/{'jpeg' if of_frames else 'png'}", data=data, width=round(picture.width / dots))


def _draw(figure: Figure, *, dpi: float) -> NDArray[np.uint8]:
    """The pixels of a figure, RGB. `Figure.savefig` takes twice as long, because it draws once only to measure."""
    before = figure.get_dpi()
    figure.set_dpi(dpi)
    try:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]
    finally:
        figure.set_dpi(before)
    return pixels


def describe_figure(figure: Figure) -> str:
    """Describes a figure in words: titles, axes, names and counts of its bars, legends, captions."""
    parts = [figure.get_suptitle(), *map(_describe_axes, figure.axes), figure.get_supxlabel()]
    return ". ".join(" ".join(part.split()).rstrip(".") for part in parts if part)


def _describe_axes(ax: Axes) -> str:
    title, said = ax.get_title(loc="left"), [text.get_text().replace("\n", ", ") for text in ax.texts]
    if isinstance(ax.yaxis.get_major_locator(), FixedLocator | StrCategoryLocator):
        names = [label.get_text() for label in ax.get_yticklabels()]
        said = [f"{name} {text}" for name, text in zip(names, said, strict=False)] or said
    labels = " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))).replace("\n", ", ")
    if not labels:
        # The axes show a strip of frames, or only words.
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
    """Writes words in place of a plot without data."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=INK, transform=ax.transAxes, parse_math=False)
    return ax


def figure_of_words(text: str) -> Figure:
    """Makes a figure of words only."""
    figure, axes = new_figure(1, 1, width_in=10, height_in=0.8)
    say_empty(text, ax=axes[0, 0])
    return figure


def mark_threshold(threshold: float, *, ax: Axes) -> Axes:
    """Draws the threshold as a line, with its value above the axes."""
    ax.axvline(threshold, color=COLOURS["threshold"], linewidth=1.4, linestyle=(0, (4, 2)))
    ax.annotate(
        f"threshold {threshold:.4g}",
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
    """Edges of about `HISTOGRAM_BINS` bins over `values` and `threshold`. One edge is the threshold, so that no bar
    holds both matches and others."""
    low = min(float(values.min()), threshold)
    high = max(float(values.max()), threshold)
    width = max(high - low, 0.02) / HISTOGRAM_BINS
    below = math.floor((threshold - low) / width) + 1
    above = math.floor((high - threshold) / width) + 1
    edges: NDArray[np.float64] = threshold + width * np.arange(-below, above + 1, dtype=np.float64)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges


def label_counts(counts: NDArray[Any], *, noun: str, ax: Axes) -> bool:
    """Scales and labels the count axis of a histogram. Returns whether it is logarithmic, because one bar dwarfs the
    others."""
    is_log = has_dwarfing_bar(counts)
    if is_log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.6)
    else:
        count_on(ax.yaxis)
    ax.set_ylabel(f"{noun}, log scale" if is_log else noun)
    return is_log


def plot_bars(
    edges: NDArray[np.float64],
    counts: NDArray[Any],
    *,
    chosen: Any = slice(None),
    meaning: str,
    ax: Axes,
    **options: Any,
) -> None:
    """Draws the bars of a histogram, or only the `chosen` ones, in the colour of their meaning."""
    bars = edges[:-1][chosen], counts[chosen], np.diff(edges)[chosen]
    ax.bar(*bars, align="edge", color=COLOURS[meaning], edgecolor="white", linewidth=0.6, **options)
