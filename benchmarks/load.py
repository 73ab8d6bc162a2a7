"""What a long list takes of the machine: thousands of small URLs through the whole flow, with the memory over time.

    python benchmarks/load.py --help

A server in a separate process serves a few hundred small clips, with one address for each row of the list. Each answer
has a unique length and end, except for some that are the same file, some that fail, and some that fail once. The run is
that of the command line, with its notebooks, kernels and worker processes. For each length of the list, the benchmark
prints and saves the videos per second, the peak memory of each stage, the memory during extraction, and whether all
rows came out.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
import psutil
from decide import draw_shot
from rich.console import Console
from rich.table import Table

from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.lock import read_holder
from dedup_lib.run.status import read_progress

ROOT = Path(__file__).resolve().parent.parent
EXTRACTION = "03_extract"
WIDTH_PX, HEIGHT_PX = 160, 96
FRAMES, FRAMES_A_SECOND = 24, 8
WORKERS = 8
SAMPLE_EVERY_S = 0.5
NEAR = 0.05
"""The memory at a share of the extraction is the median of the samples that are at most this share away."""
TEXT_COPY_EVERY = 50
"""One row out of this number repeats the row before it."""

console = Console(highlight=False)


# --- the server


def make_clip(number: int) -> bytes:
    """A clip of a camera that moves over a made-up image, as MP4 with its index at the beginning."""
    generator = np.random.default_rng(number)
    shot = cv2.resize(draw_shot(generator), (2 * WIDTH_PX, 2 * HEIGHT_PX), interpolation=cv2.INTER_AREA)
    start, way = generator.uniform(0, HEIGHT_PX / 2, 2), generator.uniform(0, 2, 2)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream("libx264", rate=FRAMES_A_SECOND)
            stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
            stream.codec_context.thread_count = 1
            for index in range(FRAMES):
                down, across = (int(place) for place in start + way * index)
                picture = np.ascontiguousarray(shot[down : down + HEIGHT_PX, across : across + WIDTH_PX])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return Path(file.name).read_bytes()


@dataclass(frozen=True)
class Answer:
    """The server's answer to one request for an address."""

    status: int
    body: bytes = b""


def answer(number: int, *, clips: Sequence[bytes], asked: int) -> Answer:
    """The answer for an address that was requested `asked` times before."""
    clip = clips[number % len(clips)]
    match number % 100:
        case 3 | 53:
            return Answer(404)
        case 7:
            return Answer(200, b"<html><body>moved</body></html>")
        case 11:
            return Answer(206, clip[: len(clip) // 3])
        case 57 if asked == 0:
            return Answer(503)
        case rest if rest % 10 == 9:
            return Answer(206, clip)
    return Answer(206, clip + f"{number:08d}".encode())


def serve(count: int, pipe: Connection) -> None:
    """Serve `count` clips. Runs in a separate process."""
    clips = [make_clip(number) for number in range(count)]
    asked: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            number = int(self.path.strip("/").partition(".")[0])
            found = answer(number, clips=clips, asked=asked[number])
            asked[number] += 1
            body, wanted = found.body, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            self.send_response(found.status)
            if found.status == 206 and wanted:
                first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
                body = body[first : last + 1]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


# --- measuring


@dataclass(frozen=True)
class Sample:
    """The memory of a run at one moment."""

    stage: str
    done: int
    """Number of URLs that have an outcome."""
    memory_bytes: int
    """Memory of all processes of the run together. Each shared page counts once."""


def save_list(urls: Sequence[str], folder: Path) -> Path:
    """Write a list of these URLs to a folder."""
    path = folder / "list.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["url"], *([url] for url in urls)])
    return path


def start_run(flow: str, **given: object) -> subprocess.Popen[bytes]:
    """Start a flow in a process, with these parameters and a store in its run folder. Private addresses are allowed."""
    given |= {"allow_private_addresses": "true"}
    sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    environment = os.environ | {"MILVUS_URI": "", "MILVUS_TOKEN": ""}
    words = [sys.executable, "-m", "dedup_lib", "run", flow, *sets]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def run_list(length: int, *, flow: str, port: int, folder: Path) -> dict[str, Any]:
    """Clean a list of that length with one of the flows. Returns its times, memory and row counts."""
    run = RunFolder(folder / "run")
    numbers = [row - (row % TEXT_COPY_EVERY == TEXT_COPY_EVERY - 1) for row in range(length)]
    list_csv = save_list([f"http://127.0.0.1:{port}/{number}.mp4" for number in numbers], folder)
    samples: list[Sample] = []
    seconds: dict[str, float] = defaultdict(float)
    start_s = before_s = time.monotonic()
    with start_run(flow, input_csv=list_csv, run_dir=run.path, workers=WORKERS, most_a_host=WORKERS) as process:
        while process.poll() is None:
            time.sleep(SAMPLE_EVERY_S)
            sample = take_sample(process.pid, run)
            samples.append(sample)
            now_s = time.monotonic()
            seconds[sample.stage] += now_s - before_s
            before_s = now_s
    if process.returncode:
        raise click.ClickException(f"the run of {length} URLs failed")
    wall_s = time.monotonic() - start_s
    rows = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))["rows"]
    stages = dict.fromkeys(sample.stage for sample in samples if sample.stage)
    peaks = {stage: max(sample.memory_bytes for sample in samples if sample.stage == stage) for stage in stages}
    done = max(sample.done for sample in samples)
    return {
        "flow": flow,
        "rows": length,
        "videos": done,
        "wall_s": round(wall_s, 1),
        "stage_s": {stage: round(seconds[stage], 1) for stage in stages},
        "videos_a_s": round(done / seconds[EXTRACTION], 1),
        "peak_mb": {stage: round(peak / 1e6) for stage, peak in peaks.items()},
        "extraction_mb": {f"{part:.0%}": memory_at(part, samples, done) for part in (0.1, 0.5, 1.0)},
        "rows_out": {name: count for name, count in rows.items() if name != "input"},
        "all_rows_came_out": rows["input"] == length == sum(rows.values()) - rows["input"],
    }


