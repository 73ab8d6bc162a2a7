"""A store that goes away in the middle of a run: the run ends soon and says why, and the same command goes on."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from extraction import load_ledger, run
from fault_server import FaultServer, Request, reply_range
from live_runs import ENVIRONMENT, command, count_done, started, wait_until
from media import save_clip

from dedup_lib.errors import StoreError
from dedup_lib.lists.tables import load_list
from dedup_lib.records import Status
from dedup_lib.store.address import StoreAddress
from dedup_lib.store.store import Store

TOKEN = "t0kenOfTheStore"
PASSWORD = "passw0rdOfTheStore"


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a Milvus Lite folder."""
    folder.mkdir(exist_ok=True)
    program = Path(sys.executable).with_name("milvus-lite")
    words = [str(program), "server", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: is_open(port))
            yield server
        finally:
            server.kill()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_store_that_is_removed_in_the_middle_of_a_run_is_missed(tmp_path: Path, how: str) -> None:
    contents = [save_clip(tmp_path / f"{count}.mp4", count=count).read_bytes() for count in range(10, 22)]
    place, let_go = tmp_path / "run" / "milvus.db", tmp_path / "let go"

    def answer(request: Request) -> Iterator[bytes]:
        number = int(request.path[1:])
        if number >= 6 and not let_go.exists():
            end_s = time.monotonic() + 30
            while len(load_ledger(tmp_path / "run")) < 6 and time.monotonic() < end_s:
                time.sleep(0.05)
            shutil.rmtree(place, ignore_errors=True)
            if how == "replaced":
                place.mkdir(exist_ok=True)
        yield reply_range(request, contents[number])

    with FaultServer(answer) as server:
        urls = [server.url(f"/{number}") for number in range(len(contents))]
        with pytest.raises(StoreError, match=r"milvus\.db was removed or replaced while it was open: put it back, or"):
            run(urls, tmp_path / "run", store="clips", workers=1)
        assert place.exists() == (how == "replaced"), "what no run could open was not left there"
        let_go.touch()
        if how == "replaced":
            with pytest.raises(StoreError, match=r"milvus\.db is damaged, .* Move it away and start again"):
                run(urls, tmp_path / "run", store="clips")
            place.rename(tmp_path / "away")
        report = run(urls, tmp_path / "run", store="clips")
    assert {outcome.status for outcome in report.outcomes.values()} == {Status.OK}
    with Store(StoreAddress(uri=str(place))) as store:
        assert set(store.open_collection("clips").load_vectors(urls)) == set(urls)


def test_a_run_goes_on_when_its_server_is_back(tmp_path: Path, port: int) -> None:
    contents = [save_clip(tmp_path / f"{count}.mp4", count=count).read_bytes() for count in range(10, 22)]
    let_go = tmp_path / "let go"

    def answer(request: Request) -> Iterator[bytes]:
        number = int(request.path[1:])
        while number >= 6 and not let_go.exists() and not request.closing.wait(0.05):
            pass
        yield reply_range(request, contents[number])

    folder = tmp_path / "run"
    said: list[str] = []
    uri = f"http://root:{PASSWORD}@127.0.0.1:{port}"
    environment = ENVIRONMENT | {"MILVUS_URI": uri, "MILVUS_TOKEN": f"root:{TOKEN}"}
    with FaultServer(answer) as files:
        urls = [files.url(f"/{number}") for number in range(len(contents))]
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["url"], *([url] for url in urls)])
        words = command(tmp_path / "list.csv", folder, "--no-report", "--from", "03", "--set", "num_frames=3")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
        with serving(tmp_path / "data", port) as server, started(words, **pipes) as first:
            wait_until(lambda: folder.exists() and count_done(folder) == 6)
            server.kill()
            server.wait()
            let_go.touch()
            said += first.communicate(timeout=120)
        assert first.returncode == 1
        assert f"http://127.0.0.1:{port} does not answer. Check MILVUS_URI" in said[1]
        assert len(said[1].splitlines()) == 2, "what failed, and where it can be read"
        finished = set(load_list_of_done(folder))
        before = len(files.requests)
        with serving(tmp_path / "data", port):
            with started(words, **pipes) as second:
                said += second.communicate(timeout=240)
            assert second.returncode == 0, said[-1]
            with Store(StoreAddress(uri=f"http://127.0.0.1:{port}")) as store:
                (facts,) = store.list_collections()
        asked = {files.url(request.path) for request in files.requests[before:]}
    assert len(finished) >= 6 and not finished & asked
    assert load_list(folder / "FINAL_RESULT.csv").shape[0] + load_list(folder / "duplicates.csv").shape[0] == len(urls)
    assert facts.rows == 3 * len(urls)
    for text in [*map(str.encode, said), *(path.read_bytes() for path in folder.rglob("*") if path.is_file())]:
        assert TOKEN.encode() not in text and PASSWORD.encode() not in text


def load_list_of_done(folder: Path) -> list[str]:
    return [outcome.url for outcome in load_ledger(folder).values() if not outcome.retryable]
