"""Runs in processes of their own, watched while they go on."""

from __future__ import annotations

import csv
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer, Request, reply, reply_range
from media import save_clip

from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import read_progress
from dedup_lib.settings import ExtractSettings
from dedup_lib.steps.extract import extract_list

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}


@dataclass
class Site:
    """A list of twelve URLs whose last ones answer only when they are let go."""

    server: FaultServer
    list_csv: Path
    let_go: Path
    """While this file is missing, they wait."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    save_clip(tmp_path / "a.mp4", count=20)
    clip, let_go = (tmp_path / "a.mp4").read_bytes(), tmp_path / "let go"

    def answer(request: Request) -> Iterator[bytes]:
        if "missing" in request.path:
            yield reply("404 Not Found")
            return
        while "slow" in request.path and not let_go.exists() and not request.closing.wait(0.05):
            pass
        yield reply_range(request, clip) if "range" in request.headers else reply("200 OK", clip)

    with FaultServer(answer) as server:
        urls = [server.url(f"/{kind}{number}.mp4") for kind in ("fine", "missing", "slow") for number in range(4)]
        with (tmp_path / "[red]list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["url"], *([url] for url in urls)])
        yield Site(server, tmp_path / "[red]list.csv", let_go)


def command(list_csv: Path, folder: Path, *more: str, flow: str = "direct") -> list[str]:
    given = {"input_csv": list_csv, "run_dir": folder, "allow_private_addresses": "true", "timeout_s": 100}
    given |= {"encoder": "pdq"}
    sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "dedup_lib", "run", flow, *sets, *more]


@contextmanager
def started(words: list[str], **how: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, cwd=ROOT, text=True, **{"env": ENVIRONMENT} | how) as process:
        try:
            yield process
        finally:
            process.kill()


def call(*words: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dedup_lib", *words],
        cwd=ROOT,
        env=ENVIRONMENT | {"COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def wait_until(holds: Callable[[], bool]) -> None:
    """Long enough for processes that start while other tests keep every core busy."""
    end_s = time.monotonic() + 300
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.1)
    assert holds()


def count_done(folder: Path) -> int:
    found = read_progress(RunFolder(folder)).extraction
    return found.done if found is not None else 0


def extract_by_hand(site: Site, folder: Path) -> None:
    defaults = {"url_column": "", "mode": "direct", "jobs_dir": "jobs", "store": "auto", "collection": "videos"}
    defaults |= {"frame_span": "spread", "scan_step_s": 0.25, "encoder": "pdq", "model": ""}
    defaults |= {
        "num_frames": 3,
        "batch_size": 8,
        "start": 0,
        "end": None,
        "overwrite": False,
        "workers": 2,
        "timeout_s": 300.0,
    }
    defaults |= {
        "max_bytes": 10**8,
        "allow_private_addresses": True,
        "allow_local_paths": False,
        "input_csv": "",
        "run_dir": str(folder),
    }
    defaults |= {"most_a_host": 6, "retries": 0, "retry_failed": True, "engine": "local"}
    urls = [site.server.url("/fine.mp4"), site.server.url("/slow.mp4")]
    extract_list(RunFolder(folder), urls, settings=ExtractSettings(**defaults), encoder=PdqEncoder())


BY_HAND = """
import sys
from pathlib import Path
from types import SimpleNamespace
from live_runs import extract_by_hand

if __name__ == "__main__":
    base_url = sys.argv[2]
    extract_by_hand(SimpleNamespace(server=SimpleNamespace(url=lambda path: base_url + path)), Path(sys.argv[1]))
"""


def run_in_terminal(words: list[str], hear: Callable[[bytes], object]) -> tuple[int, str]:
    """Exit code of a command in a terminal of 60 columns, and all that it showed; `hear` is told what it showed so
    far."""
    ours, theirs = pty.openpty()
    environment = os.environ | ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "60", "LINES": "24"}
    shown = b""
    with started(words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        end_s = time.monotonic() + 120
        while time.monotonic() < end_s and select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
            hear(shown)
        process.wait(60)
    os.close(ours)
    return process.returncode, shown.decode()
