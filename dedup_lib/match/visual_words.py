"""Candidates from local features: videos that share visual words or coarse shapes.

A visual word is the first bits of a local feature's code. Words that many videos show (a logo, a title card, the
intro of a channel) count little; words of few videos count much (J. Sivic, A. Zisserman, "Video Google", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.match.motion import extract_motion
from dedup_lib.match.word_index import WordHeads, WordIndex
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

FEW_POINTS_A_FRAME = 60
"""Number of local features per still below which words hardly find copies, as in blurred and tiny frames."""

MIN_SHAPE_COSINE = 0.9
"""Minimum cosine of the mean coarse shapes of two copies."""


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
    folder: Path | None = None,
    begin: Progress = no_progress,
) -> list[Candidate]:
    """For each video, the `most` others that share most visual words with it, as it is or mirrored; in order of rows.

    With `correct_hubness`, each word counts by how few videos show it, and each video's scores are compared with its
    scores for the bulk of the collection. So a video that shares a little with all others proposes none of them. A
    video with few local features also proposes the videos with the most similar coarse shapes. Rows from `new_rows` on
    are proposed, but propose nothing. The words lie in files without a name in `folder` (None: where the system keeps
    such files). `begin` reports progress over the videos whose words are read, and then over those that propose.
    Raises RunFolderError where the disk has no room for the words.
    """
    new_rows = len(fingerprints) if new_rows is None else new_rows
    rows: list[int] = []
    shapes: dict[int, NDArray[np.float32]] = {}
    poor: list[int] = []
    # Each fingerprint is read only once: it may come from a disk.
    progress = begin("reading fingerprints", len(fingerprints))
    with WordHeads(folder) as heads:
        for row, one in enumerate(fingerprints):
            progress(1)
            if one is None:
                continue
            shapes[row] = _mean_shape(one)
            if row < new_rows and len(one.points) < FEW_POINTS_A_FRAME * one.num_stills:
                poor.append(row)
            if len(one.descriptors):
                rows.append(row)
                heads.add(one.descriptors)
        asking = sum(row < new_rows for row in rows)
        found = _propose_by_words(
            rows, heads, asking=asking, most=most, correct_hubness=correct_hubness, folder=folder, begin=begin
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
    heads: WordHeads,
    *,
    asking: int,
    most: int,
    correct_hubness: bool,
    folder: Path | None,
    begin: Progress,
) -> dict[tuple[int, int], Candidate]:
    if len(rows) < 2:
        return {}
    # A few videos have no bulk, and all their pairs are quickly compared.
    if len(rows) <= MIN_TO_CORRECT:
        correct_hubness, most = False, len(rows)
    index = WordIndex(heads, correct_hubness=correct_hubness, folder=folder)
    found: dict[tuple[int, int], Candidate] = {}
    progress = begin("looking for shared visual words", asking)
    for place in range(asking):
        both = (index.score(place, mirrored=mirrored) for mirrored in (False, True))
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
