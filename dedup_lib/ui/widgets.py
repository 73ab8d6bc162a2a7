"""Widgets of 06: the threshold slider, and the queue of doubtful pairs.

The slider only shows; the decision stays a parameter. A decision in the queue is written to a file at once. Plain
functions compute the values; the widgets only lay them out. Callbacks write into `.value` of widgets, because an error
there becomes visible, while an `Output` widget swallows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import DedupError
from dedup_lib.groups.decisions import Decision, DecisionFile, TransitiveDecisions
from dedup_lib.groups.matches import Matches
from dedup_lib.groups.sweep import count_scores
from dedup_lib.groups.thresholds import Borderline
from dedup_lib.match.evidence import Verdict
from dedup_lib.records import Pair, Recipe, SweepPoint
from dedup_lib.report.charts import draw_verdicts
from dedup_lib.report.contact_sheet import draw_pair
from dedup_lib.report.evidence_words import VERDICT_WORDS
from dedup_lib.report.pages import render_template
from dedup_lib.report.pictures import Pictures, load_strip
from dedup_lib.report.style import COLOURS, PAGE_COLOURS
from dedup_lib.run.folder import RunFolder

BORDERLINE_COUNT = 3


def nearest_index(thresholds: Sequence[float], *, threshold: float) -> int:
    """The index of the value in `thresholds` that is nearest to `threshold`; the first one of equals."""
    return int(np.argmin(np.abs(np.asarray(thresholds, dtype=np.float64) - threshold)))


def counts_html(point: SweepPoint | None, *, threshold: float, parameter: str) -> str:
    """The result that a threshold would give, and the line that sets `parameter` to it."""
    return render_template("counts.html", point=point, threshold=f"{threshold:.7g}", parameter=parameter)


def scores_html(scores: Mapping[str, Any], *, threshold: float, measure: str) -> str:
    """Draws every compared pair by verdict, with a line at the threshold: the chart of the report, in the colours of a
    light page. `scores` are those of `count_scores`."""
    chart = draw_verdicts(
        scores["edges"],
        scores["counts"],
        name="scores",
        title="Every compared pair, by verdict",
        x_label=measure,
        mark=threshold,
    )
    # For those who do not see the line.
    chart = replace(chart, words=f"{chart.words}; the threshold at {threshold:.4f}")
    colours = COLOURS | {name: light for name, (light, _) in PAGE_COLOURS.items()}
    return render_template("scores.html", chart=chart, colours=colours)


def borderline_html(
    borderline: Borderline,
    *,
    threshold: float,
    urls: Sequence[str],
    thumbnails_dir: Path,
    count: int = BORDERLINE_COUNT,
) -> str:
    """Shows the `count` pairs nearest to the threshold on either side, with the frames of both videos."""
    above, below = borderline.at(threshold, count=count)
    parts = [
        {
            "title": title,
            "pairs": [
                {
                    "similarity": f"{pair.similarity:.4f}",
                    "videos": _videos_of(pair, urls=urls, thumbnails_dir=thumbnails_dir),
                }
                for pair in side
            ],
        }
        for title, side in (("Just matching", above), ("Just not matching", below))
    ]
    return render_template("borderline.html", parts=parts)


def _videos_of(pair: Pair, *, urls: Sequence[str], thumbnails_dir: Path) -> list[dict[str, str]]:
    return [
        {"url": urls[row], "picture": load_strip(urls[row], thumbnails_dir=thumbnails_dir)}
        for row in (pair.first, pair.second)
    ]


def question_html(question: Mapping[str, object], *, pictures: Pictures) -> str:
    """Shows a pair to decide about, a row of review.csv: the frames of both videos, the evidence in words and as frames
    of the same moments, the consequence without an answer, and every measure."""
    with pictures:
        first, second = draw_pair(question, pictures)
    measures = {
        name.replace("kept", "first").replace("copy", "second").replace("_", " "): str(value)
        for name, value in question.items()
        if name not in ("first_url", "second_url", "verdict", "rule") and value is not None
    }
    so_far = VERDICT_WORDS[Verdict(second.role)]
    return render_template("question.html", first=first, second=second, so_far=so_far, measures=measures)


class ThresholdExplorer(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A slider over the thresholds of a sweep, with the counts, the histogram and the borderline pairs at each.

    It starts at the point nearest to the decided `threshold`, which is the value of the setting `parameter`. Counts and
    orders are computed in advance, so that a move takes no longer with more videos. `slider`, `counts`, `histogram` and
    `borderline` are the widgets; setting `slider.value` to a threshold of the sweep updates the others. Without points
    or pairs, only `counts` is shown, and says so.
    """

    def __init__(
        self,
        points: Sequence[SweepPoint],
        *,
        by_verdict: Mapping[str, NDArray[np.floating[Any]]],
        threshold: float,
        parameter: str,
        measure: str,
        pairs: Sequence[Pair],
        urls: Sequence[str],
        thumbnails_dir: Path,
    ) -> None:
        self._points = {point.threshold: point for point in points}
        self._parameter = parameter
        self._thresholds = sorted(self._points) or [threshold]
        self._scores = count_scores(by_verdict)
        self._measure = measure
        self._borderline = Borderline(pairs)
        self._urls = urls
        self._thumbnails_dir = thumbnails_dir
        self.slider = widgets.SelectionSlider(
            options=[(f"{value:.4f}", value) for value in self._thresholds],
            index=nearest_index(self._thresholds, threshold=threshold),
            description="threshold",
            disabled=not (points and pairs),
            layout=widgets.Layout(width="40em", max_width="100%"),
        )
        self.counts, self.histogram, self.borderline = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._show(self.slider.value)
        self.slider.observe(lambda change: self._show(change["new"]), names="value")
        shown = [self.slider, self.counts, self.histogram, self.borderline]
        super().__init__([self.counts] if self.slider.disabled else shown)

    @classmethod
    def of(cls, matches: Matches, points: Sequence[SweepPoint], *, thumbnails_dir: Path) -> ThresholdExplorer:
        """The slider over the sweep of what a list holds."""
        return cls(
            points,
            by_verdict=matches.by_verdict,
            threshold=matches.plan.threshold,
            parameter=matches.plan.parameter,
            measure=matches.plan.measure,
            pairs=matches.compared.pairs,
            urls=matches.urls,
            thumbnails_dir=thumbnails_dir,
        )

    def _show(self, threshold: float) -> None:
        point = None if self.slider.disabled else self._points[threshold]
        self.counts.value = counts_html(point, threshold=threshold, parameter=self._parameter)
        self.histogram.value = scores_html(self._scores, threshold=threshold, measure=self._measure)
        self.borderline.value = borderline_html(
            self._borderline, threshold=threshold, urls=self._urls, thumbnails_dir=self._thumbnails_dir
        )


