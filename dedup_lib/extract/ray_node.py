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
    """What a node has to know."""

    work: Callable[[Task], Result]
    make_finish: Callable[[], Callable[[Result], Result]]
    timeout_s: float


class Node(Generic[Task, Result]):
    """Works on one node of the cluster, as an actor with many threads."""

    def __init__(self, job: Job[Task, Result], answers: Any, workers: int) -> None:
        # A process imports what the main module of its parent is made of, which here is Ray's own.
        vars(sys.modules["__main__"]).pop("__file__", None)
        # Another node of this machine unpacks the code anew, and the folder where this one began is gone for a while.
        os.chdir(os.sep)
        self._finish = job.make_finish()
        # The one used last is used next: processes that are not needed are not started.
        self._idle: queue.LifoQueue[WorkerPool[Task, Result]] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(WorkerPool(job.work, workers=1, timeout_s=job.timeout_s, answer=partial(ask_node, answers)))

    def describe(self) -> dict[str, str]:
        """The versions of what is at work here."""
        return find_versions()

    def run(self, task: Task) -> Result | WorkerFailure:
        pool = self._idle.get()
        try:
            ((_, result),) = pool.run([task])
        finally:
            self._idle.put(pool)
        return result if isinstance(result, WorkerFailure) else self._finish(result)


class Answers:
    """Answers the questions of all nodes, as an actor on the machine of the run."""

    def __init__(self, answer: Callable[[Any], object]) -> None:
        self._answer = answer

    def answer(self, question: Any) -> object:
        return self._answer(question)


def ask_node(answers: Any, question: Any) -> object:
    """What the driver answers to a question of a worker."""
    import ray

    try:
        return ray.get(answers.answer.remote(question), timeout=_ANSWER_WITHIN_S)
    except ray.exceptions.RayError:
        return None
