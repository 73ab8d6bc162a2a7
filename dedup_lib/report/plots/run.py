"""Plots of a run: what became of its rows, its pace, its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dedup_lib.records import Status
from dedup_lib.report.figures import HISTOGRAM_BINS, count_on, figure_of_words, has_dwarfing_bar, new_figure, say_empty
from dedup_lib.report.style import COLOURS, INK, STYLE
from dedup_lib.report.words import flow_steps, status_meaning


def figure_statuses(counts: Mapping[Status, int]) -> Figure:
    """How the attempt to read each video ended: bars, the largest on top, with the count at the end of each."""
    shown = sorted(((count, status) for status, count in counts.items() if count), key=lambda bar: (bar[0], bar[1]))
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, width_in=8, height_in=1.4 + 0.32 * len(shown))
        ax = axes[0, 0]
        ax.set_title("How each URL turned out")
        if not shown:
            say_empty("No URLs were read.", ax=ax)
            return figure
        numbers = np.array([count for count, _ in shown])
        meanings = [status_meaning(status) for _, status in shown]
        colours = [COLOURS[meaning] for meaning in meanings]
        bars = ax.barh([status.value for _, status in shown], numbers, color=colours, height=0.7)
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
        words = {"kept": "read", "invalid": "not a video", "failed": "could not be read", "neutral": "not tried"}
        told = {word: Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name, word in words.items() if name in meanings}
        ax.legend(told.values(), told.keys(), loc="lower right")
    return figure


def figure_flow(rows: Mapping[str, int]) -> Figure:
    """Where every row of the list went, from the first bar on top to the last, each with its number of rows; `rows`
    counts input, text_duplicates, invalid, failed, duplicates, final."""
    steps = flow_steps(rows)
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, width_in=8, height_in=1 + 0.36 * len(steps))
        ax = axes[0, 0]
        ax.set_title("Where every row went")
        if not rows["input"]:
            say_empty("The list has no rows.", ax=ax)
            return figure
        for place, step in enumerate(steps):
            ax.barh(place, step.count, left=step.low, color=COLOURS[step.meaning], height=0.66)
            weight = "normal" if step.is_loss else "bold"
            beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontweight": weight}
            ax.annotate(step.shown, (step.high, place), **beside)
            if place + 1 < len(steps):
                edge = step.low if step.is_loss else step.high
                ax.plot([edge, edge], [place + 0.33, place + 0.67], color="#B4B9C1", linewidth=1)
        ax.set_yticks(range(len(steps)), [step.words for step in steps])
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.set_xlim(0, max(1, *(step.high for step in steps)) * 1.12)
        count_on(ax.xaxis)
        ax.set_xlabel("rows")
    return figure


def figure_throughput(finished_s: Sequence[float]) -> Figure:
    """Videos finished and their rate over time; `finished_s` are seconds since the start, in any order."""
    times_s = np.sort(np.asarray(finished_s, dtype=np.float64))
    with rc_context(STYLE):
        if not len(times_s):
            return figure_of_words("No video was read by this call.")
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.2)
        total, rate = axes[0]
        total.set_title(f"{len(times_s):,} videos in {times_s[-1]:,.1f} s")
        finished = np.arange(len(times_s) + 1)
        total.step(np.append(0.0, times_s), finished, where="post", color=COLOURS["neutral"], linewidth=1.8)
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
        panels = (("memory_mib", "Memory", "MiB"), ("cpu_percent", "Processor", "% of one core"))
        for ax, (column, title, unit) in zip(axes[0], panels, strict=True):
            ax.set_title(f"{title}, at most {samples[column].max():,.0f} {unit}")
            ax.fill_between(samples["time_s"], samples[column], color=COLOURS["neutral"], alpha=0.25, linewidth=0)
            ax.plot(samples["time_s"], samples[column], color=COLOURS["neutral"], linewidth=1.8)
            ax.set(xlabel="seconds since the start", ylabel=f"{title.lower()}, {unit}", ylim=(0, None), xlim=(0, None))
            count_on(ax.yaxis)
    return figure
