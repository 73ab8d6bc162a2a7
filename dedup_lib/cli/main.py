"""The commands: each checks what it is given, calls `flow`, `steps` or `report`, and prints."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.live import Live
from tqdm import tqdm

from dedup_lib import __version__
from dedup_lib.cli.collections import collections
from dedup_lib.cli.console import (
    complaints,
    complete_profile,
    complete_run,
    console,
    require_run,
    show_outcome,
    show_table,
    shown,
)
from dedup_lib.cli.reports import report, share
from dedup_lib.cli.runs import runs
from dedup_lib.errors import DedupError, FailedRowsError, SettingError
from dedup_lib.records import json_line
from dedup_lib.run.memory import run_apart
from dedup_lib.run.paths import find_project_root, is_same_place
from dedup_lib.run.status import State, read_progress
from dedup_lib.sanitise import sanitise
from dedup_lib.ui.terminal import RunDisplay, describe_next_step, describe_progress, draw_comparison, draw_progress

if TYPE_CHECKING:
    from dedup_lib.flow.plan import RunPlan

WATCH_EVERY_S = 2.0


def main() -> None:
    """Run the command line. An error meant for people is printed as one line, not as a traceback.

    The exit code is 0 when all went well, 1 for an error that ended the work, 2 for a command that makes no sense, 3
    for a complete run in which more rows failed than `fail_above` allows, and 130 for a run that was stopped.
    """
    # jsonschema, which nbformat imports, would otherwise build a grammar of URLs for a second, to check formats that no
    # notebook has.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # as the docs of sys.modules allow
    try:
        commands(standalone_mode=False)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(sanitise(said.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except click.Abort:
        complaints.print("stopped")
        sys.exit(130)
    except DedupError as error:
        complaints.print(f"[bold red]error:[/] {shown(error)}")
        sys.exit(3 if isinstance(error, FailedRowsError) else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def commands() -> None:
    """Clean a list of video URLs: every video once, each removal explained, nothing lost.

    \b
    python -m dedup_lib demo                                            see it work on generated clips
    python -m dedup_lib run direct --set input_csv=ads.csv --run ads    clean your own list
    python -m dedup_lib status ads --watch                              follow a run from another terminal
    python -m dedup_lib app ads                                         look and decide in a browser
    python -m dedup_lib share ads                                       pack the report and the CSVs for a mail
    python -m dedup_lib compare ads strict                              see what changed between two runs
    python -m dedup_lib explain ads URL_A URL_B                         see why two videos were joined, or not
    python -m dedup_lib calibrate direct --run ads                      find the threshold that suits your videos
    python -m dedup_lib report ads                                      rebuild the pages of a run
    python -m dedup_lib runs list                                       see all runs, and remove old ones
    python -m dedup_lib collections list --run ads                      look into the vector store
    """


commands.add_command(collections)
commands.add_command(runs)
commands.add_command(report)
commands.add_command(share)

_work_in_option = click.option(
    "--run",
    "run_name",
    default="",
    metavar="NAME",
    shell_complete=complete_run,
    help="Work in outputs/NAME instead of the profile's run_dir.",
)

_set_option = click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Set a parameter; repeat it to set several."
)


def _port_option(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--port",
        type=click.IntRange(1, 65535),
        default=default,
        show_default=True,
        help="Port to listen on; if it is taken, another one is used.",
    )


@commands.command()
@click.argument("profile", shell_complete=complete_profile)
@_work_in_option
@_set_option
@click.option(
    "--against",
    multiple=True,
    metavar="RUN",
    shell_complete=complete_run,
    help="Set aside what this earlier run has read; a pattern such as 'week*' names several; repeat it for more.",
)
@click.option("--from", "first", default="", metavar="NN", help="Start at this notebook, such as 03.")
@click.option("--only", default="", metavar="NN", help="Run only this notebook.")
@click.option("--no-report", is_flag=True, help="Do not write the report.")
def run(
    profile: str,
    run_name: str,
    overrides: tuple[str, ...],
    against: tuple[str, ...],
    first: str,
    only: str,
    no_report: bool,
) -> None:
    """Run the notebooks of a flow on a list.

    PROFILE is the name of a profile in params/ (demo, direct, batch, first_frame, server, zilliz) or the path of a YAML
    file. Give the same command again to continue a run that was stopped: finished work is kept, and videos that failed
    for a reason that may have passed are tried again. Only one run works in a run folder at a time; `status` shows how
    far it is from another terminal.

    The exit code is 0 when the run is complete; 3 when it is complete, but more rows failed than fail_above allows; 1
    when an error ended it; 2 when the command is incomplete; and 130 when it was stopped. Settings are not remembered:
    repeat the profile and each --set when you run one notebook again.

    \b
    python -m dedup_lib run direct --set input_csv=ads.csv --run ads
    python -m dedup_lib run batch --set input_csv=ads.csv --set vectors=average
    python -m dedup_lib run direct --set input_csv=week.csv --run week48 --against ads --against 'week*'
    python -m dedup_lib run direct --run ads --only 06 --set min_score=0.8
    """
    # These import papermill and nbconvert, which --help does not need.
    from dedup_lib.flow.plan import plan_run
    from dedup_lib.flow.profiles import apply_overrides, load_profile, parse_overrides

    values = apply_overrides(load_profile(profile), parse_overrides(overrides))
    plan = plan_run(values, run_name=run_name, against=against, first=first, only=only)
    # Without 03_extract, nothing would be read again.
    again = _given_command() if "03_extract" in plan.notebooks else ""
    try:
        _execute(plan, report=not no_report)
    except FailedRowsError:
        # The outputs are complete, so there is an outcome to show.
        show_outcome(plan.run, command=again)
        raise
    show_outcome(plan.run, command=again)


def _execute(plan: RunPlan, *, report: bool = True) -> None:
    """Run the notebooks of a plan and show their progress. A person may stop the run."""
    from dedup_lib.flow.execute import execute_plan

    command = _given_command()
    for note in plan.notes:
        complaints.print(shown(note))
    try:
        for note in run_apart(partial(_check_start, plan)):
            complaints.print(shown(note))
        with RunDisplay(console, plan.run) as display:
            execute_plan(
                plan,
                command=command,
                report=report,
                on_start=display.start,
                on_progress=display.hear,
                on_done=display.finish,
            )
    except KeyboardInterrupt:
        # nbclient forgets the task of the stopped cell, and asyncio would print its traceback at the end.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        complaints.print(f"stopped; finished work is kept. To continue: {shown(command)}")
        sys.exit(130)


def _check_start(plan: RunPlan) -> tuple[str, ...]:
    from dedup_lib.flow.preflight import check_start

    return check_start(plan)


def _given_command() -> str:
    """The command to type in the project folder to repeat this one."""
    given, here = shlex.join(["python", "-m", "dedup_lib", *sys.argv[1:]]), Path.cwd()
    return given if here.resolve() == find_project_root() else f"cd {shlex.quote(str(here))} && {given}"


@commands.command(short_help="Propose a threshold, measured on a sample.")
@click.argument("profile", shell_complete=complete_profile)
@_work_in_option
@_set_option
def calibrate(profile: str, run_name: str, overrides: tuple[str, ...]) -> None:
    """Propose a threshold for a list, measured on a sample of its videos.

    Runs 07_calibrate. PROFILE is the same as for `run`. Leaves a page with the measurement, and a profile with the
    threshold that it proposes.

    \b
    python -m dedup_lib calibrate direct --set input_csv=ads.csv --run ads
    python -m dedup_lib run outputs/ads/calibrated.yaml --set input_csv=ads.csv --run ads
    """
    from dedup_lib.flow.plan import plan_notebook
    from dedup_lib.flow.profiles import apply_overrides, load_profile, parse_overrides
    from dedup_lib.settings import CalibrateSettings

    stage = CalibrateSettings.stage
    values = apply_overrides(load_profile(profile), parse_overrides(overrides))
    plan = plan_notebook(stage, values, run_name=run_name)
    _execute(plan)
    record = plan.run.read_record(stage) or {"files": {}}
    if words := record.get("words"):
        console.print(shown(words))
    if warning := record.get("warning"):
        console.print(f"[yellow]warning: {shown(warning)}[/]")
    for name in record["files"]:
        console.print(f"{name}: {shown(plan.run.shown(plan.run.recorded_path(record, name)))}")
    console.print(f"report: {shown(plan.run.shown(plan.run.reports_dir / f'{stage}.html'))}")


@commands.command(short_help="Look and decide in a browser, without code.")
@click.argument("run_name", metavar="RUN", shell_complete=complete_run)
@_port_option(8866)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. 0.0.0.0 lets other machines in; people there need the whole URL with its token.",
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser. Without a display, none is opened.")
def app(run_name: str, port: int, address: str, no_browser: bool) -> None:
    """Serve 06 of a run as an app: the threshold slider, the groups and the review queue, without code.

    RUN is the name of a run in outputs/, or the path of a run folder. Each visit searches again with the settings of
    the run and rewrites its outputs, so what you decide in the review queue takes effect at the next visit. Press
    Ctrl-C to stop the app.

    \b
    python -m dedup_lib app ads
    python -m dedup_lib app ads --port 9000 --no-browser
    """
    # This imports a web server.
    from dedup_lib.ui.app import serve_app

    def tell(url: str) -> None:
        console.print(f"app: {shown(url)}\nPress Ctrl-C to stop it.")
        if not no_browser and _has_browser():
            click.launch(url)

    serve_app(require_run(run_name), port=port, address=address, on_ready=tell)


def _has_browser() -> bool:
    """Whether a browser can be opened here. On a server, the search for one fills the terminal with complaints."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


