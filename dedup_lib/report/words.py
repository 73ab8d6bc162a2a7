"""Words that plots, pages and the terminal share, so that all say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup_lib.records import INVALID_STATUSES, KEPT_STATUSES, Status
from dedup_lib.sanitise import sanitise_line

FLOW_WORDS = {
    "input": "rows in the list",
    "text_duplicates": "repeated URLs",
    "invalid": "not videos",
    "failed": "could not be read",
    "duplicates": "copies of kept videos",
    "unaccounted": "unaccounted for",
    "final": "videos kept",
}

FLOW_MEANINGS = {
    "input": "neutral",
    "text_duplicates": "repeated",
    "invalid": "invalid",
    "failed": "failed",
    "duplicates": "duplicate",
    "unaccounted": "threshold",
    "final": "kept",
}

FLOW_LOSSES = ("text_duplicates", "invalid", "failed", "duplicates")


def shorten_middle(text: str, *, most: int) -> str:
    """Shortens `text` to at most `most` characters. Cuts out the middle, because both ends tell URLs apart."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return text[: most - 1 - tail] + "…" + text[len(text) - tail :]


def short_url(url: str, *, most: int) -> str:
    """A URL as a caption of at most `most` characters, without credentials and without http:// or https://."""
    return shorten_middle(sanitise_line(url).removeprefix("https://").removeprefix("http://"), most=most)


def status_meaning(status: Status) -> str:
    """The meaning of a status, as a key of `COLOURS`."""
    if status in KEPT_STATUSES:
        return "kept"
    if status is Status.PENDING:
        return "neutral"
    return "invalid" if status in INVALID_STATUSES else "failed"


def describe_no_copies(compared: int, *, existing: int = 0) -> str:
    """A sentence for a result without copies: `compared` videos of the list, and `existing` videos stored before it."""
    if not compared or compared + existing < 2:
        return "Fewer than two videos could be read, so nothing was compared."
    if compared == 1:
        return "The one video that was compared has no copy."
    return f"None of the {compared:,} videos that were compared has a copy."


VERDICT_MEANINGS = {"duplicate": "duplicate", "excerpt": "excerpt", "review": "review", "different": "neutral"}
"""The meaning of a verdict, as a key of `COLOURS`."""

MEASURE_LABELS = {"score": "score: how surely the two are the same", "cosine": "cosine of the vectors"}


@dataclass(frozen=True, kw_only=True)
class FlowStep:
    """One bar of the flow from the rows of the list to the kept videos; it spans `low`..`high` rows."""

    name: str
    low: int
    high: int
    is_loss: bool

    @property
    def count(self) -> int:
        """Number of rows in the bar."""
        return self.high - self.low

    @property
    def shown(self) -> str:
        """The count as a label; a loss has a minus sign."""
        return f"{'−' if self.is_loss and self.count else ''}{self.count:,}"

    @property
    def words(self) -> str:
        """The name of the step in words."""
        return FLOW_WORDS[self.name]

    @property
    def meaning(self) -> str:
        """The meaning of the bar, as a key of `COLOURS`."""
        return FLOW_MEANINGS[self.name]


def flow_steps(rows: Mapping[str, int]) -> list[FlowStep]:
    """The bars from `input` over every loss to `final`; rows that the losses do not explain get their own bar."""
    left = rows["input"]
    steps = [FlowStep(name="input", low=0, high=left, is_loss=False)]
    for name in FLOW_LOSSES:
        steps.append(FlowStep(name=name, low=left - rows[name], high=left, is_loss=True))
        left -= rows[name]
    if left != rows["final"]:
        low, high = sorted((left, rows["final"]))
        steps.append(FlowStep(name="unaccounted", low=low, high=high, is_loss=left > rows["final"]))
    return [*steps, FlowStep(name="final", low=0, high=rows["final"], is_loss=False)]


