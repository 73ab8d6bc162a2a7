"""A run in the terminal: its progress, and the page of `status`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dedup_lib.errors import DedupError
from dedup_lib.records import KEPT_STATUSES, utc_now
from dedup_lib.report.comparison import Comparison
from dedup_lib.report.words import FLOW_WORDS, count_known, describe_bytes, describe_duration
from dedup_lib.run.failures import Cause, Reading, find_main_cause
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import Done, ExtractionProgress, ExtractionWatch, RunProgress, State
from dedup_lib.sanitise import sanitise_line
from dedup_lib.settings import ExtractSettings

REFRESHES_PER_S = 4

MAX_COMPARED = 20
"""Most rows in each table of a comparison."""

SHOWN_CAUSES = 5
"""Most causes shown for rows without a video."""

_STATE_STYLES = {
    State.RUNNING: "bold cyan",
    State.FINISHED: "bold green",
    State.STOPPED: "bold yellow",
    State.FAILED: "bold red",
    State.PARTLY_DONE: "bold yellow",
    State.NEVER_STARTED: "bold",
}

_DONE_MARKS = {
    Done.DONE: ("✓", "green"),
    Done.NOW: ("▶", "cyan"),
    Done.STOPPED_HERE: ("✗", "yellow"),
    Done.EARLIER: ("·", "dim"),
    Done.TO_DO: ("·", "dim"),
}


class RunDisplay:
    """Shows on a terminal the current notebook of a run: a bar for 03_extract, and the progress texts of the others.
    When the output is no terminal, prints only a line for each finished notebook. Use it as a context manager."""

    def __init__(self, console: Console, run: RunFolder) -> None:
        self._console = console
        self._notebook = ""
        self._since = ""
        self._spinner = Spinner("dots", "starting")
        self._watch = ExtractionWatch(run.ledger_path)
        self._seen: ExtractionProgress | None = None
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=REFRESHES_PER_S, transient=True
        )

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        # End the thread that reads the ledger before closing the ledger.
        self._live.stop()
        self._watch.close()

    def start(self, notebook: str) -> None:
        """Shows that this notebook has started."""
        self._notebook, self._since, self._seen = notebook, utc_now(), None
        self._spinner.update(text=f"{notebook} …")

    def hear(self, text: str) -> None:
        """Shows the latest line that the progress bars of the notebook wrote."""
        lines = text.replace("\r", "\n").split("\n")
        if latest := next((line.strip() for line in reversed(lines) if line.strip()), ""):
            self._spinner.update(
                text=Text(f"{self._notebook} …  {sanitise_line(latest)}", no_wrap=True, overflow="ellipsis")
            )

    def finish(self, notebook: str, elapsed_s: float) -> None:
        """Prints a line for a finished notebook."""
        self._console.print(f"[green]✓[/] {notebook}  {elapsed_s:.1f} s")

    def _render(self) -> RenderableType:
        if self._notebook == ExtractSettings.stage:
            try:
                found = self._watch.read()
            except DedupError:
                # The notebook itself will report what is wrong with the ledger.
                found = None
            if found is not None and found.began >= self._since:
                self._seen = found
            if self._seen is not None:
                return Group(self._spinner, _draw_extraction(self._seen))
        return self._spinner


def describe_rate(per_s: float) -> str:
    """A rate as text, per second or per minute when that gives at least one video, otherwise per hour."""
    for unit, factor in (("s", 1), ("min", 60)):
        if per_s * factor >= 1:
            return f"{per_s * factor:,.1f} videos/{unit}"
    return f"{per_s * 3600:,.1f} videos/h"


def describe_extraction(extraction: ExtractionProgress) -> str:
    """One line: URLs done of all, rate, time left, bytes, failures."""
    share = extraction.done / extraction.total if extraction.total else 1.0
    parts = [f"{extraction.done:,} of {extraction.total:,} ({share:.0%})"]
    if extraction.done_before:
        parts.append(f"{extraction.done_before:,} done before")
    if extraction.statuses:
        parts.append(describe_rate(extraction.videos_per_s))
    if extraction.eta_s is not None:
        parts.append(f"{describe_duration(extraction.eta_s)} left")
    parts.append(f"{describe_bytes(extraction.fetched_bytes)} fetched")
    failed = {status: urls for status, urls in extraction.statuses.items() if status not in KEPT_STATUSES}
    most_first = sorted(failed.items(), key=lambda found: -found[1])
    return " · ".join(parts + [f"{urls:,} {status}" for status, urls in most_first])


def describe_progress(progress: RunProgress) -> str:
    """One line: the state and the progress of a run."""
    now = progress.holder.now if progress.holder is not None and progress.state == State.RUNNING else ""
    parts = [f"{progress.folder}: {progress.state}" + (f", at {now}" if now else "")]
    if progress.extraction is not None and now in ("", ExtractSettings.stage):
        parts.append(describe_extraction(progress.extraction))
    return sanitise_line(" · ".join(parts))


def describe_next_step(progress: RunProgress) -> str:
    """The command to run next; empty when nothing is left to do. Do not wrap it: people copy it."""
    label = "to start" if progress.state == State.NEVER_STARTED else "to continue"
    return f"{label}: {sanitise_line(progress.go_on)}" if progress.go_on else ""


def draw_progress(progress: RunProgress) -> RenderableType:
    """Draws the status page of a run, for terminals of any width."""
    parts: list[RenderableType] = [_draw_head(progress), Text(), _draw_notebooks(progress)]
    if progress.extraction is not None:
        parts += [Text(), Text("extraction", style="bold"), _draw_extraction(progress.extraction)]
    if progress.statuses:
        parts += [Text(), Text("all URLs so far", style="bold"), _draw_statuses(progress)]
    for title, found in (("hosts of URLs without frames", progress.hosts), ("reasons", progress.reasons)):
        if found:
            parts += [Text(), Text(title, style="bold"), _draw_counts((one.urls, one.what) for one in found)]
    if progress.vectors:
        parts += [Text(), _fold(f"vectors: {sanitise_line(progress.vectors)}")]
    if progress.report:
        parts += [Text(), _fold(f"report: {sanitise_line(progress.report)}")]
    return Group(*parts)


def _fold(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=False, overflow="fold")


def _draw_head(progress: RunProgress) -> Text:
    head = _fold("")
    head.append(sanitise_line(progress.folder), style="bold").append("  ")
    head.append(str(progress.state), style=_STATE_STYLES[progress.state])
    holder = progress.holder
    if holder is not None and progress.elapsed_s is not None:
        preposition = "after" if progress.state in (State.STOPPED, State.FAILED) else "for"
        if progress.state in (State.RUNNING, State.STOPPED, State.FAILED):
            head.append(f" {preposition} {describe_duration(progress.elapsed_s)}, at {sanitise_line(holder.now)}")
        if progress.state == State.RUNNING:
            head.append(f" ({sanitise_line(holder.process)})")
        if progress.state == State.FAILED:
            for line in holder.failure.splitlines():
                head.append(f"\n{sanitise_line(line)}", style="red")
    return head


def _draw_notebooks(progress: RunProgress) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for notebook in progress.notebooks:
        mark, style = _DONE_MARKS[notebook.done]
        words = [] if notebook.done == Done.DONE else [str(notebook.done)]
        words += [f"{count:,} {name.replace('_', ' ')}" for name, count in notebook.counts.items()]
        table.add_row(
            Text(mark, style=style), sanitise_line(notebook.name), Text(sanitise_line(", ".join(words)), style=style)
        )
    return table


def _draw_extraction(extraction: ExtractionProgress) -> RenderableType:
    bar = ProgressBar(total=max(1, extraction.total), completed=extraction.done if extraction.total else 1, width=None)
    # A table row around the bar, because a bar alone does not end its line.
    line = Table.grid(expand=True)
    line.add_row(bar)
    return Group(line, _fold(describe_extraction(extraction)))


def _draw_statuses(progress: RunProgress) -> Table:
    table = _draw_counts((), columns=2)
    for status, tally in progress.statuses.items():
        style = "" if status in KEPT_STATUSES else "yellow"
        fetched = f"{describe_bytes(tally.fetched_bytes)} fetched" if tally.fetched_bytes else ""
        table.add_row(f"{tally.urls:,}", Text(str(status), style=style), fetched)
    return table


def _draw_counts(counts: Iterable[tuple[int, str]], *, columns: int = 1) -> Table:
    """A table of counts and what they count; `columns` is the number of columns beside the counts."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    for _ in range(columns):
        table.add_column(overflow="fold")
    for count, what in counts:
        table.add_row(f"{count:,}", Text(sanitise_line(what)))
    return table


