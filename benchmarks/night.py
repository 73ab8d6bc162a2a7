"""The rehearsal of a night: part of a list of 90,000 URLs with the faults of real lists, and what follows for the rest.

    python benchmarks/night.py --help

A server in a separate process serves real clips under as many addresses as the list has rows, from many hosts, with
latency, slow hosts, hosts that never answer, and files that are gone, cut off or no video. The run is that of the
command line, up to 03_extract. After half of the time all its processes are killed, as by a power cut, and the same
command goes on; at the end they are killed again. The benchmark prints and saves the pace, the outcomes, the memory and
the disk, and what they come to for the whole list. The server works on the same cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil
from load import EXTRACTION, ROOT, Sample, console, save_list, start_run, take_sample
from site_of_clips import SHARES, Site, clips_option, count_sent, find_clips, serving

from dedup_lib.records import KEPT_STATUSES
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import read_progress

HOSTS = 40
SAMPLE_EVERY_S = 5.0
STOP_WITHIN_S = 20.0
TEXT_COPY_EVERY = 20
"""One row out of this number repeats the row before it."""
STEADY_AFTER_S = 60.0
"""The pace is measured from then on after each start."""


@dataclass(frozen=True)
class Moment:
    """The run at one moment."""

    at_s: float
    """Seconds since the first start."""
    part: int
    """0 before the processes were killed, 1 after it."""
    sample: Sample


def rehearse(urls: Sequence[str], *, run: RunFolder, folder: Path, minutes: float) -> list[Moment]:
    """Run the list for that time, with all processes killed at half time. Returns what was seen."""
    list_csv = save_list(urls, folder)
    moments: list[Moment] = []
    start_s = time.monotonic()
    for part in (0, 1):
        end_s = start_s + 30 * minutes * (part + 1)
        with start_run("direct", input_csv=list_csv, run_dir=run.path) as process:
            while process.poll() is None and time.monotonic() < end_s:
                time.sleep(SAMPLE_EVERY_S)
                moments.append(Moment(time.monotonic() - start_s, part, take_sample(process.pid, run)))
            if process.poll() is not None:
                raise click.ClickException("the run ended by itself: give it more rows, or look at its terminal")
            kill_family(process.pid)
    return moments


def kill_family(pid: int) -> None:
    """Kill a process with all that it has started."""
    own = psutil.Process(pid)
    family = [own, *own.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=STOP_WITHIN_S)


def measure_pace(moments: Sequence[Moment]) -> float:
    """URLs per second, from a while after each start to its end."""
    done, seconds = 0, 0.0
    for part in (0, 1):
        own = [moment for moment in moments if moment.part == part and moment.sample.stage == EXTRACTION]
        steady = [moment for moment in own if moment.at_s >= own[0].at_s + STEADY_AFTER_S]
        done += steady[-1].sample.done - steady[0].sample.done
        seconds += steady[-1].at_s - steady[0].at_s
    return done / seconds


def measure_disk(folder: Path) -> dict[str, int]:
    """Bytes of each file and folder in a run folder."""
    return {
        entry.name: sum(path.stat().st_size for path in (entry.rglob("*") if entry.is_dir() else [entry]))
        for entry in folder.iterdir()
    }


def summarise(moments: Sequence[Moment], *, run: RunFolder, rows: int, sent_bytes: int) -> dict[str, Any]:
    """The figures of a rehearsal, and what they come to for the whole list."""
    progress = read_progress(run)
    extracted = progress.extraction
    if extracted is None:
        raise click.ClickException("no video was read in that time: give it more minutes")
    statuses = {status: tally.urls for status, tally in progress.statuses.items() if tally.urls}
    outcomes = sum(statuses.values())
    without = sum(count for status, count in statuses.items() if status not in KEPT_STATUSES)
    killed = [moment for moment in moments if moment.part == 0]
    extraction = [moment for moment in moments if moment.sample.stage == EXTRACTION]
    memory = [moment.sample.memory_bytes for moment in extraction]
    quarter = max(1, len(memory) // 4)
    pace, disk = measure_pace(moments), measure_disk(run.path)
    return {
        "rows": rows,
        "urls": extracted.total,
        "minutes": round(moments[-1].at_s / 60, 1),
        "outcomes": outcomes,
        "outcomes_when_killed": killed[-1].sample.done,
        "urls_a_s": round(pace, 2),
        "statuses": {str(status): count for status, count in statuses.items()},
        "sent_mb_a_url": round(sent_bytes / outcomes / 1e6, 2),
        "peak_mb": round(max(memory) / 1e6),
        "median_mb_by_quarter": [
            round(statistics.median(memory[start : start + quarter]) / 1e6)
            for start in range(0, quarter * 4, quarter)
            if memory[start : start + quarter]
        ],
        "disk_kb_a_url": {name: round(size / outcomes / 1e3, 1) for name, size in disk.items() if size > 10_000},
        "whole_list": {
            "hours_of_03": round(extracted.total / pace / 3600, 1),
            "disk_gb": round(sum(disk.values()) * extracted.total / outcomes / 1e9, 1),
            "fetched_gb": round(sent_bytes * extracted.total / outcomes / 1e9),
            "urls_without_a_video": round(extracted.total * without / outcomes),
        },
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@clips_option
@click.option("--rows", default=90_000, show_default=True, type=click.IntRange(1), help="Rows of the list.")
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(4), help="Time that the run gets.")
@click.option("--latency", "latency_s", default=0.2, show_default=True, help="Median seconds before each answer.")
@click.option(
    "--results-dir", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", show_default=True
)
def main(clips_dir: Path, rows: int, minutes: float, latency_s: float, results_dir: Path) -> None:
    """Rehearse a night with a long list, as far as the time reaches."""
    site = Site(paths=tuple(find_clips(clips_dir)), latency_s=latency_s, hosts=HOSTS, has_faults=True)
    with serving(site) as port, tempfile.TemporaryDirectory(prefix="night-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        run = RunFolder(folder / "run")
        every = site.list_urls(rows, port=port)
        urls = [every[row - (row % TEXT_COPY_EVERY == TEXT_COPY_EVERY - 1)] for row in range(rows)]
        moments = rehearse(urls, run=run, folder=folder, minutes=minutes)
        found = summarise(moments, run=run, rows=rows, sent_bytes=count_sent(port))
    conditions = {
        "clips": len(site.paths),
        "hosts": HOSTS,
        "latency_s": latency_s,
        "cores": os.cpu_count(),
        "faults": {str(fault): share for fault, share in SHARES.items()},
    }
    console.print_json(data=conditions | found)
    write_text_atomically(results_dir / "night.json", json.dumps(conditions | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
