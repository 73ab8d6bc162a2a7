"""Worker processes that may hang or die: each can be killed and replaced.

A video file can hang its decoder, use up all memory or corrupt the memory of its process. Here it fails only its own
task.
"""

from __future__ import annotations

import contextlib
import gc
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import psutil

from dedup_lib.run.cores import count_cores
from dedup_lib.run.memory import release_memory, return_large_blocks

MEMORY_LIMIT_BYTES = 4 * 1024**3
"""Bytes of data that a worker process may hold. An 8K video takes a tenth of that; larger requests for memory fail, so
that the machine does not run out of memory."""

WORKERS_A_CORE = 8
MAX_WORKERS = 64
"""A pool has at most `WORKERS_A_CORE` processes for each core, and `MAX_WORKERS`: with answers after 0.2 s, a video
waits for its server six times as long as it keeps a core busy."""

FIRST_WORKERS_A_CORE = 2
"""Processes for each core that a pool starts with when it chooses their number. Further ones start while cores idle:
each takes memory, and more than the cores need bring nothing."""

_MIN_IDLE_CORES = 0.2
_MEASURE_EVERY_S = 0.5

_PRELOADED = (
    "dedup_lib.extract.worker",
    "dedup_lib.extract.decoding",
    # Libraries import these only when a first video is read.
    "av.subtitles.stream",
    "encodings.idna",
    "numpy.ma",
    "numpy.random",
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin",
)
"""Modules that the fork server loads once, so that all processes share their memory."""

START_WITHIN_S = 120.0
"""Seconds within which a new process must be ready. On a busy machine, its imports alone take several."""

RECEIVE_WITHIN_S = 60.0
"""Seconds within which an answer that has begun must be complete. The largest takes a few."""

_KILLED = -9
"""Exit code of a process that was ended by SIGKILL, a signal that Windows does not have."""

_LOOK_EVERY_S = 0.2
"""Seconds between checks whether a waiting task may start, and whether to stop."""

_starting = threading.Lock()
"""Starting a process polls the exit state of every other child, and only one thread at a time may poll a child."""

_to_parent: Connection | None = None
"""The pipe to the parent, set only in a worker process."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerFailure:
    """Given in place of a result. During the task, the process died or raised an exception (`reason` says how), was
    killed because it took too long (`timed_out`), or was killed from outside (`was_killed`), as by the system when
    memory runs out."""

    reason: str
    timed_out: bool
    was_killed: bool = False


@dataclass(frozen=True)
class ParentCall:
    """Sent by a worker process in place of a result, to ask its parent something."""

    content: Any


@dataclass(frozen=True)
class _Ready:
    """Sent once by a new worker process, when it begins its first task."""


@dataclass(eq=False)
class _Worker(Generic[Task]):
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    kill_at_s: float = 0.0
    is_ready: bool = False
    is_fresh: bool = True
    """Whether its current task is its first."""


def count_workers(cores: int | None = None) -> int:
    """The largest number of processes that `cores` cores (None: those of this machine) need for videos from the
    network."""
    return min(MAX_WORKERS, WORKERS_A_CORE * (cores or count_cores()))


def call_parent(question: Any) -> Any:
    """Sends a question from a worker process to the pool's `answer`, and returns the reply."""
    assert _to_parent is not None
    _to_parent.send(ParentCall(question))
    return _to_parent.recv()


class _IdleCores:
    """How many cores have had nothing to do since the last look."""

    def __init__(self) -> None:
        self._at_s = time.monotonic()
        self._before = psutil.cpu_times()

    def measure(self) -> float:
        """Mean number of idle cores since the last look, 0 if that was less than `_MEASURE_EVERY_S` ago."""
        now_s = time.monotonic()
        if now_s < self._at_s + _MEASURE_EVERY_S:
            return 0.0
        now = psutil.cpu_times()
        idle_s = sum(getattr(now, name, 0.0) - getattr(self._before, name, 0.0) for name in ("idle", "iowait"))
        elapsed_s, self._at_s, self._before = now_s - self._at_s, now_s, now
        return idle_s / elapsed_s


