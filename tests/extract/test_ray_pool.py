"""The same extraction on a Ray cluster: real nodes, all on this machine, that are killed in the middle."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nbformat
import numpy as np
import psutil
import pytest
from extraction import LIMITS, WANTED, Hostile, load_fingerprints, load_jobs, load_ledger, run
from live_runs import Site, call, command, run_in_terminal, wait_until
from notebook_cells import run_cells
from ray_cluster import RayCluster

from dedup_lib.demo.server import ClipServer
from dedup_lib.errors import ClusterError
from dedup_lib.extract import pipeline, ray_pool
from dedup_lib.extract.job_folders import job_dir, load_job
from dedup_lib.extract.pipeline import ExtractReport
from dedup_lib.features.clip import ClipEncoder
from dedup_lib.features.encoders import load_encoder
from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Outcome, Recipe, Status
from dedup_lib.run.versions import find_versions
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

pytest.importorskip("ray", reason="Ray is not installed: requirements-ray.txt names it")


ENGINES: tuple[Literal["local", "ray"], ...] = ("local", "ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    """A cluster of two nodes."""
    with RayCluster() as started:
        started.add_node()
        yield started


class Reader:
    """Reads in the place of `read_video`, does its deeds, and leaves a file for each node in a folder."""

    def __init__(self, folder: Path, **deeds: Any) -> None:
        self.folder = folder
        self.hostile = Hostile(**deeds)

    def __call__(self, task: tuple[int, str], **how: Any) -> Any:
        (self.folder / f"node {os.environ.get('RAY_RAYLET_PID')}").touch()
        while "held" in task[1] and not (self.folder / "let go").exists():
            time.sleep(0.05)
        if "/fell" in task[1]:
            # As the system does that runs out of memory.
            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
            time.sleep(60)
        return self.hostile(task, **how)

    def count_nodes(self) -> int:
        return len(list(self.folder.glob("node *")))


def timeless(outcomes: dict[str, Outcome]) -> list[Outcome]:
    return [replace(outcome, elapsed_s=0, started="") for outcome in outcomes.values()]


SECRETS = ("hush-url", "hush-token")


def test_a_cluster_does_what_this_machine_does(
    nodes: RayCluster, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the code of this machine, whatever lies on a node, and no secret in any file of Ray."""
    (tmp_path / "older" / "dedup_lib").mkdir(parents=True)
    (tmp_path / "older" / "dedup_lib" / "__init__.py").write_text("raise RuntimeError('an older version')")
    monkeypatch.setenv("MILVUS_TOKEN", SECRETS[1])
    names = ["hang.mp4", *WANTED, "crash.mp4", "crash2.mp4"]
    urls = [server.url(name) for name in names] + ["", "ftp://example/x", server.url("a.mp4")]
    urls += [server.url("black.mp4").replace("//", f"//user:{SECRETS[0]}@") + "?é ☃"]
    limits = FetchLimits(timeout_s=8, max_bytes=50_000_000, allow_private_addresses=True)
    monkeypatch.setattr(pipeline, "KILL_AFTER_S", 0.5)
    reports = {}
    for engine in ENGINES:
        (tmp_path / engine).mkdir()
        monkeypatch.setattr(pipeline, "read_video", Reader(tmp_path / engine, crash=signal.SIGSEGV, hang="hang"))
        # Of one that hangs is known what becomes of it here.
        first = 0 if engine == "ray" else 1
        if engine == "ray":
            # Where this process works, Ray would look for modules on every node.
            monkeypatch.chdir(tmp_path / "older")
        rows = range(first, len(urls))
        reports[engine] = run(urls[first:], tmp_path / engine, rows=rows, engine=engine, limits=limits)
    assert timeless(reports["ray"].outcomes)[1:] == timeless(reports["local"].outcomes)
    statuses = dict(zip(names, (outcome.status for outcome in reports["ray"].outcomes.values()), strict=False))
    died = {"hang.mp4": Status.TIMEOUT, "crash.mp4": Status.DECODE_CRASH, "crash2.mp4": Status.DECODE_CRASH}
    assert statuses == WANTED | died
    assert reports["ray"].outcomes[urls[-1]].status == Status.FEATURELESS
    assert load_ledger(tmp_path / "ray") == reports["ray"].outcomes
    jobs = [load_jobs(tmp_path / engine) for engine in ENGINES]
    assert jobs[0] == {name: job for name, job in jobs[1].items() if "url_0000" not in name} != {}
    assert load_fingerprints(tmp_path / "ray", urls) == load_fingerprints(tmp_path / "local", urls) != {}
    pictures = [{p.name: p.read_bytes() for p in (tmp_path / e / "thumbnails").iterdir()} for e in ENGINES]
    assert pictures[0] == pictures[1] != {}
    wait_until(lambda: nodes.find_workers() == [])
    written = b"".join(path.read_bytes() for path in nodes.folder.rglob("*") if path.is_file())
    assert b"ray_node" in written and not any(secret.encode() in written for secret in SECRETS)

    before = server.requests
    monkeypatch.setenv("RAY_ADDRESS", "")
    again = run(urls, tmp_path / "ray", engine="ray", retry_failed=False)
    assert (again.attempted, server.requests) == (0, before), "where nothing is left, no cluster is needed"


