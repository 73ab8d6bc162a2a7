"""The charts of the report, as geometry that a template draws as SVG.

Lengths are pixels of a drawing of `WIDTH` × `HEIGHT`, which the page scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dedup_lib.report.figures import has_dwarfing_bar
from dedup_lib.report.words import VERDICT_MEANINGS, FlowStep

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 28, 46

LOG_FLOOR = 0.6
"""The start of a logarithmic count axis; below 1, so that a bar of one is visible."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Maps values to pixels."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_count: bool = False
    """Whether only whole numbers are marked."""

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, shown = self.low, self.high, value
        if self.is_log:
            low, high, shown = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (shown - low) / (high - low) if high > low else 0.0
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Some round values, each as its pixel and its label."""
        if self.is_log:
            values = [10.0**power for power in range(math.ceil(math.log10(self.low)), 1 + int(math.log10(self.high)))]
        else:
            values = [value for value in round_values(self.low, self.high) if value.is_integer() or not self.is_count]
        return [(self.at(value), show_number(value)) for value in values]


def round_values(low: float, high: float, *, most: int = 6) -> list[float]:
    """About `most` multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def show_number(value: float) -> str:
    """The label of a tick: 0.25, 1,500 or 2 M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar; `words` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    words: str
    meaning: str = ""
    """Its colour, where it is not that of the chart."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line in the colour of its meaning; with `is_filled`, an area down to the axis."""

    path: str
    meaning: str
    label: str = ""
    is_filled: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart: its title, a description in words for screen readers, axes and marks."""

    name: str
    title: str
    words: str
    x_label: str
    y_label: str
    x: Axis
    y: Axis
    meaning: str = "neutral"
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    """Label and colour meaning of the bars of each kind."""
    mark: float | None = None
    """Value of x at which a vertical line is drawn."""

    @property
    def mark_x(self) -> float | None:
        """The pixel of that line."""
        return None if self.mark is None else self.x.at(self.mark)


def _x_axis(low: float, high: float) -> Axis:
    return Axis(low=low, high=high, start=LEFT, end=WIDTH - RIGHT)


def _y_axis(most: float, *, is_log: bool = False) -> Axis:
    low = LOG_FLOOR if is_log else 0.0
    return Axis(low=low, high=max(most, 1.0), start=HEIGHT - BOTTOM, end=TOP, is_log=is_log, is_count=True)


def _draw_bars(edges: Sequence[float], counts: Sequence[int], *, x: Axis, y: Axis) -> Iterator[Bar]:
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        top = y.at(count) if count else y.start
        yield Bar(
            x=x.at(low),
            y=top,
            width=round(max(0.8, x.at(high) - x.at(low) - 0.6), 2),
            height=round(y.start - top, 2),
            words=f"{low:g} to {high:g}: {count:,}",
        )


def draw_histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    name: str,
    title: str,
    noun: str,
    x_label: str,
    mark: float | None,
    meaning: str = "neutral",
) -> Chart:
    """Draws bars over intervals; there is one more edge than counts. The count axis is logarithmic when one bar dwarfs
    the others."""
    is_log = has_dwarfing_bar(np.asarray(counts))
    x, y = _x_axis(edges[0], edges[-1]), _y_axis(max(counts, default=0), is_log=is_log)
    return Chart(
        name=name,
        title=title,
        words=f"Histogram of {sum(counts):,} {noun} by {x_label}",
        x_label=x_label,
        y_label=f"{noun}, log scale" if is_log else noun,
        x=x,
        y=y,
        meaning=meaning,
        bars=tuple(_draw_bars(edges, counts, x=x, y=y)),
        mark=mark,
    )


def draw_verdicts(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], *, name: str, x_label: str, mark: float | None
) -> Chart:
    """Draws the bars of every verdict over the same intervals, those of fewer pairs in front. The count axis is
    logarithmic: the rejected pairs are many."""
    order = sorted(counts, key=lambda verdict: -sum(counts[verdict]))
    x = _x_axis(edges[0], edges[-1])
    y = _y_axis(max((max(one, default=0) for one in counts.values()), default=0), is_log=True)
    bars = [
        replace(bar, words=f"{verdict}, {bar.words}", meaning=VERDICT_MEANINGS[verdict])
        for verdict in order
        for bar, count in zip(_draw_bars(edges, counts[verdict], x=x, y=y), counts[verdict], strict=True)
        if count
    ]
    told = "; ".join(f"{verdict} {sum(counts[verdict]):,}" for verdict in order)
    return Chart(
        name=name,
        title="Every compared pair, by verdict",
        words=f"Histogram of every compared pair by {x_label}: {told}",
        x_label=x_label,
        y_label="pairs, log scale",
        x=x,
        y=y,
        bars=tuple(bars),
        legend=tuple((f"{verdict}: {sum(counts[verdict]):,}", VERDICT_MEANINGS[verdict]) for verdict in order),
        mark=mark,
    )


def draw_lines(
    xs: Sequence[float],
    lines: Sequence[tuple[str, str, Sequence[float]]],
    *,
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    mark: float | None = None,
    is_filled: bool = False,
) -> Chart:
    """Draws lines over shared, rising `xs`; each line is (label, colour meaning, values)."""
    x = _x_axis(xs[0], xs[-1])
    y = _y_axis(max(max(values) for _, _, values in lines))
    drawn = []
    for label, meaning, values in lines:
        points = " ".join(f"{x.at(place)},{y.at(value)}" for place, value in zip(xs, values, strict=True))
        drawn.append(Line(path=f"M{points}", meaning=meaning, label=label, is_filled=is_filled))
    ends = "; ".join(
        f"{label or y_label} from {show_number(values[0])} to {show_number(values[-1])}" for label, _, values in lines
    )
    return Chart(
        name=name,
        title=title,
        words=f"{title}, over {x_label}: {ends}",
        x_label=x_label,
        y_label=y_label,
        x=x,
        y=y,
        lines=tuple(drawn),
        mark=mark,
    )


@dataclass(frozen=True, kw_only=True)
class Band:
    """A stream of rows that flow on or are lost."""

    path: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class FlowLabel:
    """A count, and what it counts, beside a stream."""

    x: float
    y: float
    count: str
    words: str
    meaning: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The flow from the rows of the list to the kept rows, as streams whose thickness is the number of rows."""

    width: float
    height: float
    bands: tuple[Band, ...]
    labels: tuple[FlowLabel, ...]


