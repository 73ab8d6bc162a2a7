"""Runs the demo: makes the clips, serves them, runs both flows, checks the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from dedup_lib.demo.check import check_outcome
from dedup_lib.demo.clips import make_clips, write_list
from dedup_lib.demo.server import ClipServer
from dedup_lib.flow.execute import execute_plan
from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.run.folder import RunFolder
from dedup_lib.ui.terminal import RunDisplay

RUNS = {"demo": {}, "demo_batch": {"mode": "batch", "vectors": "frames"}}
"""The name of each run, with its changes to the profile `demo`."""


def run_demo(*, port: int, console: Console, show_outcome: Callable[[RunFolder], None]) -> bool:
    """Runs the demo, with its progress on `console`; returns whether every check of the outcome holds.

    `show_outcome` shows the result of a run.
    """
    start_s = time.monotonic()
    folder = RunFolder("outputs/demo").path
    console.print("[bold]Generating clips[/] and copies, and planting traps")
    manifest = make_clips(folder / "clips")
    holds = True
    with ClipServer(manifest.folder, port=port, or_any_port=True) as server:
        list_csv = write_list(folder / "videos.csv", base_url=server.base_url)
        for name, changed in RUNS.items():
            profile = load_profile("demo") | {"input_csv": str(list_csv)} | changed
            plan = plan_run(profile, run_name=name)
            console.print(
                f"\n[bold]The {profile['mode']} flow[/] over {len(manifest.rows)} rows, served from {server.base_url}"
            )
            with RunDisplay(console, plan.run) as display:
                execute_plan(
                    plan,
                    command="python -m dedup_lib demo",
                    on_start=display.start,
                    on_progress=display.hear,
                    on_done=display.finish,
                )
            show_outcome(plan.run)
            checks = check_outcome(plan.run.path, base_url=server.base_url)
            wrong = [check for check in checks if not check.holds]
            holds = holds and not wrong
            if wrong:
                table = Table(title="not as expected", title_style="bold red", title_justify="left")
                for column in ("what", "expected", "found"):
                    table.add_column(column, overflow="fold")
                for check in wrong:
                    table.add_row(check.what, check.expected, check.found)
                console.print(table)
            else:
                console.print(f"[green]✓[/] all {len(checks)} checks of the outcome hold")
    console.print(f"\ndone in {time.monotonic() - start_s:.0f} s")
    return holds