def take_sample(pid: int, run: RunFolder) -> Sample:
    """Measure a run and all its processes now."""
    holder = read_holder(run.lock_path)
    stage = holder.now if holder is not None and not holder.ended else ""
    extraction = read_progress(run).extraction if stage == EXTRACTION else None
    memory_bytes = 0
    try:
        own = psutil.Process(pid)
        family = [own, *own.children(recursive=True)]
    except psutil.Error:
        family = []
    for process in family:
        try:
            memory_bytes += process.memory_full_info().pss
        except psutil.Error:
            continue
    return Sample(stage, extraction.done if extraction is not None else 0, memory_bytes)


def memory_at(part: float, samples: Sequence[Sample], done: int) -> int | None:
    """Megabytes when that share of the extraction was done. None where no sample is near it."""
    near = [
        sample.memory_bytes
        for sample in samples
        if sample.stage == EXTRACTION and 0 < sample.done < done and abs(sample.done / done - part) <= NEAR
    ]
    return round(statistics.median(near) / 1e6) if near else None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sizes", default="200,2000,10000", show_default=True, help="Rows of each list, by commas.")
@click.option(
    "--batch-sizes",
    default="200,2000,10000",
    show_default=True,
    help="The same for the batch flow, in which extraction goes into job folders and no store lies in its memory.",
)
@click.option("--clips", default=500, show_default=True, type=click.IntRange(1), help="Clips behind the addresses.")
@click.option(
    "--results-dir", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", show_default=True
)
def main(sizes: str, batch_sizes: str, clips: int, results_dir: Path) -> None:
    """Clean made-up lists of several lengths, and see what of the machine that takes."""
    given = {"direct": sizes, "batch": batch_sizes}
    wanted = [
        (flow, int(size)) for flow, text in given.items() for size in sorted(filter(None, text.split(",")), key=int)
    ]
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(clips, theirs), daemon=True)
    server.start()
    rows = []
    try:
        port = ours.recv()
        for flow, length in wanted:
            with tempfile.TemporaryDirectory(prefix="load-") as folder:
                rows.append(run_list(length, flow=flow, port=port, folder=Path(folder)))
            console.print_json(data=rows[-1])
    finally:
        server.kill()
        server.join()
    table = Table(title=f"{clips} clips under as many addresses as rows, {WORKERS} workers", title_justify="left")
    for name in (
        "flow",
        "rows",
        "wall",
        "videos/s",
        "peak MB of 03",
        "at 10 / 50 / 100 %",
        "peak MB of 06",
        "all rows out",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["flow"],
            f"{row['rows']:,}",
            f"{row['wall_s']:.0f} s",
            f"{row['videos_a_s']:.1f}",
            f"{row['peak_mb'][EXTRACTION]:,}",
            " / ".join(str(memory) for memory in row["extraction_mb"].values()),
            f"{row['peak_mb']['06_search_and_clean']:,}",
            "yes" if row["all_rows_came_out"] else "NO",
        )
    console.print(table)
    growth = {
        f"{later['flow']}, {later['rows']} / {former['rows']}": round(
            later["peak_mb"][EXTRACTION] / former["peak_mb"][EXTRACTION], 3
        )
        for former, later in pairwise(rows)
        if former["flow"] == later["flow"]
    }
    console.print(f"peak memory of extraction: {growth}")
    results = json.dumps({"clips": clips, "workers": WORKERS, "rows": rows, "extraction_peak_growth": growth}, indent=1)
    write_text_atomically(results_dir / "load.json", results + "\n")


if __name__ == "__main__":
    main()