THINNEST = 1.5


def draw_flow(steps: Sequence[FlowStep], *, is_upright: bool) -> Flow:
    """Draws the stream of rows from left to right; at each step, the rows set aside leave it downwards. With
    `is_upright`, for narrow screens, it runs down and they leave to the right."""
    most = max(1, *(step.high for step in steps))
    full, gap = (96.0, 70.0) if is_upright else (110.0, 175.0)
    edge, drop = (16.0, 152.0) if is_upright else (44.0, 196.0)
    along = begin = 44.0 if is_upright else 16.0
    bands: list[Band] = []
    labels: list[FlowLabel] = []

    def thickness(rows: int) -> float:
        return max(THINNEST, full * rows / most) if rows else 0.0

    def point(along: float, across: float) -> str:
        """A point by its places along and across the stream."""
        return f"{across:.1f},{along:.1f}" if is_upright else f"{along:.1f},{across:.1f}"

    def add_block(start: float, end: float, rows: int, meaning: str) -> None:
        low, high = edge, edge + thickness(rows)
        # Overlap the next block a little, to avoid a visible seam.
        end += 0.5
        corners = " ".join((point(start, low), point(end, low), point(end, high), point(start, high)))
        bands.append(Band(path=f"M{corners}Z", meaning=meaning))

    def add_label(place: tuple[float, float], step: FlowStep, anchor: str) -> None:
        labels.append(
            FlowLabel(x=place[0], y=place[1], count=step.shown, words=step.words, meaning=step.meaning, anchor=anchor)
        )

    first, *losses, last = steps
    add_block(along, along + 12, first.count, first.meaning)
    along += 12
    for step in losses:
        lost = thickness(step.count) if step.is_loss else 0.0
        end = along + max(gap * 0.55, lost + 24)
        until = max(along + gap, end + 16)
        add_block(along, until, step.low if step.is_loss else step.high, "stream")
        outer = edge + thickness(step.high)
        inner = outer - lost
        if lost:
            # Two parallel curves lead from the side of the stream to the end of the loss.
            middle, bend = (along + end) / 2, (outer + drop) / 2
            bands.append(
                Band(
                    path=f"M{point(along, inner)} C{point(middle, inner)} {point(end, bend)} {point(end, drop)} "
                    f"L{point(end - lost, drop)} C{point(end - lost, bend)} {point((along + end - lost) / 2, outer)} "
                    f"{point(along, outer)}Z",
                    meaning=step.meaning,
                )
            )
        centre = end - lost / 2
        add_label(
            (drop + 10, centre - 3) if is_upright else (centre, drop + 20), step, "start" if is_upright else "middle"
        )
        along = until
    add_block(along, along + 12, last.count, last.meaning)
    add_label((edge, begin - 26) if is_upright else (begin, edge - 26), first, "start")
    add_label((edge, along + 34) if is_upright else (along + 24, edge + 16), last, "start")
    width, height = (360.0, along + 62) if is_upright else (along + 130, drop + 48)
    return Flow(width=width, height=height, bands=tuple(bands), labels=tuple(labels))
