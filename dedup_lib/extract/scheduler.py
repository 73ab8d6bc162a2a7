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
"""Seconds of back-off before the first retry; each further pause is four times as long. All vary by half, up or down.
"""

MAX_PAUSE_S = 120.0
"""Seconds. When a server asks for a longer pause, only the next run tries the video again."""


class Schedule:
    """Hands out tasks one at a time.

    Iteration gives the next task that may start now, or None while every remaining task waits for its host or its
    pause. It ends when every task is finished.
    """

    def __init__(self, tasks: Sequence[Task], *, most_a_host: int, retries: int) -> None:
        self._tasks = iter(tasks)
        self._passed_over: dict[str, deque[Task]] = {}
        self._freed: deque[str] = deque()
        """Hosts that have finished a task, so that a passed-over task may start."""
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
        """A task whose pause is over, or None."""
        if self._paused and self._paused[0][0] <= time.monotonic():
            _, task = heapq.heappop(self._paused)
            if self._is_free(task):
                return task
            self._pass_over(task)
        return None

    def _take_freed(self) -> Task | None:
        """A passed-over task whose host is free again, or None."""
        while self._freed:
            host = self._freed.popleft()
            if host in self._passed_over and self._is_free(self._passed_over[host][0]):
                task = self._passed_over[host].popleft()
                if not self._passed_over[host]:
                    del self._passed_over[host]
                return task
        return None

    def _take_new(self) -> Task | None:
        for task in self._tasks:
            if self._is_free(task) and _host(task) not in self._passed_over:
                return task
            self._pass_over(task)
        return None

    def _pass_over(self, task: Task) -> None:
        self._passed_over.setdefault(_host(task), deque()).append(task)

    def _is_free(self, task: Task) -> bool:
        host = _host(task)
        return not host or self._busy[host] < self._most_a_host

    def finish(self, task: Task, *, may_pass: bool = False, pause_s: float | None = None) -> int | None:
        """Notes the end of a try. Returns the number of tries when the task is finished, None when a retry follows.

        A failure that `may_pass` is retried after the back-off, or after `pause_s` when the server asks for longer."""
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
    """The host of a task, "" for a local file."""
    _, url = task
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