STATUS_WORDS = {
    Status.OK: "read, with frames that can be compared",
    Status.FEATURELESS: "read, but every frame is one flat colour: it cannot be compared, and is kept",
    Status.IMAGE: "an image, not a video",
    Status.HTML: "a web page, not a video",
    Status.NOT_VIDEO: "not in a known video format, a list of files, or an empty file",
    Status.NO_VIDEO_STREAM: "sound only",
    Status.INVALID_URL: "an empty cell, or not a URL that can be fetched",
    Status.UNREACHABLE: "the host does not exist, or refuses or drops the connection",
    Status.HTTP_ERROR: "the server answers with an error, or with something that makes no sense",
    Status.TIMEOUT: "not finished within timeout_s, or no answer for 15 seconds",
    Status.TOO_LARGE: "more than max_bytes, or pictures too large or too many to decode",
    Status.DECODE_ERROR: "damaged or cut off",
    Status.DECODE_CRASH: "the file crashed its decoder",
    Status.BLOCKED_ADDRESS: "leads to a private address, which is not allowed, or from https to http",
    Status.LIVE: "a live stream, which has no end yet",
    Status.ENCRYPTED: "a film that is encrypted",
    Status.PENDING: "not read yet: outside start and end, or the run stopped before it",
}

DECIDED_MEANINGS = {
    "same": "they count as one video",
    "different": "they count as two videos",
    "version": "they are versions of one film",
    "keep first": "they count as one video, and the first is kept",
    "keep second": "they count as one video, and the second is kept",
}
"""What follows from each decision of a person about two videos."""

DECISION_WORDS = {
    "keep": "which of several copies is kept",
    "compared": "pairs whose frames were compared",
    "pairs": "pairs of copies",
    "review": "pairs that a person should look at",
    "groups": "groups of copies",
    "largest_group": "videos in the largest group",
}
"""Values of a decision, beside those that `about_run.describe_comparison` words."""

FILE_WORDS = {
    "FINAL_RESULT": "the clean list: every video once",
    "duplicates": "copies removed, each with the video kept in its place and the evidence",
    "review": "pairs of videos that a person should look at, with the evidence",
    "invalid_urls": "rows that are certainly not videos, with the reason",
    "failed_urls": "rows that could not be read, with the reason and whether trying again may help",
    "text_duplicates": "rows that repeat a URL above them, perhaps in another spelling, with the rule",
    "featureless_urls": "videos without usable frames: kept, but not compared",
}

LOSS_WORDS = {
    "text_duplicates": ("repeated URL", "repeated URLs"),
    "duplicates": ("copy of a kept video", "copies of kept videos"),
    "invalid": ("row that is not a video", "rows that are not videos"),
    "failed": ("row that could not be read", "rows that could not be read"),
}


def count_words(count: int, words: tuple[str, str]) -> str:
    """A count with its noun in the singular or plural."""
    return f"{count:,} {words[0] if count == 1 else words[1]}"


def join_words(parts: Sequence[str]) -> str:
    """An enumeration: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def show_seconds(seconds: float) -> str:
    """A time or a duration as text: 0:05.3, 12:04 or 1:02:03."""
    if round(seconds, 1) < 60:
        return f"0:{seconds:04.1f}"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def describe_bytes(count: int) -> str:
    """A size as text, such as `640 kB` or `1.2 GB`; 1 kB is 1,000 bytes."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        # From here on, the number would be rounded up to 1000.
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def describe_duration(seconds: float) -> str:
    """A duration as text, such as `3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"


@dataclass(frozen=True)
class Known:
    """Rows of a list that are set aside because earlier runs, or the collection, have the video."""

    urls: int
    copies: int
    runs: tuple[str, ...]


def count_known(summary: Mapping[str, Any]) -> Known | None:
    """What a list repeats of earlier ones, from the summary of a run; None where it was compared with itself only."""
    existing = summary.get("existing", {})
    known = Known(existing.get("urls", 0), existing.get("repeated", 0), tuple(existing.get("runs", ())))
    return known if known.runs or existing.get("compared") else None


def describe_news(summary: Mapping[str, Any]) -> str:
    """One line: how much of the list is new, repeated in it, and already known; empty without earlier videos."""
    known = count_known(summary)
    if known is None:
        return ""
    rows = summary["rows"]
    already = known.urls + known.copies
    repeated = rows["text_duplicates"] + rows["duplicates"] - already
    against = f"compared with {', '.join(known.runs) or 'the collection'}"
    return f"{against}: {rows['final']:,} new, {repeated:,} repeated in the list, {already:,} already known"
