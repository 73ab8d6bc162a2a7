"""Which videos of a list have vectors that are alike: exactly, block by block, by matrix product; or by the index of a
store, with a proof of how much that finds.

The block product is how k nearest neighbours are found by brute force in FAISS (J. Johnson, M. Douze, H. Jégou,
"Billion-scale similarity search with GPUs", 2017), without the k: every pair counts here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError, SettingError, StoreError
from dedup_lib.features.vectors import DECIMALS, cosines
from dedup_lib.records import Begin, Hit, StoredRows, Vectors, VideoVectors, begin_silently

Lines = NDArray[np.int64]
"""Numbers of lines of a `VectorTable`."""

Search = Callable[[Vectors, int], list[list[Hit]]]
"""Vectors (N, D) and a number of neighbours to the neighbours of each, best first."""

BLOCK_LINES = 1024
"""A product of two such blocks, 4 MiB, stays in the processor's cache while it is looked through."""

GPU_BLOCK_LINES = 16_384

MOST_EXACT_WORK = 6e13
"""Multiplications that two cores do in ten minutes, at 10¹¹ a second: 480,000 videos of 512 numbers."""

LEAST_GPU_WORK = 1e12
"""Ten seconds of that: to import torch takes three."""

CROWD = 100
"""More videos with the very same vectors than this stand in pairs by the first of them alone: 50,000 addresses of one
"no longer available" clip would make 1.25 billion pairs that all say the same."""

_NUMBERS_AT_ONCE = 2**22
"""Of vectors that are taken out of the table to be compared in float64: 32 MiB."""

_VECTORS_AT_ONCE = 1000
"""Asked for in one search of a store."""

LARGEST_STRAY = 2e-3
"""From the length of 1, of a vector that counts as a unit vector."""

_ROUNDING = 2.0**-24
"""Unit roundoff of float32."""


