"""Processes that crash, hang and misbehave, and the pool that outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dedup_lib.extract import worker_pool
from dedup_lib.extract.worker_pool import MEMORY_LIMIT_BYTES, WorkerFailure, WorkerPool

KEPT: list[bytes] = []


def act(task: tuple[str, Any]) -> Any:
    """What a worker does: the first half of a task says which misdeed, the second is its argument."""
    deed, argument = task
    match deed:
        case "double":
            return argument * 2
        case "pid":
            return os.getpid()
        case "abort":
            os.abort()
        case "signal":
            os.kill(os.getpid(), argument)
            time.sleep(60)
        case "exit":
            os._exit(argument)
        case "raise":
            raise argument
        case "hang":
            time.sleep(argument)
        case "nap":
            time.sleep(argument)
            return "woke"
        case "closure":
            return lambda: argument
        case "rest":
            time.sleep(argument)
            return os.getpid()
        case "litter":
            # What is kept between blocks holds the heap in its place.
            blocks = [(os.urandom(60_000), KEPT.append(os.urandom(1000))) for _ in range(argument)]
            return os.getpid(), sum(len(block) for block, _ in blocks)
        case "talk":
            os.write(1, b"noise")
            os.write(2, b"noise")
            return "quiet"
        case "later":
            # A heap that this task has damaged ends the process in the middle of the next one.
            signal.signal(signal.SIGALRM, lambda *_: os.abort())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            return "fine"
        case "half an answer":
            assert worker_pool._to_parent is not None
            # The length of an answer, and less than that.
            os.write(worker_pool._to_parent.fileno(), (1000).to_bytes(4, "big") + b"half")
            time.sleep(argument)
        case "allocate":
            return len(bytearray(argument))
    return None


class SlowToStart:
    """Work whose process takes its time, as on a machine that is busy."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        time.sleep(self.pause_s)

    def __call__(self, task: int) -> int:
        return task * 2


def run(*tasks: tuple[str, Any], workers: int = 1, timeout_s: float = 30) -> list[Any]:
    with WorkerPool(act, workers=workers, timeout_s=timeout_s) as pool:
        return [result for _, result in pool.run(tasks)]


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.02)
    assert holds()


def test_every_task_comes_back_with_its_result() -> None:
    tasks = [("double", number) for number in range(50)]
    with WorkerPool(act, workers=3, timeout_s=30) as pool:
        found = list(pool.run(tasks))
    assert sorted(found) == [(task, task[1] * 2) for task in tasks]


def test_tasks_that_may_not_start_yet_are_asked_for_again() -> None:
    first, second = ("double", 1), ("double", 2)
    with WorkerPool(act, workers=2, timeout_s=30) as pool:
        found = list(pool.run(iter([None, first, None, None, second, None])))
    assert found == [(first, 2), (second, 4)]


def test_a_run_is_stopped_from_elsewhere() -> None:
    with WorkerPool(act, workers=1, timeout_s=60) as pool:
        timer = threading.Timer(0.5, pool.stop)
        timer.start()
        assert list(pool.run([("hang", 600), ("double", 1)])) == []
        timer.join()


def test_a_process_that_stops_in_the_middle_of_its_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "RECEIVE_WITHIN_S", 0.5)
    failed, done = run(("half an answer", 600), ("double", 1))
    assert failed == WorkerFailure("the decoder crashed with SIGKILL", timed_out=False)
    assert done == 2


def test_no_task_starts_no_process() -> None:
    with WorkerPool(act, workers=3, timeout_s=30) as pool:
        assert list(pool.run([])) == []
        assert not pool._workers


def test_large_tasks_and_results() -> None:
    assert run(("double", b"x" * 5_000_000)) == [b"x" * 10_000_000]


def test_one_process_serves_many_tasks_and_the_pool_may_run_again() -> None:
    with WorkerPool(act, workers=2, timeout_s=30) as pool:
        first = {pid for _, pid in pool.run([("pid", None)] * 20)}
        again = {pid for _, pid in pool.run([("pid", None)] * 20)}
    assert 1 <= len(first) <= 2 and again <= first | again and len(first | again) <= 2
    assert os.getpid() not in first


