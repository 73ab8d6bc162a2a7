"""Which videos show each visual word: an inverted file that lies on the disk, whatever the length of a list."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dedup_lib.errors import RunFolderError
from dedup_lib.features.fingerprint import mirror_descriptors

MIN_WORD_BITS, MAX_WORD_BITS = 16, 32
"""Length of a word, in bits."""
KEYPOINTS_A_WORD = 16
"""Average number of keypoints per word: larger collections have longer words, so that each word stays as rare."""

_WORDS_AT_ONCE = 2**20
"""Words of videos that are put into the index at once. They take some 80 MB on the way."""

_PREFIX_BYTES = 4

Bag = NDArray[np.uint32]
"""The words of one video, each once, rising."""


class WordPrefixes:
    """The keypoints of many videos, each as the first 32 bits of its descriptor, as it is and mirrored.

    They lie in files without a name in `folder` (None: where the system keeps such files): 100,000 videos have 1 GB of
    them. The files end with the `with` block of this object. Videos are numbered as they are added.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._files = {mirrored: _open_file(folder) for mirrored in (False, True)}
        # Where the prefixes of each video end.
        self._ends: dict[bool, list[int]] = {False: [0], True: [0]}
        self.keypoints = 0
        """Number of keypoints of all videos."""

    def __enter__(self) -> WordPrefixes:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def __len__(self) -> int:
        return len(self._ends[False]) - 1

    def add(self, descriptors: NDArray[np.uint8]) -> None:
        """Adds a video with these descriptors, uint8 (P, 32). Raises RunFolderError where the disk takes no more."""
        self.keypoints += len(descriptors)
        for mirrored, codes in ((False, descriptors), (True, mirror_descriptors(descriptors))):
            prefixes = np.unique(np.ascontiguousarray(codes[:, :_PREFIX_BYTES]).view(">u4").ravel().astype(np.uint32))
            try:
                self._files[mirrored].write(prefixes.tobytes())
            except OSError as error:
                raise _no_room(self.folder, error) from error
            self._ends[mirrored].append(self._ends[mirrored][-1] + len(prefixes))

    def count_bits(self) -> int:
        """Length of a word, in bits, for this number of keypoints."""
        wanted = int(np.ceil(np.log2(max(self.keypoints, 1) / KEYPOINTS_A_WORD)))
        return min(max(wanted, MIN_WORD_BITS), MAX_WORD_BITS)

    def load_bag(self, place: int, *, bits: int, mirrored: bool) -> Bag:
        """The words of a video."""
        words, _ = self._load(range(place, place + 1), bits=bits, mirrored=mirrored)
        return words

    def stream_bags(self, bits: int) -> Iterator[tuple[Bag, NDArray[np.int64]]]:
        """Yields the words of all videos as they are, video by video, in parts of whole videos: the words, and the
        video of each."""
        ends = self._ends[False]
        start = 0
        while start < len(self):
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] + _WORDS_AT_ONCE, side="right")) - 1)
            yield self._load(range(start, min(stop, len(self))), bits=bits, mirrored=False)
            start = stop

    def _load(self, places: range, *, bits: int, mirrored: bool) -> tuple[Bag, NDArray[np.int64]]:
        ends = self._ends[mirrored][places.start : places.stop + 1]
        file = self._files[mirrored]
        file.seek(ends[0] * _PREFIX_BYTES)
        prefixes = np.frombuffer(file.read((ends[-1] - ends[0]) * _PREFIX_BYTES), np.uint32)
        words = prefixes >> np.uint32(MAX_WORD_BITS - bits)
        owners = np.repeat(np.arange(places.start, places.stop), np.diff(ends))
        # Prefixes rise within a video, so that equal words follow each other.
        is_new = np.ones(len(words), np.bool_)
        is_new[1:] = (words[1:] != words[:-1]) | (owners[1:] != owners[:-1])
        return words[is_new], owners[is_new]


