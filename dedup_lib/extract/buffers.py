"""Threads that read ahead of the encoder and save behind it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from enum import Enum, auto
from typing import Any, ClassVar, Generic, Literal, TypeVar

from numpy.typing import NDArray

Item = TypeVar("Item")

SAVE_AT_ONCE = 1000
SAVE_EVERY_S = 1.0
"""Items are saved when `SAVE_AT_ONCE` of them wait, or `SAVE_EVERY_S` seconds after the last save."""

_LOOK_EVERY_S = 0.1


class _Mark(Enum):
    END = auto()


class Prefetcher(Generic[Item]):
    """Runs a generator in its own thread, at most `most` items ahead of the caller.

    Use it as a context manager: on exit it calls `stop`, which makes the generator end soon, and closes the generator.
    """

    END: ClassVar[Literal[_Mark.END]] = _Mark.END

    def __init__(self, items: Generator[Item], *, most: int, stop: Callable[[], object] = lambda: None) -> None:
        self._items = items
        self._stop = stop
        self._queue: queue.Queue[Item | Literal[_Mark.END]] = queue.Queue(most)
        self._error: BaseException | None = None
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Prefetcher[Item]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        finally:
            # Closed in this thread, because no other thread can close a running generator.
            self._items.close()
            self._put(Prefetcher.END)

    def _put(self, item: Item | Literal[_Mark.END]) -> bool:
        while not self._is_closing.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_EVERY_S)
            except queue.Full:
                continue
            return True
        return False

    def next(self, *, within_s: float) -> Item | Literal[_Mark.END] | None:
        """Returns the next item, None when none comes within `within_s` seconds, or `END` after the last one. Raises
        what the generator raised."""
        try:
            item = self._queue.get(timeout=within_s)
        except queue.Empty:
            return None
        if item is Prefetcher.END and self._error is not None:
            raise self._error
        return item


class MicroBatcher(Generic[Item]):
    """Collects the calls of many threads into calls of `work`, which returns an array with a row for each item.

    Items that arrive while `work` is busy go into its next call, of about `most` items."""

    def __init__(self, work: Callable[[Sequence[Item]], NDArray[Any]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: queue.SimpleQueue[tuple[Sequence[Item], Future[NDArray[Any]]]] = queue.SimpleQueue()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> NDArray[Any]:
        """Returns the rows for these items. Raises what `work` raises."""
        answer: Future[NDArray[Any]] = Future()
        self._waiting.put((items, answer))
        with self._turn:
            # Another thread may have done the work in its turn.
            while not answer.done():
                self._answer_some()
        return answer.result()

    def _answer_some(self) -> None:
        taken: list[tuple[Sequence[Item], Future[NDArray[Any]]]] = []
        count = 0
        with contextlib.suppress(queue.Empty):
            while count < self._most:
                taken.append(self._waiting.get_nowait())
                count += len(taken[-1][0])
        try:
            rows = self._work([item for items, _ in taken for item in items])
        except BaseException as error:
            for _, answer in taken:
                answer.set_exception(error)
            return
        start = 0
        for items, answer in taken:
            answer.set_result(rows[start : start + len(items)])
            start += len(items)


class BatchWriter(Generic[Item]):
    """Passes added items to `save` in batches, in its own thread.

    Use it as a context manager: on exit, also by an exception, everything is saved first. The next `add`, or the exit,
    raises what `save` raised.
    """

    def __init__(self, save: Callable[[Sequence[Item]], object]) -> None:
        self._save = save
        # Bounds the memory of what waits: `add` blocks while this many calls are unsaved.
        self._queue: queue.Queue[Sequence[Item] | None] = queue.Queue(2 * SAVE_AT_ONCE)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="saver", daemon=True)

    def __enter__(self) -> BatchWriter[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and self._error is not error:
            raise self._error

    def add(self, items: Sequence[Item]) -> None:
        """Queues items to be saved soon; waits while the queue is full."""
        if self._error is not None:
            raise self._error
        self._queue.put(items)

    def _run(self) -> None:
        unsaved: list[Item] = []
        saved_s = time.monotonic()
        is_open = True
        while is_open:
            try:
                items = self._queue.get(timeout=SAVE_EVERY_S)
            except queue.Empty:
                items = []
            is_open = items is not None
            unsaved.extend(items or ())
            is_due = len(unsaved) >= SAVE_AT_ONCE or time.monotonic() - saved_s >= SAVE_EVERY_S or not is_open
            if unsaved and is_due and self._error is None:
                try:
                    self._save(unsaved)
                except BaseException as error:
                    # Further items are dropped until the next `add` raises the error.
                    self._error = error
                unsaved, saved_s = [], time.monotonic()
