"""Precision and recall: predicted pairs and groups held against labels.

A folder of labelled clips holds `videos/` and `labels.csv` with the columns file, role and group; the roles are

    copy         belongs to `group`: any two files of a group are duplicates
    distinct     a duplicate of nothing
    featureless  every frame is one flat colour: must match nothing
    excerpt      a short part of its group's video; left out of the numbers and shown separately
    odd          broken or unusual; left out and shown separately
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup_lib.groups.grouping import Choose, group_copies
from dedup_lib.records import Group, Outcome, Pair, Status

LEFT_OUT_ROLES = frozenset({"excerpt", "odd"})

Rows = tuple[int, int]
"""Two files by their row in the list, the earlier one first."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """The label of one file. `group` is empty for a file without a copy."""

    file: str
    role: str
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """The pairs of one label group, and how many of them were found."""

    name: str
    pairs: int
    found: int

    @property
    def recall(self) -> float:
        return self.found / self.pairs


@dataclass(frozen=True, kw_only=True)
class Score:
    """Predicted groups compared with labels. A share is None when its divisor is 0."""

    right: tuple[Rows, ...]
    wrong: tuple[Rows, ...]
    missed: tuple[Rows, ...]
    apart_found: tuple[Rows, ...]
    """Predicted pairs that touch an excerpt or an odd file."""
    apart_missed: tuple[Rows, ...]
    """Pairs of one label group that touch an excerpt or an odd file and were not predicted."""
    featureless_matched: tuple[int, ...]
    """Featureless files in a predicted group; `wrong` also has their pairs."""
    groups: tuple[GroupScore, ...]
    """Sorted by name, without groups that have no pair to count."""

    @property
    def precision(self) -> float | None:
        """Share of the predicted pairs that are right."""
        predicted = len(self.right) + len(self.wrong)
        return len(self.right) / predicted if predicted else None

    @property
    def precision_interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the precision; a little too narrow, as pairs of one group are not independent."""
        return wilson_interval(len(self.right), len(self.right) + len(self.wrong))

    @property
    def recall(self) -> float | None:
        """Share of the labelled pairs that were predicted."""
        labelled = len(self.right) + len(self.missed)
        return len(self.right) / labelled if labelled else None

    @property
    def mean_group_recall(self) -> float | None:
        """Mean recall of the label groups, so that one large group does not dominate."""
        return statistics.fmean(group.recall for group in self.groups) if self.groups else None


def wilson_interval(successes: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson interval of the share `successes` of `total`, 95 % by default; (0, 1) when `total` is 0.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927. Raises ValueError
    unless 0 <= successes <= total.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total} are impossible")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    middle, scale = share + z**2 / (2 * total), 1 + z**2 / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def score_groups(labels: Sequence[Label], groups: Sequence[Group]) -> Score:
    """Compares predicted groups, as rows of the list, with the label of each row.

    Any two files of a predicted group are a predicted pair: right when both are in one label group, else wrong.
    """
    predicted = {pair for group in groups for pair in combinations(sorted((group.kept, *group.copies)), 2)}
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label.group:
            members.setdefault(label.group, []).append(row)
    labelled = {pair for rows in members.values() for pair in combinations(rows, 2)}

    def counts(pair: Rows) -> bool:
        return LEFT_OUT_ROLES.isdisjoint(labels[row].role for row in pair)

    scored = []
    for name in sorted(members):
        pairs = [pair for pair in combinations(members[name], 2) if counts(pair)]
        if pairs:
            scored.append(GroupScore(name=name, pairs=len(pairs), found=sum(pair in predicted for pair in pairs)))
    return Score(
        right=tuple(sorted(pair for pair in predicted & labelled if counts(pair))),
        wrong=tuple(sorted(pair for pair in predicted - labelled if counts(pair))),
        missed=tuple(sorted(pair for pair in labelled - predicted if counts(pair))),
        apart_found=tuple(sorted(pair for pair in predicted if not counts(pair))),
        apart_missed=tuple(sorted(pair for pair in labelled - predicted if not counts(pair))),
        featureless_matched=tuple(
            sorted({row for pair in predicted for row in pair if labels[row].role == "featureless"})
        ),
        groups=tuple(scored),
    )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The result of the pipeline for a list of files: the outcome of each, and the similar pairs."""

    threshold: float
    sweep: tuple[float, ...]
    """Thresholds to try; `pairs` has no pair below the first of them."""
    outcomes: tuple[Outcome, ...]
    pairs: tuple[Pair, ...]
    doubtful: tuple[Rows, ...] = ()
    """Pairs for a person to look at, as in review.csv."""
    choose: Choose = min
    """Chooses which of several copies is kept."""
    thumbnails_dir: Path | None = None
    """Folder with the storyboards, None when they are gone."""

    @cached_property
    def groups(self) -> list[Group]:
        """The groups at `threshold`."""
        return group_copies(self.pairs, threshold=self.threshold, choose=self.choose)

    @property
    def unread(self) -> frozenset[int]:
        """Rows without a vector, which were compared with nothing."""
        return frozenset(row for row, outcome in enumerate(self.outcomes) if outcome.status != Status.OK)

    def similarity(self, pair: Rows) -> float | None:
        """The similarity of two files; None when it is lower than that of all pairs in `pairs`."""
        return self._similarities.get(pair)

    @cached_property
    def _similarities(self) -> dict[Rows, float]:
        return {(pair.first, pair.second): pair.similarity for pair in self.pairs}


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The precision and recall of one threshold."""

    threshold: float
    precision: float | None
    recall: float | None
    mean_group_recall: float | None


