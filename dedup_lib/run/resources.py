"""Memory and CPU of a process and its children over time."""

from __future__ import annotations

import contextlib
import threading
import time

import pandas as pd
import psutil

SAMPLE_EVERY_S = 0.5

MAX_RECORDED = 240
"""Most samples in a stage record."""


class ResourceMonitor:
    """Samples memory and CPU in a thread while its `with` block runs; afterwards `samples` holds the table."""

    def __init__(self) -> None:
        self.samples = pd.DataFrame({"time_s": [], "memory_mib": [], "cpu_percent": []}, dtype=float)
        self._rows: list[tuple[float, float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ResourceMonitor:
        self._start_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.samples = pd.DataFrame(self._rows, columns=["time_s", "memory_mib", "cpu_percent"], dtype=float)

    def as_record(self) -> dict[str, list[float]]:
        """The samples for a stage record, by column; when there are too many, the maximum of each group."""
        every = -(-len(self.samples) // MAX_RECORDED) or 1
        thinned = self.samples.groupby(self.samples.index // every).max()
        return {str(name): [round(float(value), 1) for value in column] for name, column in thinned.items()}

    def _watch(self) -> None:
        before_s, cpu_before_s = time.monotonic(), _take_sample()[1]
        stopped = False
        while not stopped:
            # One more sample at the end, so that a short block has a sample too.
            stopped = self._stop.wait(SAMPLE_EVERY_S)
            memory_mib, cpu_s = _take_sample()
            now_s = time.monotonic()
            # The CPU time of a child that ended drops out of the sum, so the difference may be negative.
            percent = 100 * max(0.0, cpu_s - cpu_before_s) / (now_s - before_s)
            self._rows.append((now_s - self._start_s, memory_mib, percent))
            before_s, cpu_before_s = now_s, cpu_s


def _take_sample() -> tuple[float, float]:
    """Memory in MiB and CPU seconds so far, of this process and all its descendants.

    Worker processes share most of their pages with the process that forked them. On Linux, a shared page counts once
    (proportional set size); elsewhere each process counts its own resident memory.
    """
    memory_mib = cpu_s = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            memory_mib += getattr(memory, "pss", memory.rss) / 2**20
            times = process.cpu_times()
            cpu_s += times.user + times.system
    return memory_mib, cpu_s