class WorkerPool(Generic[Task, Result]):
    """Processes that run `work`, a picklable function, on one task at a time each: `workers` of them, or (None) as many
    as keep the cores busy, `count_workers` at most.

    A process whose task takes longer than `timeout_s` seconds is killed; its own start does not count. A process may
    also die because an earlier task damaged its memory. So a task fails only with the death of a fresh process;
    otherwise it is given to a fresh one. `answer` replies to the questions that `work` asks by `call_parent`. Use it as
    a context manager, from one thread at a time.
    """

    def __init__(
        self,
        work: Callable[[Task], Result],
        *,
        workers: int | None,
        timeout_s: float,
        answer: Callable[[Any], object] | None = None,
    ) -> None:
        self._work = work
        self._answer = answer
        self._timeout_s = timeout_s
        self._context = _choose_context()
        self._workers: list[_Worker[Task]] = []
        self._count = workers or min(count_workers(), FIRST_WORKERS_A_CORE * count_cores())
        self._max_count = workers or count_workers()
        self._idle_cores = _IdleCores()
        self._is_stopping = threading.Event()

    def __enter__(self) -> WorkerPool[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()

    def stop(self) -> None:
        """Makes `run` end soon, with tasks unfinished; another thread may call it."""
        self._is_stopping.set()

    def run(self, tasks: Iterable[Task | None]) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """Yields each task with its result, in the order in which they finish.

        Takes a task from the iterable only when a process is idle. None in place of a task means that no task may start
        yet: the iterable is asked again soon, and after each result.
        """
        waiting = iter(tasks)
        while not self._is_stopping.is_set():
            is_over = self._hand_out(waiting)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                if is_over:
                    return
                self._is_stopping.wait(_LOOK_EVERY_S)
                continue
            pause_s = max(0.0, min(worker.kill_at_s for worker in busy) - time.monotonic())
            ready = connection.wait([worker.pipe for worker in busy], timeout=min(pause_s, _LOOK_EVERY_S))
            now_s = time.monotonic()
            for worker in busy:
                task = worker.task
                assert task is not None
                if worker.pipe in ready:
                    result = self._collect(worker)
                    if isinstance(result, _Ready):
                        worker.is_ready = True
                        worker.kill_at_s = now_s + self._timeout_s
                        continue
                    if isinstance(result, ParentCall):
                        self._reply(worker, result)
                        continue
                    if worker not in self._workers and not worker.is_fresh:
                        self._give(task, self._start())
                        continue
                elif now_s >= worker.kill_at_s:
                    missed = (
                        f"not finished within {self._timeout_s:g} s, so its process was ended"
                        if worker.is_ready
                        else f"its process was not ready within {START_WITHIN_S:g} s"
                    )
                    result = WorkerFailure(missed, timed_out=True)
                    self._remove(worker)
                else:
                    continue
                worker.task = None
                worker.is_fresh = False
                yield task, result

    def _hand_out(self, waiting: Iterator[Task | None]) -> bool:
        """Gives each idle process a task; returns whether no task is left."""
        idle = [worker for worker in self._workers if worker.task is None]
        self._grow()
        while idle or len(self._workers) < self._count:
            try:
                task = next(waiting)
            except StopIteration:
                return True
            if task is None:
                break
            self._give(task, idle.pop() if idle else self._start())
        return False

    def _grow(self) -> None:
        """Allows as many more processes as cores are idle, when all processes have a task."""
        if self._count < self._max_count and sum(worker.task is not None for worker in self._workers) == self._count:
            idle = self._idle_cores.measure()
            self._count = min(self._max_count, self._count + (math.ceil(idle) if idle >= _MIN_IDLE_CORES else 0))

    def _give(self, task: Task, worker: _Worker[Task]) -> None:
        try:
            worker.pipe.send(task)
        except ConnectionError:
            # It died while idle; the task goes to a fresh one. The death of that one is noticed by `_collect`.
            self._remove(worker)
            worker = self._start()
            with contextlib.suppress(ConnectionError):
                worker.pipe.send(task)
        worker.task = task
        worker.kill_at_s = time.monotonic() + (self._timeout_s if worker.is_ready else START_WITHIN_S)

    def _collect(self, worker: _Worker[Task]) -> Result | WorkerFailure | ParentCall | _Ready:
        is_stuck = threading.Event()

        def end() -> None:
            is_stuck.set()
            worker.process.kill()

        # A process that stops in the middle of its answer would hold up all others.
        guard = threading.Timer(RECEIVE_WITHIN_S, end)
        guard.start()
        try:
            result: Result | WorkerFailure | ParentCall | _Ready = worker.pipe.recv()
        except Exception:
            # The answer is cut off or garbage: a process with damaged memory may send anything.
            connection.wait([worker.process.sentinel], 1)
            with _starting:
                code = worker.process.exitcode
            self._remove(worker)
            if code == _KILLED and not is_stuck.is_set():
                return WorkerFailure(
                    "its process was killed (SIGKILL), as the system does when memory runs out",
                    timed_out=False,
                    was_killed=True,
                )
            return WorkerFailure(_describe_exit(code), timed_out=False)
        finally:
            guard.cancel()
        return result

    def _reply(self, worker: _Worker[Task], question: ParentCall) -> None:
        assert self._answer is not None
        # A worker that has died is noticed by `_collect`.
        with contextlib.suppress(ConnectionError):
            worker.pipe.send(self._answer(question.content))

    def _start(self) -> _Worker[Task]:
        ours, theirs = self._context.Pipe()
        # BaseContext does not declare Process, though every context has it.
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)  # type: ignore[attr-defined]
        with _starting:
            process.start()
        theirs.close()
        worker: _Worker[Task] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: _Worker[Task]) -> None:
        self._workers.remove(worker)
        self._end(worker)

    def _end(self, worker: _Worker[Task]) -> None:
        worker.pipe.close()
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()


def _choose_context() -> BaseContext:
    # Forking a process with threads, such as a kernel, can deadlock. A fork server has no threads, and starts a
    # process faster than a spawned interpreter would.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(_PRELOADED))
    return context


def _serve(pipe: Connection, work: Callable[[Task], Result]) -> None:
    """Main loop of a worker process."""
    global _to_parent  # noqa: PLW0603 - what a task runs is handed no pipe
    _to_parent = pipe
    # A collection would write into every object that the fork server has loaded, and so copy its memory.
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    _limit_memory()
    return_large_blocks()
    threading.Thread(target=_follow_parent, daemon=True).start()
    pipe.send(_Ready())
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            pipe.send(work(task))
        except Exception as error:
            pipe.send(WorkerFailure(f"it failed unexpectedly: {type(error).__name__}: {error}", timed_out=False))
        release_memory()


def _silence() -> None:
    """Discards stdout and stderr: decoders and crashing C libraries write there, and the status says what matters."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _limit_memory() -> None:
    """Makes allocations beyond `MEMORY_LIMIT_BYTES` fail, when the system can (Linux counts them, macOS does not)."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _follow_parent() -> None:
    """Ends this process when its parent is gone, even in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "the decoder's process sent an unreadable answer"
    if code < 0:
        named = -code in set(signal.Signals)
        return f"the decoder crashed with {signal.Signals(-code).name if named else f'signal {-code}'}"
    return f"the decoder's process ended with exit code {code}"
