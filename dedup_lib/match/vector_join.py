"""Candidates by exact comparison of all vectors of a list, block by block.

The block product is how k nearest neighbours are found by brute force in FAISS (J. Johnson, M. Douze, H. Jégou,
"Billion-scale similarity search with GPUs", 2017), without the k: every pair counts here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import SettingError
from dedup_lib.match.vector_table import BLOCK_LINES, Lines, VectorTable
from dedup_lib.records import Progress, Vectors, no_progress

GPU_BLOCK_LINES = 16_384

MAX_EXACT_WORK = 6e13
"""Multiplications that two cores do in ten minutes, at 10¹¹ a second: 480,000 videos of 512 numbers."""

MIN_GPU_WORK = 1e12
"""Ten seconds of that: to import torch takes three."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Pairs of lines of a table that may be alike, each once, `first` < `second`, in order.

    `nearest` is, of each line, how alike the most alike other one is, as far as it was computed on the way, float32
    (L,), else NaN. `expanded_queries` counts the vectors whose list of neighbours came back full of matches and was
    asked for again.
    """

    first: Lines
    second: Lines
    nearest: NDArray[np.float32]
    expanded_queries: int = 0


class FoundPairs:
    """Pairs of lines as they are found, and no more than `most` of them; with `each`, only those that are among so many
    nearest of one of their lines."""

    def __init__(self, table: VectorTable, *, floor: float, most: int, each: int | None = None) -> None:
        self._table, self._floor, self._most, self._each = table, floor, most, each
        self._found: list[Lines] = []
        self._count = 0

    def add(self, ones: Lines, others: Lines) -> None:
        """Raises SettingError when they become too many."""
        self._found.append(np.minimum(ones, others) * len(self._table) + np.maximum(ones, others))
        self._count += len(ones)
        if self._count > 2 * self._most:
            self.sorted()

    def sorted(self) -> tuple[Lines, Lines]:
        """Each once, in order. Raises SettingError when they are too many."""
        codes = np.unique(np.concatenate([np.zeros(0, np.int64), *self._found]))
        first, second = codes // max(1, len(self._table)), codes % max(1, len(self._table))
        if self._each is not None:
            kept = _are_among_nearest(first, second, self._table.compare(first, second), each=self._each)
            codes, first, second = codes[kept], first[kept], second[kept]
        self._found, self._count = [codes], len(codes)
        check_pairs(self._count, floor=self._floor, most=self._most)
        return first, second


def _are_among_nearest(
    first: Lines, second: Lines, similarities: NDArray[np.float64], *, each: int
) -> NDArray[np.bool_]:
    """Whether a pair is among the `each` most alike of one of its lines."""
    own, other = np.concatenate([first, second]), np.concatenate([second, first])
    near = rank_similarities(own, other, np.tile(similarities, 2)) < each
    return near[: len(first)] | near[len(first) :]


def rank_similarities(own: Lines, other: Lines, similarities: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many others are more alike to each `own` line than `other`; of equals those with the earlier lines are."""
    order = np.lexsort((other, -similarities, own))
    _, starts, counts = np.unique(own[order], return_index=True, return_counts=True)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, counts)
    return ranks


def check_pairs(count: int, *, floor: float, most: int) -> None:
    """Raises SettingError for more pairs than a run can hold."""
    if count > most:
        raise SettingError(
            "max_pairs",
            most,
            f"more pairs of videos than that are alike from {floor:g} on. Set it higher where there is memory (each "
            "takes about 0.5 kB), or compare from higher on: sweep_low and cosine_thresh where the cosine decides",
        )


def choose_search(wanted: str, *, videos: int, width: int) -> tuple[str, str]:
    """How this many videos of so many numbers are searched, "exact" or "ann", and why. `wanted` is one of these or
    "auto"."""
    work = videos**2 / 2 * width
    if wanted != "auto":
        return wanted, f"as asked ({work:.1e} multiplications)"
    if work <= MAX_EXACT_WORK:
        return "exact", f"{work:.1e} multiplications, at most {MAX_EXACT_WORK:.0e}"
    return "ann", f"{work:.1e} multiplications, above {MAX_EXACT_WORK:.0e}"


