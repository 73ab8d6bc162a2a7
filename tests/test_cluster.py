"""The same extraction on a Ray cluster: real nodes, all on this machine, that are killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray_cluster
from fault_server import FaultServer, Request, reply, reply_range
from ray_cluster import RayCluster, find_workers, wait_for_no_workers
from test_extract import (
    RECIPE,
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

from dedup_lib import cluster, extract
from dedup_lib.demo.server import ClipServer
from dedup_lib.encoders import ClipEncoder, load_encoder
from dedup_lib.errors import ClusterError
from dedup_lib.fetch import FetchLimits
from dedup_lib.jobs import job_dir, load_job
from dedup_lib.records import Outcome, Recipe, Status
from dedup_lib.store import Store, StoreAddress

pytest.importorskip("ray", reason="Ray is not installed: requirements-ray.txt")

__all__ = ["long_film", "media", "server"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    """A cluster of two nodes."""
    with RayCluster() as started:
        started.add_node()
        yield started


class Marking:
    """Reads as always, and leaves a file for each node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, task: tuple[int, str], **how: Any) -> Any:
        (self.folder / f"node {os.environ['RAY_RAYLET_PID']}").touch()
        return READ_VIDEO(task, **how)

    def count_nodes(self) -> int:
        return len(list(self.folder.glob("node *")))


READ_VIDEO = extract.read_video


def timeless(outcomes: dict[str, Outcome]) -> list[Outcome]:
    return [replace(outcome, elapsed_s=0, started="") for outcome in outcomes.values()]


def test_a_cluster_does_what_this_machine_does(
    nodes: RayCluster, server: ClipServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [server.url(name) for name in WANTED] * 2 + ["", "ftp://example.org/x"]
    (tmp_path / "local").mkdir()
    local = run(urls, tmp_path / "local")
    marking = Marking(tmp_path)
    monkeypatch.setattr(extract, "read_video", marking)
    report = run(urls, tmp_path / "ray", engine="ray")
    assert timeless(report.outcomes) == timeless(local.outcomes)
    assert load_ledger(tmp_path / "ray") == report.outcomes
    assert load_jobs(tmp_path / "ray") == load_jobs(tmp_path / "local")
    assert load_fingerprints(tmp_path / "ray", urls) == load_fingerprints(tmp_path / "local", urls) != {}
    thumbnails = [{p.name: p.read_bytes() for p in (tmp_path / e / "thumbnails").iterdir()} for e in ("ray", "local")]
    assert thumbnails[0] == thumbnails[1] != {}
    assert marking.count_nodes() == 2
    wait_for_no_workers()

    before = server.requests
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert run(urls, tmp_path / "ray", engine="ray").attempted == 0, "where nothing is left, no cluster is needed"
    assert server.requests == before
