"""What a stage takes of the machine is sampled while it runs, its children's share included."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from dedup_lib.run.resources import MAX_RECORDED, ResourceMonitor


def test_memory_and_work_of_this_process_and_its_children_are_sampled() -> None:
    # 200 MiB that are really in use, and a core that is busy.
    code = "block = bytearray(b'x') * (200 << 20); print('ready', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout and child.stdout.readline()
            with ResourceMonitor() as monitor:
                time.sleep(1.3)
        finally:
            child.kill()
    samples = monitor.samples
    assert list(samples.columns) == ["time_s", "memory_mib", "cpu_percent"] and len(samples) >= 1
    assert samples.time_s.is_monotonic_increasing and samples.memory_mib.min() > 200
    assert samples.cpu_percent.max() > 0


def test_a_short_stage_has_a_sample_and_an_exception_passes_through() -> None:
    with pytest.raises(ValueError, match="stop"), ResourceMonitor() as monitor:
        raise ValueError("stop")
    assert len(monitor.samples) == 1 and np.isfinite(monitor.samples.to_numpy()).all()


@pytest.mark.parametrize("count", [0, 1, MAX_RECORDED, 3 * MAX_RECORDED + 1])
def test_a_record_keeps_the_peaks_of_many_samples(count: int) -> None:
    monitor = ResourceMonitor()
    memory_mib = [100.0 + (row == count // 2) * 900 for row in range(count)]
    monitor.samples = pd.DataFrame(
        {"time_s": [row / 2 for row in range(count)], "memory_mib": memory_mib, "cpu_percent": [50.0] * count}
    )
    record = monitor.as_record()
    assert list(record) == ["time_s", "memory_mib", "cpu_percent"]
    assert len(record["time_s"]) <= MAX_RECORDED
    assert record["time_s"] == sorted(record["time_s"])
    assert max(record["memory_mib"], default=1000.0) == 1000.0
