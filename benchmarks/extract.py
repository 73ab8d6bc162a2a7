"""What extraction costs beside the plain way: one video after the other, `cv2.VideoCapture(url)`, one insert each.

    python benchmarks/extract.py --help

Both ways read the same clips from a server on this machine, which answers every request after a given latency. CLIP
is a model of the real size with random weights. The plain way reads each clip once, because its pace does
not depend on the number of videos. Extraction reads each clip several times, under different addresses, because its
worker processes take a second to start. Each run is a separate process, so that its CPU time and memory can be
measured. The benchmark prints and saves the videos per second and their ratio, the CPU-seconds and bytes per video, and
the peak memory. It also gives the efficiency: the CPU-seconds of decoding and encoding, each measured alone, divided by
the CPU-seconds that all cores offer during the run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from site_of_clips import LIMITS, NO_SCAN, Site, clips_option, count_sent, find_clips, serving

from dedup_lib.extract.pipeline import extract_videos
from dedup_lib.extract.sinks import CollectionSink
from dedup_lib.extract.worker import read_video
from dedup_lib.features.encoder import Encoder
from dedup_lib.features.encoders import load_encoder
from dedup_lib.records import Pooling, Recipe, Scan, Status, VideoVectors
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.ledger import Ledger
from dedup_lib.settings import ExtractSettings
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
MOST_A_HOST = 64
"""All videos are on one host, which must not hold them up."""

console = Console(highlight=False)


# --- the two ways


def read_plainly(urls: Sequence[str], *, encoder: str, model: str, frames: int, folder: Path) -> Callable[[], int]:
    """Read one video after the other, as the scripts did that this project replaces. Loads the model and returns a
    function. The function does the work and returns the number of videos that gave a vector."""
    loaded = load_encoder(encoder, model=model)
    embed = _plain_clip(model) if encoder == "clip" else lambda picture: loaded.encode_frames([picture])
    store = Store(StoreAddress(uri=str(folder / "milvus.db")))
    collection = _make_collection(store, loaded, frames)

    def work() -> int:
        done = 0
        for url in urls:
            capture = cv2.VideoCapture(url)
            count = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            pictures = []
            for place in np.linspace(0, count - 1, frames).astype(int).tolist():
                if place:
                    capture.set(cv2.CAP_PROP_POS_FRAMES, place)
                is_read, picture = capture.read()
                if is_read:
                    pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            capture.release()
            if pictures:
                vectors = np.concatenate([embed(np.asarray(picture, np.uint8)) for picture in pictures])
                positions = tuple(range(len(pictures)))
                collection.upsert([VideoVectors(url=url, vectors=vectors, positions=positions)])
                done += 1
        return done

    return work


def _plain_clip(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    processor: Any = CLIPImageProcessorPil.from_pretrained(model)
    tower: Any = CLIPVisionModelWithProjection.from_pretrained(model).eval()

    def embed(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = tower(pixel_values=processor(images=picture, return_tensors="pt")["pixel_values"]).image_embeds
        vector = found.numpy()
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    return embed


def read_as_here(
    urls: Sequence[str], *, encoder: str, model: str, frames: int, scan: Scan, workers: int | None, folder: Path
) -> Callable[[], int]:
    """Read the videos as 03_extract does. Returns a function, as `read_plainly` does."""
    loaded = load_encoder(encoder, model=model)
    recipe = _recipe(loaded, frames)
    ledger, store = Ledger(folder / "ledger.sqlite", recipe), Store(StoreAddress(uri=str(folder / "milvus.db")))
    sink = CollectionSink(_make_collection(store, loaded, frames))

    def work() -> int:
        report = extract_videos(
            urls,
            rows=range(len(urls)),
            settings=ExtractSettings(**vars(LIMITS), workers=workers, most_a_host=MOST_A_HOST, retries=0),
            encoder=loaded,
            recipe=recipe,
            scan=scan,
            sink=sink,
            ledger=ledger,
            thumbnails_dir=folder / "thumbnails",
        )
        return sum(outcome.status == Status.OK for outcome in report.outcomes.values())

    return work


def _recipe(encoder: Encoder, frames: int) -> Recipe:
    span = "first" if frames == 1 else "spread"
    return Recipe(encoder=encoder.name, model=encoder.model, num_frames=frames, frame_span=span)


def _make_collection(store: Store, encoder: Encoder, frames: int) -> Any:
    pooling = Pooling.FIRST if frames == 1 else Pooling.FRAMES
    return store.ensure_collection(
        "videos", pooling=pooling, recipe=_recipe(encoder, frames), dimension=encoder.dimension
    )


# --- measuring


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one run."""

    videos: int
    wall_s: float
    cpu_s: float
    fetched_bytes: int
    peak_memory_bytes: int
    """Memory of the process and its children together. Each shared page counts once."""


