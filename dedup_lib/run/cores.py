"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The limit of a container in microseconds of a core per period, such as "200000 100000" (cgroup v2 of Linux)."""


def count_cores() -> int:
    """The number of cores, which an affinity or the limit of a container may set below that of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota_us, period_us = map(int, _QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        # No container, no Linux, or "max".
        return cores
    return max(1, min(cores, math.ceil(quota_us / period_us)))
