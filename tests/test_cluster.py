"""The same extraction on a Ray cluster: real nodes, all on this machine, that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from fault_server import FaultServer, reply_range
from ray_cluster import TESTS, RayCluster
from test_extract import (
    WANTED,
    Hostile,
    load_fingerprints,
    load_jobs,
    load_ledger,
    long_film,
    media,
    run,
    server,
)
from test_live_run import wait_until

from dedup_lib import cluster, extract
from dedup_lib.demo.server import ClipServer
from dedup_lib.encoders import ClipEncoder, PdqEncoder, load_encoder
from dedup_lib.errors import ClusterError
from dedup_lib.extract import ExtractReport
from dedup_lib.fetch import FetchLimits
from dedup_lib.jobs import job_dir, load_job
from dedup_lib.records import Outcome, Recipe, Status
from dedup_lib.run_folder import find_versions
from dedup_lib.store import Store, StoreAddress

pytest.importorskip("ray", reason="Ray is not installed: requirements-ray.txt names it")

__all__ = ["long_film", "media", "server"]

ENGINES: tuple[Literal["local", "ray"], ...] = ("local", "ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    """A cluster of two nodes."""
    with RayCluster() as started:
        started.add_node()
        yield started


READ_VIDEO = extract.read_video


class Reader:
    """Reads in the place of `read_video`, does its deeds, and leaves a file for each node in a folder."""

    def __init__(self, folder: Path, **deeds: Any) -> None:
        self.folder = folder
        self.hostile = Hostile(**deeds)

    def __call__(self, task: tuple[int, str], **how: Any) -> Any:
        (self.folder / f"node {os.environ.get('RAY_RAYLET_PID')}").touch()
        if "/fell" in task[1]:
            # As the system does that runs out of memory.
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
            time.sleep(60)
        return self.hostile(task, **how)

    def count_nodes(self) -> int:
        return len(list(self.folder.glob("node *")))


def timeless(outcomes: dict[str, Outcome]) -> list[Outcome]:
    return [replace(outcome, elapsed_s=0, started="") for outcome in outcomes.values()]


def test_a_cluster_does_what_this_machine_does(
    nodes: RayCluster, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*WANTED, "crash.mp4", "hang.mp4", "crash2.mp4"]
    urls = [server.url(name) for name in names] + ["", "ftp://example/x", server.url("a.mp4")]
    limits = FetchLimits(timeout_s=8, max_bytes=50_000_000, allow_private_addresses=True)
    monkeypatch.setattr(extract, "KILL_AFTER_S", 0.5)
    reports = {}
    for engine in ENGINES:
        (tmp_path / engine).mkdir()
        reader = Reader(tmp_path / engine, crash=signal.SIGSEGV, hang="hang")
        monkeypatch.setattr(extract, "read_video", reader)
        reports[engine] = run(urls, tmp_path / engine, engine=engine, limits=limits)
    assert reader.count_nodes() == 2
    for there, here in zip(*(timeless(reports[engine].outcomes) for engine in ("ray", "local")), strict=True):
        assert there == here
    statuses = dict(zip(names, (outcome.status for outcome in reports["ray"].outcomes.values()), strict=False))
    died = {"crash.mp4": Status.DECODE_CRASH, "hang.mp4": Status.TIMEOUT, "crash2.mp4": Status.DECODE_CRASH}
    assert statuses == WANTED | died
    assert load_ledger(tmp_path / "ray") == reports["ray"].outcomes
    assert load_jobs(tmp_path / "ray") == load_jobs(tmp_path / "local") != {}
    assert load_fingerprints(tmp_path / "ray", urls) == load_fingerprints(tmp_path / "local", urls) != {}
    pictures = [{p.name: p.read_bytes() for p in (tmp_path / e / "thumbnails").iterdir()} for e in ENGINES]
    assert pictures[0] == pictures[1] != {}
    wait_until(lambda: nodes.find_workers() == [])

    before = server.requests
    monkeypatch.setenv("RAY_ADDRESS", "")
    again = run(urls, tmp_path / "ray", engine="ray", retry_failed=False)
    assert (again.attempted, server.requests) == (0, before), "where nothing is left, no cluster is needed"


def test_frames_are_encoded_on_their_nodes(
    nodes: RayCluster, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_dir: Path
) -> None:
    urls = [server.url(name) for name in WANTED]
    recipe = Recipe(encoder="clip", model=str(clip_dir), num_frames=3, frame_span="spread")
    encoder = load_encoder("clip", model=str(clip_dir))
    local = run(urls, tmp_path / "local", recipe=recipe, encoder=encoder)

    def refuse(*_: object) -> None:
        raise AssertionError("frames were sent here")

    monkeypatch.setattr(ClipEncoder, "encode_prepared", refuse)
    versions = find_versions()
    other_build = {"torch": f"{versions['torch'].partition('+')[0]}+cu130"}
    monkeypatch.setattr(cluster, "find_versions", lambda: versions | other_build)
    report = run(urls, tmp_path / "ray", recipe=recipe, encoder=encoder, engine="ray")
    assert timeless(report.outcomes) == timeless(local.outcomes)
    compared = 0
    for row in range(len(urls)):
        one, other = (load_job(job_dir(tmp_path / engine / "jobs", row)) for engine in ("local", "ray"))
        assert one is not None and other is not None and (one.vectors is None) == (other.vectors is None)
        if one.vectors is not None and other.vectors is not None:
            np.testing.assert_allclose(other.vectors.vectors, one.vectors.vectors, atol=1e-6)
            assert other.vectors.positions == one.vectors.positions
            compared += 1
    assert compared == 4


def test_a_file_under_another_address_is_known_on_every_node(
    nodes: RayCluster, long_film: bytes, tmp_path: Path
) -> None:
    with FaultServer(lambda request: [reply_range(request, long_film)]) as server:
        urls = [server.url(f"/{number}") for number in range(4)]
        run(urls[:1], tmp_path)
        before = len(server.requests)
        found = run(urls, tmp_path, engine="ray").outcomes
        assert len(server.requests) == before + 2 * 3, "the first range and the last one"
    assert [outcome.same_file_as for outcome in found.values()] == ["", *[urls[0]] * 3]


# What dies


def test_nodes_that_come_and_go_lose_nothing(
    nodes: RayCluster, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a video that takes down every node is given up, while those that were there with it are not."""
    monkeypatch.setattr(cluster, "_COUNT_NODES_EVERY_S", 0.2)
    reader = Reader(tmp_path)
    monkeypatch.setattr(extract, "read_video", reader)
    with ClipServer(media, latency_s=0.1) as slow:
        urls = [f"{slow.url(name)}?{number}" for number in range(20) for name in ("a.mp4", "page.mp4")]
        felling = slow.url("fell.mp4")
        reports: list[ExtractReport] = []
        third = nodes.add_node()
        runner = threading.Thread(
            target=lambda: reports.append(run([*urls, felling], tmp_path, engine="ray", store="clips"))
        )
        runner.start()
        wait_until(lambda: reader.count_nodes() == 3)
        nodes.remove_node(third)
        for worker in nodes.find_workers():
            worker.kill()
        nodes.add_node()
        runner.join(120)
    (report,) = reports
    assert [report.outcomes[url].status for url in urls] == [Status.OK, Status.HTML] * 20
    lost = report.outcomes[felling]
    assert (lost.status, lost.retryable) == (Status.TIMEOUT, True)
    assert lost.reason == "4 nodes of the cluster were lost while they read it"
    assert load_ledger(tmp_path) == report.outcomes
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        collection = store.open_collection("clips")
        assert collection.count_stored(urls) == dict.fromkeys(urls[::2], 3)
        assert collection.facts.rows == 3 * 20


