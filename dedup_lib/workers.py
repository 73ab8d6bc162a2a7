"""Processes that may die: each task runs in one that can be killed and replaced.

A video file can hang its decoder or corrupt the memory of its process. Here it takes down only its own task.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """In place of a result: the process ended while it worked on the task or raised an exception (`reason` says
    how), or was ended because it took longer than allowed (`timed_out`)."""

    reason: str
    timed_out: bool


@dataclass(eq=False)
class _Worker(Generic[Task]):
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    kill_at_s: float = 0.0
    is_fresh: bool = True
    """Whether its current task is its first."""


class WorkerPool(Generic[Task, Result]):
    """A fixed number of processes that all run `work`, a picklable function, on one task at a time each.

    `timeout_s` bounds a task; a process that is still at it is killed. A process may also die of what an earlier
    task did to its memory: a task is blamed for the death of a fresh process only, and else given to one.
    Use as a context manager.
    """

    def __init__(self, work: Callable[[Task], Result], *, workers: int, timeout_s: float) -> None:
        self._work = work
        self._timeout_s = timeout_s
        self._context = _choose_context()
        self._workers: list[_Worker[Task]] = []
        self._count = workers

    def __enter__(self) -> WorkerPool[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Died]]:
        """Each task with its result, in the order in which they finish.

        Tasks are taken from the iterable as processes fall idle, never ahead of that.
        """
        return (found for found in self.run_or_pause(tasks, pause_after_s=math.inf) if found is not None)

    def run_or_pause(
        self, tasks: Iterable[Task], *, pause_after_s: float
    ) -> Iterator[tuple[Task, Result | Died] | None]:
        """As `run`, with None in between whenever no task has finished for `pause_after_s`."""
        waiting = iter(tasks)
        while True:
            self._hand_out(waiting)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            kill_in_s = max(0.0, min(worker.kill_at_s for worker in busy) - time.monotonic())
            ready = connection.wait([worker.pipe for worker in busy], timeout=min(kill_in_s, pause_after_s))
            now_s = time.monotonic()
            if not ready and pause_after_s < kill_in_s:
                yield None
                continue
            for worker in busy:
                task = worker.task
                assert task is not None
                if worker.pipe in ready:
                    result = self._collect(worker)
                    if worker not in self._workers and not worker.is_fresh:
                        self._give(task, self._start())
                        continue
                elif now_s >= worker.kill_at_s:
                    result = Died(f"not done within {self._timeout_s:g} s, its process was ended", timed_out=True)
                    self._remove(worker)
                else:
                    continue
                worker.task = None
                worker.is_fresh = False
                yield task, result

    def _hand_out(self, waiting: Iterator[Task]) -> None:
        idle = [worker for worker in self._workers if worker.task is None]
        while idle or len(self._workers) < self._count:
            try:
                task = next(waiting)
            except StopIteration:
                return
            worker = idle.pop() if idle else self._start()
            try:
                self._give(task, worker)
            except ConnectionError:
                # It died while idle; the task goes to a fresh one.
                self._remove(worker)
                self._give(task, self._start())

    def _give(self, task: Task, worker: _Worker[Task]) -> None:
        worker.pipe.send(task)
        worker.task = task
        worker.kill_at_s = time.monotonic() + self._timeout_s

    def _collect(self, worker: _Worker[Task]) -> Result | Died:
        try:
            result: Result | Died = worker.pipe.recv()
        except Exception:
            # Cut short, or garbage: a process whose memory is damaged may send anything.
            worker.process.join(1)
            reason = _describe_exit(worker.process.exitcode)
            self._remove(worker)
            return Died(reason, timed_out=False)
        return result

    def _start(self) -> _Worker[Task]:
        ours, theirs = self._context.Pipe()
        # BaseContext does not declare Process, though every context has it.
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)  # type: ignore[attr-defined]
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
    # Forking a process that runs threads (a kernel does) can deadlock; a fork server has none, and it starts a
    # replacement faster than a spawned interpreter would.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["dedup_lib.extract"])
    return context


def _serve(pipe: Connection, work: Callable[[Task], Result]) -> None:
    """Main loop of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    threading.Thread(target=_follow_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            pipe.send(work(task))
        except Exception as error:
            pipe.send(Died(f"it fails unexpectedly: {type(error).__name__}: {error}", timed_out=False))


def _silence() -> None:
    """Decoders and dying C libraries write to the terminal: what matters arrives as a status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _follow_parent() -> None:
    """End this process when its parent is gone, also in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "the decoder's process answered with garbage"
    if code < 0:
        named = -code in set(signal.Signals)
        return f"the decoder crashed with {signal.Signals(-code).name if named else f'signal {-code}'}"
    return f"the decoder's process ended with exit code {code}"