def draw_causes(summary: Mapping[str, Any]) -> RenderableType | None:
    """Draws why rows gave no video, from the summary of a run, with advice when one cause took most of them. None when
    every row gave a video."""
    causes = [Cause(**cause) for cause in summary.get("causes", ())]
    if not causes:
        return None
    # A line for a single cause more is as good as a line that says so.
    shown = causes if len(causes) == SHOWN_CAUSES + 1 else causes[:SHOWN_CAUSES]
    table = _draw_counts(
        (cause.rows, f"{cause}{f' → --set {cause.remedy}' if cause.remedy else ''}") for cause in shown
    )
    parts: list[RenderableType] = [Text("why rows gave no video", style="bold"), table]
    if len(causes) > len(shown):
        rest = summary["rows"]["invalid"] + summary["rows"]["failed"] - sum(cause.rows for cause in shown)
        parts.append(Text(f"and {rest:,} rows for other reasons, which the report lists", style="dim"))
    reading = Reading(**summary["reading"])
    main = find_main_cause(reading, causes)
    if main is not None:
        warning = (
            f"warning: {main.rows:,} of {reading.tried:,} rows gave no video for one reason, {sanitise_line(str(main))}"
        )
        parts.append(_fold(warning, style="yellow"))
    elif reading.is_poor:
        parts.append(_fold(f"warning: {reading.headline}", style="yellow"))
    return Group(*parts)