class WordIndex:
    """Which videos show each word, and how much the word counts (an inverted file).

    How often a video shows a word does not count: a caption is in each of its frames. Memory holds 8 bytes a word, of
    which there are `KEYPOINTS_A_WORD` times fewer than keypoints; the videos of each word lie in a file without a
    name, beside those of the prefixes. Unless `by_rarity`, all words count the same.
    """

    def __init__(self, prefixes: WordPrefixes, *, by_rarity: bool) -> None:
        self._prefixes, self._videos = prefixes, len(prefixes)
        self._bits = prefixes.count_bits()
        self._by_rarity = by_rarity
        spread = np.zeros(1 << self._bits, np.int64)
        for words, _ in prefixes.stream_bags(self._bits):
            spread += np.bincount(words, minlength=len(spread))
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(spread)])
        del spread
        with _open_file(prefixes.folder) as file:
            try:
                # Writing to a mapped file ends the process where the disk is full: the room is taken before.
                for start in range(0, max(1, int(self._starts[-1])), _WORDS_AT_ONCE):
                    file.write(bytes(4 * min(_WORDS_AT_ONCE, max(1, int(self._starts[-1])) - start)))
                file.flush()
            except OSError as error:
                raise _no_room(prefixes.folder, error) from error
            # The system may drop pages of the file from memory. A file without a name ends with this process.
            self._owners = np.asarray(np.memmap(file, np.int32, mode="r+"))
        self._norms = np.zeros(self._videos)
        self._fill()

    def _fill(self) -> None:
        """Writes the videos of each word, rising, and measures the lengths of the bags."""
        free = self._starts[:-1].copy()
        for words, owners in self._prefixes.stream_bags(self._bits):
            first, last = owners[0], owners[-1] + 1
            places = words.astype(np.int64)
            weights = self._count_for(self._starts[places + 1] - self._starts[places])
            self._norms[first:last] = np.sqrt(np.bincount(owners - first, weights=weights**2, minlength=last - first))
            order = np.argsort(words, kind="stable")
            shown, begins, counts = np.unique(words[order], return_index=True, return_counts=True)
            ranks = np.arange(len(order)) - np.repeat(begins, counts)
            self._owners[np.repeat(free[shown], counts) + ranks] = owners[order]
            free[shown] += counts

    def _count_for(self, spread: NDArray[np.int64]) -> NDArray[np.float64]:
        """How much words count that so many videos show."""
        if not self._by_rarity:
            return np.ones(len(spread))
        rarity = np.log((self._videos + 1) / (spread + 1))
        # A word in more than half of the videos says nothing, and costs most to compare.
        return np.where(spread > self._videos // 2, 0.0, rarity)

    def score(self, own: int, *, mirrored: bool) -> NDArray[np.float64]:
        """Cosine of the bag of the video `own`, as it is or mirrored, with the bag of each video; 0 with itself."""
        bag = self._prefixes.load_bag(own, bits=self._bits, mirrored=mirrored).astype(np.int64)
        begins = self._starts[bag]
        lengths = self._starts[bag + 1] - begins
        mine = self._count_for(lengths)
        counting = (lengths > 0) & (mine > 0)
        begins, lengths, mine = begins[counting], lengths[counting], mine[counting]
        if not len(mine):
            return np.zeros(self._videos)
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        owners = self._owners[np.repeat(begins, lengths) + steps]
        weights = np.repeat(mine, lengths)
        weights *= weights / np.maximum(self._norms, 1e-9)[owners]
        shared = np.bincount(owners, weights=weights, minlength=self._videos)
        shared[own] = 0
        # Few words of a mirrored video are in the index. The missing ones count as they do for the video as it is.
        return np.asarray(shared / max(float(self._norms[own]), float(np.linalg.norm(mine))), np.float64)


def _open_file(folder: Path | None) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise _no_room(folder, error) from error


def _no_room(folder: Path | None, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"the visual words of the list cannot be written to {folder or tempfile.gettempdir()} "
        f"({error.strerror or error}): make room for 20 kB a video"
    )
