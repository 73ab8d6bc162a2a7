"""Plots of precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dedup_lib.evaluate.metrics import CurvePoint, VariantScore
from dedup_lib.groups.scored import is_match
from dedup_lib.report.figures import figure_of_words, histogram_edges, label_counts, mark_threshold, new_figure
from dedup_lib.report.style import COLOURS, SERIES_COLOURS, SERIES_MARKERS, STYLE


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
        axes[0, 0].set_title(f"Variants found again at {threshold:.4g}")
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
