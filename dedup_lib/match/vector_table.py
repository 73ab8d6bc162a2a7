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
"""Lines in a block. The product of two blocks, 4 MiB, stays in the processor's cache while it is searched."""

MAX_IDENTICAL = 100
"""If more videos than this have identical vectors, only the first of them appears in pairs: 50,000 addresses of one
"no longer available" clip would make 1.25 billion pairs that all say the same."""

_NUMBERS_AT_ONCE = 2**22
"""Numbers that are taken out of the table at once and compared in float64: 32 MiB."""

MAX_STRAY = 2e-3
"""Maximum difference from length 1 of a vector that counts as a unit vector."""

_ROUNDING = 2.0**-24
"""Unit roundoff of float32."""


class VectorTable:
    """The vectors of the videos of a list, in a temporary file that is deleted with the table.

    `lines` is float32 (L, P, D). Each line holds the vectors of one video at P positions, with zeros where it has none
    (`present`, bool (L, P)). Videos with identical vectors share a line. `rows` gives, for each line, the rows of the
    list that share it, rising.
    """

    def __init__(self, lines: NDArray[np.float32], present: NDArray[np.bool_], rows: Sequence[NDArray[np.int64]]):
        self.lines = lines
        self.present = present
        self.rows = rows
        self.counts = present.sum(axis=1)
        self._stray = self._find_stray()

    def _find_stray(self) -> float:
        """Maximum difference of the lengths of the vectors from 1. Raises StoreError for a vector that is not a unit
        vector."""
        largest = 0.0
        for start in range(0, len(self), BLOCK_LINES):
            lengths = np.linalg.norm(self.lines[start : start + BLOCK_LINES], axis=2)
            stray = np.where(self.present[start : start + BLOCK_LINES], np.abs(lengths - 1), 0).max(axis=1)
            # Written as "not below", so that NaN counts as wrong too.
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

        Raises RunFolderError when the file cannot be written, and StoreError for a vector that is not a unit vector.
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
                # The system may drop pages of the file from memory. A file without a name ends with this process.
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
        """Number of values in a line."""
        return int(np.prod(self.lines.shape[1:]))

    def compare(self, first: Lines, second: Lines) -> NDArray[np.float64]:
        """Similarity of each line of `first` to the corresponding line of `second`: the mean cosine of vectors at the
        same position, float64 (N,), rounded to `vectors.DECIMALS`. A position that one of them lacks counts as 0.

        Each similarity is computed by itself and in float64. So it does not depend on which other pairs are compared,
        nor on how the pair became a candidate.
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
        """Similarity of two lines wherever their frames lie: the mean, over the vectors of one, of the cosine to the
        nearest vector of the other. The larger of both directions counts."""
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
