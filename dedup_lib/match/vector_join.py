"""Candidates by exact comparison of all vectors of a list, block by block.

The block product is how k nearest neighbours are found by brute force in FAISS (J. Johnson, M. Douze, H. Jégou,
"Billion-scale similarity search with GPUs", 2017), without the k: every pair counts here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import SettingError
from dedup_lib.match.vector_table import BLOCK_LINES, Lines, VectorTable
from dedup_lib.records import Progress, Vectors, no_progress
from dedup_lib.run.cores import count_cores

GPU_BLOCK_LINES = 16_384

MAX_EXACT_S = 1800.0
"""Seconds that comparing all with all may take for `search: auto` to choose it."""

WORK_OF_A_CORE, WORK_OF_A_GPU = 4e10, 2e13
"""Multiplications a second, of a core as measured, and of a data centre's GPU as its data sheet lets expect
(docs/decisions/011-search.md)."""

MIN_S_FOR_GPU = 10.0
"""Seconds on the cores from which it is worth looking for a GPU: importing torch takes three."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pairs of lines of a table that may be similar, each once, `first` < `second`, in order.

    `nearest`, float32 (L,), is the highest similarity of each line to another one, as far as it was computed on the
    way and as the device rounds it; NaN otherwise. `expanded_queries` counts the vectors that were searched again
    because their list of neighbours was full of matches.
    """

    first: Lines
    second: Lines
    nearest: NDArray[np.float32]
    expanded_queries: int = 0


class FoundPairs:
    """Collects pairs of lines, at most `max_pairs`. With `k_nearest`, it keeps only pairs that are among that number of
    nearest of one of their lines."""

    def __init__(self, table: VectorTable, *, floor: float, max_pairs: int, k_nearest: int | None = None) -> None:
        self._table, self._floor, self._max_pairs, self._k_nearest = table, floor, max_pairs, k_nearest
        self._found: list[Lines] = []
        self._count = 0

    def add(self, ones: Lines, others: Lines) -> None:
        """Raises SettingError when there are too many pairs."""
        self._found.append(np.minimum(ones, others) * len(self._table) + np.maximum(ones, others))
        self._count += len(ones)
        if self._count > 2 * self._max_pairs:
            self.sorted()

    def sorted(self) -> tuple[Lines, Lines]:
        """Each pair once, in order. Raises SettingError when there are too many."""
        codes = np.unique(np.concatenate([np.zeros(0, np.int64), *self._found]))
        first, second = codes // max(1, len(self._table)), codes % max(1, len(self._table))
        if self._k_nearest is not None:
            kept = are_among_nearest(first, second, self._table.compare(first, second), k_nearest=self._k_nearest)
            codes, first, second = codes[kept], first[kept], second[kept]
        self._found, self._count = [codes], len(codes)
        check_pairs(self._count, floor=self._floor, max_pairs=self._max_pairs)
        return first, second


def are_among_nearest(
    first: Lines, second: Lines, similarities: NDArray[np.float64], *, k_nearest: int, of: Lines | None = None
) -> NDArray[np.bool_]:
    """Whether each pair is among the `k_nearest` most similar of one of its lines, or of those of its lines that are in
    `of`."""
    own, other = np.concatenate([first, second]), np.concatenate([second, first])
    near = _rank_similarities(own, other, np.tile(similarities, 2)) < k_nearest
    if of is not None:
        near &= np.isin(own, of)
    return near[: len(first)] | near[len(first) :]


def _rank_similarities(own: Lines, other: Lines, similarities: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many others are more similar to each `own` line than `other`; among equals, earlier lines come first."""
    order = np.lexsort((other, -similarities, own))
    _, starts, counts = np.unique(own[order], return_index=True, return_counts=True)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, counts)
    return ranks


def check_pairs(count: int, *, floor: float, max_pairs: int) -> None:
    """Raises SettingError for more than `max_pairs` pairs, which is what a run can hold."""
    if count > max_pairs:
        raise SettingError(
            "max_pairs",
            max_pairs,
            f"more pairs of videos than that are alike from {floor:g} on. Set it higher where there is memory (each "
            "takes about 0.5 kB), or compare from higher on: sweep_low and cosine_thresh where the cosine decides",
        )


@dataclass(frozen=True)
class SearchChoice:
    """How vectors are searched."""

    method: str
    """The method: exact or ann."""
    device: str
    """The device of torch that an exact search uses, or "cpu" for numpy."""
    why: str


def choose_search(wanted: str, *, videos: int, width: int) -> SearchChoice:
    """How this many videos of `width` numbers each are searched. `wanted` is "exact", "ann", or "auto": exact as long
    as the best device needs no more than `MAX_EXACT_S` for it."""
    work, cores = videos**2 / 2 * width, count_cores()
    seconds, device, name = work / (WORK_OF_A_CORE * cores), "cpu", f"{cores} cores"
    if seconds >= MIN_S_FOR_GPU and wanted != "ann" and _has_gpu():
        seconds, device, name = work / WORK_OF_A_GPU, "cuda", "the GPU"
    takes = f"all with all takes about {_spell(seconds)} on {name}"
    if wanted != "auto":
        return SearchChoice(wanted, device, f"as asked; {takes}")
    if seconds <= MAX_EXACT_S:
        return SearchChoice("exact", device, takes)
    return SearchChoice("ann", device, f"{takes}, more than {_spell(MAX_EXACT_S)}")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _spell(seconds: float) -> str:
    for unit, length_s in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


