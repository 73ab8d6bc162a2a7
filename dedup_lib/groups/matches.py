"""All compared pairs of a list as one object that a notebook questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dedup_lib.features.encoders import ALIKE_FROM, UNLIKE_BELOW
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.keepers import KeeperPolicy
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.pairs import collect_verdicts, find_pair, tabulate_pairs
from dedup_lib.groups.thresholds import borderline_pairs, sweep_thresholds
from dedup_lib.match.evidence import MatchThresholds
from dedup_lib.match.index_search import Audit
from dedup_lib.records import Group, Pair, Pooling, Recipe, SweepPoint


@dataclass(frozen=True, kw_only=True)
class SearchDone:
    """How the vectors were searched for pairs."""

    method: str
    """exact or ann."""
    why: str
    on: str
    """The device that compared all with all, or the store whose index proposed."""
    index: str = ""
    audit: Audit | None = None
    """How much of what is there the index found; None where all were compared with all."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The numbers that a search is made with, the encoder's own in place of those left empty."""

    store: str
    """Its address, without any secret."""
    collection: str
    pooling: Pooling
    recipe: Recipe
    measure: str
    """What is compared with the threshold: score or cosine."""
    threshold: float
    review_from: float
    versions: Literal["review", "remove", "keep"]
    sweep_low: float
    sweep_high: float
    floor: float
    """From which cosine on vectors propose pairs."""
    search: SearchDone | None = None
    """None before it was done."""

    @property
    def parameter(self) -> str:
        """The setting that holds the threshold."""
        return "cosine_thresh" if self.measure == "cosine" else "min_score"

    @property
    def rules(self) -> MatchThresholds:
        """The knobs of a verdict."""
        return MatchThresholds(
            min_score=self.threshold,
            review_from=self.review_from,
            versions=self.versions,
            unlike_below=UNLIKE_BELOW.get(self.recipe.encoder, -1.0),
            alike_from=ALIKE_FROM.get(self.recipe.encoder, math.inf),
        )

    def sweep(self, steps: int) -> list[float]:
        """Thresholds of a sweep, the decided one among them, in rising order."""
        step = (self.sweep_high - self.sweep_low) / (steps - 1)
        # Below its start no pair is known.
        grid = {max(self.sweep_low, round(self.sweep_low + step * index, 4)) for index in range(steps)}
        return sorted(grid | {self.threshold})


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Every pair of a list that was compared, and the policy by which groups are made of the matches among them.

    Rows are places in `urls`, those of the list before those that were there before it (from `new_rows` on).
    """

    compared: ComparedPairs
    plan: SearchPlan
    urls: Sequence[str]
    compared_rows: Sequence[int]
    """The rows of the list that could be compared."""
    new_rows: int
    keeper: KeeperPolicy
    """Which video of a group is kept."""
    same: AbstractSet[tuple[int, int]] = frozenset()
    different: AbstractSet[tuple[int, int]] = frozenset()
    """Rows that a person decided about."""

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return tabulate_pairs(self.compared, urls=self.urls, rules=self.plan.rules)

    def to_frame(self) -> pd.DataFrame:
        """A row for every compared pair, the rejected ones included; the columns are `pairs.PAIR_COLUMNS`."""
        return self._frame.copy()

    def find(self, first_url: str, second_url: str) -> dict[str, Any] | None:
        """The row of two videos, whichever comes first; None where they were not compared (`explain` does it then)."""
        return find_pair(self._frame, first_url, second_url)

    @property
    def nearest(self) -> NDArray[np.float64]:
        """Of each video of the list that was compared, the score of its nearest other one; NaN where it has none."""
        return np.asarray(self.compared.nearest[list(self.compared_rows)], np.float64)

    @property
    def by_verdict(self) -> Mapping[str, NDArray[np.float32]]:
        """The scores of all compared pairs by their verdict."""
        return collect_verdicts(self._frame)

    @property
    def decided(self) -> AbstractSet[tuple[int, int]]:
        """Rows about which a person decided either way."""
        return self.same | self.different

    def scores_of(self, rows: AbstractSet[tuple[int, int]]) -> NDArray[np.float64]:
        """The scores of those of these pairs of rows that were compared, as of `same` and `different`."""
        known = (self.compared.similarity_of(first, second) for first, second in sorted(rows))
        return np.array([score for score in known if score is not None], np.float64)

    def group(self, threshold: float | None = None) -> list[Group]:
        """The groups of copies at a threshold; without one, at the one that decides."""
        return group_copies(
            self.compared.pairs,
            threshold=self.plan.threshold if threshold is None else threshold,
            choose=self.keeper.choose,
            same=self.same,
            different=self.different,
            identical=self.compared.identical,
        )

    def sweep(self, steps: int) -> list[SweepPoint]:
        """What each of so many thresholds would decide, the one that decides among them."""
        return sweep_thresholds(
            self.compared.pairs,
            num_videos=len(self.compared_rows),
            thresholds=self.plan.sweep(steps),
            choose=self.keeper.choose,
            same=self.same,
            different=self.different,
            identical=self.compared.identical,
            new_rows=self.new_rows,
        )

    def borderline(self, count: int) -> list[Pair]:
        """The `count` pairs just above the threshold, and as many just below it, the surest first."""
        above, below = borderline_pairs(self.compared.pairs, threshold=self.plan.threshold, count=count)
        return [*reversed(above), *below]