def sweep_scores(labels: Sequence[Label], compared: Compared) -> list[CurvePoint]:
    """Precision and recall over thresholds, in rising order."""
    points = []
    for threshold in compared.sweep:
        score = score_groups(labels, group_copies(compared.pairs, threshold=threshold, choose=compared.choose))
        points.append(
            CurvePoint(
                threshold=threshold,
                precision=score.precision,
                recall=score.recall,
                mean_group_recall=score.mean_group_recall,
            )
        )
    return points


@dataclass(frozen=True, kw_only=True)
class VariantScore:
    """One kind of variant: how many share a group with their reference, and how similar they are to it."""

    name: str
    clips: int
    found: int
    similarities: tuple[float | None, ...]
    """Similarity to the reference; None when it is too low to be known."""
    missed: tuple[Rows, ...] = ()
    """Pairs of variant and reference that share no group."""

    @property
    def recall(self) -> float:
        return self.found / self.clips

    @property
    def median_similarity(self) -> float | None:
        """None when it is too low to be known."""
        median = statistics.median(-math.inf if one is None else one for one in self.similarities)
        return median if math.isfinite(median) else None


def score_variants(
    labels: Sequence[Label], kinds: Sequence[str], compared: Compared, *, reference: str
) -> list[VariantScore]:
    """Recall of each kind of variant. `kinds` has the kind of each file; each label group has one file of the kind
    `reference`."""
    group_of = {row: group.number for group in compared.groups for row in (group.kept, *group.copies)}
    references = {
        label.group: row for row, (label, kind) in enumerate(zip(labels, kinds, strict=True)) if kind == reference
    }
    pairs: dict[str, list[Rows]] = {}
    for row, (label, kind) in enumerate(zip(labels, kinds, strict=True)):
        if kind != reference:
            first, second = sorted((references[label.group], row))
            pairs.setdefault(kind, []).append((first, second))
    missed = {
        kind: tuple((a, b) for a, b in wanted if a not in group_of or group_of[a] != group_of.get(b))
        for kind, wanted in pairs.items()
    }
    return [
        VariantScore(
            name=kind,
            clips=len(wanted),
            found=len(wanted) - len(missed[kind]),
            similarities=tuple(compared.similarity(pair) for pair in wanted),
            missed=missed[kind],
        )
        for kind, wanted in pairs.items()
    ]


def rows_that_count(labels: Sequence[Label], rows: Collection[int] | None) -> list[int]:
    """Those of the rows (None: all) whose clips are neither excerpts nor odd."""
    chosen = range(len(labels)) if rows is None else sorted(rows)
    return [row for row in chosen if labels[row].role not in LEFT_OUT_ROLES]


def judge_pairs(
    labels: Sequence[Label], pairs: Sequence[Pair], counted: Collection[int]
) -> Iterator[tuple[float, bool]]:
    """Yields, for each pair of `counted` rows, its similarity and whether it is a pair of copies."""
    known = set(counted)
    for pair in pairs:
        if pair.first in known and pair.second in known:
            yield pair.similarity, are_copies(labels[pair.first], labels[pair.second])


def pairs_of_copies(groups: Iterable[str]) -> int:
    """The number of pairs that share a group."""
    return sum(math.comb(size, 2) for group, size in Counter(groups).items() if group)


def are_copies(first: Label, second: Label) -> bool:
    """Whether two files are labelled as copies of each other."""
    return bool(first.group) and first.group == second.group


def split_similarities(labels: Sequence[Label], compared: Compared) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities of all pairs of copies (P,), and of all unlike pairs (Q,); NaN when it is too low to be known.

    Odd files, excerpts and files without a vector are left out.
    """
    rows = [row for row in rows_that_count(labels, None) if row not in compared.unread]
    split: dict[bool, list[float | None]] = {True: [], False: []}
    for first, second in combinations(rows, 2):
        split[are_copies(labels[first], labels[second])].append(compared.similarity((first, second)))
    return np.array(split[True], dtype=np.float64), np.array(split[False], dtype=np.float64)


# --- in words and tables


def rank_pairs(pairs: Sequence[Rows], compared: Compared) -> list[tuple[Rows, float | None]]:
    """Pairs with their similarity, the most similar first; pairs without a known similarity come last."""
    known = [(pair, compared.similarity(pair)) for pair in pairs]
    return sorted(known, key=lambda one: math.inf if one[1] is None else -one[1])


def pick_pairs(
    pairs: Sequence[Rows], *, labels: Sequence[Label], compared: Compared
) -> list[tuple[Rows, float | None]]:
    """Keeps the most similar pair between each two groups, and within each group; ranked like `rank_pairs`."""
    picked: dict[tuple[str, ...], tuple[Rows, float | None]] = {}
    for pair, similarity in rank_pairs(pairs, compared):
        picked.setdefault(tuple(labels[row].group or labels[row].file for row in pair), (pair, similarity))
    return list(picked.values())
