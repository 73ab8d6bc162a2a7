"""Runs as people start, watch and kill them: real processes over a server that keeps some videos waiting."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from live_runs import (
    BY_HAND,
    ENVIRONMENT,
    Site,
    call,
    command,
    count_done,
    extract_by_hand,
    run_in_terminal,
    started,
    wait_until,
)

from dedup_lib.errors import RunFolderError
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.status import Done, State, read_progress


def test_a_run_is_watched_guarded_killed_and_gone_on_with(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    words = command(site.list_csv, folder, "--no-report")
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


def test_ctrl_c_ends_a_run_with_one_line(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = command(site.list_csv, folder, "--from", "03")
    pipe = subprocess.PIPE
    # Programs that a script starts in the background ignore Ctrl-C, and so would all that they start.
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with started(words, stdout=pipe, stderr=pipe, start_new_session=True, preexec_fn=hear) as stopped:
        wait_until(lambda: folder.exists() and count_done(folder) == 8)
        # As a terminal does: all processes of the run hear it.
        os.killpg(stopped.pid, signal.SIGINT)
        told = stopped.communicate(timeout=60)
        assert stopped.returncode == 130
    (line,) = told[1].splitlines()
    assert line.startswith("stopped; finished work is kept. To continue: python -m dedup_lib run direct --set ")
    assert "Traceback" not in told[0]
    assert count_done(folder) == 8
    assert read_progress(RunFolder(folder)).state == State.STOPPED


def test_a_notebook_run_by_hand_guards_its_folder_too(site: Site, tmp_path: Path) -> None:
    folder, script = tmp_path / "run", tmp_path / "by_hand.py"
    script.write_text(BY_HAND)
    base_url = site.server.url("/").removesuffix("/")
    with subprocess.Popen([sys.executable, str(script), str(folder), base_url], env=ENVIRONMENT) as process:
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


def test_a_terminal_shows_a_bar(site: Site, tmp_path: Path) -> None:
    def hear(shown: bytes) -> None:
        if b"8 of 12 (67%)" in shown:
            site.let_go.touch()

    words = command(site.list_csv, tmp_path / "run", "--only", "03", "--no-report")
    code, text = run_in_terminal(words, hear)
    assert code == 0, text[-2000:]
    assert "8 of 12 (67%)" in text and "4 http_error" in text and "━" in text
    assert "✓" in text and "03_extract …" in text
    # No line is wider than the terminal, which would leave the bar behind at every refresh.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text.partition("rows of")[0])
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 60