def test_what_an_encoder_raises_ends_the_run(nodes: RayCluster, server: ClipServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the accelerator is gone"):
        run([server.url("a.mp4")], tmp_path, engine="ray", encoder=Broken())
    wait_until(lambda: nodes.find_workers() == [])


class Broken(PdqEncoder):
    def encode_prepared(self, prepared: Any) -> Any:
        raise RuntimeError("the accelerator is gone")


PARENT = """
import sys
from pathlib import Path
from test_extract import run
if __name__ == "__main__":
    import dedup_lib.queues
    dedup_lib.queues.SAVE_EVERY_S = 0.05
    run(sys.argv[2:], Path(sys.argv[1]), engine="ray")
"""


def test_a_run_that_is_killed_leaves_no_process_and_is_gone_on_with(
    nodes: RayCluster, media: Path, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "run"
    with ClipServer(media, latency_s=0.3) as server:
        urls = [f"{server.url(name)}?{number}" for number in range(16) for name in ("a.mp4", "page.mp4")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ["PYTHONPATH"]])}
        with subprocess.Popen([sys.executable, str(script), str(folder), *urls], env=environment) as parent:
            wait_until(lambda: (folder / "ledger.sqlite").exists() and len(load_ledger(folder)) >= 4)
            family = [child for worker in nodes.find_workers() for child in (worker, *worker.children(recursive=True))]
            parent.kill()
        assert len(family) > 4
        assert psutil.wait_procs(family, timeout=20)[1] == []
        done = load_ledger(folder)
        assert 4 <= len(done) < len(urls)
        server.latency_s = 0
        before = server.requests
        report = run(urls, folder, engine="ray")
        assert [o.status for o in report.outcomes.values()] == [Status.OK, Status.HTML] * 16
        asked = {path for path, count in server.requests.items() if count != before[path]}
        assert report.skipped >= len(done) and not asked & {url.removeprefix(server.url("")) for url in done}


# Clusters that are none


def test_without_ray_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install -r requirements-ray\.txt"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


@pytest.mark.parametrize("address", ["", " ", "somewhere", "ray://127.0.0.1:10001", "local", "127.0.0.1:", ":6379"])
def test_an_address_that_names_no_head_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=rf"RAY_ADDRESS.*it is {address.strip()!r}"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


def test_a_cluster_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"localhost:{listener.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at RAY_ADDRESS = {address}"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


def test_a_node_with_other_versions_is_refused(
    nodes: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = find_versions()
    monkeypatch.setattr(cluster, "find_versions", lambda: versions | {"av": "17.0.0"})
    with pytest.raises(ClusterError, match=rf"node 127\.0\.0\.1 .* has av {versions['av']}, and this machine 17\.0\.0"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


def test_a_cluster_without_a_free_core_is_told(
    nodes: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "NODE_WITHIN_S", 0.5)
    monkeypatch.setattr(cluster, "_Node", Slow)
    with pytest.raises(ClusterError, match=r"no node .* has been ready for 0\.5 s"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


class Slow:
    """Is never ready."""

    def __init__(self, *_: object) -> None:
        time.sleep(60)

    def describe(self) -> None:
        return
