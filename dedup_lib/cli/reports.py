"""Commands that write the report of a run, and pack it for a mail."""

from __future__ import annotations

from pathlib import Path

import click
from tqdm import tqdm

from dedup_lib.cli.console import complete_run, console, require_run, shown
from dedup_lib.report.words import describe_bytes


@click.command(short_help="Rebuild the pages of a run.")
@click.argument("run_name", metavar="RUN", shell_complete=complete_run)
def report(run_name: str) -> None:
    """Rebuild the pages of a run from its executed notebooks and its outputs.

    RUN is the name of a run in outputs/, or the path of a run folder.

    \b
    python -m dedup_lib report ads
    """
    from dedup_lib.report.notebook_pages import find_executed, render_pages
    from dedup_lib.report.overview import write_index
    from dedup_lib.steps.bar import progress_on

    folder = require_run(run_name)
    with tqdm(unit="", leave=False, disable=not console.is_terminal) as bar:
        begin = progress_on(bar)
        render_pages(
            folder, is_all=True, progress=begin("rendering the pages of notebooks", len(find_executed(folder)))
        )
        index_path = write_index(folder.path, begin=begin)
    console.print(f"report: {shown(folder.shown(index_path))}")


@click.command(short_help="Pack the report of a run and its CSVs for a mail.")
@click.argument("run_name", metavar="RUN", shell_complete=complete_run)
@click.option("--to", "path", type=click.Path(path_type=Path), help="The zip to write.  [default: RUN.zip]")
def share(run_name: str, path: Path | None) -> None:
    """Pack the report of a run, its pages and its CSVs as one zip whose links work wherever it is unpacked.

    RUN is the name of a run in outputs/, or the path of a run folder.

    \b
    python -m dedup_lib share ads
    python -m dedup_lib share ads --to monday.zip
    """
    from dedup_lib.report.share import share_run

    folder = require_run(run_name)
    path = path or Path(f"{folder.path.name}.zip")
    names = share_run(folder, path)
    console.print(f"{shown(str(path))}: {len(names)} files, {describe_bytes(path.stat().st_size)}")
