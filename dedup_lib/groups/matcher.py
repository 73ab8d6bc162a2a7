"""Compares all candidates of a list, and every copy with the video that is kept in its place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heappop, heappush
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_lib.features.fingerprint import Fingerprint
from dedup_lib.groups.grouping import Choose, components, group_copies, neighbours
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import OF_THE_LIST, Evidence, MatchThresholds, Verdict, Versions
from dedup_lib.match.overlay import Side
from dedup_lib.match.pair_comparer import PairComparer
from dedup_lib.match.verify import with_durations
from dedup_lib.match.visual_words import find_candidates
from dedup_lib.records import Marks, Pair, Progress, no_progress

MAX_CANDIDATES = 10
"""The most videos that each video is compared with because their vectors are near, and because they share words."""


@dataclass(frozen=True, kw_only=True)
class ComparedPairs(Scored):
    """All pairs of a list that some threshold would call the same, and the evidence of every compared pair.

    The `similarity` of a pair is its score. A list that was compared by cosine alone has no `evidence`; there it is the
    cosine.
    """

    evidence: Mapping[tuple[int, int], Evidence]
    versions: Versions = "review"
    """What becomes of versions of one film; their scores depend on it."""
    candidates: AbstractSet[tuple[int, int]] = frozenset()
    """The pairs that vectors or visual words proposed; others were compared because one of the two is kept."""

    @cached_property
    def _by_row(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Every compared pair from both of its sides: a row, the other row, both rising, and their similarity."""
        if self.evidence:
            ends = np.array(list(self.evidence), np.int64).reshape(-1, 2)
            scores = np.array([one.score_under(self.versions) for one in self.evidence.values()], np.float64)
        else:
            ends = np.array([(pair.first, pair.second) for pair in self.pairs], np.int64).reshape(-1, 2)
            scores = np.array([pair.similarity for pair in self.pairs], np.float64)
        own, others = ends.T.ravel(), ends[:, ::-1].T.ravel()
        order = np.lexsort((others, own))
        return own[order], others[order], np.tile(scores, 2)[order]

    def neighbours_of(self, row: int) -> dict[int, float]:
        """The similarity of a row to every row that it was compared with."""
        others, scores = self._beside(row)
        return dict(zip(others.tolist(), scores.tolist(), strict=True))

    def _beside(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that a row was compared with, rising, and its similarity to each."""
        own, others, scores = self._by_row
        first, last = np.searchsorted(own, (row, row + 1))
        return others[first:last], scores[first:last]

    @cached_property
    def shown_by(self) -> Mapping[int, int]:
        """For each row with identical vectors, the row that represents it in `pairs`."""
        return {row: alike_rows[0] for alike_rows in self.identical for row in alike_rows}

    def similarity_of(self, first: int, second: int) -> float | None:
        """Similarity of two rows; None if they were not compared or are too far from each other."""
        one, other = (self.shown_by.get(row, row) for row in (first, second))
        if one == other:
            return 1.0
        # Without a mapping of all: a video with ten thousand copies is asked about each of them.
        others, scores = self._beside(one)
        place = int(np.searchsorted(others, other))
        return float(scores[place]) if place < len(others) and others[place] == other else None

    @cached_property
    def marks(self) -> Marks:
        """The rows that are not originals, as one of their copies shows."""
        return _find_marks(self.pairs, self.evidence)

    @classmethod
    def by_cosine(cls, scored: Scored) -> ComparedPairs:
        """The pairs of a list that is decided by the encoder's vectors alone."""
        return cls(**vars(scored), evidence={})

    def without_excerpts(self, chosen: Collection[tuple[int, int]]) -> ComparedPairs:
        """The same, but where a person chose the first of two rows (`chosen`), it counts neither as an excerpt of the
        second nor of copies of the second, and they not as excerpts of it."""
        if not chosen:
            # What this object has computed stays.
            return self
        copies = neighbours((pair.first, pair.second) for pair in self.pairs if not pair.excerpt)
        plain = {
            (min(kept, row), max(kept, row))
            for kept, other in chosen
            for row in {other, *copies.get(other, ())} - {kept}
        }
        changed = (replace(pair, excerpt="") if (pair.first, pair.second) in plain else pair for pair in self.pairs)
        return replace(self, pairs=tuple(changed))

    def about(self, first: int, second: int) -> Evidence | None:
        """The evidence of two rows, in either order."""
        return self.evidence.get((min(first, second), max(first, second)))


@dataclass(frozen=True, kw_only=True)
class FingerprintedList:
    """The videos of a list, by row, as they are compared."""

    fingerprints: Sequence[Fingerprint | None]
    """A row without one takes no part, unless it was there before the list."""
    durations_s: Sequence[float]
    new_rows: int | None = None
    """Rows from this one on were there before the list, and are compared with rows of the list only. None: no row."""
    cosine_of: Callable[[int, int], float] = lambda first, second: math.nan
    """The `Evidence.cosine` of two rows."""
    folder: Path | None = None
    """The folder for files that are needed on the way; None: where the system keeps such files."""
    candidates: AbstractSet[tuple[int, int]] | None = None
    """The pairs of rows that an earlier search found; None: they are looked for."""


class EvidenceCache(Protocol):
    """Evidence from the fingerprints of two rows that an earlier comparison found."""

    def recall(self, first: int, second: int) -> Evidence | None:
        """The evidence of two rows; None if they must be compared."""

    def remember(self, found: Evidence) -> None:
        """Receives new evidence."""


def compare_candidates(
    listed: FingerprintedList,
    *,
    scored: Scored,
    rules: MatchThresholds,
    keeps_excerpts: bool,
    max_candidates: int = MAX_CANDIDATES,
    choose_knowing: Callable[[Marks], Choose] = lambda marks: min,
    strict_cosine: float = 1.0,
    cache: EvidenceCache | None = None,
    workers: int = 1,
    begin: Progress = no_progress,
) -> ComparedPairs:
    """Compare the frames of every pair that the vectors (`scored`) or visual words propose. Then compare every video
    with the videos that would be kept in its connected component: so no copy is missed because too many others were
    nearer. `choose_knowing` gives the choice of the kept row, from the rows that are not originals.

    `rules` are the loosest thresholds that will be used. With `keeps_excerpts`, a video that is contained in another
    one is not its copy. If a row from before the list has no fingerprint, a person is asked about the videos whose
    cosine to it is at least `strict_cosine`. `workers` is the number of processes that compare (see `PairComparer`).
    `begin` reports progress over all pairs to compare, as far as they are known.
    """
    fingerprints, new_rows = listed.fingerprints, listed.new_rows
    candidates = listed.candidates
    if candidates is None:
        candidates = _find_candidates(listed, scored, max_candidates=max_candidates, begin=begin)
    comparer = PairComparer(fingerprints, workers=workers)
    evidence: dict[tuple[int, int], Evidence] = {}
    pairs: list[Pair] = []
    nearest = np.full(len(fingerprints), np.nan)
    proposed = candidates
    while proposed:
        progress = begin("comparing pairs", len(evidence) + len(proposed))
        asked = {
            rows: with_durations(
                Evidence(first=rows[0], second=rows[1], cosine=listed.cosine_of(*rows)), listed.durations_s
            )
            for rows in sorted(proposed)
        }
        # Their order does not depend on which are compared first.
        evidence |= asked
        unknown = []
        for rows, known in asked.items():
            if (before := cache.recall(*rows) if cache is not None else None) is None:
                unknown.append(known)
            else:
                evidence[rows] = replace(before, **{name: getattr(known, name) for name in OF_THE_LIST})
                progress(1)
        for found in comparer.compare(unknown):
            if cache is not None:
                cache.remember(found)
            evidence[found.first, found.second] = found
            progress(1)
        for rows in asked:
            found = evidence[rows]
            if new_rows is not None and rows[1] >= new_rows and fingerprints[rows[1]] is None:
                found = evidence[rows] = replace(found, is_unseen=found.cosine >= strict_cosine)
            verdict, score = found.judge(rules)[0], found.score_under(rules.versions)
            for row in rows:
                nearest[row] = np.fmax(nearest[row], score)
            if verdict == Verdict.DUPLICATE or (verdict == Verdict.EXCERPT and not keeps_excerpts):
                excerpt = found.excerpt if verdict == Verdict.EXCERPT else ""
                pairs.append(Pair(first=rows[0], second=rows[1], similarity=score, excerpt=excerpt))
        choose = choose_knowing(_find_marks(pairs, evidence))
        missing = _pairs_with_kept(pairs, rules.min_score, choose) - evidence.keys()
        proposed = {rows for rows in missing if new_rows is None or rows[0] < new_rows}
    return ComparedPairs(
        pairs=tuple(sorted(pairs)),
        nearest=nearest,
        floor=rules.min_score,
        expanded_queries=scored.expanded_queries,
        evidence=evidence,
        versions=rules.versions,
        candidates=candidates,
    )


def _find_candidates(
    listed: FingerprintedList, scored: Scored, *, max_candidates: int, begin: Progress
) -> AbstractSet[tuple[int, int]]:
    """The pairs of rows that vectors or visual words propose."""
    new_rows = listed.new_rows
    found = {(pair.first, pair.second) for pair in _nearest_pairs(scored.pairs, most=max_candidates)}
    # Each row with identical vectors is compared with the first `max_candidates` of them.
    for alike_rows in scored.identical:
        for first, second in product(alike_rows[:max_candidates], alike_rows):
            if first < second and (new_rows is None or first < new_rows):
                found.add((first, second))
    found.update(
        find_candidates(
            listed.fingerprints, max_candidates=max_candidates, new_rows=new_rows, folder=listed.folder, begin=begin
        )
    )
    return found


def _find_marks(pairs: Sequence[Pair], evidence: Mapping[tuple[int, int], Evidence]) -> Marks:
    def rows(side_of: Callable[[Evidence], Side]) -> AbstractSet[int]:
        sides = ((pair, side_of(evidence[pair.first, pair.second])) for pair in pairs if evidence)
        return {pair.first if side == "first" else pair.second for pair, side in sides if side}

    return Marks(
        overlaid=rows(lambda one: one.overlay), inset=rows(lambda one: one.inset), tempo=_find_tempos(pairs, evidence)
    )


def _find_tempos(pairs: Sequence[Pair], evidence: Mapping[tuple[int, int], Evidence]) -> dict[int, float]:
    """For each joined row, how many times as fast it runs as the first row that it is joined with. Follows first the
    pairs that have most in common and the highest scores: their speed is known best."""
    steps: dict[int, list[tuple[float, int, float]]] = {}
    for pair in pairs:
        _, segment = evidence[pair.first, pair.second].best if evidence else (None, None)
        speed = segment.speed if segment is not None else 1.0
        shared = min(segment.first_coverage, segment.second_coverage) if segment is not None else 0.0
        steps.setdefault(pair.first, []).append((-shared * pair.similarity, pair.second, speed))
        steps.setdefault(pair.second, []).append((-shared * pair.similarity, pair.first, 1 / speed))
    tempos: dict[int, float] = {}
    for start in sorted(steps):
        waiting = [(0.0, start, 1.0)] if start not in tempos else []
        while waiting:
            _, row, tempo = heappop(waiting)
            if row not in tempos:
                tempos[row] = tempo
                for cost, other, speed in steps[row]:
                    heappush(waiting, (cost, other, tempo * speed))
    return tempos


def _nearest_pairs(pairs: Sequence[Pair], *, most: int) -> list[Pair]:
    """The pairs that are among the `most` nearest of one of their videos. A title card that hundreds of videos share
    then makes hundreds of pairs, not all pairs of hundreds."""
    seen: Counter[int] = Counter()
    near = []
    for pair in sorted(pairs, key=lambda pair: (-pair.similarity, pair)):
        if min(seen[pair.first], seen[pair.second]) < most:
            near.append(pair)
        seen.update((pair.first, pair.second))
    return near


def _pairs_with_kept(pairs: Sequence[Pair], threshold: float, choose: Choose) -> set[tuple[int, int]]:
    """Pairs of each video with the other videos that are kept in its connected component."""
    groups = group_copies(pairs, threshold=threshold, choose=choose)
    kept_of = {row: group.kept for group in groups for row in (group.kept, *group.copies)}
    wanted = set()
    for rows in components(neighbours((pair.first, pair.second) for pair in pairs)):
        kept = {kept_of.get(row, row) for row in rows}
        wanted |= {(min(row, one), max(row, one)) for row in rows for one in kept if row != one}
    return wanted
