"""A disk that fills up or cannot be written: the error says so, nothing is lost, the same command goes on."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from media import save_clip
from notebook_cells import run_cells

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import RunFolderError, StoreError, VideoTrouble
from dedup_lib.features.vectors import normalise_rows
from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.groups.pairs import save_pairs
from dedup_lib.media.limits import Deadline, FetchLimits
from dedup_lib.media.streams import open_stream
from dedup_lib.records import Pooling, Recipe, Status, VideoVectors
from dedup_lib.run.files import write_text_atomically
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import State, read_progress
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")

Remount = Callable[[str], object]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Remount]]:
    """A disk of 600 kB, and what changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux":
        pytest.skip("needs a disk in memory")

    def mount(*words: str) -> int:
        return subprocess.run(["mount", *words, str(folder)], capture_output=True, check=False).returncode

    if mount("-t", "tmpfs", "-o", "size=600k", "tmpfs"):
        pytest.skip("needs the right to mount a disk in memory")
    try:
        yield folder, lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_run_goes_on_when_there_is_room_again(disk: tuple[Path, Remount], tmp_path: Path) -> None:
    folder, remount = disk
    (tmp_path / "media").mkdir()
    save_clip(tmp_path / "media" / "a.mp4", count=20)
    with ClipServer(tmp_path / "media") as server:
        urls = [f"{server.url('a.mp4')}?{number}" for number in range(40)]
        (tmp_path / "list.csv").write_text("\n".join(["url", *urls, ""]))
        given = {"input_csv": str(tmp_path / "list.csv"), "run_dir": str(folder / "run"), "encoder": "pdq"}
        given |= {"allow_private_addresses": "true"}
        # What comes before the videos needs little room.
        for number in ("01", "02"):
            run_cells(plan_run(load_profile("direct") | given, only=number))
        sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "dedup_lib", "run", "direct", "--from", "03", *sets],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )

        full = run()
        assert full.returncode == 1
        assert len(full.stderr.splitlines()) == 1, full.stderr
        assert "No space left on device" in full.stderr and "Free space" in full.stderr
        before = read_progress(RunFolder(folder / "run"))
        assert before.state == State.FAILED and before.holder is not None and "No space left" in before.holder.failure
        # How many are done depends on how large the first batch is that finds no room.
        assert before.extraction is not None and before.extraction.done < 40

        remount("ro")
        refused = run()
        assert refused.returncode == 1
        assert "run.lock: Read-only file system): make it writable" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert read_progress(RunFolder(folder / "run")) == before, "it can be looked at all the same"

        remount("rw,size=100m")
        assert run().returncode == 0
        after = read_progress(RunFolder(folder / "run"))
        assert after.state == State.FINISHED and after.extraction is not None
        assert (after.extraction.done, after.extraction.done_before) == (40, before.extraction.done)


# Milvus Lite leaves files open that it cannot write.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_store_without_room_keeps_what_it_took(disk: tuple[Path, Remount]) -> None:
    folder, remount = disk
    address, urls = StoreAddress(uri=str(folder / "milvus.db")), [f"https://h/{number}" for number in range(1000)]
    vectors = normalise_rows(np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float32))
    taken = 0
    with Store(address) as store:
        collection = store.ensure_collection("videos", pooling=Pooling.FIRST, recipe=RECIPE, dimension=256)
        with pytest.raises(
            StoreError, match=r"Milvus Lite, milvus.db cannot be written \(No space left on device\)\. Free space"
        ):
            for number, url in enumerate(urls):
                collection.upsert([VideoVectors(url=url, vectors=vectors[number : number + 1], positions=(0,))])
                taken += 1
    remount("size=100m")
    with Store(address) as store:
        assert set(urls[:taken]) <= set(store.open_collection("videos").count_stored(urls))
    gc.collect()


def test_a_video_that_finds_no_room_is_tried_again_later(
    disk: tuple[Path, Remount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.mp4").write_bytes(bytes(10_000_000))
    monkeypatch.setattr(tempfile, "tempdir", str(disk[0]))
    limits = FetchLimits(timeout_s=30, max_bytes=10**9, allow_private_addresses=True, allow_local_paths=False)
    with ClipServer(tmp_path, ranges=False) as server:
        stream = open_stream(server.url("clip.mp4"), limits=limits, deadline=Deadline(30))
        no_room = r"has no room for the file \(No space left on device"
        with closing(stream), pytest.raises(VideoTrouble, match=no_room) as caught:
            stream.read()
    assert (caught.value.status, caught.value.retryable) == (Status.TOO_LARGE, True)


def test_a_file_that_finds_no_room_leaves_the_old_one(disk: tuple[Path, Remount]) -> None:
    folder, _ = disk
    write_text_atomically(folder / "a.json", "old")
    with pytest.raises(RunFolderError, match=r"cannot write .*a\.json: No space left on device\. Free space"):
        write_text_atomically(folder / "a.json", "new" * 1_000_000)
    assert [path.name for path in folder.iterdir()] == ["a.json"]
    assert (folder / "a.json").read_text() == "old"


def test_a_table_of_pairs_that_finds_no_room_leaves_the_old_one(disk: tuple[Path, Remount]) -> None:
    path = disk[0] / "pairs.parquet"
    save_pairs(pd.DataFrame({"cosine": [0.5]}), path)
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=r"cannot write .*pairs\.parquet: .*No space left on device"):
        save_pairs(pd.DataFrame({"cosine": np.random.default_rng(0).random(1_000_000)}), path)
    assert list(disk[0].iterdir()) == [path]
    assert path.read_bytes() == before
