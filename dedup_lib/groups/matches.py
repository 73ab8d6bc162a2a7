"""All compared pairs of a list as one object that a notebook questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dedup_lib.features.encoders import ALIKE_FROM, UNLIKE_BELOW
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.keepers import KeeperPolicy
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.pairs import collect_verdicts, find_pair, tabulate_pairs
from dedup_lib.groups.thresholds import Borderline, Regrouping, count_sweep, regroup, round_thresholds
from dedup_lib.match.evidence import MatchThresholds, Versions
from dedup_lib.match.index_search import Audit
from dedup_lib.records import Group, Pair, Pooling, Recipe, SweepPoint

MAX_STEPS = 120
"""Number of steps of a sweep."""


@dataclass(frozen=True, kw_only=True)
class SearchDone:
    """How candidate pairs were found among the vectors."""

    method: str
    """The method: exact or ann."""
    why: str
    on: str
    """The device that compared all vectors with all, or the store whose index proposed pairs."""
    index: str = ""
    audit: Audit | None = None
    """How many of the existing pairs the index found; None if all vectors were compared with all."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The settings of a search. The encoder's own values replace those left empty."""

    store: str
    """Address of the store, without any secret."""
    collection: str
    pooling: Pooling
    recipe: Recipe
    measure: str
    """The value that is compared with the threshold: score or cosine."""
    threshold: float
    review_from: float
    versions: Versions
    sweep_low: float
    floor: float
    """Minimum cosine at which vectors propose a pair."""
    search: SearchDone | None = None
    """None before the search."""

    @property
    def parameter(self) -> str:
        """The setting that holds the threshold."""
        return "cosine_thresh" if self.measure == "cosine" else "min_score"

    def as_record(self) -> dict[str, Any]:
        """The plan for summary.json."""
        return {
            "measure": self.measure,
            "threshold": self.threshold,
            "review_from": self.review_from,
            "versions": self.versions,
            "floor": self.floor,
            "encoder": self.recipe.encoder,
            "model": self.recipe.model,
            "num_frames": self.recipe.num_frames,
            "frame_span": self.recipe.frame_span,
            "schema": self.pooling.schema,
            "pooling": self.pooling,
            "store": self.store,
            "collection": self.collection,
            "search": asdict(self.search) if self.search is not None else None,
        }

    @property
    def rules(self) -> MatchThresholds:
        """The thresholds of a verdict."""
        return MatchThresholds(
            min_score=self.threshold,
            review_from=self.review_from,
            versions=self.versions,
            unlike_below=UNLIKE_BELOW.get(self.recipe.encoder, -1.0),
            alike_from=ALIKE_FROM.get(self.recipe.encoder, math.inf),
        )

    def sweep(self, most: int = MAX_STEPS) -> list[float]:
        """Thresholds of a sweep, in rising order: about `most`, in round steps. The one that decides is among them."""
        # No pair is known below the start of the sweep.
        return round_thresholds(self.sweep_low, threshold=self.threshold, most=most)


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Every compared pair of a list, and the policy that makes groups of the matches among them.

    Rows are places in `urls`. The rows of the list come first; from `new_rows` on follow those of videos that were
    there before the list.
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
    """Pairs of rows that a person called the same (`same`) or different (`different`)."""

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return tabulate_pairs(self.compared, urls=self.urls, rules=self.plan.rules)

    def to_frame(self) -> pd.DataFrame:
        """A row for every compared pair, including rejected ones. The columns are `pairs.PAIR_COLUMNS`."""
        return self._frame.copy()

    def find(self, first_url: str, second_url: str) -> dict[str, Any] | None:
        """The row of two videos, in either order; None if they were not compared (`explain` then compares them)."""
        return find_pair(self._frame, first_url, second_url)

    @property
    def nearest(self) -> NDArray[np.float64]:
        """For each compared video of the list, the score of its nearest other video; NaN if it has none."""
        return np.asarray(self.compared.nearest[list(self.compared_rows)], np.float64)

    @property
    def by_verdict(self) -> Mapping[str, NDArray[np.float32]]:
        """The scores of all compared pairs, float32, by verdict."""
        return collect_verdicts(self._frame)

    @property
    def decided(self) -> AbstractSet[tuple[int, int]]:
        """Pairs of rows that a person decided about, either way."""
        return self.same | self.different

    def scores_of(self, rows: AbstractSet[tuple[int, int]]) -> NDArray[np.float64]:
        """The scores of these pairs of rows, such as `same` and `different`. Pairs never compared are left out."""
        known = (self.compared.similarity_of(first, second) for first, second in sorted(rows))
        return np.array([score for score in known if score is not None], np.float64)

    def group(self, threshold: float | None = None) -> list[Group]:
        """The groups of copies at a threshold; by default at the one that decides."""
        return group_copies(
            self.compared.pairs, threshold=self.plan.threshold if threshold is None else threshold, **self._policy
        )

    @property
    def _policy(self) -> dict[str, Any]:
        """What groups depend on beside the pairs and the threshold."""
        people = {"same": self.same, "different": self.different}
        return {"choose": self.keeper.choose, "identical": self.compared.identical, **people}

    @cached_property
    def regrouped(self) -> list[Regrouping]:
        """The groups of each connected component at the thresholds of `plan.sweep()`."""
        return self._regroup(self.plan.sweep())

    def sweep(self, most: int = MAX_STEPS) -> list[SweepPoint]:
        """What each of the thresholds of `plan.sweep(most)` would decide."""
        thresholds = self.plan.sweep(most)
        return count_sweep(
            self.regrouped if most == MAX_STEPS else self._regroup(thresholds),
            num_videos=len(self.compared_rows),
            thresholds=thresholds,
            new_rows=self.new_rows,
        )

    def _regroup(self, thresholds: Sequence[float]) -> list[Regrouping]:
        return regroup(self.compared.pairs, thresholds=thresholds, **self._policy)

    def borderline(self, count: int) -> list[Pair]:
        """The `count` pairs just above the threshold, and as many just below it, the most similar first."""
        above, below = Borderline(self.compared.pairs).at(self.plan.threshold, count=count)
        return [*reversed(above), *below]
