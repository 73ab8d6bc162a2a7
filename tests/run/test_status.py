"""What is told of a run folder in each of its states, and how a terminal shows it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from dedup_lib.records import Outcome, Recipe, Status, json_line, utc_now
from dedup_lib.report.words import describe_bytes, describe_duration
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.ledger import Ledger
from dedup_lib.run.status import Done, ExtractionWatch, Frequent, RunProgress, State, read_progress
from dedup_lib.settings import SETTINGS, CleanJobsSettings, NotebookSettings
from dedup_lib.ui.terminal import RunDisplay, describe_next_step, describe_progress, describe_rate, draw_progress

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")
EVIL = "http://h\x1b[2J\x07\u202e[bold]x[/]\r\n\t.example/[link=x]\x9b31m"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "ads [1]")
    run.make()
    return run


def finished(seconds_ago: float, url: str, **more: object) -> Outcome:
    started = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds")
    return Outcome(**{"url": url, "status": Status.OK, "started": started} | more)


def write_record(run: RunFolder, stage: str, **counts: object) -> None:
    settings = CleanJobsSettings(run_dir=str(run.path), jobs_dir="jobs", dry_run=False)
    named = type("Named", (NotebookSettings,), {"stage": stage, "as_record": lambda self: {"mode": "direct"}})
    run.write_record(named(run_dir=settings.run_dir), counts=counts, files={}, details={"recipe": vars(RECIPE)})


def marks(progress: RunProgress) -> dict[str, Done]:
    return {notebook.name[:2]: notebook.done for notebook in progress.notebooks}


def show(progress: RunProgress, *, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system=None).print(draw_progress(progress))
    return out.getvalue()


def test_a_run_that_never_started(run: RunFolder) -> None:
    progress = read_progress(run)
    assert progress.state == State.NEVER_STARTED
    assert set(marks(progress).values()) == {Done.TO_DO}
    assert (progress.extraction, progress.holder, progress.statuses) == (None, None, {})
    assert "--run 'ads [1]'" in describe_next_step(progress)
    assert "never started" in " ".join(show(progress).split())
    assert list(run.path.iterdir()) == [], "looking leaves nothing"


def test_a_run_under_way(run: RunFolder) -> None:
    with run.locked("01_decode", "03_extract", command="again") as lock, Ledger(run.ledger_path, RECIPE) as ledger:
        write_record_of_the_run(run, "01_decode")
        lock.go_to("03_extract")
        ledger.record([finished(200, "before")])
        ledger.begin_extraction(total=10, done=1)
        time.sleep(0.02)
        troubled = finished(0, "http://a/1", status=Status.HTTP_ERROR, reason="HTTP 404", fetched_bytes=5)
        ledger.record([finished(0, "new", fetched_bytes=100), troubled])
        progress = read_progress(run)
    assert progress.state == State.RUNNING
    assert (marks(progress)["01"], marks(progress)["03"], marks(progress)["06"]) == (Done.DONE, Done.NOW, Done.TO_DO)
    found = progress.extraction
    assert found is not None
    assert (found.total, found.done, found.done_before, found.fetched_bytes) == (10, 3, 1, 105)
    assert found.statuses == {Status.OK: 1, Status.HTTP_ERROR: 1}
    assert found.videos_per_s > 0 and found.eta_s is not None
    assert found.eta_s == pytest.approx(7 / found.videos_per_s)
    assert progress.statuses[Status.OK].urls == 2
    assert progress.hosts == (Frequent(what="a", urls=1),)
    assert progress.reasons == (Frequent(what="http_error: HTTP 404", urls=1),)
    assert progress.go_on == "" == describe_next_step(progress)
    assert "running, at 03_extract · 3 of 10 (30%) · 1 done before" in describe_progress(progress)


def write_record_of_the_run(run: RunFolder, stage: str) -> None:
    """As a notebook leaves it whose run has the lock."""
    run.record_path(stage).parent.mkdir(exist_ok=True)
    time.sleep(0.02)
    run.record_path(stage).write_text(
        json.dumps({"counts": {"rows": 3, "statuses": {"ok": 3}}, "files": {}} | {"finished": utc_now()})
    )


def test_the_pace_is_that_of_the_last_minute(run: RunFolder) -> None:
    with Ledger(run.ledger_path, RECIPE) as ledger, contextlib.closing(ExtractionWatch(run.ledger_path)) as watch:
        assert watch.read() is None
        ledger.begin_extraction(total=500, done=0)
        long_ago = (datetime.now(UTC) - timedelta(seconds=600)).isoformat(timespec="milliseconds")
        ledger._database.execute("UPDATE extractions SET began = ?", (long_ago,))
        ledger._database.commit()
        ledger.record(finished(300, f"old{number}") for number in range(100))
        ledger.record(finished(30, f"new{number}") for number in range(30))
        found = watch.read()
        assert found is not None
        assert (found.done, found.videos_per_s) == (130, pytest.approx(0.5))
        assert found.eta_s == pytest.approx(740)
        assert watch.read() == found
        ledger.end_extraction()
        ended = watch.read()
        assert ended is not None and ended.eta_s is None and ended.ended


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_run_that_ended_early(run: RunFolder, number: int) -> None:
    error = (ValueError("disk\x1b[31m [red]gone[/]"), KeyboardInterrupt(), None)[number]
    for stage in ("01_decode", "02_dedupe_urls", "03_extract", "06_search_and_clean"):
        write_record(run, stage, rows=3)
    time.sleep(0.02)
    lock = run.locked("01_decode", "03_extract", "06_search_and_clean", command="the same again")
    with contextlib.suppress(ValueError, KeyboardInterrupt), lock:
        write_record_of_the_run(run, "01_decode")
        lock.go_to("03_extract")
        if error is not None:
            raise error
    progress = read_progress(run)
    assert progress.state == (State.FAILED, State.STOPPED, State.FINISHED)[number]
    if error is None:
        assert set(marks(progress).values()) == {Done.DONE}
        assert describe_next_step(progress) == ""
        return
    assert progress.go_on == "the same again"
    # As after a copy of the folder.
    for record in (run.path / "stages").iterdir():
        record.touch()
    assert read_progress(run).notebooks == progress.notebooks
    found = marks(progress)
    assert (found["01"], found["03"], found["06"]) == (Done.DONE, Done.STOPPED_HERE, Done.EARLIER)
    assert ("disk\\x1b[31m [red]gone[/]" in show(progress)) == (number == 0)


def test_a_run_of_an_earlier_version(run: RunFolder) -> None:
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.record([Outcome(url="a", status=Status.HTML)])
    assert read_progress(run).statuses == {}, "the recipe is not known"
    write_record(run, "03_extract", rows=1)
    run.lock_path.unlink()
    progress = read_progress(run)
    assert progress.state == State.PARTLY_DONE
    assert progress.extraction is None
    assert progress.statuses[Status.HTML].urls == 1
    assert progress.go_on.startswith("run notebooks/01_decode.ipynb")


def test_the_batch_flow_and_other_notebooks_are_listed_where_they_ran(run: RunFolder) -> None:
    with run.locked("03_extract", "04_clean_jobs"):
        pass
    assert list(marks(read_progress(run))) == ["01", "02", "03", "04", "05", "06"]
    write_record(run, "07_calibrate", used=3)
    assert list(marks(read_progress(run))) == ["01", "02", "03", "06", "07"]
    assert set(SETTINGS) >= {notebook.name for notebook in read_progress(run).notebooks}


@pytest.mark.parametrize("width", [12, 34, 80, 200])
def test_what_a_server_says_cannot_touch_the_terminal(run: RunFolder, width: int) -> None:
    with run.locked("03_extract"), Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.begin_extraction(total=4, done=0)
        time.sleep(0.02)
        ledger.record(
            [finished(0, EVIL, status=Status.HTML, reason=EVIL), finished(0, "http://[", status=Status.TIMEOUT)]
        )
        progress = read_progress(run)
    assert {one.what for one in progress.hosts} >= {"(no host)"}
    for terminal in (False, True):
        shown = show(progress, width=width, terminal=terminal)
        assert all(character.isprintable() or character == "\n" for character in shown)
        assert max(map(len, shown.splitlines())) <= width
    page = re.sub(r"\s", "", show(progress, width=200))
    assert "[bold]x[/]" in page and "[link=x]" in page, "no markup is taken for one"
    assert describe_progress(progress).isprintable()
    assert json_line(progress).isascii() and json_line(progress).isprintable()
    assert json.loads(json_line(progress))["statuses"] == {
        "html": {"urls": 1, "fetched_bytes": 0},
        "timeout": {"urls": 1, "fetched_bytes": 0},
    }


def test_elsewhere_than_on_a_terminal_there_is_a_line_a_notebook(run: RunFolder) -> None:
    out = io.StringIO()
    with RunDisplay(Console(file=out, width=80), run) as display:
        for notebook in ("01_decode", "03_extract"):
            display.start(notebook)
            display.finish(notebook, 1.25)
    assert out.getvalue() == "✓ 01_decode  1.2 s\n✓ 03_extract  1.2 s\n"


def test_a_terminal_shows_what_the_bars_of_a_notebook_write(run: RunFolder) -> None:
    def shown(*, terminal: bool) -> str:
        out = io.StringIO()
        with RunDisplay(Console(file=out, width=80, force_terminal=terminal), run) as display:
            display.start("06_search_and_clean")
            display.hear("\r  1%|  | 1/300\r 42%|██ | 126/300 [00:01<00:02, 80 pairs/s]")
            display.hear("\n")
            display.hear("\x1b[2Jx" if terminal else "")
            time.sleep(0.5)
            display.hear("\r 43%|██ | 129/300 [00:01<00:02, 80 pairs/s]")
            time.sleep(0.5)
        return out.getvalue()

    seen = shown(terminal=True)
    assert "06_search_and_clean …   43%|██ | 129/300 [00:01<00:02, 80 pairs/s]".replace("…   43", "…  43") in seen
    assert "\x1b[2J" not in seen
    assert shown(terminal=False) == ""


def test_numbers_in_words() -> None:
    assert [describe_duration(s) for s in (0, 59.6, 200, 3600, 360_000)] == [
        "0 s",
        "1 min 00 s",
        "3 min 20 s",
        "1 h 00 min",
        "100 h 00 min",
    ]
    assert [describe_rate(per_s) for per_s in (12.34, 0.5, 0.001, 0)] == [
        "12.3 videos/s",
        "30.0 videos/min",
        "3.6 videos/h",
        "0.0 videos/h",
    ]
    assert [describe_bytes(count) for count in (0, 999, 1234, 5_000_000_000, 2 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.2 kB",
        "5.0 GB",
        "2,000.0 TB",
    ]


def test_a_total_of_nothing_is_all_done(run: RunFolder) -> None:
    with Ledger(run.ledger_path, RECIPE) as ledger:
        ledger.begin_extraction(total=0, done=0)
        ledger.end_extraction()
    progress = read_progress(run)
    assert "0 of 0 (100%)" in show(progress)
    assert replace(progress, extraction=None).extraction is None