def find_device(*, videos: int, width: int) -> str:
    """Where so many lines are best compared: a GPU where there is one, if it is worth waking."""
    if videos**2 / 2 * width < MIN_GPU_WORK:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


Found = tuple[NDArray[np.float32], NDArray[np.float32], Lines, Lines]
"""Of two blocks: the highest product of each line of either, and the places of products that reach what was asked."""

Multiply = Callable[[Vectors, Vectors, float, "Vectors | None", bool], Found]
"""Two blocks, the lowest product wanted, what products are divided by, and whether both are the same block, of which
each pair counts once."""


def join_exactly(
    table: VectorTable,
    *,
    floor: float,
    max_pairs: int,
    each: int | None = None,
    device: str = "cpu",
    block_lines: int | None = None,
    begin: Progress = no_progress,
) -> Proposal:
    """All pairs of lines whose similarity is at least `floor`, and a few that lie as near below it as float32 can tell.

    Half of the products of all lines with all, a block at a time; memory does not grow with the pairs that are not
    alike. With `each`, only pairs that are among so many nearest of one of their lines. `device` is "cpu" (numpy) or a
    device of torch. `begin` is told of the blocks. Raises SettingError for more than `max_pairs` pairs.
    """
    step = block_lines or (BLOCK_LINES if device == "cpu" else GPU_BLOCK_LINES)
    low = floor - table.slack
    # Where each line has all positions its product is divided by their number, and so may the floor be multiplied.
    whole = bool((table.counts == table.lines.shape[1]).all())
    scale = float(table.lines.shape[1]) if whole else 1.0
    lines = table.lines.reshape(len(table), table.width)
    multiply = _multiply_numpy if device == "cpu" else _multiply_torch(device)
    nearest = np.full(len(table), -np.inf, np.float32)
    pairs = FoundPairs(table, floor=floor, most=max_pairs, each=each)
    blocks = -(-len(table) // step)
    progress = begin("searching: blocks of vectors", blocks * (blocks + 1) // 2)
    for top in range(0, len(table), step):
        left, ones = np.ascontiguousarray(lines[top : top + step]), table.counts[top : top + step]
        for start in range(top, len(table), step):
            right, others = lines[start : start + step], table.counts[start : start + step]
            divisors = None if whole else np.maximum(ones[:, None], others[None, :]).astype(np.float32)
            found = multiply(left, right, low * scale, divisors, start == top)
            of_left, of_right, near, far = found
            np.maximum(nearest[top : top + step], of_left, out=nearest[top : top + step])
            np.maximum(nearest[start : start + step], of_right, out=nearest[start : start + step])
            if len(near):
                pairs.add(near + top, far + start)
            progress(1)
    first, second = pairs.sorted()
    nearest[np.isneginf(nearest)] = np.nan
    return Proposal(first=first, second=second, nearest=nearest / np.float32(scale))


def _multiply_numpy(left: Vectors, right: Vectors, low: float, divisors: Vectors | None, same: bool) -> Found:
    products = left @ right.T
    if divisors is not None:
        products /= divisors
    if same:
        products[np.tril_indices(len(left))] = -np.inf
    of_left, of_right = products.max(axis=1), products.max(axis=0)
    # Most lines of a block are like none of the other.
    rows = np.flatnonzero(of_left >= low)
    near, far = np.nonzero(products[rows] >= low)
    return of_left, of_right, rows[near], far


def _multiply_torch(device: str) -> Multiply:
    import torch

    # TF32 would keep 10 bits of each number.
    torch.backends.cuda.matmul.allow_tf32 = False

    def multiply(left: Vectors, right: Vectors, low: float, divisors: Vectors | None, same: bool) -> Found:
        ones, others = (torch.from_numpy(np.array(block)).to(device) for block in (left, right))
        products = ones @ others.T
        if divisors is not None:
            products /= torch.from_numpy(divisors).to(device)
        if same:
            products.masked_fill_(torch.ones_like(products, dtype=torch.bool).tril_(), -torch.inf)
        near, far = torch.nonzero(products >= low, as_tuple=True)
        of_left, of_right = products.amax(1), products.amax(0)
        return of_left.cpu().numpy(), of_right.cpu().numpy(), near.cpu().numpy(), far.cpu().numpy()

    return multiply