@commands.command(short_help="Show what changed between two runs.")
@click.argument("first", metavar="RUN_A", shell_complete=complete_run)
@click.argument("second", metavar="RUN_B", shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, for programs; write no page.")
def compare(first: str, second: str, as_json: bool) -> None:
    """Show what changed between two finished runs: outputs, groups, kept videos, statuses, settings.

    RUN_A and RUN_B are names of runs in outputs/, or paths of run folders, of the same list or of lists that share
    URLs. Leaves a page among the reports of RUN_B, with the frames of the pairs that only one of the two joined.

    \b
    python -m dedup_lib run direct --set input_csv=ads.csv --run strict --set min_score=0.8
    python -m dedup_lib compare ads strict
    python -m dedup_lib compare ads strict --json | jq .joined_after.count
    """
    # These import pandas and the templates, which --help does not need.
    from dedup_lib.report.comparison import compare_runs, load_outcome
    from dedup_lib.report.comparison_page import write_comparison

    before, after = require_run(first, "RUN_A"), require_run(second, "RUN_B")
    if is_same_place(before.path, after.path):
        raise SettingError("RUN_B", second, "it is the same run as RUN_A; name two different runs")
    with tqdm(total=2, desc="reading outputs", unit=" runs", leave=False, disable=not console.is_terminal) as bar:
        outcomes = []
        for folder in (before, after):
            outcomes.append(load_outcome(folder))
            bar.update()
    comparison = compare_runs(*outcomes)
    if as_json:
        click.echo(json_line(comparison, is_empty=comparison.is_empty))
        return
    console.print(draw_comparison(comparison), soft_wrap=False)
    console.print(f"page: {shown(after.shown(write_comparison(comparison, before=before, after=after)))}")


@commands.command(short_help="Show why two videos were joined, or not.")
@click.argument("run_name", metavar="RUN", shell_complete=complete_run)
@click.argument("first", metavar="URL_A")
@click.argument("second", metavar="URL_B")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, for programs.")
def explain(run_name: str, first: str, second: str, as_json: bool) -> None:
    """Show what speaks for two videos of a finished run being the same, what was measured, and what became of them.

    RUN is the name of a run in outputs/, or the path of a run folder. Two videos that the run did not compare, because
    nothing proposed them, are compared now. In the notebook and in scripts, pairs.parquet has a row for every pair.

    \b
    python -m dedup_lib explain ads https://example.com/a.mp4 https://example.com/b.mp4
    python -m dedup_lib explain ads https://example.com/a.mp4 https://example.com/b.mp4 --json | jq .measured
    """
    # These import pandas and OpenCV, which --help does not need.
    from dedup_lib.groups.pairs import PAIR_COLUMNS
    from dedup_lib.match.score import TERMS
    from dedup_lib.steps.explain import explain_pair

    explained = explain_pair(require_run(run_name), first, second)
    if as_json:
        click.echo(json_line(explained))
        return
    console.print(f"the first:  {shown(explained.first_url)}\nthe second: {shown(explained.second_url)}")
    console.print(f"[bold]{shown(explained.verdict or 'not compared')}[/]: {shown(explained.why)} ({explained.origin})")
    for line in explained.outputs:
        console.print(shown(line))
    if explained.measured:
        show_table(
            [
                {"measured": name, "value": value, "what it is": PAIR_COLUMNS[name]}
                for name, value in explained.measured.items()
            ]
        )
    if explained.adds:
        show_table(
            [
                {"for the score": name, "adds": f"{value:+.2f}", "what it is": TERMS[name]}
                for name, value in explained.adds.items()
            ]
        )


@commands.command(short_help="Show how far a run is and what failed.")
@click.argument("run_name", metavar="RUN", shell_complete=complete_run)
@click.option("--watch", is_flag=True, help="Keep showing it until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, for programs.")
def status(run_name: str, watch: bool, as_json: bool) -> None:
    """Show how far a run is: notebooks, pace and time left, statuses, failing hosts and reasons.

    RUN is the name of a run in outputs/, or the path of a run folder. The run may still be at work, in another terminal
    or in JupyterLab, or have finished, failed or been killed; nothing in it is changed. With --watch, a terminal
    refreshes every two seconds; elsewhere a line (or a JSON object) is written whenever something changes.

    \b
    python -m dedup_lib status ads
    python -m dedup_lib status ads --watch
    python -m dedup_lib status ads --json | jq .extraction
    """
    folder = require_run(run_name)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        line_before = ""
        while (progress := read_progress(folder)).state == State.RUNNING and watch:
            line = json_line(progress) if as_json else describe_progress(progress)
            if console.is_terminal and not as_json:
                live.update(draw_progress(progress), refresh=True)
            elif line != line_before:
                click.echo(line)
                line_before = line
            time.sleep(WATCH_EVERY_S)
    if as_json:
        click.echo(json_line(progress))
    else:
        console.print(draw_progress(progress), soft_wrap=False)
        if next_step := describe_next_step(progress):
            console.print(f"\n{next_step}", markup=False)


@commands.command(short_help="See it work on generated clips, offline.")
@_port_option(8765)
def demo(port: int) -> None:
    """Generate clips, serve them with traps, clean the list with both flows, and check the outcome.

    Needs no account, no server and no internet. Leaves outputs/demo and outputs/demo_batch.

    \b
    python -m dedup_lib demo
    python -m dedup_lib demo --port 9000
    """
    from dedup_lib.demo.rehearsal import run_demo

    if not run_demo(port=port, console=console, show_outcome=show_outcome):
        sys.exit(1)
