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
from dedup_lib.report.figures import (
    figure_of_words,
    histogram_edges,
    label_counts,
    mark_threshold,
    new_figure,
    plot_bars,
)
from dedup_lib.report.style import COLOURS, SERIES_COLOURS, SERIES_MARKERS, STYLE


def figure_curves(curves: Mapping[str, Sequence[CurvePoint]], *, thresholds: Mapping[str, float]) -> Figure:
    """Precision over recall, and recall over the threshold, of several settings, by their name; the large mark is the
    threshold in use."""
    with rc_context(STYLE):
        if not curves:
            return figure_of_words("No settings were compared.")
        figure, axes = new_figure(1, 2, width_in=10, height_in=3.9)
        left, right = axes[0]
        for place, (name, points) in enumerate(curves.items()):
            colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
            marker = SERIES_MARKERS[place % len(SERIES_MARKERS)]
            found = [point for point in points if point.recall is not None]
            sides = (
                (left, "recall", "precision", [point for point in found if point.precision is not None], marker),
                (right, "threshold", "recall", found, None),
            )
            for ax, across, up, known, small in sides:
                xs, ys = ([getattr(point, field) for point in known] for field in (across, up))
                ax.plot(xs, ys, color=colour, linewidth=1.6, marker=small, markersize=3, label=name)
                for x, y, point in zip(xs, ys, known, strict=True):
                    if point.threshold == thresholds[name]:
                        ax.plot([x], [y], color=colour, marker=marker, markersize=10, linestyle="none")
        left.set(xlabel="recall over pairs", ylabel="precision over pairs", xlim=(0, 1.02), ylim=(0, 1.04))
        right.set(xlabel="threshold", ylabel="recall over pairs", ylim=(0, 1.04))
        left.set_title("Precision against recall, one point per threshold")
        right.set_title("Recall against the threshold")
        left.legend(loc="lower left", title="large mark: in use")
    return figure


def figure_recalls(scores: Sequence[VariantScore], *, words: Mapping[str, str], threshold: float) -> Figure:
    """How many clips are found again in each kind of variant, the best found on top; `words` say what a kind is."""
    with rc_context(STYLE):
        if not scores:
            return figure_of_words("No variants were compared.")
        figure, axes = new_figure(1, 1, width_in=8, height_in=1.1 + 0.24 * len(scores))
        ax, ranked = axes[0, 0], sorted(scores, key=lambda score: score.recall)
        ax.set_title(f"Variants found again at {threshold:.4g}")
        names, recalls = [words.get(score.name, score.name) for score in ranked], [score.recall for score in ranked]
        bars = ax.barh(names, recalls, color=COLOURS["duplicate"], height=0.7)
        ax.bar_label(bars, labels=[f"{score.found} of {score.clips}" for score in ranked], padding=4, fontsize=10.5)
        ax.set(xlabel="share of the videos found again", xlim=(0, 1.12))
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.margins(y=0.01)
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
    far = f"{words[1]}: {below:,}, {hidden:,} of them further left"
    plot_bars(edges, counts, chosen=matching, meaning=meaning, label=f"{words[0]}: {above:,}", ax=ax)
    plot_bars(edges, counts, chosen=~matching, meaning="neutral", label=far, ax=ax)
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
