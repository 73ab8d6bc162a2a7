"""What all commands share: the console, tables that several of them print, and what a shell completes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dedup_lib.errors import SettingError
from dedup_lib.lists.cells import describe_guarded
from dedup_lib.report.words import describe_news
from dedup_lib.run.folder import RunFolder, describe_known_runs, find_run, list_runs, name_run
from dedup_lib.run.paths import list_profiles
from dedup_lib.sanitise import sanitise
from dedup_lib.ui.terminal import draw_causes, list_next_steps, list_outcomes

console = Console(soft_wrap=True, highlight=False)

complaints = Console(stderr=True, soft_wrap=True, highlight=False)


def shown(text: object) -> str:
    """Text from outside, safe to print: without markup, control characters and credentials of URLs."""
    return escape(sanitise(str(text)))


def show_table(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Print records as a table."""
    table = Table()
    for name in rows[0]:
        table.add_column(shown(name), overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row.values()))
    console.print(table)


def show_outcome(folder: RunFolder, *, command: str = "") -> None:
    """Print the outcome of a run: the rows of each output, its file, why rows gave no video, and what to do next.

    `command` runs it again; without one, nothing suggests that."""
    # This imports pandas, which --help does not need.
    from dedup_lib.groups.decisions import describe_decisions

    if summary := folder.read_summary():
        table = Table(title=f"{summary['rows']['input']:,} rows of {shown(summary['list'])}", title_justify="left")
        table.add_column("outcome")
        table.add_column("rows", justify="right")
        table.add_column("file", overflow="fold")
        for words, rows, file in list_outcomes(summary):
            path = summary["files"].get(file, "")
            place = shown(folder.shown(folder.path / path)) if path else ""
            table.add_row(words, f"{rows:,}", place)
        console.print(table)
        if news := describe_news(summary):
            console.print(shown(news))
        if vectors := (folder.read_record("06_search_and_clean") or {}).get("vectors"):
            console.print(f"vectors: {shown(vectors)}")
        if decided := describe_decisions(summary.get("decisions", {})):
            console.print(decided)
        causes = draw_causes(summary)
        if causes is not None:
            console.print(causes)
        # The summary of an earlier version does not have this count.
        if guarded := summary.get("guarded_cells", 0):
            console.print(f"{describe_guarded(guarded)} Why: docs/decisions/008-spreadsheets.md")
    index = folder.reports_dir / "index.html"
    if index.exists():
        console.print(f"report: {shown(folder.shown(index))}")
    if summary:
        for step in list_next_steps(summary, run_name=name_run(folder), command=command):
            console.print(f"[bold]next:[/] {shown(step)}")


def require_run(run_name: str, argument: str = "RUN") -> RunFolder:
    """A run folder, by its name in outputs/ or by its path. A missing folder is not created."""
    found = find_run(run_name)
    if found is None:
        raise SettingError(argument, run_name, f"there is no such run folder; {describe_known_runs()}")
    return found


def complete_run(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The runs in outputs/ whose names begin so."""
    return [name for name in list_runs() if name.startswith(begun)]


def complete_profile(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The profiles in params/ whose names begin so."""
    return [name for name in list_profiles() if name.startswith(begun)]
