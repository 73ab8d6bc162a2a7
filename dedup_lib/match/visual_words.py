"""Candidates from keypoints: videos that share visual words or coarse shapes.

A visual word is the first bits of a descriptor. Words that many videos show (a logo, a title card, the
intro of a channel) count little; words of few videos count much (J. Sivic, A. Zisserman, "Video Google", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.match.motion import extract_motion
from dedup_lib.match.word_index import WordIndex, WordPrefixes
from dedup_lib.records import Progress, no_progress

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


def find_candidates(
    fingerprints: Sequence[Fingerprint | None],
    *,
    max_candidates: int,
    new_rows: int | None = None,
    folder: Path | None = None,
    begin: Progress = no_progress,
) -> list[tuple[int, int]]:
    """For each video, the `max_candidates` others that share most visual words with it, as it is or mirrored. Returns
    pairs of rows, the lower row first, in order.

    Each word counts by how few videos show it, and each video's scores are compared with its scores for the bulk of the
    collection. So a video that shares a little with all others has none of them as a candidate. The candidates of a
    video with few keypoints include the videos with the most similar coarse shapes. Rows from `new_rows` on are
    candidates, but no queries. The words lie in files without a name in `folder` (None: where the system keeps such
    files). `begin` reports progress over the videos whose words are read, and then over the queries.

    Raises RunFolderError where the disk has no room for the words.
    """
    new_rows = len(fingerprints) if new_rows is None else new_rows
    rows: list[int] = []
    shapes: dict[int, NDArray[np.float32]] = {}
    low_texture: list[int] = []
    # Each fingerprint is read only once: it may come from a disk.
    progress = begin("reading fingerprints", len(fingerprints))
    with WordPrefixes(folder) as prefixes:
        for row, one in enumerate(fingerprints):
            progress(1)
            if one is None:
                continue
            shapes[row] = _mean_shape(one)
            if row < new_rows and len(one.keypoints) < FEW_KEYPOINTS_A_STILL * one.num_stills:
                low_texture.append(row)
            if len(one.descriptors):
                rows.append(row)
                prefixes.add(one.descriptors)
        by_words = _find_by_words(
            rows, prefixes, num_queries=sum(row < new_rows for row in rows), max_candidates=max_candidates, begin=begin
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
    prefixes: WordPrefixes,
    *,
    num_queries: int,
    max_candidates: int,
    begin: Progress,
) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    if len(rows) < 2:
        return found
    # A few videos have no bulk, and all their pairs are quickly compared.
    corrects_hubness = len(rows) > MIN_TO_CORRECT
    limit = max_candidates if corrects_hubness else len(rows)
    index = WordIndex(prefixes, by_rarity=corrects_hubness)
    progress = begin("looking for shared visual words", num_queries)
    for query in range(num_queries):
        both = (index.score(query, mirrored=mirrored) for mirrored in (False, True))
        scores = np.maximum(*(_without_bulk(of, query) if corrects_hubness else of for of in both))
        near = np.flatnonzero(scores >= MIN_SCORE)
        progress(1)
        for other in near[np.argsort(-scores[near], kind="stable")[:limit]]:
            found.add((min(rows[query], rows[other]), max(rows[query], rows[other])))
    return found


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
