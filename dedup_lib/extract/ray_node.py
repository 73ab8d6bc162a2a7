"""The worker processes of one node of a Ray cluster."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.run.versions import find_versions

_ANSWER_WITHIN_S = 5.0

Task = TypeVar("Task")

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Task, Result]):
    """What a node needs to know for its work."""

    work: Callable[[Task], Result]
    make_finish: Callable[[], Callable[[Result], Result]]
    timeout_s: float


class Node(Generic[Task, Result]):
    """The actor on one node of the cluster; it has many threads."""

    def __init__(self, job: Job[Task, Result], answers: Any, workers: int) -> None:
        # A new process imports the main module of its parent, which here belongs to Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        # The start folder may vanish for a while, when another node on this machine unpacks the code anew.
        os.chdir(os.sep)
        self._finish = job.make_finish()
        # Last in, first out: only as many pools start a process as are needed.
        self._idle: queue.LifoQueue[WorkerPool[Task, Result]] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(WorkerPool(job.work, workers=1, timeout_s=job.timeout_s, answer=partial(ask_node, answers)))

    def describe(self) -> dict[str, str]:
        """The versions of the software on this node."""
        return find_versions()

    def run(self, task: Task) -> Result | WorkerFailure:
        pool = self._idle.get()
        try:
            ((_, result),) = pool.run([task])
        finally:
            self._idle.put(pool)
        return result if isinstance(result, WorkerFailure) else self._finish(result)


class Answers:
    """The actor on the machine of the run; it answers the questions of all nodes."""

    def __init__(self, answer: Callable[[Any], object]) -> None:
        self._answer = answer

    def answer(self, question: Any) -> object:
        return self._answer(question)


def ask_node(answers: Any, question: Any) -> object:
    """Returns the driver's answer to a question of a worker; None when the driver cannot be reached."""
    import ray

    try:
        return ray.get(answers.answer.remote(question), timeout=_ANSWER_WITHIN_S)
    except ray.exceptions.RayError:
        return None
