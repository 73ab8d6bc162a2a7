"""The pairs of a list whose vectors are alike, with their similarities.

Similarity is a cosine. A pair at or above the threshold is a match; only `is_match` decides this. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.vectors import DECIMALS
from dedup_lib.match.vector_join import Candidates, check_pairs
from dedup_lib.match.vector_table import MAX_IDENTICAL, VectorTable
from dedup_lib.records import Pair


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All pairs of a list with a similarity of at least `floor`, and the similarity of each video to its nearest one.

    `nearest` is float64 (N,), NaN for a video without a vector or without a neighbour. `expanded_queries` counts
    the vectors that were searched again because their list of neighbours was full of matches. `identical` holds the
    rows, rising, of very many videos with identical vectors. All their pairs have a similarity of 1, and only the first
    row appears in `pairs`.
    """

    pairs: tuple[Pair, ...]
    nearest: NDArray[np.float64]
    floor: float
    expanded_queries: int
    identical: tuple[tuple[int, ...], ...] = ()


def is_match(similarity: float, threshold: float) -> bool:
    """Whether two videos with this similarity count as the same."""
    return similarity >= threshold


def score_pairs(
    table: VectorTable, proposal: Candidates, *, rows: int, floor: float, max_pairs: int, new_rows: int | None = None
) -> Scored:
    """Compute the similarity of the proposed pairs, and return those at `floor` or above as pairs of rows of a list.

    Rows that are not in the table have no vector and no pair. Two rows from `new_rows` on make no pair either, as they
    were compared before. Raises SettingError for more than `max_pairs` pairs.
    """
    similarities = table.compare(proposal.first, proposal.second)
    found = np.full(len(table), np.nan)
    for side in (proposal.first, proposal.second):
        np.fmax.at(found, side, similarities)
    found = np.where(np.isnan(found), np.round(np.clip(proposal.nearest.astype(np.float64), -1, 1), DECIMALS), found)
    nearest = np.full(rows, np.nan)
    for line, members in enumerate(table.rows):
        nearest[members] = found[line] if len(members) == 1 else 1.0
    shown = [members if len(members) <= MAX_IDENTICAL else members[:1] for members in table.rows]
    sizes = np.array([len(members) for members in shown], dtype=int)
    kept = np.array([is_match(similarity, floor) for similarity in similarities], dtype=bool)
    first, second = proposal.first[kept], proposal.second[kept]
    check_pairs(int(sizes[first] @ sizes[second] + (sizes * (sizes - 1) // 2).sum()), floor=floor, max_pairs=max_pairs)
    pairs = [
        make_pair(int(one), int(other), float(similarity))
        for left, right, similarity in zip(first, second, similarities[kept], strict=True)
        for one in shown[left]
        for other in shown[right]
    ]
    pairs += [
        make_pair(one, other, 1.0)
        for members in shown
        if len(members) > 1
        for one, other in combinations(members.tolist(), 2)
    ]
    if new_rows is not None:
        pairs = [pair for pair in pairs if pair.first < new_rows]
    return Scored(
        pairs=tuple(sorted(pairs)),
        nearest=nearest,
        floor=floor,
        expanded_queries=proposal.expanded_queries,
        identical=tuple(tuple(members.tolist()) for members in table.rows if len(members) > MAX_IDENTICAL),
    )


def make_pair(one: int, other: int, similarity: float) -> Pair:
    """The pair of two rows, given in either order."""
    return Pair(first=min(one, other), second=max(one, other), similarity=similarity)
