"""Compares all candidates of a list, and every copy with the video that is kept in its place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from dedup_lib.features.fingerprint import FINGERPRINTS_AT_HAND, Fingerprint, keep_recent
from dedup_lib.groups.grouping import Choose, components, group_copies, neighbours
from dedup_lib.groups.scored import Scored
from dedup_lib.match.evidence import OF_THE_LIST, Evidence, MatchThresholds, Verdict
from dedup_lib.match.overlay import Side
from dedup_lib.match.verify import Looks, compare_looks, with_durations
from dedup_lib.match.visual_words import propose_pairs
from dedup_lib.records import Marks, Pair, Progress, no_progress


def _looks_of(fingerprints: Sequence[Fingerprint | None]) -> Callable[[int], Looks | None]:
    """The looks of the video in a row; those used last are kept."""

    def make(row: int) -> Looks | None:
        fingerprint = fingerprints[row]
        return Looks(fingerprint) if fingerprint is not None else None

    return keep_recent(make, count_frames=lambda one: len(one.fingerprint.times_s) if one is not None else 0)


@dataclass(frozen=True, kw_only=True)
class ComparedPairs(Scored):
    """All pairs of a list that some threshold would call the same, and what speaks for every pair that was compared.

    `similarity` of the pairs is their score; of a list compared by cosine alone, which has no `evidence`, it is that
    cosine.
    """

    evidence: Mapping[tuple[int, int], Evidence]

    @cached_property
    def neighbours_of(self) -> Mapping[int, Mapping[int, float]]:
        """Of each row, how near every other one is that it was compared with."""
        compared = (
            [(rows, evidence.score) for rows, evidence in self.evidence.items()]
            if self.evidence
            else [((pair.first, pair.second), pair.similarity) for pair in self.pairs]
        )
        found: dict[int, dict[int, float]] = {}
        for (first, second), similarity in compared:
            found.setdefault(first, {})[second] = similarity
            found.setdefault(second, {})[first] = similarity
        return found

    @cached_property
    def shown_by(self) -> Mapping[int, int]:
        """The row that stands in `pairs` for each row with the same vectors."""
        return {row: alike_rows[0] for alike_rows in self.identical for row in alike_rows}

    def similarity_of(self, first: int, second: int) -> float | None:
        """How near two rows are, None where they were not compared or are too far from each other."""
        one, other = (self.shown_by.get(row, row) for row in (first, second))
        return 1.0 if one == other else self.neighbours_of.get(one, {}).get(other)

    @cached_property
    def marks(self) -> Marks:
        """The rows of which one of their copies shows that they are no original."""
        return _find_marks(self.pairs, self.evidence)

    @classmethod
    def by_cosine(cls, scored: Scored) -> ComparedPairs:
        """A list that the encoder's vectors alone decide about."""
        return cls(
            pairs=scored.pairs,
            nearest=scored.nearest,
            floor=scored.floor,
            expanded_queries=scored.expanded_queries,
            identical=scored.identical,
            evidence={},
        )

    def about(self, first: int, second: int) -> Evidence | None:
        """What is known of two rows, whichever comes first."""
        return self.evidence.get((min(first, second), max(first, second)))