def test_a_list_is_cleaned_on_a_cluster_as_on_this_machine(nodes: RayCluster, site: Site, tmp_path: Path) -> None:
    """By the command that people give, and watched as they watch it."""
    here, there = tmp_path / "local", tmp_path / "ray"
    seen: list[dict[str, Any]] = []

    def hear(shown: bytes) -> None:
        if b"8 of 12 (67%)" in shown and not seen:
            seen.append(json.loads(call("status", str(there), "--json").stdout))
            wait_until(lambda: len(nodes.find_workers()) == 2)
            site.let_go.touch()

    words = command(site.list_csv, there, "--only", "03", "--no-report", "--set", "engine=ray")
    code, text = run_in_terminal(words, hear)
    assert code == 0, text[-2000:]
    assert "━" in text and "03_extract" in text
    ((state, extraction),) = [(found["state"], found["extraction"]) for found in seen]
    assert (state, extraction["done"], extraction["total"]) == ("running", 8, 12)
    assert extraction["statuses"] == {"ok": 4, "http_error": 4}
    notebook = nbformat.read(there / "notebooks" / "03_extract.ipynb", as_version=4)
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert [line for line in re.split(r"[\r\n]+", said) if line and "/12 [" not in line] == [], "nothing but its bar"
    assert (there / "notebooks" / "03_extract.log").read_text("utf-8") == ""

    given = {"input_csv": str(site.list_csv), "allow_private_addresses": True, "encoder": "pdq"}
    for folder, first in ((there, "06"), (here, "03")):
        run_cells(plan_run(load_profile("direct") | given | {"run_dir": str(folder)}, first=first))
    found, wanted = ({path.name: path.read_bytes() for path in folder.glob("*.csv")} for folder in (there, here))
    assert found == wanted and len(found) == 6


def test_frames_are_encoded_on_their_nodes_and_files_known_there(
    nodes: RayCluster, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_dir: Path
) -> None:
    urls = [server.url(name) for name in WANTED]
    others = [f"{urls[0]}?{number}" for number in range(4)]
    recipe = Recipe(encoder="clip", model=str(clip_dir), num_frames=3, frame_span="spread")
    encoder = load_encoder("clip", model=str(clip_dir))
    local = run(urls, tmp_path / "local", recipe=recipe, encoder=encoder)
    run(urls[:1], tmp_path / "ray", recipe=recipe, encoder=encoder)

    def refuse(*_: object) -> None:
        raise AssertionError("frames were sent here")

    monkeypatch.setattr(ClipEncoder, "encode_prepared", refuse)
    versions = find_versions()
    other_build = {"torch": f"{versions['torch'].partition('+')[0]}+cu130"}
    monkeypatch.setattr(ray_pool, "find_versions", lambda: versions | other_build)
    report = run([*urls, *others], tmp_path / "ray", recipe=recipe, encoder=encoder, engine="ray")
    assert timeless(report.outcomes)[: len(urls)] == timeless(local.outcomes)
    assert {report.outcomes[url].same_file_as for url in others} == {urls[0]}
    compared = 0
    for row in range(len(urls)):
        one, other = (load_job(job_dir(tmp_path / engine / "jobs", row)) for engine in ("local", "ray"))
        assert one is not None and other is not None and (one.vectors is None) == (other.vectors is None)
        if one.vectors is not None and other.vectors is not None:
            np.testing.assert_allclose(other.vectors.vectors, one.vectors.vectors, atol=1e-6)
            assert other.vectors.positions == one.vectors.positions
            compared += 1
    assert compared == 4


# What dies


