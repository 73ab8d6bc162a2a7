"""Whole runs by the command line that are killed with all their processes, stage by stage, and given again."""

from __future__ import annotations

import csv
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from fault_server import FaultServer, Request, reply, reply_range
from final_rows import load_rows
from live_runs import command, started
from media import save_clip
from notebook_cells import run_cells

from dedup_lib.flow.plan import plan_run
from dedup_lib.flow.profiles import load_profile
from dedup_lib.records import Outcome, Recipe, Status
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.lock import read_holder

CLIPS = 6
MORE = ("--no-report", "--from", "03", "--set", "num_frames=3")
RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultServer, Path]]:
    """A server of clips, copies of them and troubles, which takes its time, and a list of them."""
    tmp_path = tmp_path_factory.mktemp("site")
    clips = [save_clip(tmp_path / "clip.mp4", count=10 + 2 * number).read_bytes() for number in range(CLIPS)]
    copies = [
        save_clip(tmp_path / "clip.mkv", count=10 + 2 * number, codec="mpeg4").read_bytes() for number in range(CLIPS)
    ]

    def answer(request: Request) -> Iterator[bytes]:
        request.closing.wait(0.05)
        _, kind, number = request.path.split("/")
        match kind:
            case "clip" | "again":
                yield reply_range(request, clips[int(number)])
            case "copy":
                yield reply_range(request, copies[int(number)])
            case "page":
                yield reply("200 OK", b"<html></html>")
            case _:
                yield reply("404 Not Found")

    with FaultServer(answer) as server:
        kinds = ("clip", "page", "copy", "missing", "again")
        urls = [server.url(f"/{kind}/{number}") for kind in kinds for number in range(CLIPS)]
        random.Random(5).shuffle(urls)
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["url", "title"], *([url, f"no. {row}"] for row, url in enumerate(urls))])
        yield server, tmp_path / "list.csv"


@pytest.fixture(scope="module")
def calm(site: tuple[FaultServer, Path]) -> Path:
    """The folder of a run that was left in peace."""
    _, list_csv = site
    folder = list_csv.with_name("calm")
    given = {"input_csv": str(list_csv), "run_dir": str(folder), "allow_private_addresses": True}
    run_cells(plan_run(load_profile("direct") | given | {"encoder": "pdq", "num_frames": 3}, first="03"))
    return folder


def load_outcomes(folder: Path) -> dict[str, Outcome]:
    with Ledger(folder / "ledger.sqlite", RECIPE) as ledger:
        return ledger.load()


def load_tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def kill_all(process: subprocess.Popen[str]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=20)


def is_at(folder: Path, stage: str) -> bool:
    holder = read_holder(folder / "run.lock")
    return holder is not None and holder.now.startswith(stage)


def test_a_run_that_is_killed_with_all_its_processes_ends_as_one_left_in_peace(
    site: tuple[FaultServer, Path], calm: Path, tmp_path: Path
) -> None:
    """By the flow that has most notebooks, and comes to what the other one does."""
    server, list_csv = site
    chance = random.Random(7)
    folder = tmp_path / "killed"
    words = command(list_csv, folder, *MORE, flow="batch")
    before = len(server.requests)
    goal = before + chance.randrange(10, 25)
    moments: dict[str, Callable[[], bool]] = {
        "03": lambda: len(server.requests) >= goal and bool(load_outcomes(folder)),
        # While the store is filled, and while the lists are written.
        "05": lambda: is_at(folder, "05") and (folder / "milvus.db").exists(),
        "06": lambda: is_at(folder, "06") and (folder / "FINAL_RESULT.csv").exists(),
    }
    spared: list[Counter[str]] = []
    finished: list[set[str]] = []
    for stage in moments:
        with started(words, stdout=subprocess.DEVNULL) as killed:
            while not moments[stage]() and killed.poll() is None:
                time.sleep(0.005)
            if stage != "06":
                time.sleep(chance.uniform(0, 0.3))
            assert killed.poll() is None, "it ended before it could be killed"
            kill_all(killed)
        assert not (folder / "summary.json").exists()
        finished.append({o.url for o in load_outcomes(folder).values() if not o.retryable})
        spared.append(count_requests(server, before))
    with started(words, stdout=subprocess.DEVNULL) as last:
        assert last.wait(240) == 0

    assert load_tables(folder) == load_tables(calm)
    counts = count_requests(server, before)
    for urls, earlier in zip(finished, spared, strict=True):
        assert urls and {url: counts[url] for url in urls} == {url: earlier[url] for url in urls}
    outcomes = load_outcomes(folder)
    read = [url for url, outcome in outcomes.items() if outcome.status == Status.OK]
    assert len(read) == 3 * CLIPS
    rows = load_rows(folder, read, collection="videos")
    assert rows == load_rows(calm, read, collection="videos") and rows[0] == 3 * len(read)


def count_requests(server: FaultServer, before: int) -> Counter[str]:
    return Counter(server.url(request.path) for request in server.requests[before:])
