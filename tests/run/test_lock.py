"""The lock of a run folder, with real processes that hold it, end and are killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from dedup_lib.errors import RunFolderError
from dedup_lib.run import lock
from dedup_lib.run.folder import RunFolder
from dedup_lib.run.lock import INTERRUPTED, RunLock, is_held, read_holder
from dedup_lib.settings import CleanJobsSettings

HOLD = """
import subprocess, sys, time
from pathlib import Path
from dedup_lib.run.lock import RunLock
from dedup_lib.extract.worker_pool import WorkerPool

def say(text):
    sys.stdout.write(f"{text}\\n")
    sys.stdout.flush()

if __name__ == "__main__":
    with RunLock(Path(sys.argv[1]), notebooks=("01_decode", "03_extract"), command="go on [x]") as lock:
        lock.go_to("03_extract")
        match sys.argv[2]:
            case "with a child":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                say(child.pid)
            case "with workers":
                with WorkerPool(time.sleep, workers=1, timeout_s=600) as pool:
                    pool._hand_out(iter([600]))
                    say(pool._workers[0].process.pid)
                    time.sleep(600)
            case "with a kernel":
                code = f"import sys; sys.argv = ['', {sys.argv[1]!r}]\\n" + Path(sys.argv[3]).read_text()
                child = subprocess.Popen([sys.executable, "-c", code], pass_fds=lock.descriptors)
                child.wait()
            case _:
                say("held")
        time.sleep(600)
"""

KERNEL = """
import os, time
from pathlib import Path
from dedup_lib.run.lock import RunLock
with RunLock(Path(sys.argv[1]), notebooks=("06_search_and_clean",)):
    pass
sys.stdout.write(f"{os.getpid()}\\n")
sys.stdout.flush()
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


