"""Compares many pairs of a list: in this process if they are few, otherwise in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.features.fingerprint import Fingerprint, keep_recent
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.verify import Looks, compare_looks
from dedup_lib.media.frames import use_one_thread

PAIRS_AT_ONCE = 128
"""Maximum number of pairs that a process is given at a time."""

SQUARE_ROWS = 200
"""Pairs are compared in squares of the table of all pairs, with this number of rows along each side: the fingerprints
of a square stay in memory. Along a row of the table, each would be loaded for each pair."""

MIN_PAIRS_FOR_PROCESSES = 300
"""Number of pairs from which several processes are faster than one: they take some seconds to start."""

MAX_TASK_S = 1800.0
"""Maximum seconds for `PAIRS_AT_ONCE` pairs. Two long films take about a second."""


class PairComparer:
    """Compares pairs of videos by their fingerprints, which are looked up by row.

    With more than one of `workers`, many pairs are compared in that number of processes. `fingerprints` must then be
    picklable, and each process looks up its own.
    """

    def __init__(self, fingerprints: Sequence[Fingerprint | None], *, workers: int = 1) -> None:
        self._work = _Work(fingerprints)
        self._workers = workers

    def compare(self, pairs: Sequence[Evidence]) -> Iterator[Evidence]:
        """Adds to each of these what the fingerprints of both rows say. Yields them in any order."""
        ordered = sorted(pairs, key=lambda pair: (*_find_square(pair), pair.first, pair.second))
        if self._workers == 1 or len(pairs) < MIN_PAIRS_FOR_PROCESSES:
            for pair in ordered:
                yield from self._work([pair])
            return
        squares = [list(square) for _, square in groupby(ordered, key=_find_square)]
        tasks = [
            square[start : start + PAIRS_AT_ONCE]
            for square in squares
            for start in range(0, len(square), PAIRS_AT_ONCE)
        ]
        work = _WorkAlone(self._work)
        with WorkerPool(work, workers=min(self._workers, len(tasks)), timeout_s=MAX_TASK_S) as pool:
            for task, found in pool.run(tasks):
                # An error that is raised again in this process has its own type.
                yield from self._work(task) if isinstance(found, WorkerFailure) else found


class _Work:
    """Compares the pairs of a task. The looks of recently used videos stay in memory."""

    def __init__(self, fingerprints: Sequence[Fingerprint | None]) -> None:
        self._fingerprints = fingerprints
        self._looks_of: Callable[[int], Looks | None] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_fingerprints": self._fingerprints, "_looks_of": None}

    def __call__(self, pairs: Sequence[Evidence]) -> list[Evidence]:
        if self._looks_of is None:
            self._looks_of = keep_recent(
                self._make_looks, count_frames=lambda one: len(one.fingerprint.times_s) if one is not None else 0
            )
        return [compare_looks(pair, self._looks_of(pair.first), self._looks_of(pair.second)) for pair in pairs]

    def _make_looks(self, row: int) -> Looks | None:
        fingerprint = self._fingerprints[row]
        return Looks(fingerprint) if fingerprint is not None else None


class _WorkAlone:
    """The same in a process beside others: each of them keeps one core busy."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def __call__(self, pairs: Sequence[Evidence]) -> list[Evidence]:
        use_one_thread()
        return self._work(pairs)


def _find_square(pair: Evidence) -> tuple[int, int]:
    return pair.first // SQUARE_ROWS, pair.second // SQUARE_ROWS
