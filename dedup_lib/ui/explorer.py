"""The threshold slider of 06.

It only shows; the decision stays a parameter. A button keeps the value in a profile, which a later run takes. Plain
functions compute the values; the widget only lays them out.
Callbacks write into `.value` of widgets, because an error there becomes visible, while an `Output` widget swallows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from dedup_lib.errors import DedupError
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.sweep import count_scores
from dedup_lib.groups.thresholds import Borderline
from dedup_lib.records import SweepPoint
from dedup_lib.report.charts import draw_verdicts
from dedup_lib.report.pages import render_template
from dedup_lib.report.pictures import load_strip
from dedup_lib.report.style import COLOURS
from dedup_lib.run.folder import RunFolder
from dedup_lib.settings import SearchSettings
from dedup_lib.steps.chosen import save_chosen

BORDERLINE_COUNT = 3


def nearest_index(thresholds: Sequence[float], *, threshold: float) -> int:
    """The index of the value in `thresholds` that is nearest to `threshold`; the first one of equals."""
    return int(np.argmin(np.abs(np.asarray(thresholds, dtype=np.float64) - threshold)))


def scores_html(scores: Mapping[str, Any], *, threshold: float, measure: str) -> str:
    """Draws every compared pair by verdict, with a line at the threshold: the chart of the report, on a light or a
    dark page. `scores` are those of `count_scores`."""
    chart = draw_verdicts(scores["edges"], scores["counts"], name="scores", x_label=measure, mark=threshold)
    # For those who do not see the line.
    chart = replace(chart, words=f"{chart.words}; the threshold at {threshold:.4f}")
    return render_template("scores.html", chart=chart, colours=COLOURS)


def borderline_html(borderline: Borderline, *, threshold: float, urls: Sequence[str], thumbnails_dir: Path) -> str:
    """Shows the `BORDERLINE_COUNT` pairs nearest to the threshold on either side, with the frames of both videos."""
    above, below = borderline.at(threshold, count=BORDERLINE_COUNT)
    parts = [
        {
            "title": title,
            "pairs": [
                {
                    "similarity": f"{pair.similarity:.4f}",
                    "videos": [
                        {"url": urls[row], "picture": load_strip(urls[row], thumbnails_dir=thumbnails_dir)}
                        for row in (pair.first, pair.second)
                    ],
                }
                for pair in side
            ],
        }
        for title, side in (("Just matching", above), ("Just not matching", below))
    ]
    return render_template("borderline.html", parts=parts)


class ThresholdExplorer(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A slider over the thresholds of a sweep, with the counts, the histogram and the borderline pairs at each.

    It starts at the point nearest to the decided threshold of `matches`. Counts and orders are computed in advance, so
    that a move takes no longer with more videos. `slider`, `counts`, `histogram` and `borderline` are the widgets;
    setting `slider.value` to a threshold of the sweep updates the others. `keep` is the button that saves the value in
    a profile of `run`, beside its `settings`, and `kept` says where it is and what to type, or why it was not saved.
    Without points or pairs, only `counts` is shown, and says so.
    """

    def __init__(
        self, matches: Matches, points: Sequence[SweepPoint], *, run: RunFolder, settings: SearchSettings
    ) -> None:
        plan, pairs = matches.plan, matches.compared.pairs
        self._points = {point.threshold: point for point in points}
        self._parameter, self._measure = plan.parameter, plan.measure
        self._thresholds = sorted(self._points) or [plan.threshold]
        self._scores = count_scores(matches.by_verdict)
        self._borderline = Borderline(pairs)
        self._urls = matches.urls
        self._run = run
        self._settings = settings
        self.slider = widgets.SelectionSlider(
            options=[(f"{value:.4f}", value) for value in self._thresholds],
            index=nearest_index(self._thresholds, threshold=plan.threshold),
            description="threshold",
            disabled=not (points and pairs),
            layout=widgets.Layout(width="40em", max_width="100%"),
        )
        self.keep = widgets.Button(layout=widgets.Layout(width="auto"))
        self.counts, self.kept, self.histogram, self.borderline = (widgets.HTML() for _ in range(4))
        self._show(self.slider.value)
        self.slider.observe(lambda change: self._show(change["new"]), names="value")
        self.keep.on_click(lambda button: self._save())
        shown = [
            widgets.HBox([self.slider, self.keep], layout=widgets.Layout(flex_flow="row wrap")),
            self.counts,
            self.kept,
            self.histogram,
            self.borderline,
        ]
        super().__init__([self.counts] if self.slider.disabled else shown)

    def _show(self, threshold: float) -> None:
        point = None if self.slider.disabled else self._points[threshold]
        self.keep.description = f"Decide by {self._parameter} {threshold:.7g}"
        self.counts.value = render_template("counts.html", point=point)
        self.histogram.value = scores_html(self._scores, threshold=threshold, measure=self._measure)
        self.borderline.value = borderline_html(
            self._borderline, threshold=threshold, urls=self._urls, thumbnails_dir=self._run.thumbnails_dir
        )

    def _save(self) -> None:
        try:
            chosen = save_chosen(
                self._run, self._settings, parameter=self._parameter, threshold=float(self.slider.value)
            )
        except DedupError as error:
            self.kept.value = render_template("kept.html", error=str(error))
        else:
            self.kept.value = render_template("kept.html", chosen=chosen, error="")
