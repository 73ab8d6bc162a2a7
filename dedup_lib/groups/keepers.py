"""Which copy of a group is kept, and why: criteria in order, each with a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from dedup_lib.records import Marks, Outcome

FIRST_IN_LIST = "first in the list"
BEST_OF_ALL = "best of its group"
THERE_BEFORE = "in the collection before"
CHOSEN = "a person chose it"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The properties of one video that the choice uses; 0 means unknown."""

    duration_s: float = 0.0
    """At the speed of the first of its copies: a video in slow motion is not longer."""
    pixels: int = 0
    """Width times height of the frame without its bars, in pixels."""
    codec: str = ""
    bits_per_pixel: float = 0.0
    """Bits of the file per pixel of the frame and second of the video."""
    is_overlaid: bool = False
    """Whether it is known to show a logo or similar overlay that one of its copies lacks."""
    is_inset: bool = False
    """Whether it is known to show one of its copies inside a larger frame."""
    is_https: bool = False

    @classmethod
    def of(cls, outcome: Outcome) -> Traits:
        """The traits of a video that was read."""
        pixels = round(outcome.width_px * outcome.height_px * outcome.picture_fraction)
        shown = outcome.duration_s * pixels
        return cls(
            duration_s=outcome.duration_s,
            pixels=pixels,
            codec=outcome.codec,
            bits_per_pixel=outcome.size_bytes * 8 / shown if shown else 0.0,
            is_https=outcome.url.lower().startswith("https:"),
        )


@dataclass(frozen=True)
class Preference:
    """One criterion of the choice: the largest value wins, and values within `tolerance_fraction` of it tie with it."""

    name: str
    value: Callable[[Traits], float]
    tolerance_fraction: float
    within_codec: bool = False
    """Whether it only compares videos of one codec."""

    def best_of(self, rows: Sequence[int], traits: Sequence[Traits]) -> list[int]:
        """The rows that tie for the best value; all rows if the criterion does not apply or a value is unknown."""
        values = [self.value(traits[row]) for row in rows]
        codecs = {traits[row].codec for row in rows}
        if (self.within_codec and len(codecs) > 1) or (min(values) == 0 and self.tolerance_fraction):
            return list(rows)
        bar = max(values) * (1 - self.tolerance_fraction)
        return [row for row, value in zip(rows, values, strict=True) if value >= bar]


CRITERIA = (
    Preference("not inside another picture", lambda traits: float(not traits.is_inset), 0.0),
    Preference("longer", lambda traits: traits.duration_s, 0.05),
    Preference("larger frame", lambda traits: float(traits.pixels), 0.05),
    Preference("better encoding", lambda traits: traits.bits_per_pixel, 0.2, within_codec=True),
    Preference("without overlay", lambda traits: float(not traits.is_overlaid), 0.0),
    Preference("https", lambda traits: float(traits.is_https), 0.0),
)
"""The criteria of the policy `best`, in order. A difference within the tolerance says nothing: another encoder or
container causes it in the same video."""


@dataclass(frozen=True, kw_only=True)
class KeeperPolicy:
    """Chooses which of several similar rows is kept. `traits` are those of the whole list, row by row.

    `first_seen` keeps the first in the list. `best` keeps, at each criterion, only the rows that tie for the best. Of
    the rows that are left it takes the first in the list: the order of the list matters for true ties only. Rows from
    `new_rows` on are videos that were there before the list. Any of them is kept rather than one of the list. What a
    person chose comes before the criteria.
    """

    name: Literal["best", "first_seen"]
    traits: Sequence[Traits]
    new_rows: int | None = None
    chosen: AbstractSet[tuple[int, int]] = frozenset()
    """Pairs of rows of which a person wants to keep the first."""

    @property
    def criteria(self) -> tuple[Preference, ...]:
        """The criteria that come before the place in the list."""
        return CRITERIA if self.name == "best" else ()

    def knowing(self, marks: Marks) -> KeeperPolicy:
        """The same policy, which also knows the rows that are not originals, and compares at one speed."""
        traits = [
            replace(
                one,
                is_overlaid=row in marks.overlaid,
                is_inset=row in marks.inset,
                duration_s=one.duration_s * (tempo := marks.tempo.get(row, 1.0)),
                bits_per_pixel=one.bits_per_pixel / tempo,
            )
            for row, one in enumerate(self.traits)
        ]
        return replace(self, traits=traits)

    @cached_property
    def _preferred_to(self) -> Mapping[int, AbstractSet[int]]:
        """For a row, the rows that a person wants to keep rather than it."""
        preferred: dict[int, set[int]] = {}
        for kept, other in self.chosen:
            preferred.setdefault(other, set()).add(kept)
        return preferred

    def _was_before(self, row: int) -> bool:
        return self.new_rows is not None and row >= self.new_rows

    def choose(self, rows: Sequence[int]) -> int:
        """The row to keep."""
        left = sorted(row for row in rows if self._was_before(row)) or sorted(rows)
        if self.chosen:
            among = set(left)
            wanted = {kept for row in among for kept in self._preferred_to.get(row, ())}
            # People may choose in a circle; then their choices say nothing. Who chose one of two copies of a film also
            # wants it rather than the other copies.
            unbeaten = [row for row in left if among.isdisjoint(self._preferred_to.get(row, ()))]
            left = [row for row in unbeaten if row in wanted] or unbeaten or left
        for criterion in self.criteria:
            left = criterion.best_of(left, self.traits)
        return left[0]

    def why(self, kept: int, copy: int) -> str:
        """The name of the first criterion by which the kept row beats the copy.

        Ties are not transitive, so the kept row need not beat the copy in a direct comparison. It ties with the best
        row of the group, and the copy may tie with the kept row but not with the best. The answer is then
        `BEST_OF_ALL`.
        """
        if self._was_before(kept):
            return THERE_BEFORE
        if (kept, copy) in self.chosen:
            return CHOSEN
        for criterion in self.criteria:
            left = criterion.best_of([kept, copy], self.traits)
            if len(left) == 1:
                return criterion.name if left == [kept] else self._why_all(kept)
        return FIRST_IN_LIST if kept < copy else self._why_all(kept)

    def _why_all(self, kept: int) -> str:
        return CHOSEN if any(kept == row for row, _ in self.chosen) else BEST_OF_ALL


FIRST_SEEN = KeeperPolicy(name="first_seen", traits=())
