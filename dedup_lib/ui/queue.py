"""The review queue of 06: pairs of videos, one after the other, and a person who says whether they are the same.

Python decides what is asked, and writes each answer to a file at once. `templates/queue.js` draws it in the browser:
both videos side by side, one slider over both, and keys.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import anywidget
import traitlets

from dedup_lib.errors import DedupError
from dedup_lib.groups.decisions import Decision, DecisionFile, TransitiveDecisions
from dedup_lib.match.aligned_frames import Box
from dedup_lib.match.evidence import Verdict
from dedup_lib.records import Recipe
from dedup_lib.report.evidence_words import OUTLINE_WORDS, VERDICT_WORDS, explain, read_number
from dedup_lib.report.pages import is_web_url
from dedup_lib.report.pictures import Pictures
from dedup_lib.report.words import describe_duration, short_url
from dedup_lib.run.folder import RunFolder
from dedup_lib.sanitise import sanitise_line

TEMPLATES_DIR = Path(__file__).parent / "templates"

SKIP, UNDO = "skip", "undo"

MIN_ANSWERS_TO_ESTIMATE = 3
"""Answers after which the time that is left can be told."""


class ReviewQueue(anywidget.AnyWidget):
    """Shows pairs of videos one after the other; a person decides whether they are the same.

    `questions` are rows of review.csv, asked in their order, with the frames that the run has. A pair is left out while
    the file of decisions answers it, directly or by inference from other decisions. A decision is on the disk before
    the next pair is shown. A skipped pair comes back once, at the end.

    `current` is the current pair of URLs, None at the end. The traits are what the browser shows: `question`, None at
    the end; `asked`, how often something was asked; `progress`, how far the review is; `nothing`, what is said at the
    end; `message`, an error; `can_undo`.
    """

    _esm = TEMPLATES_DIR / "queue.js"
    _css = TEMPLATES_DIR / "queue.css"
    question: dict[str, Any] | None = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)  # type: ignore[assignment]
    asked = traitlets.Int().tag(sync=True)
    progress = traitlets.Unicode().tag(sync=True)
    nothing = traitlets.Unicode().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)
    can_undo = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        questions: Sequence[Mapping[str, object]],
        *,
        run: RunFolder,
        recipe: Recipe | None,
        decisions: DecisionFile,
    ) -> None:
        super().__init__()
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
        self._took_s: list[float] = []
        self._asked_s = time.monotonic()
        self.current: tuple[str, str] | None = None
        self.on_msg(self._hear)
        self._ask()

    def answer(self, word: str) -> None:
        """Takes an answer: the value of a `Decision`, `skip` or `undo`. An answer that does not fit is ignored. An
        error of the file becomes `message`, and the same pair is asked again."""
        try:
            if word == UNDO:
                self._undo()
            elif self.current is None:
                return
            elif word == SKIP:
                self._skip(frozenset(self.current))
            else:
                self._decide(self.current, Decision(word))
        except DedupError as error:
            self.message = str(error)
        else:
            self._ask()

    def _hear(self, widget: object, content: object, buffers: object) -> None:
        # Whoever presses a key twice has answered one pair, and has not seen the next one.
        if not isinstance(content, dict) or content.get("asked") != self.asked:
            return
        word = content.get("answer")
        if isinstance(word, str) and word in {SKIP, UNDO, *Decision}:
            self.answer(word)

    def _list_open(self) -> list[frozenset[str]]:
        """The pairs that no decision answers yet."""
        known = TransitiveDecisions(self._decisions.decisions)
        return [key for key in self._questions if known.about(*key) is None]

    def _ask(self) -> None:
        """Shows the next pair, or says that there is none."""
        undecided, total = set(self._list_open()), len(self._questions)
        asked = next((key for key in self._waiting if key in undecided), None)
        skipped = f" {len(undecided)} skipped." if undecided else ""
        self._asked_s = time.monotonic()
        self.current = None if asked is None else _urls_of(self._questions[asked])
        with self.hold_sync():
            self.asked += 1
            self.message = ""
            self.nothing = f"{self._nothing}{skipped}" if asked is None else ""
            self.progress = self._describe_progress(len(undecided), total)
            self.question = None if asked is None else describe_question(self._questions[asked], self._pictures)
            self.can_undo = bool(self._decided)

    def _describe_progress(self, undecided: int, total: int) -> str:
        if not total:
            return ""
        left = ""
        if undecided and len(self._took_s) >= MIN_ANSWERS_TO_ESTIMATE:
            left = f" · about {describe_duration(max(1.0, undecided * median(self._took_s)))} left"
        return f"{total - undecided} of {total} decided{left}"

    def _decide(self, pair: tuple[str, str], decision: Decision) -> None:
        self._decisions.decide(*pair, decision)
        self._decided.append(frozenset(pair))
        self._took_s.append(time.monotonic() - self._asked_s)

    def _skip(self, key: frozenset[str]) -> None:
        self._waiting.remove(key)
        if key not in self._skipped:
            self._skipped.add(key)
            self._waiting.append(key)

    def _undo(self) -> None:
        if not self._decided:
            return
        self._decisions.undo()
        key = self._decided.pop()
        self._waiting = [key, *(other for other in self._waiting if other != key)]


def describe_question(question: Mapping[str, object], pictures: Pictures) -> dict[str, object]:
    """A pair to decide about, a row of review.csv, as the browser shows it: both videos with their frames, the moments
    that belong together, the evidence in words, the consequence without an answer, and every measure."""
    urls = _urls_of(question)
    with pictures:
        outlines = pictures.find_outlines(*urls, question)
        videos = [_describe_video(url, pictures, outline=outlines[side]) for side, url in enumerate(urls)]
        moments, start = pictures.pair_moments(*urls, question)
    score = read_number(question.get("score"))
    return {
        "first": videos[0],
        "second": videos[1],
        "moments": moments,
        "start": start,
        "legend": OUTLINE_WORDS if any(outlines) else "",
        "speed": read_number(question.get("speed")) or 1.0,
        "score": "" if score is None else f"{score:.4f}",
        "explained": explain(question, first="the first", second="the second"),
        "so_far": f"Without an answer {VERDICT_WORDS[Verdict(str(question['verdict']))]}.",
        "measures": [
            (name.replace("kept", "first").replace("copy", "second").replace("_", " "), str(value))
            for name, value in question.items()
            if name not in ("first_url", "second_url", "verdict", "rule") and value is not None
        ],
    }


def _describe_video(url: str, pictures: Pictures, *, outline: Box | None) -> dict[str, object]:
    board = pictures.load_board(url)
    bare = sanitise_line(url)
    return {
        "url": short_url(url, most=90),
        # A link to anything but the web would be run by the browser.
        "href": bare if is_web_url(bare) else "",
        "caption": pictures.captions.about(url),
        "facts": pictures.describe(url),
        "sheet": pictures.load_sheet(url) if board is not None else "",
        "frame_px": board.size_px if board is not None else (16, 9),
        "times_s": board.times_s if board is not None else (),
        "outline": outline,
    }


def _urls_of(question: Mapping[str, object]) -> tuple[str, str]:
    return str(question["first_url"]), str(question["second_url"])
