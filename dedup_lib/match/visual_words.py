"""Candidates from local features: videos that share visual words or coarse shapes.

A visual word is the first bits of a local feature's code. Words that many videos show (a logo, a title card, the
intro of a channel) count little; words of few videos count much (J. Sivic, A. Zisserman, "Video Google", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint, mirror_descriptors
from dedup_lib.match.motion import extract_motion
from dedup_lib.records import Progress, no_progress

MIN_WORD_BITS, MAX_WORD_BITS = 16, 32
"""Length of a word, in bits."""
POINTS_A_WORD = 16
"""Average number of local features per word: larger collections have longer words, so that each word stays as rare."""

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

FEW_POINTS_A_FRAME = 60
"""Number of local features per still below which words hardly find copies, as in blurred and tiny frames."""

MIN_SHAPE_COSINE = 0.9
"""Minimum cosine of the mean coarse shapes of two copies."""

Bag = NDArray[np.uint32]
"""The words of one video, each once, rising."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Two videos that share visual words, by their rows in the list (`first` < `second`)."""

    first: int
    second: int
    score: float
    """Cosine of the two bags of words, or of one and the mirrored other if that is larger; 0 if only their coarse
    shapes are similar."""


def propose_pairs(
    fingerprints: Sequence[Fingerprint | None],
    *,
    most: int,
    correct_hubness: bool = True,
    new_rows: int | None = None,
    begin: Progress = no_progress,
) -> list[Candidate]:
    """For each video, the `most` others that share most visual words with it, as it is or mirrored; in order of rows.

    With `correct_hubness`, each word counts by how few videos show it, and each video's scores are compared with its
    scores for the bulk of the collection. So a video that shares a little with all others proposes none of them. A
    video with few local features also proposes the videos with the most similar coarse shapes. Rows from `new_rows` on
    are proposed, but propose nothing. `begin` reports progress over the videos whose words are read, and then over
    those that propose.
    """
    new_rows = len(fingerprints) if new_rows is None else new_rows
    rows, heads, mirrored_heads = [], [], []
    shapes: dict[int, NDArray[np.float32]] = {}
    poor: list[int] = []
    # Each fingerprint is read only once: it may come from a disk.
    progress = begin("reading fingerprints", len(fingerprints))
    for row, one in enumerate(fingerprints):
        progress(1)
        if one is None:
            continue
        shapes[row] = _mean_shape(one)
        if row < new_rows and len(one.points) < FEW_POINTS_A_FRAME * one.num_stills:
            poor.append(row)
        if len(one.descriptors):
            rows.append(row)
            heads.append(_heads(one.descriptors))
            mirrored_heads.append(_heads(mirror_descriptors(one.descriptors)))
    asking = sum(row < new_rows for row in rows)
    found = _propose_by_words(
        rows, heads, mirrored_heads, asking=asking, most=most, correct_hubness=correct_hubness, begin=begin
    )
    for first, second in _propose_by_shapes(shapes, poor, most=most) - found.keys():
        found[first, second] = Candidate(first=first, second=second, score=0.0)
    return [found[pair] for pair in sorted(found)]


def _mean_shape(fingerprint: Fingerprint) -> NDArray[np.float32]:
    mean = extract_motion(fingerprint.tiny_frames, times_s=fingerprint.times_s).shapes.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)


def _propose_by_shapes(
    shapes: dict[int, NDArray[np.float32]], rows: Sequence[int], *, most: int
) -> set[tuple[int, int]]:
    """For each of these rows, the `most` others with the most similar mean shapes."""
    known = np.array(list(shapes), int)
    every = np.stack(list(shapes.values())) if shapes else np.zeros((0, 1), np.float32)
    proposed = set()
    for row in rows:
        cosines = every @ shapes[row]
        cosines[known == row] = -1
        near = np.flatnonzero(cosines >= MIN_SHAPE_COSINE)
        for other in known[near[np.argsort(-cosines[near], kind="stable")[:most]]]:
            proposed.add((min(row, int(other)), max(row, int(other))))
    return proposed


def _propose_by_words(
    rows: Sequence[int],
    heads: Sequence[NDArray[np.uint32]],
    mirrored_heads: Sequence[NDArray[np.uint32]],
    *,
    asking: int,
    most: int,
    correct_hubness: bool,
    begin: Progress,
) -> dict[tuple[int, int], Candidate]:
    if len(rows) < 2:
        return {}
    # A few videos have no bulk, and all their pairs are quickly compared.
    if len(rows) <= MIN_TO_CORRECT:
        correct_hubness, most = False, len(rows)
    bits = _word_bits(sum(len(one) for one in heads))
    index = _WordIndex([_bag(one, bits) for one in heads], correct_hubness=correct_hubness)
    found: dict[tuple[int, int], Candidate] = {}
    progress = begin("looking for shared visual words", asking)
    for place, (own, mirrored) in enumerate(zip(heads[:asking], mirrored_heads[:asking], strict=True)):
        both = (index.score(place, _bag(one, bits)) for one in (own, mirrored))
        scores = np.maximum(*(_without_bulk(of, place) if correct_hubness else of for of in both))
        near = np.flatnonzero(scores >= MIN_SCORE)
        progress(1)
        for other in near[np.argsort(-scores[near], kind="stable")[:most]]:
            first, second = sorted((rows[place], rows[other]))
            score = round(float(scores[other]), 6)
            before = found.get((first, second))
            if before is None or score > before.score:
                found[first, second] = Candidate(first=first, second=second, score=score)
    return found


class _WordIndex:
    """Which videos show each word, and how much the word counts (an inverted file).

    How often a video shows a word does not count: a caption is in each of its frames.
    """

    def __init__(self, bags: Sequence[Bag], *, correct_hubness: bool) -> None:
        owners = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
        words = np.concatenate(bags)
        order = np.argsort(words, kind="stable")
        self._owners, self._videos = owners[order], len(bags)
        self._words, self._starts, self._spread = np.unique(words[order], return_index=True, return_counts=True)
        self._rarity = np.ones(len(self._words))
        if correct_hubness:
            self._rarity = np.log((len(bags) + 1) / (self._spread + 1))
            # A word in more than half of the videos says nothing, and costs most to compare.
            self._rarity[self._spread > len(bags) // 2] = 0.0
        weights = np.repeat(self._rarity, self._spread)
        self._norms = np.sqrt(np.bincount(self._owners, weights=weights**2, minlength=len(bags)))
        self._weights = weights / np.maximum(self._norms, 1e-9)[self._owners]

    def score(self, own: int, bag: Bag) -> NDArray[np.float64]:
        """Cosine of this bag of the video `own` with the bag of each video; 0 with itself."""
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
        return np.asarray(shared / max(float(self._norms[own]), float(np.linalg.norm(mine))), np.float64)


def _word_bits(points: int) -> int:
    wanted = int(np.ceil(np.log2(max(points, 1) / POINTS_A_WORD)))
    return min(max(wanted, MIN_WORD_BITS), MAX_WORD_BITS)


def _heads(descriptors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The first 32 bits of each code."""
    return np.ascontiguousarray(descriptors[:, :4]).view(">u4").ravel().astype(np.uint32)


def _bag(heads: NDArray[np.uint32], bits: int) -> Bag:
    return np.unique(heads >> np.uint32(32 - bits))


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