class ReviewQueue(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Shows pairs of videos one after the other; a person decides whether they are the same.

    `questions` are rows of review.csv, asked in their order, with the frames that the run has. A pair is left out while
    the file of decisions answers it, directly or by inference from other decisions. A decision is on the disk before
    the next pair is shown. A skipped pair comes back once, at the end.

    `same`, `different`, `skip` and `undo` are the buttons. `current` is the current pair of URLs, None at the end.
    `progress` says how far the review is, `question` shows the pair, and `message` shows errors.
    """

    def __init__(
        self,
        questions: Sequence[Mapping[str, object]],
        *,
        run: RunFolder,
        recipe: Recipe | None,
        decisions: DecisionFile,
    ) -> None:
        self._pictures = Pictures(run, recipe=recipe)
        self._decisions = decisions
        self._questions: dict[frozenset[str], Mapping[str, object]] = {}
        for question in questions:
            pair = frozenset(_urls_of(question))
            # A URL cannot be compared with itself.
            if len(pair) == 2:
                self._questions.setdefault(pair, question)
        self._waiting = self._list_open()
        self._questions = {key: self._questions[key] for key in self._waiting}
        self._nothing = "Nothing left to review." if questions else "There are no pairs to review."
        self._skipped: set[frozenset[str]] = set()
        self._decided: list[frozenset[str]] = []
        self.current: tuple[str, str] | None = None
        self.progress, self.question, self.message = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.same = _button("Same", colour=COLOURS["duplicate"], tooltip="Both show the same video: keep one of them")
        self.different = _button(
            "Different", colour=PAGE_COLOURS["soft"][0], tooltip="They are different videos: keep both"
        )
        self.skip = _button("Skip", tooltip="Decide later: the pair comes back once, at the end")
        self.undo = _button("Undo", tooltip="Take back the last decision and show its pair again")
        self.same.on_click(lambda _: self._decide(Decision.SAME))
        self.different.on_click(lambda _: self._decide(Decision.DIFFERENT))
        self.skip.on_click(lambda _: self._skip())
        self.undo.on_click(lambda _: self._undo())
        self._ask()
        buttons = widgets.HBox(
            [self.same, self.different, self.skip, self.undo], layout=widgets.Layout(flex_flow="row wrap")
        )
        super().__init__([self.progress, self.question, buttons, self.message])

    def _list_open(self) -> list[frozenset[str]]:
        """The pairs that no decision answers yet."""
        known = TransitiveDecisions(self._decisions.decisions)
        return [key for key in self._questions if known.about(*key) is None]

    def _ask(self) -> None:
        """Shows the next pair, or says that there is none."""
        undecided, total = self._list_open(), len(self._questions)
        asked = next((key for key in self._waiting if key in undecided), None)
        self.message.value = ""
        self.progress.value = f'<p role="status">{total - len(undecided)} of {total} decided</p>' if total else ""
        if asked is None:
            self.current = None
            skipped = f" {len(undecided)} skipped." if undecided else ""
            self.question.value = f"<p>{self._nothing}{skipped}</p>"
        else:
            self.current = _urls_of(self._questions[asked])
            self.question.value = question_html(self._questions[asked], pictures=self._pictures)
        for button in (self.same, self.different, self.skip):
            button.disabled = self.current is None
        self.undo.disabled = not self._decided

    def _decide(self, decision: Decision) -> None:
        if self.current is None:
            return
        try:
            self._decisions.decide(*self.current, decision)
        except DedupError as error:
            self._complain(error)
            return
        self._decided.append(frozenset(self.current))
        self._ask()

    def _skip(self) -> None:
        if self.current is None:
            return
        key = frozenset(self.current)
        self._waiting.remove(key)
        if key not in self._skipped:
            self._skipped.add(key)
            self._waiting.append(key)
        self._ask()

    def _undo(self) -> None:
        if not self._decided:
            return
        try:
            self._decisions.undo()
        except DedupError as error:
            self._complain(error)
            return
        key = self._decided.pop()
        self._waiting = [key, *(other for other in self._waiting if other != key)]
        self._ask()

    def _complain(self, error: DedupError) -> None:
        self.message.value = f'<p role="alert">{escape(str(error))}</p>'


def _urls_of(question: Mapping[str, object]) -> tuple[str, str]:
    return str(question["first_url"]), str(question["second_url"])


def _button(description: str, *, tooltip: str, colour: str | None = None) -> widgets.Button:
    """A button in the colours of the page, or white on a dark `colour`: white on Jupyter's green is unreadable."""
    style = {"button_color": colour, "text_color": "white"} if colour else {}
    return widgets.Button(description=description, tooltip=tooltip, style=style)
