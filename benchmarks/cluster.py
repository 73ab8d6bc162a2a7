"""What a Ray cluster costs beside the processes of this machine, for the same videos.

    python benchmarks/cluster.py --help

Both engines read the same clips from a server on this machine: `local` with two processes, and `ray` on two nodes with
one process each. The CPU time of the whole machine is counted, so nothing else may run. Each engine reads few clips and
then many: the difference is the cost of a video, without that of the start.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import click
import psutil
from accuracy import ROOT, console, results_option, run_command, save_results
from rich.table import Table
from site_of_clips import LIMITS, Site, clips_option, find_clips, serving

sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from ray_cluster import RayCluster

from dedup_lib.extract.pipeline import extract_videos
from dedup_lib.extract.sinks import JobSink
from dedup_lib.features.encoders import load_encoder
from dedup_lib.records import Recipe, Scan
from dedup_lib.run.ledger import Ledger
from dedup_lib.settings import ExtractSettings

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")

FRAMES = 8
"""For each video, as the default profile takes them."""


@dataclass(frozen=True)
class Cost:
    """What reading `videos` videos took: seconds, and CPU-seconds of the whole machine."""

    engine: Engine
    videos: int
    wall_s: float
    cpu_s: float


def spent_s() -> float:
    """The CPU-seconds that the machine has spent since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def read(urls: Sequence[str], *, engine: Engine, folder: Path) -> Cost:
    """Read videos into job folders."""
    encoder = load_encoder("sscd", model="")
    recipe = Recipe(encoder="sscd", model=encoder.model, num_frames=FRAMES, frame_span="spread")
    began_s, spent_before_s = time.monotonic(), spent_s()
    with Ledger(folder / "ledger.sqlite", recipe) as ledger:
        report = extract_videos(
            urls,
            rows=range(len(urls)),
            settings=ExtractSettings(
                **vars(LIMITS) | {"allow_local_paths": False},
                engine=engine,
                workers=2 if engine == "local" else 1,
                most_a_host=256,
            ),
            encoder=encoder,
            recipe=recipe,
            scan=Scan(step_s=0.25),
            thumbnails_dir=folder / "thumbnails",
            progress=lambda count: None,
            sink=JobSink(folder / "jobs", recipe),
            ledger=ledger,
        )
    return Cost(engine, len(report.outcomes), time.monotonic() - began_s, spent_s() - spent_before_s)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@clips_option
@click.option("--few", default=20, show_default=True, type=click.IntRange(1), help="Clips of the first measurement.")
@click.option("--many", default=100, show_default=True, type=click.IntRange(2), help="Clips of the second one.")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1), help="Both engines take turns.")
@results_option(help="Where cluster.json goes.")
def command(clips_dir: Path, few: int, many: int, rounds: int, results_dir: Path) -> None:
    """Read the same clips with each engine, and count what a video costs."""
    clips = find_clips(clips_dir)
    random.Random(0).shuffle(clips)
    site = Site(paths=tuple(clips), latency_s=0.0)
    costs: list[Cost] = []
    with RayCluster() as nodes, serving(site) as port, tempfile.TemporaryDirectory() as scratch:
        nodes.add_node()
        urls = site.list_urls(many, port=port)
        for number, engine, count in product(range(rounds), ENGINES, (few, many)):
            folder = Path(scratch) / f"{number} {engine} {count}"
            costs.append(read(urls[:count], engine=engine, folder=folder))
            console.print(costs[-1])
    table = Table("engine", "CPU-seconds a video", "seconds a video", "seconds of the start")
    described = {engine: describe([cost for cost in costs if cost.engine == engine]) for engine in ENGINES}
    for engine, one in described.items():
        table.add_row(engine, *(f"{value:.3f}" for value in one.values()))
    console.print(table)
    save_results(
        results_dir / "cluster.json",
        section=f"{few} and {many} clips",
        results={"runs": [asdict(cost) for cost in costs], **described},
    )


def describe(costs: Sequence[Cost]) -> dict[str, float]:
    """The cost of a video, and of the start, in the cheapest run of each size."""
    few, many = (
        min((one for one in costs if one.videos == videos), key=lambda one: one.cpu_s)
        for videos in sorted({one.videos for one in costs})
    )
    more = many.videos - few.videos
    a_video_s = (many.wall_s - few.wall_s) / more
    return {
        "cpu_s_a_video": round((many.cpu_s - few.cpu_s) / more, 4),
        "wall_s_a_video": round(a_video_s, 4),
        "start_s": round(few.wall_s - few.videos * a_video_s, 2),
    }


if __name__ == "__main__":
    run_command(command)
