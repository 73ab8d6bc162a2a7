"""Candidates from keypoints: videos that share visual words or coarse shapes.

A visual word is the first bits of a descriptor. Words that many videos show (a logo, a title card, the
intro of a channel) count little; words of few videos count much (J. Sivic, A. Zisserman, "Video Google", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint, mirror_descriptors
from dedup_lib.match.motion import extract_motion
from dedup_lib.records import Progress, no_progress

MIN_WORD_BITS, MAX_WORD_BITS = 16, 32
"""Length of a word, in bits."""
KEYPOINTS_A_WORD = 16
"""Average number of keypoints per word: larger collections have longer words, so that each word stays as rare."""

CERTAIN_SCORE = 0.15
"""Unlike videos hardly ever reach this score."""

MIN_SCORE = 0.04
"""Minimum score of a candidate: copies hardly ever score less."""

MIN_DEVIATIONS = 2.5
"""Minimum number of standard deviations by which a score stands out from those with the bulk of the collection."""

MIN_DEVIATION = 0.008
"""Lower limit of that standard deviation."""

MIN_TO_CORRECT = 50
"""Hubs are damped only among more videos than this."""

FEW_KEYPOINTS_A_STILL = 60
"""Number of keypoints per still below which words hardly find copies, as in blurred and tiny frames."""

MIN_SHAPE_COSINE = 0.9
"""Minimum cosine of the mean coarse shapes of two copies."""

Bag = NDArray[np.uint32]
"""The words of one video, each once, rising."""


def find_candidates(
    fingerprints: Sequence[Fingerprint | None],
    *,
    max_candidates: int,
    new_rows: int | None = None,
    begin: Progress = no_progress,
) -> list[tuple[int, int]]:
    """For each video, the `max_candidates` others that share most visual words with it, as it is or mirrored. Returns
    pairs of rows, the lower row first, in order.

    Each word counts by how few videos show it, and each video's scores are compared with its scores for the bulk of the
    collection. So a video that shares a little with all others has none of them as a candidate. The candidates of a
    video with few keypoints include the videos with the most similar coarse shapes. Rows from `new_rows` on are
    candidates, but no queries. `begin` reports progress over the videos whose words are read, and then over the
    queries.
    """
    new_rows = len(fingerprints) if new_rows is None else new_rows
    rows, prefixes, mirrored_prefixes = [], [], []
    shapes: dict[int, NDArray[np.float32]] = {}
    low_texture: list[int] = []
    # Each fingerprint is read only once: it may come from a disk.
    progress = begin("reading fingerprints", len(fingerprints))
    for row, one in enumerate(fingerprints):
        progress(1)
        if one is None:
            continue
        shapes[row] = _mean_shape(one)
        if row < new_rows and len(one.keypoints) < FEW_KEYPOINTS_A_STILL * one.num_stills:
            low_texture.append(row)
        if len(one.descriptors):
            rows.append(row)
            prefixes.append(_prefixes(one.descriptors))
            mirrored_prefixes.append(_prefixes(mirror_descriptors(one.descriptors)))
    num_queries = sum(row < new_rows for row in rows)
    by_words = _find_by_words(
        rows, prefixes, mirrored_prefixes, num_queries=num_queries, max_candidates=max_candidates, begin=begin
    )
    return sorted(by_words | _find_by_shapes(shapes, low_texture, max_candidates=max_candidates))


def _mean_shape(fingerprint: Fingerprint) -> NDArray[np.float32]:
    mean = extract_motion(fingerprint.tiny_frames, times_s=fingerprint.times_s).shapes.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)


def _find_by_shapes(
    shapes: dict[int, NDArray[np.float32]], rows: Sequence[int], *, max_candidates: int
) -> set[tuple[int, int]]:
    """For each of these rows, the `max_candidates` others with the most similar mean shapes."""
    known = np.array(list(shapes), int)
    every = np.stack(list(shapes.values())) if shapes else np.zeros((0, 1), np.float32)
    found = set()
    for row in rows:
        cosines = every @ shapes[row]
        cosines[known == row] = -1
        near = np.flatnonzero(cosines >= MIN_SHAPE_COSINE)
        for other in known[near[np.argsort(-cosines[near], kind="stable")[:max_candidates]]]:
            found.add((min(row, int(other)), max(row, int(other))))
    return found


def _find_by_words(
    rows: Sequence[int],
    prefixes: Sequence[NDArray[np.uint32]],
    mirrored_prefixes: Sequence[NDArray[np.uint32]],
    *,
    num_queries: int,
    max_candidates: int,
    begin: Progress,
) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    if len(rows) < 2:
        return found
    bits = _word_bits(sum(len(one) for one in prefixes))
    index = _WordIndex([_bag(one, bits) for one in prefixes])
    # All pairs of a few videos are quickly compared.
    limit = max_candidates if index.corrects_hubness else len(rows)
    progress = begin("looking for shared visual words", num_queries)
    for query, both in enumerate(zip(prefixes[:num_queries], mirrored_prefixes, strict=False)):
        scores = np.maximum(*(index.score(query, _bag(one, bits)) for one in both))
        near = np.flatnonzero(scores >= MIN_SCORE)
        progress(1)
        for other in near[np.argsort(-scores[near], kind="stable")[:limit]]:
            found.add((min(rows[query], rows[other]), max(rows[query], rows[other])))
    return found


class _WordIndex:
    """Which videos show each word, and how much the word counts (an inverted file).

    How often a video shows a word does not count: a caption is in each of its frames.
    """

    def __init__(self, bags: Sequence[Bag]) -> None:
        # A few videos have no bulk.
        self.corrects_hubness = len(bags) > MIN_TO_CORRECT
        owners = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
        words = np.concatenate(bags)
        order = np.argsort(words, kind="stable")
        self._owners, self._videos = owners[order], len(bags)
        self._words, self._starts, self._spread = np.unique(words[order], return_index=True, return_counts=True)
        self._rarity = np.ones(len(self._words))
        if self.corrects_hubness:
            self._rarity = np.log((len(bags) + 1) / (self._spread + 1))
            # A word in more than half of the videos says nothing, and costs most to compare.
            self._rarity[self._spread > len(bags) // 2] = 0.0
        weights = np.repeat(self._rarity, self._spread)
        self._norms = np.sqrt(np.bincount(self._owners, weights=weights**2, minlength=len(bags)))
        self._weights = weights / np.maximum(self._norms, 1e-9)[self._owners]

    def score(self, own: int, bag: Bag) -> NDArray[np.float64]:
        """Cosine of this bag of the video `own` with the bag of each video; 0 with itself, and with those that do not
        stand out."""
        at = np.minimum(np.searchsorted(self._words, bag), len(self._words) - 1)
        at = at[(self._words[at] == bag) & (self._rarity[at] > 0)]
        if not len(at):
            return np.zeros(self._videos)
        mine, lengths = self._rarity[at], self._spread[at]
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entries = np.repeat(self._starts[at], lengths) + steps
        shared = np.bincount(
            self._owners[entries], weights=self._weights[entries] * np.repeat(mine, lengths), minlength=self._videos
        )
        shared[own] = 0
        # Few words of a mirrored video are in the index. The missing ones count as they do for the video as it is.
        scores = np.asarray(shared / max(float(self._norms[own]), float(np.linalg.norm(mine))), np.float64)
        return _without_bulk(scores, own) if self.corrects_hubness else scores


def _word_bits(keypoints: int) -> int:
    wanted = int(np.ceil(np.log2(max(keypoints, 1) / KEYPOINTS_A_WORD)))
    return min(max(wanted, MIN_WORD_BITS), MAX_WORD_BITS)


def _prefixes(descriptors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The first 32 bits of each descriptor."""
    return np.ascontiguousarray(descriptors[:, :4]).view(">u4").ravel().astype(np.uint32)


def _bag(prefixes: NDArray[np.uint32], bits: int) -> Bag:
    return np.unique(prefixes >> np.uint32(32 - bits))


def _without_bulk(scores: NDArray[np.float64], own: int) -> NDArray[np.float64]:
    """The scores that stand out from those with the bulk of the collection; the others become 0."""
    middle = spread = 0.0
    count = len(scores) - 1
    # If most scores are 0, as in every long list, both medians are 0.
    if count - np.count_nonzero(scores) <= count // 2:
        others = np.delete(scores, own)
        middle = float(np.median(others))
        spread = float(np.median(np.abs(others - middle)))
    # 1.4826 median absolute deviations are one standard deviation of a normal distribution.
    deviation = max(1.4826 * spread, MIN_DEVIATION)
    stands_out = (scores >= middle + MIN_DEVIATIONS * deviation) | (scores >= CERTAIN_SCORE)
    return np.where(stands_out, scores, 0.0)
