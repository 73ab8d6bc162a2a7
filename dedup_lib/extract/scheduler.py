"""Which video comes next: few of one host at a time, and failures that may pass again after a pause."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

Task = tuple[int, str]
"""Row in the list, and URL."""

FIRST_PAUSE_S = 1.0
"""Before a video is tried again; each further pause is four times as long, and each varies by half of it."""

MAX_PAUSE_S = 120.0
"""A server that asks for more is asked again by the next run."""

_LOOKED_AHEAD = 1000
"""No more tasks than this are passed over because their hosts are busy."""


class Schedule:
    """Tasks to hand out one at a time.

    Iterating gives the next task that may start now, and None while there is none, for all that is left waits for its
    host or its pause. It ends when every task is finished.
    """

    def __init__(self, tasks: Sequence[Task], *, most_a_host: int, retries: int) -> None:
        self._tasks = iter(tasks)
        self._passed_over: dict[str, deque[Task]] = {}
        self._waiting = 0
        """Tasks that were passed over."""
        self._freed: deque[str] = deque()
        """Hosts with a task that was passed over and may start now."""
        self._paused: list[tuple[float, Task]] = []
        self._most_a_host = most_a_host
        self._retries = retries
        self._busy: Counter[str] = Counter()
        self._tries: Counter[Task] = Counter()
        self._open = len(tasks)

    def __iter__(self) -> Iterator[Task | None]:
        while self._open:
            yield self._take()

    def _take(self) -> Task | None:
        task = self._take_rested() or self._take_freed() or self._take_new()
        if task is not None:
            self._busy[_host(task)] += 1
            self._tries[task] += 1
        return task

    def _take_rested(self) -> Task | None:
        """One whose pause is over."""
        if self._paused and self._paused[0][0] <= time.monotonic():
            _, task = heapq.heappop(self._paused)
            if self._is_free(task):
                return task
            self._pass_over(task)
        return None

    def _take_freed(self) -> Task | None:
        """One that had to wait for its host and need not any longer."""
        while self._freed:
            host = self._freed.popleft()
            if host in self._passed_over and self._is_free(self._passed_over[host][0]):
                task = self._passed_over[host].popleft()
                self._waiting -= 1
                if not self._passed_over[host]:
                    del self._passed_over[host]
                return task
        return None

    def _take_new(self) -> Task | None:
        while self._waiting < _LOOKED_AHEAD:
            task = next(self._tasks, None)
            if task is None or (self._is_free(task) and _host(task) not in self._passed_over):
                return task
            self._pass_over(task)
        return None

    def _pass_over(self, task: Task) -> None:
        self._passed_over.setdefault(_host(task), deque()).append(task)
        self._waiting += 1

    def _is_free(self, task: Task) -> bool:
        host = _host(task)
        return not host or self._busy[host] < self._most_a_host

    def finish(self, task: Task, *, may_pass: bool = False, pause_s: float | None = None) -> int | None:
        """Note that a task has ended; returns the tries that it took, None where another one follows. One whose failure
        `may_pass` is tried again, after `pause_s` where the server asks for that."""
        self._busy[_host(task)] -= 1
        self._freed.append(_host(task))
        tries = self._tries[task]
        wanted_s = FIRST_PAUSE_S * 4 ** (tries - 1) * random.uniform(0.5, 1.5)
        if may_pass and tries <= self._retries and (pause_s or 0.0) <= MAX_PAUSE_S:
            heapq.heappush(self._paused, (time.monotonic() + max(wanted_s, pause_s or 0.0), task))
            return None
        self._open -= 1
        del self._tries[task]
        return tries


def _host(task: Task) -> str:
    """Empty for a local file."""
    _, url = task
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
