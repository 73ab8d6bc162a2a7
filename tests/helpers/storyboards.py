"""Storyboards for tests of what shows videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dedup_lib.media.storyboard import Storyboard
from dedup_lib.run.folder import thumbnail_path


def save_storyboard(url: str, *, thumbnails_dir: Path, frames: int = 1, size_px: tuple[int, int] = (170, 96)) -> None:
    """Saves the storyboard of a grey video, as 03_extract leaves it."""
    width, height = size_px
    board = Storyboard.of(
        [np.full((height, width, 3), 128, np.uint8)] * frames, times_s=[float(number) for number in range(frames)]
    )
    thumbnail_path(url, thumbnails_dir=thumbnails_dir).write_bytes(board.to_bytes())
