"""Candidates from the index of a store, and an audit of how many it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.match.vector_join import Candidates, FoundPairs, are_among_nearest
from dedup_lib.match.vector_table import BLOCK_LINES, Lines, VectorTable
from dedup_lib.records import Hit, Progress, Vectors, no_progress

Search = Callable[[Vectors, int], list[list[Hit]]]
"""From vectors (N, D) and a number of neighbours to the neighbours of each vector, best first."""

_VECTORS_AT_ONCE = 1000
"""Number of vectors in one search of a store."""


def join_by_search(
    table: VectorTable,
    search: Search,
    *,
    floor: float,
    top_k: tuple[int, int],
    max_pairs: int,
    k_nearest: int | None = None,
    line_of: dict[str, int],
    begin: Progress = no_progress,
) -> Candidates:
    """Pairs of lines for which a store finds a vector of one line among the neighbours of a vector of the other.

    A list of neighbours that is full of matches may have been cut. The search for that vector is repeated with four
    times as many neighbours until the end of the list lies below the floor. `top_k` is the first number of neighbours
    and the largest; after the largest, the vector is compared with all others directly. So an exact search misses no
    pair with a similarity above 0. `line_of` gives the line of a video by its key; other videos in the store are
    skipped. `k_nearest` as in `join_exactly`. `begin` reports progress over the vectors. Raises SettingError for more
    than ten times `max_pairs` pairs.
    """
    low = floor - table.slack
    waiting, deeper = np.argwhere(table.present), 0
    limit, largest = top_k
    # Frames that many videos share make more candidates than are similar in the end. A candidate takes only 8 bytes.
    pairs = FoundPairs(table, floor=floor, max_pairs=10 * max_pairs + len(table), k_nearest=k_nearest)
    num_queries = 0
    while len(waiting):
        num_queries += len(waiting)
        progress = begin("searching: vectors", num_queries)
        cut: list[NDArray[np.int64]] = []
        for start in range(0, len(waiting), _VECTORS_AT_ONCE):
            queries = waiting[start : start + _VECTORS_AT_ONCE]
            ones, others = [], []
            found = search(table.lines[queries[:, 0], queries[:, 1]], limit)
            for (line, position), hits in zip(queries, found, strict=True):
                near = list(near_lines(int(line), hits, line_of, low))
                ones += [int(line)] * len(near)
                others += near
                if len(hits) == limit and hits[-1].cosine >= low:
                    cut.append(np.array((line, position)))
            pairs.add(np.array(ones, np.int64), np.array(others, np.int64))
            progress(len(queries))
        waiting = np.array(cut, np.int64).reshape(-1, 2)
        if limit >= largest:
            break
        deeper += len(waiting)
        limit = min(limit * 4, largest)
    for line, position in waiting:
        pairs.add(*_compare_with_all(table, int(line), table.lines[line, position], low))
    first, second = pairs.sorted()
    return Candidates(
        first=first, second=second, nearest=np.full(len(table), np.nan, np.float32), expanded_queries=deeper
    )


def near_lines(own: int, hits: Sequence[Hit], line_of: dict[str, int], low: float) -> Iterator[int]:
    """Lines worth comparing: every neighbour near the floor, and the nearest one at any distance."""
    found = False
    for hit in hits:
        if found and hit.cosine < low:
            return
        line = line_of.get(hit.video, own)
        if line != own:
            found = True
            yield line


def _compare_with_all(table: VectorTable, own: int, vector: Vectors, low: float) -> tuple[Lines, Lines]:
    """Pairs of this line with each line that has, at any position, a vector near this one."""
    near: list[Lines] = []
    for start in range(0, len(table), BLOCK_LINES):
        cosines_of = table.lines[start : start + BLOCK_LINES] @ vector.reshape(-1)
        near.append(np.flatnonzero((cosines_of >= low).any(axis=1)) + start)
    others = np.concatenate(near)
    others = others[others != own]
    return np.full(len(others), own, np.int64), others


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How many of the existing pairs a search found."""

    videos: int
    """Number of videos that were compared with all others exactly; videos with identical vectors count once."""
    pairs: int
    """Number of pairs with these videos."""
    found: int
    """Number of these pairs that are among the candidates."""
    recall: float | None
    """Share of these pairs that are among the candidates; None if there are no pairs."""


def audit_candidates(
    table: VectorTable,
    candidates: Candidates,
    *,
    floor: float,
    videos: int,
    max_pairs: int,
    k_nearest: int | None = None,
    begin: Progress = no_progress,
) -> Audit:
    """Compare some randomly chosen lines with all others exactly, and count which of their pairs are candidates. With
    `k_nearest`, only pairs with the `k_nearest` nearest lines count.

    `begin` reports progress over the lines. Raises SettingError when the chosen lines have more than `max_pairs` pairs.
    """
    queries = np.sort(np.random.default_rng(0).choice(len(table), size=min(videos, len(table)), replace=False))
    low = floor - table.slack
    flat = table.lines.reshape(len(table), table.width)
    known = candidates.first * len(table) + candidates.second
    pairs = FoundPairs(table, floor=floor, max_pairs=max_pairs)
    progress = begin("auditing the index: vectors", len(table))
    for start in range(0, len(table), BLOCK_LINES):
        others = np.arange(start, min(start + BLOCK_LINES, len(table)))
        for top in range(0, len(queries), BLOCK_LINES):
            own = queries[top : top + BLOCK_LINES]
            products = flat[own] @ flat[others].T / np.maximum(table.counts[own][:, None], table.counts[others])
            places, far = np.nonzero(products >= low)
            distinct = own[places] != others[far]
            pairs.add(own[places[distinct]], others[far[distinct]])
        progress(len(others))
    first, second = pairs.sorted()
    similarities = table.compare(first, second)
    wanted = similarities >= floor
    if k_nearest is not None:
        wanted &= are_among_nearest(first, second, similarities, k_nearest=k_nearest, of=queries)
    codes = (first * len(table) + second)[wanted]
    found = int(np.isin(codes, known).sum())
    recall = round(found / len(codes), 6) if len(codes) else None
    return Audit(videos=len(queries), pairs=len(codes), found=found, recall=recall)