@pytest.mark.parametrize(("share", "tasks", "rest_s"), [(1.0, 60, 0.5), (0.0, 24, 0.2)])
def test_a_pool_that_chooses_its_size_grows_while_cores_are_idle(
    share: float, tasks: int, rest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by a machine that does nothing else, and by one that is busy elsewhere."""
    cores = 2
    start_s = time.monotonic()
    times = namedtuple("times", "user idle")
    monkeypatch.setattr(worker_pool, "count_cores", lambda: cores)
    monkeypatch.setattr(worker_pool, "_MEASURE_EVERY_S", 0.05)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(0.0, share * cores * (time.monotonic() - start_s)))
    with WorkerPool(act, workers=None, timeout_s=60) as pool:
        pids = {pid for _, pid in pool.run([("rest", rest_s)] * tasks)}
    first, largest = worker_pool.FIRST_WORKERS_A_CORE * cores, worker_pool.count_workers(cores)
    assert len(pids) == (largest if share else first)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is asked to release memory")
def test_a_process_keeps_no_memory_of_earlier_tasks() -> None:
    with WorkerPool(act, workers=1, timeout_s=60) as pool:
        ((_, (pid, used)),) = pool.run([("litter", 4000)])
        wait_until(lambda: psutil.Process(pid).memory_info().rss < used / 2)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (("abort", None), "SIGABRT"),
        (("signal", signal.SIGSEGV), "SIGSEGV"),
        (("signal", signal.SIGKILL), "SIGKILL"),
        (("signal", signal.SIGRTMIN + 1), f"signal {signal.SIGRTMIN + 1}"),
        (("exit", 3), "exit code 3"),
        (("exit", 0), "exit code 0"),
    ],
)
def test_a_task_that_ends_its_process_is_told_so_and_the_others_go_on(task: tuple[str, Any], words: str) -> None:
    died, fine = run(task, ("double", 1))
    assert isinstance(died, WorkerFailure) and words in died.reason and not died.timed_out
    assert fine == 2


def test_many_crashes_in_a_row() -> None:
    tasks = [("abort", None) if number % 4 else ("double", number) for number in range(16)]
    with WorkerPool(act, workers=2, timeout_s=30) as pool:
        found = list(pool.run(tasks))
    assert len(found) == 16
    assert all(isinstance(result, WorkerFailure) == (task[0] == "abort") for task, result in found)


def test_a_task_is_not_blamed_for_what_an_earlier_one_did_to_its_process() -> None:
    assert run(("later", None), ("nap", 0.8), ("double", 1)) == ["fine", "woke", 2]


def test_the_start_of_a_process_is_not_part_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerPool(SlowToStart(2.0), workers=1, timeout_s=1.0) as pool:
        assert list(pool.run([1, 2])) == [(1, 2), (2, 4)]
    monkeypatch.setattr(worker_pool, "START_WITHIN_S", 0.5)
    with WorkerPool(SlowToStart(60.0), workers=1, timeout_s=1.0) as pool:
        ((_, failed),) = pool.run([1])
    assert isinstance(failed, WorkerFailure) and failed.timed_out
    assert failed.reason == "its process was not ready within 0.5 s"


def test_a_task_that_hangs_is_ended() -> None:
    died, fine = run(("hang", 60), ("double", 1), timeout_s=1.5)
    assert died == WorkerFailure("not finished within 1.5 s, so its process was ended", timed_out=True)
    assert fine == 2


def test_a_hanging_task_holds_up_no_other() -> None:
    with WorkerPool(act, workers=2, timeout_s=3) as pool:
        found = [result for _, result in pool.run([("hang", 60), *[("double", number) for number in range(5)]])]
    assert found[:-1] == [0, 2, 4, 6, 8] and found[-1].timed_out


@pytest.mark.parametrize("error", [ValueError("no good"), MemoryError(), RecursionError("deep")])
def test_an_exception_is_told_and_its_process_lives_on(error: Exception) -> None:
    before, died, after = run(("pid", None), ("raise", error), ("pid", None))
    assert died == WorkerFailure(f"it failed unexpectedly: {type(error).__name__}: {error}", timed_out=False)
    assert before == after


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process allocates")
def test_a_task_that_wants_too_much_memory_is_refused_it_and_the_others_go_on() -> None:
    before, fits, died, after = run(
        ("pid", None), ("allocate", MEMORY_LIMIT_BYTES // 2), ("allocate", MEMORY_LIMIT_BYTES), ("pid", None)
    )
    assert fits == MEMORY_LIMIT_BYTES // 2 and before == after
    assert isinstance(died, WorkerFailure) and not died.timed_out and "MemoryError" in died.reason


def test_a_result_that_cannot_be_sent_is_told() -> None:
    died, fine = run(("closure", 1), ("double", 1))
    assert isinstance(died, WorkerFailure) and not died.timed_out and fine == 2


def test_leaving_by_exception_ends_the_process_only() -> None:
    died, fine = run(("raise", SystemExit(4)), ("double", 1))
    assert isinstance(died, WorkerFailure) and fine == 2


def test_what_a_worker_prints_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(("talk", None)) == ["quiet"]
    assert capfd.readouterr() == ("", "")


def test_a_process_that_dies_while_idle_is_replaced() -> None:
    with WorkerPool(act, workers=1, timeout_s=30) as pool:
        ((_, pid),) = pool.run([("pid", None)])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert [result for _, result in pool.run([("double", 1), ("double", 2)])] == [2, 4]


def test_tasks_are_not_taken_ahead() -> None:
    taken = 0

    def tasks() -> Iterator[tuple[str, int]]:
        nonlocal taken
        for number in range(30):
            taken += 1
            yield "double", number

    with WorkerPool(act, workers=2, timeout_s=30) as pool:
        for done, _ in enumerate(pool.run(tasks()), start=1):
            assert taken <= done + 1


def test_leaving_early_ends_every_process() -> None:
    with WorkerPool(act, workers=2, timeout_s=30) as pool:
        results = pool.run([("pid", None), ("hang", 60), ("hang", 60), ("hang", 60)])
        _, first = next(results)
        pids = [worker.process.pid for worker in pool._workers]
        assert first in pids and len(pids) == 2
    wait_until(lambda: not any(pid is not None and psutil.pid_exists(pid) for pid in pids))


def test_processes_end_with_their_parent_even_when_it_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from dedup_lib.extract.worker_pool import WorkerPool\n"
        "def work(task):\n"
        "    open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(work, workers=2, timeout_s=60) as pool:\n"
        "        list(pool.run([1, 2]))\n"
    )
    started = tmp_path / "started"
    started.mkdir()
    with subprocess.Popen([sys.executable, str(script), str(started)]) as parent:
        try:
            wait_until(lambda: len(list(started.iterdir())) == 2)
        finally:
            parent.kill()
    wait_until(lambda: not any(psutil.pid_exists(int(file.name)) for file in started.iterdir()))
