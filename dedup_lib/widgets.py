"""A slider that shows what another threshold would decide. It looks; the decision stays a parameter.

The values are computed by plain functions; `ThresholdExplorer` only lays them out. Callbacks write into
`.value` of widgets, for an error raised there surfaces, while one inside an `Output` widget is swallowed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray

from dedup_lib.decide import borderline_pairs
from dedup_lib.plots import STYLE, new_figure, plot_similarities
from dedup_lib.records import Pair, SweepPoint
from dedup_lib.report import load_picture, render_template

BORDERLINE_COUNT = 3


def nearest_index(thresholds: Sequence[float], *, threshold: float) -> int:
    """Where in `thresholds` the one nearest to `threshold` stands; the first of equals."""
    return int(np.argmin(np.abs(np.asarray(thresholds, dtype=np.float64) - threshold)))


def counts_html(point: SweepPoint | None, *, threshold: float) -> str:
    """What a threshold would decide, and the line that would make it the decision."""
    return render_template("counts.html", point=point, threshold=f"{threshold:.7g}")


def borderline_html(
    pairs: Sequence[Pair], *, threshold: float, urls: Sequence[str], thumbnails_dir: Path, count: int = BORDERLINE_COUNT
) -> str:
    """The `count` pairs nearest to the threshold on either side, with the frames of both videos."""
    above, below = borderline_pairs(pairs, threshold=threshold, count=count)
    parts = [
        {
            "title": title,
            "pairs": [
                {
                    "similarity": f"{pair.similarity:.4f}",
                    "videos": [
                        {"url": urls[row], "picture": load_picture(urls[row], thumbnails_dir=thumbnails_dir)}
                        for row in (pair.first, pair.second)
                    ],
                }
                for pair in side
            ],
        }
        for title, side in (("Just matching", above), ("Just not matching", below))
    ]
    return render_template("borderline.html", parts=parts)


def histogram_png(pair_similarities: NDArray[np.floating[Any]], *, threshold: float) -> bytes:
    """The histogram of all scored pairs with the threshold, as a PNG."""
    with rc_context(STYLE):
        figure, axes = new_figure(1, 1, width_in=7, height_in=3)
        plot_similarities(pair_similarities, threshold=threshold, title="All scored pairs", noun="pairs", ax=axes[0, 0])
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
    return picture.getvalue()


class ThresholdExplorer(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A slider over the thresholds of a sweep, with the counts, the histogram and the borderline pairs at each.

    Starts at the point nearest to the decided `threshold`. `slider`, `counts`, `histogram` and `borderline`
    are the widgets; setting `slider.value` to a threshold of the sweep updates the others.
    """

    def __init__(
        self,
        points: Sequence[SweepPoint],
        *,
        pair_similarities: NDArray[np.floating[Any]],
        threshold: float,
        pairs: Sequence[Pair],
        urls: Sequence[str],
        thumbnails_dir: Path,
    ) -> None:
        self._points = {point.threshold: point for point in points}
        self._pair_similarities = pair_similarities
        self._pairs = pairs
        self._urls = urls
        self._thumbnails_dir = thumbnails_dir
        thresholds = sorted(self._points) or [threshold]
        self.slider = widgets.SelectionSlider(
            options=[(f"{value:.4f}", value) for value in thresholds],
            index=nearest_index(thresholds, threshold=threshold),
            description="threshold",
            continuous_update=False,
            disabled=not self._points,
            layout=widgets.Layout(width="40em", max_width="100%"),
        )
        self.counts = widgets.HTML()
        self.histogram = widgets.Image(format="png", layout=widgets.Layout(width="100%", max_width="44rem"))
        self.histogram.alt = "Histogram of the similarities of all scored pairs, with the threshold"
        self.borderline = widgets.HTML()
        self._show(self.slider.value)
        self.slider.observe(lambda change: self._show(change["new"]), names="value")
        super().__init__([self.slider, self.counts, self.histogram, self.borderline])

    def _show(self, threshold: float) -> None:
        self.counts.value = counts_html(self._points.get(threshold), threshold=threshold)
        self.histogram.value = histogram_png(self._pair_similarities, threshold=threshold)
        self.borderline.value = borderline_html(
            self._pairs, threshold=threshold, urls=self._urls, thumbnails_dir=self._thumbnails_dir
        )
