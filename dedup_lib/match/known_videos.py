"""Videos that were in the collection before, near those of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from dedup_lib.match.vector_join import check_pairs
from dedup_lib.match.vector_table import BLOCK_LINES, Lines, VectorTable
from dedup_lib.records import StoredRows, Vectors


def find_near(
    table: VectorTable, stored: Iterable[StoredRows], *, floor: float, is_wanted: Callable[[str], bool], max_pairs: int
) -> list[str]:
    """URLs of stored videos whose similarity to a video of the table is at least `floor` or just below it.

    `is_wanted` says by the key of a stored video whether it counts. Memory holds the table and one block of stored
    videos.

    Raises SettingError when they make more than `max_pairs` pairs.
    """
    low = floor - table.slack
    lines = table.lines.reshape(len(table), table.width)
    near: list[str] = []
    pairs = 0
    for urls, block, counts in _whole_videos(stored, table.lines.shape[1], is_wanted):
        alike = np.zeros(len(urls), bool)
        for start in range(0, len(table), BLOCK_LINES):
            products = lines[start : start + BLOCK_LINES] @ block.T
            products /= np.maximum(table.counts[start : start + BLOCK_LINES, None], counts)
            highest = products.max(axis=0)
            if (highest >= low).any():
                alike |= highest >= low
                pairs += int(np.count_nonzero(products >= low))
        check_pairs(pairs, floor=floor, max_pairs=max_pairs)
        near += [urls[index] for index in np.flatnonzero(alike)]
    return near


def _whole_videos(
    stored: Iterable[StoredRows], positions: int, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[list[str], Vectors, Lines]]:
    """URLs of videos, their lines (N, positions * dimension) and the number of positions of each."""
    held: StoredRows | None = None
    for rows in chain(stored, (None,)):
        if rows is None:
            whole, held = held, None
        elif positions == 1:
            whole = rows
        else:
            # The frames of the last video of a block may continue in the next block.
            both = held.join(rows) if held is not None else rows
            last = both.videos.index(both.videos[-1])
            whole, held = both.take(range(last)), both.take(range(last, len(both)))
        if whole is None or not len(whole):
            continue
        place: dict[str, int] = {}
        for video in whole.videos:
            if is_wanted(video):
                place.setdefault(video, len(place))
        taken = [index for index, video in enumerate(whole.videos) if video in place]
        lines = np.zeros((len(place), positions, whole.vectors.shape[1]), np.float32)
        at = [place[whole.videos[index]] for index in taken]
        lines[at, [whole.positions[index] for index in taken]] = whole.vectors[taken]
        urls = {whole.videos[index]: whole.urls[index] for index in taken}
        counts = np.bincount(at, minlength=len(place)).astype(np.int64)
        if place:
            yield [urls[video] for video in place], lines.reshape(len(place), -1), counts
