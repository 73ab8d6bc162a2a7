"""Commands that list old runs and remove them."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from dedup_lib.cli.console import complaints, complete_run, console, shown
from dedup_lib.records import json_line
from dedup_lib.report.words import describe_bytes
from dedup_lib.run.folder import describe_known_runs
from dedup_lib.run.inventory import (
    describe_runs,
    find_dependents,
    find_given_files,
    find_removable,
    measure_size,
    remove_run,
)
from dedup_lib.sanitise import sanitise


@click.group(short_help="List old runs, and remove them.")
def runs() -> None:
    """List the runs in outputs/, and remove those that are no longer needed.

    \b
    python -m dedup_lib runs list
    python -m dedup_lib runs remove ads strict
    """


@runs.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each run, for programs.")
def list_(as_json: bool) -> None:
    """List the runs in outputs/, the latest first: when each worked last, its rows, how many are kept, its size, its
    state.

    \b
    python -m dedup_lib runs list
    python -m dedup_lib runs list --json | jq -r 'select(.state == "finished").name'
    """
    found = describe_runs()
    if as_json:
        for run in found:
            click.echo(json_line(run))
        return
    if not found:
        console.print(describe_known_runs())
        return
    table = Table()
    for name in ("run", "worked last (UTC)", "rows", "kept", "size", "state"):
        table.add_column(name, justify="right" if name in ("rows", "kept", "size") else "left", overflow="fold")
    for run in found:
        counts = ["" if count is None else f"{count:,}" for count in (run.rows, run.kept)]
        when = run.worked[:16].replace("T", " ")
        table.add_row(shown(run.name), when, *counts, describe_bytes(run.size_bytes), run.state)
    console.print(table)


@runs.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(names: tuple[str, ...], yes: bool) -> None:
    """Remove runs with everything in their folders: outputs, reports, vectors, fingerprints.

    NAME is the name of a run in outputs/. Lists and decisions.csv stay, also where they lie in such a folder. A run at
    work, a folder in which no run has worked, and a link are refused, and then nothing is removed.

    \b
    python -m dedup_lib runs remove ads strict
    python -m dedup_lib runs remove ads --yes
    """
    chosen = [find_removable(name) for name in dict.fromkeys(names)]
    inputs = find_given_files()
    for name, others in find_dependents(chosen).items():
        complaints.print(
            f"[yellow]warning:[/] {shown(', '.join(others))} {'was' if len(others) == 1 else 'were'} compared with "
            f"{shown(name)}, and cannot be run again without it"
        )
    if not yes:
        what = ", ".join(f"{run.path.name} ({describe_bytes(measure_size(run.path))})" for run in chosen)
        click.confirm(sanitise(f"Remove {what} from outputs/ for good?"), abort=True)
    for run in chosen:
        size = measure_size(run.path)
        left = remove_run(run, but=inputs)
        console.print(f"removed {shown(run.path.name)}, {describe_bytes(size - measure_size(run.path))}")
        for path in left:
            # A link stays, whatever it leads to.
            place = Path(run.shown(run.path), path.relative_to(run.path))
            console.print(f"left {shown(place)}, because a run was given it")