def compare_candidates(
    fingerprints: Sequence[Fingerprint | None],
    *,
    scored: Scored,
    durations_s: Sequence[float],
    rules: MatchThresholds,
    keeps_excerpts: bool,
    max_candidates: int,
    damp_hubs: bool,
    cosine_of: Callable[[int, int], float] = lambda first, second: math.nan,
    choose_knowing: Callable[[Marks], Choose] = lambda marks: min,
    new_rows: int | None = None,
    strict_cosine: float = 1.0,
    recall: Callable[[int, int], Evidence | None] = lambda first, second: None,
    remember: Callable[[Evidence], object] = lambda found: None,
    begin: Progress = no_progress,
) -> ComparedPairs:
    """Compare the frames of every pair that the vectors (`scored`) or visual words propose, and then of every video
    with those that would be kept of the videos that hang together with it: no copy is missed because too many others
    were nearer. `cosine_of` gives the `Evidence.cosine` of two rows; `choose_knowing` says which one is kept, given the
    rows that are no originals.

    Rows from `new_rows` on were there before the list, and are compared with rows of the list only; where one has no
    fingerprint, a person is asked about the videos whose cosine to it is at least `strict_cosine`. Other rows without a
    fingerprint take no part. `rules` are the loosest that will be asked for; with `keeps_excerpts` a video that is
    contained in another is no copy of it. `recall` gives what the fingerprints of two rows said before, None where they
    must be compared, and `remember` is told what they say now. `begin` is told of the pairs to be compared in all, as
    far as they are known.
    """
    near = _nearest_pairs(scored.pairs, most=max_candidates) if damp_hubs else scored.pairs
    proposed = {(pair.first, pair.second): Evidence(first=pair.first, second=pair.second) for pair in near}
    # Of identical vectors, each with the first.
    for alike_rows in scored.identical:
        for first, second in product(alike_rows[:max_candidates], alike_rows):
            if first < second and (new_rows is None or first < new_rows):
                proposed[first, second] = Evidence(first=first, second=second)
    for candidate in propose_pairs(
        fingerprints, most=max_candidates, damp_hubs=damp_hubs, new_rows=new_rows, begin=begin
    ):
        rows = candidate.first, candidate.second
        known = proposed.get(rows) or Evidence(first=candidate.first, second=candidate.second)
        proposed[rows] = replace(known, words=candidate.score)
    looks_of = _looks_of(fingerprints)
    evidence: dict[tuple[int, int], Evidence] = {}
    pairs: list[Pair] = []
    nearest = np.full(len(fingerprints), np.nan)
    while proposed:
        progress = begin("comparing pairs", len(evidence) + len(proposed))
        for rows in sorted(proposed, key=_in_blocks):
            known = with_durations(replace(proposed[rows], cosine=cosine_of(*rows)), durations_s)
            before = recall(*rows)
            if before is None:
                found = compare_looks(known, *map(looks_of, rows))
                remember(found)
            else:
                found = replace(before, **{name: getattr(known, name) for name in OF_THE_LIST})
            if new_rows is not None and rows[1] >= new_rows and fingerprints[rows[1]] is None:
                found = replace(found, is_unseen=found.cosine >= strict_cosine)
            evidence[rows] = found
            verdict, _ = found.judge(rules)
            for row in rows:
                nearest[row] = np.fmax(nearest[row], found.score)
            if verdict == Verdict.DUPLICATE or (verdict == Verdict.EXCERPT and not keeps_excerpts):
                excerpt = found.excerpt if verdict == Verdict.EXCERPT else ""
                pairs.append(Pair(first=rows[0], second=rows[1], similarity=found.score_under(rules), excerpt=excerpt))
            progress(1)
        choose = choose_knowing(_find_marks(pairs, evidence))
        missing = _pairs_with_kept(pairs, rules.min_score, choose) - evidence.keys()
        proposed = {
            rows: Evidence(first=rows[0], second=rows[1]) for rows in missing if new_rows is None or rows[0] < new_rows
        }
    return ComparedPairs(
        pairs=tuple(sorted(pairs)),
        nearest=nearest,
        floor=rules.min_score,
        expanded_queries=scored.expanded_queries,
        evidence=evidence,
    )


def _in_blocks(rows: tuple[int, int]) -> tuple[int, int, int, int]:
    """What to sort pairs by for videos to be at hand when they are wanted: within a square of the table of all pairs
    each video is loaded once, and along a row of it once for each pair."""
    first, second = rows
    side = FINGERPRINTS_AT_HAND // 2
    return first // side, second // side, first, second


def _find_marks(pairs: Iterable[Pair], evidence: Mapping[tuple[int, int], Evidence]) -> Marks:
    def rows(side_of: Callable[[Evidence], Side]) -> AbstractSet[int]:
        sides = ((pair, side_of(evidence[pair.first, pair.second])) for pair in pairs if evidence)
        return {pair.first if side == "first" else pair.second for pair, side in sides if side}

    return Marks(overlaid=rows(lambda one: one.overlay), inset=rows(lambda one: one.inset))


def _nearest_pairs(pairs: Sequence[Pair], *, most: int) -> list[Pair]:
    """Those that are among the `most` nearest of one of their videos: a title card that hundreds share makes hundreds
    of pairs, not all pairs of hundreds."""
    seen: Counter[int] = Counter()
    near = []
    for pair in sorted(pairs, key=lambda pair: (-pair.similarity, pair)):
        if min(seen[pair.first], seen[pair.second]) < most:
            near.append(pair)
        seen.update((pair.first, pair.second))
    return near


def _pairs_with_kept(pairs: Sequence[Pair], threshold: float, choose: Choose) -> set[tuple[int, int]]:
    """Each video with the others that are kept of those that hang together with it."""
    groups = group_copies(pairs, threshold=threshold, choose=choose)
    kept_of = {row: group.kept for group in groups for row in (group.kept, *group.copies)}
    wanted = set()
    for rows in components(neighbours((pair.first, pair.second) for pair in pairs)):
        kept = {kept_of.get(row, row) for row in rows}
        wanted |= {(min(row, one), max(row, one)) for row in rows for one in kept if row != one}
    return wanted