@contextmanager
def holder(path: Path, how: str = "", *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds the lock until it is killed, and the first line that it says."""
    command = [sys.executable, "-c", HOLD, str(path), how, *more]
    if how == "with workers":
        script = path.with_name("holder.py")
        script.write_text(HOLD)
        command[1:3] = [str(script)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process, read_line(process.stdout)
        finally:
            process.kill()


def read_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.02)
    assert holds()


def lives(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def take(path: Path, *, command: str = "") -> RunLock:
    return RunLock(path, notebooks=("03_extract",), command=command)


def test_a_second_one_is_refused_at_once_and_told_who_has_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = socket.gethostname()
    with holder(path) as (process, _):
        with pytest.raises(RunFolderError) as refused, take(path):
            pytest.fail("it was let in")
        said = str(refused.value)
        for part in (str(path.parent), f"process {process.pid}, at 03_extract", "since 20"):
            assert part in said
        assert f"(`kill {process.pid}`)" in said and "--watch" in said and "another run_dir" in said
        assert is_held(path)
        found = read_holder(path)
        assert found is not None and found.lives
        assert (found.pid, found.notebooks, found.command) == (process.pid, ("01_decode", "03_extract"), "go on [x]")
        # The folder may be one that several machines share.
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        with pytest.raises(RunFolderError, match=f"process {process.pid} on {here}, .*`kill {process.pid}` on {here}"):
            take(path).__enter__()


RACE = """
import contextlib, os, sys, time
from pathlib import Path
from dedup_lib.errors import RunFolderError
from dedup_lib.run.lock import RunLock

places, start_s = sys.argv[2:], float(sys.argv[1])
with contextlib.ExitStack() as held:
    for number, place in enumerate(places):
        time.sleep(max(0.0, start_s + 0.05 * number - time.time()))
        try:
            held.enter_context(RunLock(Path(place), notebooks=("01_decode",)))
        except RunFolderError as error:
            print("refused", error)
        else:
            print("held", os.getpid())
    sys.stdout.flush()
    sys.stdin.readline()
"""


def test_of_two_that_start_at_the_same_moment_one_gets_it(tmp_path: Path) -> None:
    places = []
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        places.append(str(tmp_path / str(number) / "run.lock"))
    words = [sys.executable, "-c", RACE, str(time.time() + 2), *places]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(words, **pipes) as first, subprocess.Popen(words, **pipes) as second:
        said = [[read_line(racer.stdout) for _ in places] for racer in (first, second)]
        for racer in (first, second):
            racer.kill()
    for lines in zip(*said, strict=True):
        held, refused = sorted(lines)
        assert held in (f"held {first.pid}", f"held {second.pid}")
        assert refused.startswith("refused") and f"in use by process {held.partition(' ')[2]}," in refused


def test_one_in_the_same_process_is_refused_too(path: Path) -> None:
    with take(path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()}"), take(path):
            pytest.fail("it was let in")
        assert is_held(path)
    assert not is_held(path)


@pytest.mark.parametrize("how", ["", "with a child", "with workers"])
def test_a_killed_one_leaves_it_free(path: Path, how: str) -> None:
    with holder(path, how) as (process, said):
        process.kill()
        process.wait()
        assert not is_held(path)
        found = read_holder(path)
        assert found is not None and found.ended == "" and not found.lives
        with take(path):
            assert is_held(path)
    if how == "with a child":
        assert lives(int(said)), "else nothing was shown"
        os.kill(int(said), 9)


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    (tmp_path / "kernel.py").write_text(KERNEL)
    return str(tmp_path / "kernel.py")


def test_what_a_run_starts_works_under_its_lock(path: Path, kernel: str) -> None:
    with holder(path, "with a kernel", kernel) as (process, said):
        assert int(said) != process.pid, "it came through"
        found = read_holder(path)
        assert found is not None and (found.pid, found.now) == (process.pid, "03_extract"), (
            "the entry is that of the run"
        )


def test_the_kernel_of_a_killed_run_keeps_the_lock_while_it_lives(
    path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "ENDING_S", 0.2)
    with holder(path, "with a kernel", kernel) as (process, said):
        process.kill()
        process.wait()
        assert lives(int(said))
        with (
            pytest.raises(
                RunFolderError, match=rf"earlier run \(process {process.pid}, .* left behind: end that process"
            ),
            take(path),
        ):
            pytest.fail("two would write")
        assert process.stdin is not None
        process.stdin.close()
        wait_until(lambda: not lives(int(said)))
        with take(path):
            assert is_held(path)


def test_how_it_ended_is_noted(path: Path) -> None:
    with take(path, command="go on") as lock:
        lock.go_to("06_search_and_clean")
        found = read_holder(path)
        assert found is not None and found.lives and not found.is_parent
    found = read_holder(path)
    assert found is not None and not found.lives
    assert (found.command, found.now, found.failure) == ("go on", "06_search_and_clean", "")
    assert found.began <= found.ended
    with pytest.raises(ValueError), take(path):
        raise ValueError("no\nmore\x1b[0m")
    assert getattr(read_holder(path), "failure", None) == "no more\x1b[0m"
    with pytest.raises(KeyboardInterrupt), take(path):
        raise KeyboardInterrupt
    assert getattr(read_holder(path), "failure", None) == INTERRUPTED


def test_a_shorter_entry_over_a_longer_one(path: Path) -> None:
    path.write_text("x" * 10_000)
    with take(path, command="y" * 5000):
        pass
    with take(path):
        pass
    found = read_holder(path)
    assert found is not None and found.command == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b'{"notebooks": 3}'])
def test_an_entry_that_says_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_holder(path) is None
    assert not is_held(path)
    with take(path):
        assert read_holder(path) is not None


def test_looking_makes_nothing_and_hinders_nobody(path: Path) -> None:
    assert read_holder(path) is None
    assert not is_held(path)
    assert not path.exists()
    looking = [subprocess.Popen([sys.executable, "-c", LOOK, str(path)]) for _ in range(2)]
    try:
        for _ in range(300):
            with take(path):
                pass
    finally:
        for process in looking:
            process.kill()
            process.wait()


LOOK = """
import sys
from pathlib import Path
from dedup_lib.run.lock import is_held
while True:
    is_held(Path(sys.argv[1]))
"""


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RunFolderError, match=r"cannot be used \(run\.lock: .*make it writable"), take(path):
        pytest.fail("it was let in")


def test_a_record_is_not_written_beside_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    settings = CleanJobsSettings(run_dir=str(tmp_path), jobs_dir="jobs", dry_run=False)
    with holder(run.lock_path):
        with pytest.raises(RunFolderError, match="in use by process"):
            run.write_record(settings, counts={}, files={})
        assert run.read_record(settings.stage) is None
    wait_until(lambda: not is_held(run.lock_path))
    run.write_record(settings, counts={}, files={})