Found = tuple[NDArray[np.float32], NDArray[np.float32], Lines, Lines]
"""For two blocks: the highest product of each line of each block, and the places of products that reach the lowest
wanted."""

TF32_ROUNDING = 2.0**-11
"""Unit roundoff of TensorFloat-32, to which a GPU rounds the numbers of a product. It adds products up in float32."""

RESERVED_BYTES = 4 * 2**30
"""Memory of a GPU that blocks of the table leave free, for products and what is made of them."""


def join_exactly(
    table: VectorTable,
    *,
    floor: float,
    max_pairs: int,
    k_nearest: int | None = None,
    device: str = "cpu",
    block_lines: int | None = None,
    begin: Progress = no_progress,
) -> Candidates:
    """All pairs of lines whose similarity is at least `floor`, and a few so close below it that float32 cannot exclude
    them.

    Computes half of the products of all lines with all, one block at a time. Memory does not grow with the pairs that
    are not similar. With `k_nearest`, only pairs that are among that number of nearest of one of their lines.
    `device` is "cpu" (numpy) or a device of torch. `begin` reports progress over the blocks. Raises SettingError for
    more than `max_pairs` pairs.
    """
    step = block_lines or (BLOCK_LINES if device == "cpu" else GPU_BLOCK_LINES)
    # If each line has all positions, all products have one divisor: multiplying the floor by it is cheaper.
    whole = bool((table.counts == table.lines.shape[1]).all())
    scale = float(table.lines.shape[1]) if whole else 1.0
    lines = table.lines.reshape(len(table), table.width)
    made = _NumpyBlocks(lines, step) if device == "cpu" else _TorchBlocks(lines, step, device)
    low = floor - table.slack - made.slack
    nearest = np.full(len(table), -np.inf, np.float32)
    pairs = FoundPairs(table, floor=floor, max_pairs=max_pairs, k_nearest=k_nearest)
    blocks = -(-len(table) // step)
    progress = begin("searching: blocks of vectors", blocks * (blocks + 1) // 2)
    for top in range(0, len(table), step):
        ones = table.counts[top : top + step]
        for start in range(top, len(table), step):
            others = table.counts[start : start + step]
            divisors = None if whole else np.maximum(ones[:, None], others[None, :]).astype(np.float32)
            of_left, of_right, near, far = made.multiply(top, start, low * scale, divisors)
            np.maximum(nearest[top : top + step], of_left, out=nearest[top : top + step])
            np.maximum(nearest[start : start + step], of_right, out=nearest[start : start + step])
            if len(near):
                pairs.add(near + top, far + start)
            progress(1)
    first, second = pairs.sorted()
    nearest[np.isneginf(nearest)] = np.nan
    return Candidates(first=first, second=second, nearest=nearest / np.float32(scale))


class _NumpyBlocks:
    """Products of blocks of `step` lines, on the processor."""

    slack = 0.0
    """How far a product may lie from one of unrounded numbers, besides `VectorTable.slack`."""

    def __init__(self, lines: Vectors, step: int) -> None:
        self._lines, self._step = lines, step
        self._left = -1, lines

    def multiply(self, top: int, start: int, low: float, divisors: Vectors | None) -> Found:
        """Multiplies the blocks that begin at the lines `top` and `start`. The products are divided by `divisors`, and
        those of at least `low` are found. Within one block, each pair counts once."""
        if self._left[0] != top:
            self._left = top, np.ascontiguousarray(self._lines[top : top + self._step])
        products = self._left[1] @ self._lines[start : start + self._step].T
        if divisors is not None:
            products /= divisors
        if start == top:
            products[np.tril_indices(len(products))] = -np.inf
        of_left, of_right = products.max(axis=1), products.max(axis=0)
        # Most lines of a block are similar to none of the other block.
        rows = np.flatnonzero(of_left >= low)
        near, far = np.nonzero(products[rows] >= low)
        return of_left, of_right, rows[near], far


class _TorchBlocks:
    """The same on a device of torch. Blocks stay there as long as it has room."""

    def __init__(self, lines: Vectors, step: int, device: str) -> None:
        import torch

        self._torch, self._device = torch, device
        self._lines, self._step = lines, step
        self.slack, free = 0.0, 0
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            # Rounding both of two unit vectors with a unit roundoff u changes their product by at most 2u + u².
            self.slack = 2.1 * TF32_ROUNDING
            free = torch.cuda.mem_get_info()[0] - RESERVED_BYTES
        self._room = max(1, free // (step * lines.shape[1] * lines.itemsize))
        self._resident: dict[int, Any] = {}
        self._left: tuple[int, Any] = (-1, None)

    def multiply(self, top: int, start: int, low: float, divisors: Vectors | None) -> Found:
        """See `_NumpyBlocks.multiply`."""
        torch = self._torch
        if self._left[0] != top:
            self._left = top, self._load(top)
        products = self._left[1] @ self._load(start).T
        if divisors is not None:
            products /= torch.from_numpy(divisors).to(self._device)
        if start == top:
            products.masked_fill_(torch.ones_like(products, dtype=torch.bool).tril_(), -torch.inf)
        near, far = torch.nonzero(products >= low, as_tuple=True)
        of_left, of_right = products.amax(1), products.amax(0)
        return of_left.cpu().numpy(), of_right.cpu().numpy(), near.cpu().numpy(), far.cpu().numpy()

    def _load(self, start: int) -> Any:
        if (block := self._resident.get(start)) is None:
            block = self._torch.from_numpy(np.array(self._lines[start : start + self._step])).to(self._device)
            if len(self._resident) < self._room:
                self._resident[start] = block
        return block