def list_outcomes(summary: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """The outcome of a run as lines of a table: words, rows, and the key of the file in the summary."""
    rows, known = summary["rows"], count_known(summary)
    lines = [("videos kept", rows["final"], "FINAL_RESULT")]
    lines.append(("repeated URLs", rows["text_duplicates"] - (known.urls if known else 0), "text_duplicates"))
    lines.append(("copies of kept videos", rows["duplicates"] - (known.copies if known else 0), "duplicates"))
    if known is not None:
        lines.append(("already known, by their URL", known.urls, "text_duplicates"))
        lines.append(("already known, by their frames", known.copies, "duplicates"))
    return [
        *lines,
        ("not videos", rows["invalid"], "invalid_urls"),
        ("could not be read", rows["failed"], "failed_urls"),
    ]


def list_next_steps(summary: Mapping[str, Any], *, run_name: str, command: str = "") -> list[str]:
    """What a person may do after a run, one line each. `command` is what to type to run it again; "" when it cannot be
    repeated."""
    steps = []
    if doubtful := summary.get("decision", {}).get("review", 0):
        pairs = "1 pair waits" if doubtful == 1 else f"{doubtful:,} pairs wait"
        steps.append(f"{pairs} for you to decide: python -m dedup_lib app {shlex.quote(run_name)}")
    causes = [Cause(**cause) for cause in summary.get("causes", ())]
    remedies = dict.fromkeys(cause.remedy for cause in causes if cause.remedy)
    if command and remedies:
        rows = sum(cause.rows for cause in causes if cause.remedy)
        settings = " ".join(f"--set {remedy}" for remedy in remedies)
        steps.append(f"{_count_rows(rows)} refused by a setting; if you trust the list: {command} {settings}")
    pending = summary.get("reading", {}).get("pending", 0)
    again = summary.get("retryable", 0) - pending
    if command and again > 0:
        steps.append(f"{_count_rows(again)} not read for a reason that may pass; to try again: {command}")
    if pending:
        steps.append(f"{_count_rows(pending)} not tried yet: run again without start and end")
    return steps


def _count_rows(rows: int) -> str:
    return "1 row was" if rows == 1 else f"{rows:,} rows were"


def draw_comparison(comparison: Comparison) -> RenderableType:
    """Draws the changes from one run to another, for terminals of any width."""
    parts: list[RenderableType] = [_fold(comparison.headline, style="bold")]
    shared = f"{comparison.in_both:,} URLs are in both runs"
    names = (sanitise_line(comparison.before), sanitise_line(comparison.after))
    if comparison.only_before or comparison.only_after:
        shared += f"; only in {names[0]}, not compared: {comparison.only_before:,}"
        shared += f"; only in {names[1]}, not compared: {comparison.only_after:,}"
    parts.append(_fold(shared))
    for title, changes in (
        ("rows of each output", comparison.rows),
        ("settings that differ", comparison.settings),
        ("URLs with another output or status", comparison.fates),
    ):
        if changes:
            rows = [
                (FLOW_WORDS.get(change.what, change.what), _show_value(change.before), _show_value(change.after))
                for change in changes
            ]
            parts += _draw_changes(title, ("", *names), rows, count=len(rows))
    before, after = comparison.joined_before, comparison.joined_after
    for title, pairs, count, heads in (
        ("newly joined pairs", after.pairs, after.count, ("video", "video")),
        ("pairs no longer joined", before.pairs, before.count, ("video", "video")),
        ("another video kept", comparison.keepers, len(comparison.keepers), ("before", "now")),
    ):
        if pairs:
            parts += _draw_changes(f"{title}: {count:,}", heads, pairs, count=count)
    return Group(*parts)


def _show_value(value: object) -> str:
    if value is None:
        return "not set"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _draw_changes(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, count: int
) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(Text(sanitise_line(head)), overflow="fold")
    for row in rows[:MAX_COMPARED]:
        table.add_row(*(Text(sanitise_line(cell)) for cell in row))
    more = [Text(f"and {count - MAX_COMPARED:,} more, which --json lists", style="dim")] if count > MAX_COMPARED else []
    return [Text(), Text(title, style="bold"), table, *more]
