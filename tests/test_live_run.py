"""Runs as people start, watch and kill them: real processes over a server that keeps some videos waiting."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
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

from dedup_lib.errors import RunFolderError
from dedup_lib.features.pdq import PdqEncoder
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import Done, State, read_progress
from dedup_lib.settings import ExtractSettings
from dedup_lib.steps.extract import extract_list

ROOT = Path(__file__).parent.parent
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
    end_s = time.monotonic() + 90
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.1)
    assert holds()


def count_done(folder: Path) -> int:
    found = read_progress(RunFolder(folder)).extraction
    return found.done if found is not None else 0


def test_a_run_is_watched_guarded_killed_and_gone_on_with(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    words = command(site.list_csv, folder)
    with started(words, stdout=subprocess.DEVNULL) as first:
        # Of the first eight nothing waits for the last four: a trickle is seen.
        wait_until(lambda: folder.exists() and count_done(folder) == 8)
        progress = read_progress(RunFolder(folder))
        assert progress.state == State.RUNNING
        assert progress.holder is not None and progress.holder.pid == first.pid
        assert progress.extraction is not None and progress.extraction.total == 12
        assert progress.extraction.statuses == {"ok": 4, "http_error": 4}
        marks = {notebook.name: notebook.done for notebook in progress.notebooks}
        assert (marks["01_decode"], marks["03_extract"], marks["06_search_and_clean"]) == (
            Done.DONE,
            Done.NOW,
            Done.TO_DO,
        )

        second = call(*words[3:])
        assert second.returncode == 1
        assert f"is in use by process {first.pid}, at 03_extract since" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        with pytest.raises(RunFolderError, match=f"in use by process {first.pid}"):
            extract_by_hand(site, folder)

        beside = call("status", str(folder))
        assert (beside.returncode, beside.stderr) == (0, "")
        page = " ".join(beside.stdout.split())
        assert "running for" in page and "8 of 12 (67%)" in page and "4 http_error" in page
        assert json.loads(call("status", str(folder), "--json").stdout)["extraction"]["done"] == 8
        assert call("report", str(folder)).returncode == 0

        first.kill()
        first.wait()
        progress = read_progress(RunFolder(folder))
        assert progress.state == State.STOPPED
        assert {n.name: n.done for n in progress.notebooks}["03_extract"] == Done.STOPPED_HERE
        told = call("status", str(folder), columns=40).stdout
        assert re.search(r"stopped\s+after \d+ s,\s+at\s+03_extract", told)
        assert f"to continue: {progress.go_on}" in told.splitlines(), "not folded, for it is copied"
        assert progress.go_on.startswith("python -m dedup_lib run direct --set 'input_csv=")

    site.let_go.touch()
    # At once, while the kernel of the killed one may still be ending.
    with started(words, stdout=subprocess.PIPE) as again:
        wait_until(lambda: read_progress(RunFolder(folder)).state == State.RUNNING)
        watched = call("status", str(folder), "--watch")
        assert again.stdout is not None
        said = again.stdout.read()
    assert again.returncode == 0
    assert [line for line in said.splitlines() if line.startswith("✓ 03_extract")], "one plain line a notebook"
    assert "━" not in said.partition("┏")[0] and "\x1b" not in said
    assert watched.stdout.startswith(f"{folder}: running, at ") and "finished" in watched.stdout
    progress = read_progress(RunFolder(folder))
    assert (progress.state, progress.go_on) == (State.FINISHED, "")
    assert progress.extraction is not None
    assert (progress.extraction.done, progress.extraction.done_before >= 8) == (12, True)
    assert progress.report.endswith("index.html")


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
from test_live_run import extract_by_hand

if __name__ == "__main__":
    base_url = sys.argv[2]
    extract_by_hand(SimpleNamespace(server=SimpleNamespace(url=lambda path: base_url + path)), Path(sys.argv[1]))
"""


def test_a_notebook_run_by_hand_guards_its_folder_too(site: Site, tmp_path: Path) -> None:
    folder, script = tmp_path / "run", tmp_path / "by_hand.py"
    script.write_text(BY_HAND)
    tests = str(Path(__file__).parent)
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([tests, ENVIRONMENT["PYTHONPATH"]])}
    base_url = site.server.url("/").removesuffix("/")
    with subprocess.Popen([sys.executable, str(script), str(folder), base_url], env=environment) as process:
        try:
            wait_until(lambda: folder.exists() and read_progress(RunFolder(folder)).extraction is not None)
            with pytest.raises(RunFolderError, match=f"in use by process {process.pid}, at 03_extract"):
                extract_by_hand(site, folder)
            refused = call(*command(site.list_csv, folder)[3:])
            assert refused.returncode == 1 and f"process {process.pid}" in refused.stderr
        finally:
            process.kill()
    progress = read_progress(RunFolder(folder))
    assert progress.state == State.STOPPED
    assert progress.go_on == "run notebooks/03_extract.ipynb again with the same run_dir"
    site.let_go.touch()
    extract_by_hand(site, folder)
    progress = read_progress(RunFolder(folder))
    assert progress.state == State.PARTLY_DONE
    assert progress.extraction is not None and progress.extraction.done == 2


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


def test_a_terminal_shows_a_bar(site: Site, tmp_path: Path) -> None:
    def hear(shown: bytes) -> None:
        if b"8 of 12 (67%)" in shown:
            site.let_go.touch()

    code, text = run_in_terminal(command(site.list_csv, tmp_path / "run"), hear)
    assert code == 0, text[-2000:]
    assert "8 of 12 (67%)" in text and "4 http_error" in text and "━" in text
    assert "✓" in text and "03_extract …" in text
    # No line is wider than the terminal, which would leave the bar behind at every refresh.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text.partition("rows of")[0])
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 60
