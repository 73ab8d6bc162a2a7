"""The vectors of a list as one table, and the cosine of any two videos in it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError, StoreError
from dedup_lib.features.vectors import DECIMALS, cosines
from dedup_lib.records import VideoVectors

Lines = NDArray[np.int64]
"""Numbers of lines of a `VectorTable`."""

BLOCK_LINES = 1024
"""A product of two such blocks, 4 MiB, stays in the processor's cache while it is looked through."""

MAX_IDENTICAL = 100
"""More videos with the very same vectors than this stand in pairs by the first of them alone: 50,000 addresses of one
"no longer available" clip would make 1.25 billion pairs that all say the same."""

_NUMBERS_AT_ONCE = 2**22
"""Of vectors that are taken out of the table to be compared in float64: 32 MiB."""

MAX_STRAY = 2e-3
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
            wrong = np.flatnonzero(~(stray < MAX_STRAY))
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
