"""Videos on a server, read by the pipeline as 03 reads them, and what it left."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from media import save_clip, save_sound

from dedup_lib.demo.server import ClipServer
from dedup_lib.extract.pipeline import ExtractReport, extract_videos
from dedup_lib.extract.sinks import CollectionSink, JobSink
from dedup_lib.extract.videos_read import KnownFiles
from dedup_lib.extract.worker import read_video
from dedup_lib.features.encoder import Encoder, Prepared
from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Frames, Outcome, Pooling, Recipe, Scan, Status
from dedup_lib.run.ledger import Ledger, LedgerView
from dedup_lib.settings import ExtractSettings
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")

LIMITS = FetchLimits(timeout_s=20, max_bytes=50_000_000, allow_private_addresses=True, allow_local_paths=True)

SCAN = Scan(step_s=0.25)

WANTED = {
    "a.mp4": Status.OK,
    "b.webm": Status.OK,
    "c.ts": Status.OK,
    "d.gif": Status.OK,
    "page.mp4": Status.HTML,
    "song.m4a": Status.NO_VIDEO_STREAM,
    "cut.mp4": Status.DECODE_ERROR,
    "text.mp4": Status.NOT_VIDEO,
    "missing.mp4": Status.HTTP_ERROR,
    "black.mp4": Status.FEATURELESS,
}


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    save_clip(folder / "a.mp4", count=20)
    save_clip(folder / "b.webm", count=25, codec="libvpx")
    save_clip(folder / "c.ts", count=15, file_format="mpegts", size_px=(320, 180))
    save_clip(folder / "d.gif", count=12, codec="gif", pixels="rgb8")
    (folder / "page.mp4").write_text("<html><body>moved</body></html>")
    save_sound(folder / "song.m4a")
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    (folder / "text.mp4").write_text("not here\n")
    save_black(folder / "black.mp4")
    return folder


def save_black(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def server(media: Path) -> Iterator[ClipServer]:
    with ClipServer(media) as server:
        yield server


def run(
    urls: Sequence[str],
    folder: Path,
    *,
    workers: int = 2,
    most_a_host: int | None = None,
    limits: FetchLimits = LIMITS,
    recipe: Recipe = RECIPE,
    scan: Scan = SCAN,
    overwrite: bool = False,
    store: str = "",
    batch_size: int = 8,
    rows: Sequence[int] | None = None,
    retries: int = 0,
    retry_failed: bool = True,
    encoder: Encoder | None = None,
    engine: Literal["local", "ray"] = "local",
    progress: Callable[[int], object] = lambda count: None,
) -> ExtractReport:
    """Extract into job folders below `folder`, or, with `store`, into the collection of that name."""
    # The nodes of a cluster cannot read files of this machine.
    limits = replace(limits, allow_local_paths=limits.allow_local_paths and engine == "local")
    settings = ExtractSettings(
        **vars(limits),
        workers=workers,
        most_a_host=most_a_host or workers,
        retries=retries,
        batch_size=batch_size,
        overwrite=overwrite,
        retry_failed=retry_failed,
        engine=engine,
    )
    go = functools.partial(
        extract_videos,
        urls,
        rows=range(len(urls)) if rows is None else rows,
        settings=settings,
        encoder=encoder or PdqEncoder(),
        recipe=recipe,
        scan=scan,
        thumbnails_dir=folder / "thumbnails",
        progress=progress,
    )
    with Ledger(folder / "ledger.sqlite", recipe) as ledger:
        if not store:
            return go(sink=JobSink(folder / "jobs", recipe), ledger=ledger)
        with Store(StoreAddress(uri=str(folder / "milvus.db"))) as opened:
            collection = opened.ensure_collection(store, pooling=Pooling.FRAMES, recipe=recipe, dimension=256)
            return go(sink=CollectionSink(collection), ledger=ledger)


def load_ledger(folder: Path) -> dict[str, Outcome]:
    """The outcomes of an extraction that may still go on: a second writer could lock out the one that creates it."""
    with LedgerView(folder / "ledger.sqlite") as view:
        return view.load_outcomes(RECIPE.key) if view.load_extraction() is not None else {}


def load_jobs(folder: Path) -> dict[str, Any]:
    """Bytes of every vector file, and URL, by their path below the job folder."""
    files = sorted((folder / "jobs").rglob("*"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.suffix in (".npy", ".txt")}


# Fingerprints


def load_fingerprints(folder: Path, urls: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    with Ledger(folder / "ledger.sqlite", RECIPE) as ledger:
        return ledger.load_fingerprints(urls)


# Workers that die


class Hostile:
    """Stands in the place of `read_video` and does to its process what a hostile file does to a decoder."""

    def __init__(self, **deeds: Any) -> None:
        self.deeds = deeds

    def __call__(
        self,
        task: tuple[int, str],
        *,
        recipe: Recipe,
        scan: Scan,
        limits: FetchLimits,
        prepare: Callable[[Frames], Prepared],
        known: KnownFiles,
    ) -> Any:
        for name, deed in self.deeds.items():
            if f"/{name}" in task[1]:
                if deed == "hang":
                    time.sleep(600)
                os.kill(os.getpid(), deed)
        return read_video(task, recipe=recipe, scan=scan, limits=limits, prepare=prepare, known=known)