class VectorTable:
    """The vectors of the videos of a list, in a file of their own that goes with the table.

    `lines` is float32 (L, P, D), one line for each video: its vector for each of P positions, zeros where it has none
    (`present`, bool (L, P)). Videos whose vectors are the very same share a line; `rows` says for each line which rows
    of the list these are, rising.
    """

    def __init__(self, lines: NDArray[np.float32], present: NDArray[np.bool_], rows: Sequence[NDArray[np.int64]]):
        self.lines = lines
        self.present = present
        self.rows = rows
        self.counts = present.sum(axis=1)
        self._stray = self._find_stray()

    def _find_stray(self) -> float:
        """How far the lengths of the vectors are from 1 at most. Raises StoreError for what is no unit vector."""
        largest = 0.0
        for start in range(0, len(self), BLOCK_LINES):
            lengths = np.linalg.norm(self.lines[start : start + BLOCK_LINES], axis=2)
            stray = np.where(self.present[start : start + BLOCK_LINES], np.abs(lengths - 1), 0).max(axis=1)
            # NaN is not below it either.
            wrong = np.flatnonzero(~(stray < LARGEST_STRAY))
            if len(wrong):
                row = self.rows[start + wrong[0]][0] + 1
                raise StoreError(
                    f"the vectors of row {row} of the list are not finite or not of unit length, and so cannot be "
                    "compared: fill the collection anew (overwrite: true)"
                )
            largest = max(largest, float(stray.max(initial=0.0)))
        return largest

    @classmethod
    def collect(
        cls, videos: Iterable[tuple[int, VideoVectors]], *, positions: int, dimension: int, folder: Path
    ) -> VectorTable:
        """The table of these videos, each with its row in the list, written to a nameless file in `folder`.

        Raises RunFolderError when the disk refuses, and StoreError for what is no unit vector.
        """
        line_of: dict[bytes, int] = {}
        present: list[NDArray[np.bool_]] = []
        rows: list[list[int]] = []
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for row, video in videos:
                    line = np.zeros((positions, dimension), np.float32)
                    line[list(video.positions)] = video.vectors
                    has = np.zeros(positions, bool)
                    has[list(video.positions)] = True
                    data = line.tobytes()
                    known = line_of.setdefault(
                        hashlib.blake2b(data + has.tobytes(), digest_size=16).digest(), len(rows)
                    )
                    if known == len(rows):
                        file.write(data)
                        present.append(has)
                        rows.append([])
                    rows[known].append(row)
                file.flush()
                shape = (len(rows), positions, dimension)
                # Its pages are the system's to keep or to drop, and a file without a name is gone when we are.
                lines = np.memmap(file, np.float32, mode="r", shape=shape) if rows else np.zeros(shape, np.float32)
        except OSError as error:
            raise RunFolderError(
                f"the vectors of the list cannot be written to {folder} ({error.strerror or error}): make room for "
                f"{positions * dimension * 4:,} bytes a video"
            ) from error
        return cls(
            np.asarray(lines), np.array(present, bool).reshape(-1, positions), [np.array(sorted(one)) for one in rows]
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """How many numbers a line holds."""
        return int(np.prod(self.lines.shape[1:]))

    def compare(self, first: Lines, second: Lines) -> NDArray[np.float64]:
        """Similarity of each line of `first` to the same one of `second`: the mean cosine of vectors at the same
        position, float64 (N,), rounded to `vectors.DECIMALS`. A position that one of them lacks counts as 0.

        Each is computed by itself and in float64: it does not depend on what else is compared, nor on who proposed it.
        """
        step = max(1, _NUMBERS_AT_ONCE // max(1, self.width))
        found = np.zeros(len(first))
        for start in range(0, len(first), step):
            ones, others = first[start : start + step], second[start : start + step]
            places, positions = np.nonzero(self.present[ones] & self.present[others])
            values = cosines(self.lines[ones[places], positions], self.lines[others[places], positions])
            sums = np.bincount(places, weights=values, minlength=len(ones))
            most = np.maximum(self.counts[ones], self.counts[others])
            found[start : start + step] = np.round(sums / most, DECIMALS)
        return found

    def match_frames(self, first: int, second: int) -> float:
        """How alike two lines are wherever their frames lie: the mean over the vectors of one of the cosine to the
        nearest of the other, of both ways the larger."""
        own, other = (self.lines[line][self.present[line]] for line in (first, second))
        found = own @ other.T
        return round(float(max(found.max(axis=0).mean(), found.max(axis=1).mean())), DECIMALS)

    @property
    def slack(self) -> float:
        """How far the product of two lines in float32 may lie from their similarity.

        The error of an inner product of n terms is at most n times the unit roundoff, whatever their order (N. Higham,
        "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1); lines whose vectors are not quite of unit
        length and the rounding of the similarity add to it.
        """
        return 2 * (self.width + 4) * _ROUNDING + 2.1 * self._stray + 10.0**-DECIMALS


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Pairs of lines of a table that may be alike, each once, `first` < `second`, in order.

    `nearest` is, of each line, how alike the most alike other one is, as far as it was computed on the way, float32
    (L,), else NaN. `searched_deeper` counts the vectors whose list of neighbours came back full of matches and was
    asked for again.
    """

    first: Lines
    second: Lines
    nearest: NDArray[np.float32]
    searched_deeper: int = 0


class _Pairs:
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
    near = _rank(own, other, np.tile(similarities, 2)) < each
    return near[: len(first)] | near[len(first) :]


def _rank(own: Lines, other: Lines, similarities: NDArray[np.float64]) -> NDArray[np.int64]:
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
    if work <= MOST_EXACT_WORK:
        return "exact", f"{work:.1e} multiplications, at most {MOST_EXACT_WORK:.0e}"
    return "ann", f"{work:.1e} multiplications, above {MOST_EXACT_WORK:.0e}"


def find_device(*, videos: int, width: int) -> str:
    """Where so many lines are best compared: a GPU where there is one, if it is worth waking."""
    if videos**2 / 2 * width < LEAST_GPU_WORK:
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
    begin: Begin = begin_silently,
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
    pairs = _Pairs(table, floor=floor, most=max_pairs, each=each)
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


def join_by_search(
    table: VectorTable,
    search: Search,
    *,
    floor: float,
    top_k: int,
    largest_top_k: int,
    max_pairs: int,
    each: int | None = None,
    line_of: dict[str, int],
    begin: Begin = begin_silently,
) -> Proposal:
    """Pairs of lines of which a store finds a vector of one among the neighbours of a vector of the other.

    A list of neighbours that is full of matches may have been cut: it is asked for again, four times as long, until its
    end lies below the floor. At `largest_top_k` the vector is compared with all others directly. So where the search is
    exact no pair is missed whose similarity is above 0. `line_of` gives the line of a video by its key; other videos
    that the store holds are passed over. `each` as in `join_exactly`; `begin` is told of the vectors. Raises
    SettingError for more than ten times `max_pairs` pairs.
    """
    low = floor - table.slack
    waiting, limit, deeper = np.argwhere(table.present), top_k, 0
    # Frames that many videos share propose more than is alike in the end; until then a pair takes 8 bytes.
    pairs = _Pairs(table, floor=floor, most=10 * max_pairs + len(table), each=each)
    asked_for = 0
    while len(waiting):
        asked_for += len(waiting)
        progress = begin("searching: vectors", asked_for)
        cut: list[NDArray[np.int64]] = []
        for start in range(0, len(waiting), _VECTORS_AT_ONCE):
            asked = waiting[start : start + _VECTORS_AT_ONCE]
            ones, others = [], []
            for (line, position), hits in zip(asked, search(table.lines[asked[:, 0], asked[:, 1]], limit), strict=True):
                near = list(_near_lines(int(line), hits, line_of, low))
                ones += [int(line)] * len(near)
                others += near
                if len(hits) == limit and hits[-1].cosine >= low:
                    cut.append(np.array((line, position)))
            pairs.add(np.array(ones, np.int64), np.array(others, np.int64))
            progress(len(asked))
        waiting = np.array(cut, np.int64).reshape(-1, 2)
        if limit >= largest_top_k:
            break
        deeper += len(waiting)
        limit = min(limit * 4, largest_top_k)
    for line, position in waiting:
        pairs.add(*_compare_with_all(table, int(line), table.lines[line, position], low))
    first, second = pairs.sorted()
    return Proposal(first=first, second=second, nearest=np.full(len(table), np.nan, np.float32), searched_deeper=deeper)


def _near_lines(own: int, hits: Sequence[Hit], line_of: dict[str, int], low: float) -> Iterator[int]:
    """Lines worth comparing: every neighbour near the floor, and the nearest one however far it is."""
    found = False
    for hit in hits:
        if found and hit.cosine < low:
            return
        line = line_of.get(hit.video, own)
        if line != own:
            found = True
            yield line


def _compare_with_all(table: VectorTable, own: int, vector: Vectors, low: float) -> tuple[Lines, Lines]:
    """This line with all that have, at any position, a vector that is near this one."""
    near: list[Lines] = []
    for start in range(0, len(table), BLOCK_LINES):
        cosines_of = table.lines[start : start + BLOCK_LINES] @ vector.reshape(-1)
        near.append(np.flatnonzero((cosines_of >= low).any(axis=1)) + start)
    others = np.concatenate(near)
    others = others[others != own]
    return np.full(len(others), own, np.int64), others


def find_near(
    table: VectorTable, stored: Iterable[StoredRows], *, floor: float, known: Collection[str], max_pairs: int
) -> list[str]:
    """The URLs of stored videos that are alike to one of the table from `floor` on, and a few just below; but for those
    whose keys are `known`. In memory are the table and a block of the stored.

    Raises SettingError where they make more than `max_pairs` pairs.
    """
    low = floor - table.slack
    lines = table.lines.reshape(len(table), table.width)
    near: list[str] = []
    pairs = 0
    for urls, block, counts in _whole_videos(stored, table.lines.shape[1], known):
        alike = np.zeros(len(urls), bool)
        for start in range(0, len(table), BLOCK_LINES):
            products = lines[start : start + BLOCK_LINES] @ block.T
            products /= np.maximum(table.counts[start : start + BLOCK_LINES, None], counts)
            highest = products.max(axis=0)
            if (highest >= low).any():
                alike |= highest >= low
                pairs += int(np.count_nonzero(products >= low))
        check_pairs(pairs, floor=floor, most=max_pairs)
        near += [urls[index] for index in np.flatnonzero(alike)]
    return near


def _whole_videos(
    stored: Iterable[StoredRows], positions: int, known: Collection[str]
) -> Iterator[tuple[list[str], Vectors, Lines]]:
    """URLs of videos, their lines (N, positions * dimension) and how many positions each has."""
    held: StoredRows | None = None
    for rows in chain(stored, (None,)):
        if rows is None:
            whole, held = held, None
        elif positions == 1:
            whole = rows
        else:
            # The frames of the last video of a block may go on in the next.
            both = _join_rows(held, rows)
            last = both.videos.index(both.videos[-1])
            whole, held = _cut_rows(both, slice(0, last)), _cut_rows(both, slice(last, None))
        if whole is None or not len(whole):
            continue
        place: dict[str, int] = {}
        for video in whole.videos:
            if video not in known:
                place.setdefault(video, len(place))
        taken = [index for index, video in enumerate(whole.videos) if video in place]
        lines = np.zeros((len(place), positions, whole.vectors.shape[1]), np.float32)
        at = [place[whole.videos[index]] for index in taken]
        lines[at, [whole.positions[index] for index in taken]] = whole.vectors[taken]
        urls = {whole.videos[index]: whole.urls[index] for index in taken}
        counts = np.bincount(at, minlength=len(place)).astype(np.int64)
        if place:
            yield [urls[video] for video in place], lines.reshape(len(place), -1), counts


def _cut_rows(rows: StoredRows, part: slice) -> StoredRows:
    return StoredRows(**{field.name: getattr(rows, field.name)[part] for field in fields(rows)})


def _join_rows(first: StoredRows | None, second: StoredRows) -> StoredRows:
    if first is None:
        return second
    parts = {field.name: getattr(first, field.name) + getattr(second, field.name) for field in fields(first)[:4]}
    return StoredRows(**parts, vectors=np.concatenate([first.vectors, second.vectors]))


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How much of what is there a search found."""

    videos: int
    """Compared with all others, exactly; videos with the very same vectors count once."""
    pairs: int
    """Pairs that they stand in."""
    found: int
    """Of these, what the search proposed too."""
    recall: float | None
    """The share of them; None where there was nothing to find."""


def audit_proposal(
    table: VectorTable,
    proposal: Proposal,
    *,
    floor: float,
    videos: int,
    max_pairs: int,
    each: int | None = None,
    begin: Begin = begin_silently,
) -> Audit:
    """Compare some lines, chosen by chance, with all others exactly, and count which of their pairs, or of their `each`
    nearest, were proposed.

    `begin` is told of the lines. Raises SettingError when the asked ones stand in more than `max_pairs` pairs.
    """
    asked = np.sort(np.random.default_rng(0).choice(len(table), size=min(videos, len(table)), replace=False))
    low = floor - table.slack
    flat = table.lines.reshape(len(table), table.width)
    known = proposal.first * len(table) + proposal.second
    pairs = _Pairs(table, floor=floor, most=max_pairs)
    progress = begin("auditing the index: vectors", len(table))
    for start in range(0, len(table), BLOCK_LINES):
        others = np.arange(start, min(start + BLOCK_LINES, len(table)))
        for top in range(0, len(asked), BLOCK_LINES):
            own = asked[top : top + BLOCK_LINES]
            products = flat[own] @ flat[others].T / np.maximum(table.counts[own][:, None], table.counts[others])
            places, far = np.nonzero(products >= low)
            distinct = own[places] != others[far]
            pairs.add(own[places[distinct]], others[far[distinct]])
        progress(len(others))
    first, second = pairs.sorted()
    similarities = table.compare(first, second)
    wanted = similarities >= floor
    if each is not None:
        own, other = np.concatenate([first, second]), np.concatenate([second, first])
        near: NDArray[np.bool_] = (_rank(own, other, np.tile(similarities, 2)) < each) & np.isin(own, asked)
        wanted &= near[: len(first)] | near[len(first) :]
    codes = (first * len(table) + second)[wanted]
    found = int(np.isin(codes, known).sum())
    recall = round(found / len(codes), 6) if len(codes) else None
    return Audit(videos=len(asked), pairs=len(codes), found=found, recall=recall)