def _measured(load: Callable[..., Callable[[], int]], options: dict[str, Any], pipe: Connection) -> None:
    """Load what is needed, do the work, and send its cost. Runs in a separate process."""
    peak, done = 0, threading.Event()
    spent_by: dict[int, float] = {}

    def watch() -> None:
        nonlocal peak
        own, looks = psutil.Process(), 0
        while not done.wait(0.3):
            processes = [own, *own.children(recursive=True)]
            # Adding up pages costs a hundred times as much as reading a clock.
            if looks % 10 == 0:
                peak = max(peak, _memory_of(processes))
            looks += 1
            # The worker processes are children of a fork server, so only they know their own CPU time.
            spent_by.update(_spent_by(processes))

    with tempfile.TemporaryDirectory(prefix="extract-") as folder:
        work = load(**options, folder=Path(folder))
        before = _spent_by([psutil.Process()])
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        start_s = time.perf_counter()
        videos = work()
        wall_s = time.perf_counter() - start_s
        done.set()
        watcher.join()
    pipe.send((videos, wall_s, sum(spent_by.values()) - sum(before.values()), peak))


def _spent_by(processes: Sequence[psutil.Process]) -> dict[int, float]:
    """CPU-seconds of each process so far, by process id."""
    spent = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        spent[process.pid] = times.user + times.system
    return spent