def test_nodes_that_come_and_go_lose_nothing(
    nodes: RayCluster, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a video that takes down every node is given up, while those that were there with it are not; and a node that
    joins with other packages is left alone."""
    monkeypatch.setattr(ray_pool, "_COUNT_NODES_EVERY_S", 0.2)
    monkeypatch.setattr(ray_pool, "MAX_LOSSES", 3)
    reader = Reader(tmp_path)
    monkeypatch.setattr(pipeline, "read_video", reader)
    with (
        ClipServer(media) as server,
        warnings.catch_warnings(record=True, action="always") as warned,
        contextlib.ExitStack() as joined,
    ):
        # More than two nodes take at a time, so that the third one has some, too.
        urls = [f"{server.url(name)}?{number}held" for number in range(22) for name in ("a.mp4", "page.mp4")]
        felling = server.url("fell.mp4?held")
        # Where nodes take long to start, those that are held are not ended before.
        patient = replace(LIMITS, timeout_s=600)
        reports: list[ExtractReport] = []
        third = nodes.add_node()
        runner = threading.Thread(
            target=lambda: reports.append(
                run([*urls, felling], tmp_path, workers=4, most_a_host=64, engine="ray", store="clips", limits=patient)
            )
        )
        runner.start()
        wait_until(lambda: reader.count_nodes() == 3)
        # On one machine, a node that joins unpacks the code where the others have it. So none may start meanwhile.
        other = nodes.add_node(packages={"av": "17.0.0"})
        # A node that stays would be refused by every later test.
        joined.callback(nodes.remove_node, other)
        wait_until(lambda: bool(warned))
        nodes.remove_node(third)
        for worker in nodes.find_workers():
            worker.kill()
        (tmp_path / "let go").touch()
        runner.join(300)
    (report,) = reports
    assert [report.outcomes[url].status for url in urls] == [Status.OK, Status.HTML] * 22
    lost = report.outcomes[felling]
    assert (lost.status, lost.retryable) == (Status.TIMEOUT, True)
    assert lost.reason == "3 nodes of the cluster were lost while they read it"
    assert load_ledger(tmp_path) == report.outcomes
    with Store(StoreAddress(uri=str(tmp_path / "milvus.db"))) as store:
        collection = store.open_collection("clips")
        assert collection.count_stored(urls) == dict.fromkeys(urls[::2], 3)
        assert collection.facts.rows == 3 * 22
    assert len(warned) == 1 and "has av 17.0.0, and this machine" in str(warned[0].message)


PARENT = """
import sys
from pathlib import Path
from extraction import run
if __name__ == "__main__":
    import dedup_lib.extract.buffers
    dedup_lib.extract.buffers.SAVE_EVERY_S = 0.05
    run(sys.argv[2:], Path(sys.argv[1]), engine="ray")
"""


def test_a_run_that_is_killed_leaves_no_process_and_either_engine_goes_on(
    nodes: RayCluster, media: Path, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "run"
    with ClipServer(media, latency_s=0.3) as server:
        urls = [f"{server.url(name)}?{number}" for number in range(16) for name in ("a.mp4", "page.mp4")]
        with subprocess.Popen([sys.executable, str(script), str(folder), *urls]) as parent:
            wait_until(lambda: (folder / "ledger.sqlite").exists() and len(load_ledger(folder)) >= 4)
            family = [child for worker in nodes.find_workers() for child in (worker, *worker.children(recursive=True))]
            parent.kill()
        assert len(family) > 4
        assert psutil.wait_procs(family, timeout=20)[1] == []
        done = load_ledger(folder)
        assert 4 <= len(done) < len(urls)
        server.latency_s = 0
        with pytest.raises(RuntimeError, match=r"^the accelerator is gone$"):
            run([server.url("c.ts")], folder, rows=[len(urls)], engine="ray", encoder=Broken())
        wait_until(lambda: nodes.find_workers() == [])
        before = server.requests
        report = run(urls, folder, engine="local")
        assert [o.status for o in report.outcomes.values()] == [Status.OK, Status.HTML] * 16
        asked = {path for path, count in server.requests.items() if count != before[path]}
        assert report.skipped >= len(done) and not asked & {url.removeprefix(server.url("")) for url in done}


class Broken(PdqEncoder):
    def encode_prepared(self, prepared: Any) -> Any:
        raise RuntimeError("the accelerator is gone")


# Clusters that are none


def test_without_ray_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install -r requirements-ray\.txt"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


@pytest.mark.parametrize("address", ["", " ", "somewhere", "ray://127.0.0.1:10001", "local", "127.0.0.1:", ":6379"])
def test_an_address_that_names_no_head_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=rf"RAY_ADDRESS = {address.strip()!r} cannot be used"):
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
    monkeypatch.setattr(ray_pool, "find_versions", lambda: versions | {"av": "17.0.0"})
    with pytest.raises(ClusterError, match=rf"node 127\.0\.0\.1 .* has av {versions['av']}, and this machine 17\.0\.0"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


def test_a_cluster_without_a_free_core_is_told(
    nodes: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "NODE_WITHIN_S", 0.5)
    monkeypatch.setattr(ray_pool, "Node", Slow)
    with pytest.raises(ClusterError, match=r"no node .* has been ready for 0\.5 s"):
        run(["http://127.0.0.1:1/a.mp4"], tmp_path, engine="ray")


class Slow:
    """Is never ready."""

    def __init__(self, *_: object) -> None:
        time.sleep(60)

    def describe(self) -> None:
        return


def test_a_head_that_dies_ends_the_run(
    nodes: RayCluster, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of these: its cluster is no more."""
    monkeypatch.setattr(ray_pool, "_COUNT_NODES_EVERY_S", 0.2)
    monkeypatch.setattr(ray_pool, "HEAD_WITHIN_S", 1.0)
    monkeypatch.setattr(pipeline, "read_video", Reader(tmp_path))

    def kill_the_head() -> None:
        wait_until(lambda: (tmp_path / "ledger.sqlite").exists() and len(load_ledger(tmp_path)) == 1)
        nodes.kill_head()

    with ClipServer(media) as server:
        urls = [server.url("a.mp4"), server.url("b.webm?held")]
        killer = threading.Thread(target=kill_the_head)
        killer.start()
        with pytest.raises(ClusterError, match=r"the head of the Ray cluster at .* has not answered for 1 s"):
            run(urls, tmp_path, engine="ray")
        killer.join()
    assert [outcome.status for outcome in load_ledger(tmp_path).values()] == [Status.OK]
