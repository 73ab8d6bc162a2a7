"""Plots of scores, and of what other thresholds would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from dedup_lib.groups.scored import is_match
from dedup_lib.records import SweepPoint
from dedup_lib.report.figures import (
    HISTOGRAM_BINS,
    count_on,
    figure_of_words,
    histogram_edges,
    label_counts,
    mark_threshold,
    new_figure,
    plot_bars,
    say_empty,
)
from dedup_lib.report.style import COLOURS, INK, STYLE
from dedup_lib.report.words import MEASURE_LABELS, VERDICT_MEANINGS

NOTHING: NDArray[np.float64] = np.zeros(0)

MIN_DECIDED = 20
"""Of fewer pairs that people decided, precision and recall say little."""


def plot_nearest(values: NDArray[np.floating[Any]], *, threshold: float, x_label: str, ax: Axes) -> Axes:
    """Histogram of the similarity of each video to its nearest one (N,), bars at or above the threshold in the colour
    of duplicates. Videos without a neighbour, whose value is not finite, are counted in the axis label instead."""
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    ax.set_title("Each video's nearest neighbour", pad=22)
    if not len(finite):
        return say_empty("No videos with a similarity.", ax=ax)
    edges = histogram_edges(finite, threshold=threshold)
    counts, _ = np.histogram(finite, bins=edges)
    matching = np.array([is_match(edge, threshold) for edge in edges[:-1]])
    for chosen, meaning, words in ((~matching, "neutral", "below"), (matching, "duplicate", "match")):
        label = f"{words}: {counts[chosen].sum():,}"
        plot_bars(edges, counts, chosen=chosen, meaning=meaning, label=label, ax=ax)
    label_counts(counts, noun="videos", ax=ax)
    missing = len(values) - len(finite)
    ax.set_xlabel(x_label + (f" ({missing:,} videos without one)" if missing else ""))
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
        plot_nearest(nearest, threshold=threshold, x_label=MEASURE_LABELS[measure], ax=axes[0, 0])
        plot_verdicts(measures, threshold=threshold, measure=measure, ax=axes[0, 1])
    return figure


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
        label = f"{verdict}: {len(measures[verdict]):,}"
        plot_bars(edges, counts, meaning=VERDICT_MEANINGS[verdict], alpha=0.85, label=label, ax=ax)
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.6)
    ax.set_ylabel("pairs, log scale")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_xlabel(f"{MEASURE_LABELS[measure]}\npairs that nothing proposed were not compared")
    # Most pairs lie near 0 and near 1.
    ax.legend(loc="center")
    return mark_threshold(threshold, ax=ax)


def plot_scores_over(pairs: pd.DataFrame, *, column: str, title: str, x_label: str, ax: Axes) -> Axes:
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
    ax.set(xlabel=x_label, ylabel="score", ylim=(-0.04, 1.04))
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
        ("cosine", "Vectors and frames", "cosine of the vectors of their frames"),
        ("term_coverage", "The shared part", "the larger share of the two videos that both show"),
    )
    with rc_context(STYLE):
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.9)
        for ax, (column, title, x_label) in zip(axes[0], panels, strict=True):
            plot_scores_over(pairs, column=column, title=title, x_label=x_label, ax=ax)
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
    `MIN_DECIDED` on also the precision and the recall of every threshold among them."""
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
    if len(same) + len(different) >= MIN_DECIDED and len(same):
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