def _memory_of(processes: Sequence[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            # The process has ended in the meantime.
            continue
    return total


def measure(load: Callable[..., Callable[[], int]], *, port: int, **options: Any) -> Cost:
    """Run one of the two ways in a separate process and return its cost."""
    before = count_sent(port)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(load, options, theirs))
    process.start()
    theirs.close()
    videos, wall_s, cpu_s, peak = ours.recv()
    process.join()
    return Cost(
        videos=videos,
        wall_s=round(wall_s, 2),
        cpu_s=round(cpu_s, 2),
        fetched_bytes=count_sent(port) - before,
        peak_memory_bytes=peak,
    )


def measure_alone(paths: Sequence[Path], *, encoder: str, model: str, frames: int, scan: Scan) -> tuple[float, float]:
    """CPU-seconds per video of decoding, and of encoding in batches. Each is measured alone, in one process, without a
    network."""
    loaded = load_encoder(encoder, model=model)
    recipe = _recipe(loaded, frames)
    cv2.setNumThreads(1)
    start_s = time.process_time()
    read = partial(read_video, recipe=recipe, scan=scan, limits=LIMITS, prepare=loaded.prepare)
    prepared = [one for path in paths for one in read((0, str(path))).prepared]
    decode_s = time.process_time() - start_s
    loaded.encode_prepared(prepared[:32])
    start_s = time.process_time()
    for start in range(0, len(prepared), 32):
        loaded.encode_prepared(prepared[start : start + 32])
    return decode_s / len(paths), (time.process_time() - start_s) / len(paths)


def save_random_clip(folder: Path) -> Path:
    """Save CLIP ViT-B/32 with random weights. It has the real size and cost, but its vectors mean nothing."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def compare(
    site: Site, *, port: int, encoder: str, model: str, frames: int, scan: Scan, rounds: int, workers: int | None
) -> dict[str, Any]:
    """Run both ways on the same clips. Returns the costs and their ratios."""
    clips = len(site.paths)
    urls = site.list_urls(rounds * clips, port=port)
    common = {"encoder": encoder, "model": model, "frames": frames}
    plain = measure(read_plainly, port=port, urls=urls[:clips], **common)
    here = measure(read_as_here, port=port, urls=urls, scan=scan, workers=workers, **common)
    decode_s, encode_s = measure_alone(site.paths, scan=scan, **common)
    cores = os.cpu_count() or 1
    return {
        "encoder": encoder,
        "frames": frames,
        "plain": asdict(plain),
        "here": asdict(here),
        "speedup": round((here.videos / here.wall_s) / (plain.videos / plain.wall_s), 2),
        "bytes_ratio": round(here.fetched_bytes / (rounds * plain.fetched_bytes), 3),
        "decode_cpu_s_a_video": round(decode_s, 4),
        "encode_cpu_s_a_video": round(encode_s, 4),
        "efficiency": round((decode_s + encode_s) * here.videos / (cores * here.wall_s), 3),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@clips_option
@click.option(
    "--rounds", default=6, show_default=True, type=click.IntRange(1), help="Times that extraction reads every clip."
)
@click.option("--latency", "latency_s", default=0.2, show_default=True, help="Seconds before each answer.")
@click.option(
    "--workers",
    default=None,
    type=click.IntRange(1),
    help="Videos at a time [default: as the cores need].",
)
@click.option("--encoder", "encoders", multiple=True, default=("clip", "sscd"), show_default=True)
@click.option("--frames", "counts", multiple=True, type=click.IntRange(1), default=(1, 3, 8), show_default=True)
@click.option(
    "--results-dir", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results", show_default=True
)
def main(
    clips_dir: Path,
    rounds: int,
    latency_s: float,
    workers: int | None,
    encoders: Sequence[str],
    counts: Sequence[int],
    results_dir: Path,
) -> None:
    """Compare extraction with the plain way, on clips from a server with latency."""
    site = Site(paths=tuple(find_clips(clips_dir)), latency_s=latency_s)
    rows = []
    with serving(site) as port, tempfile.TemporaryDirectory(prefix="clip-") as folder:
        model = str(save_random_clip(Path(folder))) if "clip" in encoders else ""
        for encoder in encoders:
            for frames in counts:
                rows.append(
                    compare(
                        site,
                        port=port,
                        encoder=encoder,
                        model=model if encoder == "clip" else "",
                        frames=frames,
                        scan=NO_SCAN,
                        rounds=rounds,
                        workers=workers,
                    )
                )
                console.print_json(data=rows[-1])
    table = Table(
        title=f"{len(site.paths)} clips, read once and {rounds} times, {latency_s:g} s a request", title_justify="left"
    )
    for name in ("encoder", "frames", "plain", "here", "ratio", "CPU-s a video", "bytes", "peak MB", "efficiency"):
        table.add_column(name, justify="right")
    for row in rows:
        plain, here = row["plain"], row["here"]
        table.add_row(
            row["encoder"],
            str(row["frames"]),
            f"{plain['videos'] / plain['wall_s']:.1f}/s",
            f"{here['videos'] / here['wall_s']:.1f}/s",
            f"× {row['speedup']:.1f}",
            f"{here['cpu_s'] / here['videos']:.3f}",
            f"× {row['bytes_ratio']:.2f}",
            f"{here['peak_memory_bytes'] / 1e6:.0f}",
            f"{row['efficiency']:.2f}",
        )
    console.print(table)
    conditions = {"latency_s": latency_s, "clips": len(site.paths), "rounds": rounds, "workers": workers}
    results = json.dumps(conditions | {"rows": rows}, indent=1)
    write_text_atomically(results_dir / "extract.json", results + "\n")


if __name__ == "__main__":
    main()
