"""What a worker process loads beyond what its fork server has."""

from __future__ import annotations

import sys

import numpy as np

from dedup_lib.extract.worker import read_video
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Recipe, Scan, Status


def modules_loaded_for(url: str) -> tuple[Status, set[str]]:
    """Reads a video. Returns its status, and the modules that were loaded meanwhile."""
    before = set(sys.modules)
    read = read_video(
        (0, url),
        recipe=Recipe(encoder="sscd", model="", num_frames=3, frame_span="spread"),
        scan=Scan(step_s=0.25),
        limits=FetchLimits(timeout_s=20, max_bytes=50_000_000, allow_private_addresses=True),
        prepare=np.asarray,
    )
    return read.outcome.status, set(sys.modules) - before
