"""A slider that shows what another threshold would decide, and a queue of pairs that a person decides.

The slider looks; its decision stays a parameter. What is decided in the queue is written to a file at once. The values
are computed by plain functions; the widgets only lay them out. Callbacks write into
`.value` of widgets, for an error raised there surfaces, while one inside an `Output` widget is swallowed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray

from dedup_lib.decide import borderline_pairs
from dedup_lib.errors import DedupError
from dedup_lib.memory import Conclusions, Decision, DecisionFile
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
        {"url": urls[row], "picture": load_picture(urls[row], thumbnails_dir=thumbnails_dir)}
        for row in (pair.first, pair.second)
    ]


def question_html(pair: Pair, *, urls: Sequence[str], evidence: Mapping[str, str], thumbnails_dir: Path) -> str:
    """A pair to decide about: the frames of both videos, and what is known of them, by name."""
    videos = _videos_of(pair, urls=urls, thumbnails_dir=thumbnails_dir)
    return render_template("question.html", videos=videos, evidence=evidence)


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


class ReviewQueue(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Pairs of videos, one after the other, for a person to say whether they are the same.

    `pairs` are asked in their order, each with its `evidence`: what is known of it, by name. A pair is left out as
    long as the file of decisions answers it, itself or by what follows from others. A decision is on the disk before
    the next pair is shown. A pair that is skipped comes back once, at the end.

    `same`, `different`, `skip` and `undo` are the buttons, `current` is the pair that is asked, None at the end;
    `progress`, `question` and `message` say how far the review is, show the pair, and tell what went wrong.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        urls: Sequence[str],
        evidence: Sequence[Mapping[str, str]],
        thumbnails_dir: Path,
        decisions: DecisionFile,
    ) -> None:
        self._urls = urls
        self._thumbnails_dir = thumbnails_dir
        self._decisions = decisions
        self._questions: dict[frozenset[str], tuple[Pair, Mapping[str, str]]] = {}
        for pair, found in zip(pairs, evidence, strict=True):
            if urls[pair.first] != urls[pair.second]:
                self._questions.setdefault(self._key(pair), (pair, found))
        self._waiting = self._list_open()
        self._questions = {key: self._questions[key] for key in self._waiting}
        self._nothing = "Nothing left to review." if pairs else "There are no pairs to review."
        self._skipped: set[frozenset[str]] = set()
        self._decided: list[frozenset[str]] = []
        self.current: Pair | None = None
        self.progress, self.question, self.message = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.same = _button("Same", style="success", tooltip="Both show the same video: keep one of them")
        self.different = _button("Different", style="danger", tooltip="They are different videos: keep both")
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

    def _key(self, pair: Pair) -> frozenset[str]:
        return frozenset((self._urls[pair.first], self._urls[pair.second]))

    def _list_open(self) -> list[frozenset[str]]:
        """The pairs that nothing answers yet."""
        known = Conclusions(self._decisions.decisions)
        return [key for key in self._questions if known.about(*key) is None]

    def _ask(self) -> None:
        """Show the next pair, or that there is none."""
        undecided, total = self._list_open(), len(self._questions)
        asked = next((key for key in self._waiting if key in undecided), None)
        self.message.value = ""
        self.progress.value = f'<p role="status">{total - len(undecided)} of {total} decided</p>' if total else ""
        if asked is None:
            self.current = None
            skipped = f" {len(undecided)} skipped." if undecided else ""
            self.question.value = f"<p>{self._nothing}{skipped}</p>"
        else:
            self.current, evidence = self._questions[asked]
            self.question.value = question_html(
                self.current, urls=self._urls, evidence=evidence, thumbnails_dir=self._thumbnails_dir
            )
        for button in (self.same, self.different, self.skip):
            button.disabled = self.current is None
        self.undo.disabled = not self._decided

    def _decide(self, decision: Decision) -> None:
        if self.current is None:
            return
        try:
            self._decisions.decide(self._urls[self.current.first], self._urls[self.current.second], decision)
        except DedupError as error:
            self._complain(error)
            return
        self._decided.append(self._key(self.current))
        self._ask()

    def _skip(self) -> None:
        if self.current is None:
            return
        key = self._key(self.current)
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


def _button(description: str, *, tooltip: str, style: str = "") -> widgets.Button:
    return widgets.Button(description=description, tooltip=tooltip, button_style=style)
