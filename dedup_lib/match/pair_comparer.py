"""Compares many pairs of a list: in this process if that is quick, otherwise in several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dedup_lib.extract.worker_pool import WorkerFailure, WorkerPool
from dedup_lib.features.fingerprint import Fingerprint, keep_recent
from dedup_lib.match.evidence import Evidence
from dedup_lib.match.verify import FrameFeatures, compare_features
from dedup_lib.media.frames import use_one_thread

MAX_PAIRS_AT_ONCE = 128
"""Maximum number of pairs that a process is given at a time."""

TASK_S = 4.0
"""Seconds that a process should need for what it is given at a time, so that all end at about the same time."""

SQUARE_ROWS = 50
"""Pairs are compared in squares of the table of all pairs, with this number of rows along each side: the fingerprints
of a square stay in memory. Along a row of the table, each would be loaded for each pair."""

MEASURED_S = 1.0
"""Seconds of comparing in this process that show how long the rest would take. Two copies take thirty times as long as
two unlike videos."""

MIN_S_FOR_PROCESSES = 6.0
"""Seconds that this process would need for the rest, from which several are faster: they take some seconds to start."""

MAX_TASK_S = 1800.0
"""Maximum seconds for `MAX_PAIRS_AT_ONCE` pairs. Two long films take about a second."""


class PairComparer:
    """Compares pairs of videos by their fingerprints, which are looked up by row.

    With more than one of `workers`, pairs that would take long are compared in that number of processes. `fingerprints`
    must then be picklable, and each process looks up its own.
    """

    def __init__(self, fingerprints: Sequence[Fingerprint | None], *, workers: int = 1) -> None:
        self._work = _Work(fingerprints)
        self._workers = workers

    def compare(self, pairs: Sequence[Evidence]) -> Iterator[Evidence]:
        """Adds to each of these what the fingerprints of both rows say. Yields them in any order."""
        ordered = _put_in_order(pairs)
        start_s = time.monotonic()
        for number, pair in enumerate(ordered):
            taken_s = time.monotonic() - start_s
            if self._workers > 1 and number and taken_s > MEASURED_S:
                pair_s = taken_s / number
                if pair_s * (len(ordered) - number) > MIN_S_FOR_PROCESSES:
                    yield from self._compare_side_by_side(ordered[number:], pair_s=pair_s)
                    return
            yield from self._work([pair])

    def _compare_side_by_side(self, ordered: Sequence[Evidence], *, pair_s: float) -> Iterator[Evidence]:
        size = min(MAX_PAIRS_AT_ONCE, max(1, round(TASK_S / pair_s)))
        tasks = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        with WorkerPool(_WorkAlone(self._work), workers=self._workers, timeout_s=MAX_TASK_S) as pool:
            for task, found in pool.run(tasks):
                # An error that is raised again in this process has its own type.
                yield from self._work(task) if isinstance(found, WorkerFailure) else found


class _Work:
    """Compares the pairs of a task. The looks of recently used videos stay in memory."""

    def __init__(self, fingerprints: Sequence[Fingerprint | None]) -> None:
        self._fingerprints = fingerprints
        self._features_of: Callable[[int], FrameFeatures | None] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_fingerprints": self._fingerprints, "_features_of": None}

    def __call__(self, pairs: Sequence[Evidence]) -> list[Evidence]:
        if self._features_of is None:
            self._features_of = keep_recent(
                self._make_features, count_frames=lambda one: len(one.fingerprint.times_s) if one is not None else 0
            )
        return [compare_features(pair, self._features_of(pair.first), self._features_of(pair.second)) for pair in pairs]

    def _make_features(self, row: int) -> FrameFeatures | None:
        fingerprint = self._fingerprints[row]
        return FrameFeatures(fingerprint) if fingerprint is not None else None


class _WorkAlone:
    """The same in a process beside others: each of them keeps one core busy."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def __call__(self, pairs: Sequence[Evidence]) -> list[Evidence]:
        use_one_thread()
        return self._work(pairs)


def _put_in_order(pairs: Sequence[Evidence]) -> list[Evidence]:
    """These pairs, so that pairs of one video follow each other closely: its fingerprint is loaded few times.

    Videos that are compared with each other get places near each other by the reverse Cuthill-McKee ordering
    (Cuthill, McKee: Reducing the bandwidth of sparse symmetric matrices, 1969), whatever their rows in the list.
    """
    if not pairs:
        return []
    # Imported only here: worker processes, and a run that compares nothing, do without half a second and 17 MB.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    ends = np.array([(pair.first, pair.second) for pair in pairs])
    rows = int(ends.max()) + 1
    both_ways = np.concatenate([ends, ends[:, ::-1]]).T
    graph = coo_array((np.ones(both_ways.shape[1], dtype=np.int8), both_ways), shape=(rows, rows)).tocsr()
    places = np.empty(rows, dtype=np.int64)
    places[reverse_cuthill_mckee(graph, symmetric_mode=True)] = np.arange(rows)
    low, high = np.sort(places[ends], axis=1).T
    order = np.lexsort((high, low, high // SQUARE_ROWS, low // SQUARE_ROWS))
    return [pairs[number] for number in order]
