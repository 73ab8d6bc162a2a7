"""The threshold that follows from labelled pairs, with its interval."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import pandas as pd

from dedup_lib.errors import SettingError
from dedup_lib.evaluate.metrics import Compared, Label, judge_pairs, pairs_of_copies, rows_that_count, wilson_interval
from dedup_lib.groups.grouping import Choose, group_copies
from dedup_lib.groups.scored import is_match
from dedup_lib.records import Pair

SMALL_SAMPLE = 10
"""With fewer videos than this, a measurement says little."""

MIN_LOOKALIKES = 20
"""With fewer scored pairs of different videos below a threshold, a sample cannot show that a looser one is safe."""


# --- a threshold for a precision


def expected_false_pairs(rate: float, videos: int) -> float:
    """Expected false pairs among `videos` unlike videos, when the share `rate` of unlike pairs is taken for copies."""
    return videos * (videos - 1) / 2 * rate


def half_of(name: str) -> int:
    """The half, 0 or 1, that a label group belongs to; always the same for a name.

    A threshold chosen on one half is reported on the other, which had no influence on it.
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[-1] & 1


def rows_of_half(labels: Sequence[Label], half: int) -> frozenset[int]:
    """The files of a half, by their group, or by their name when they have no group."""
    return frozenset(row for row, label in enumerate(labels) if half_of(label.group or label.file) == half)


@dataclass(frozen=True, kw_only=True)
class ThresholdResult:
    """A threshold and its results on labelled files. A share is None when its divisor is 0.

    The intervals are Wilson's at 95 %. They assume independent pairs; pairs of one clip are not independent, so the
    true intervals are somewhat wider.
    """

    threshold: float
    right: int
    """Pairs of copies at or above the threshold."""
    wrong: int
    """Unlike pairs at or above the threshold."""
    labelled: int
    """All pairs of copies."""
    found: int
    """Pairs of copies that end in one group, also when they are unlike but both similar to a third copy."""
    videos: int
    """Videos with copies."""
    whole: int
    """Videos whose copies all end in one group."""
    unlike: int
    """Unlike pairs that were compared."""
    collection_size: int

    @property
    def precision(self) -> float | None:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def precision_interval(self) -> tuple[float, float]:
        return wilson_interval(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        return self.found / self.labelled if self.labelled else None

    @property
    def false_pair_rate(self) -> float | None:
        """False pairs as a share of the compared unlike pairs."""
        return self.wrong / self.unlike if self.unlike else None

    @property
    def false_pair_rate_bound(self) -> float:
        """The upper end of its interval: the rate may be this high even when few or no false pairs were seen."""
        return wilson_interval(self.wrong, self.unlike)[1]

    @property
    def false_pairs(self) -> float | None:
        """Expected false pairs in the whole collection."""
        return (
            None if self.false_pair_rate is None else expected_false_pairs(self.false_pair_rate, self.collection_size)
        )

    @property
    def false_pairs_bound(self) -> float:
        return expected_false_pairs(self.false_pair_rate_bound, self.collection_size)

    def in_words(self) -> str:
        """The result in one or two sentences."""
        if not self.unlike:
            return f"The threshold {self.threshold:.4f} could not be tested on two different videos: sample more."
        low, high = map(show_percent, self.precision_interval)
        return (
            f"At {self.threshold:.4f}, {show_percent(self.recall)} of the pairs of copies are found, with a precision "
            f"of {show_percent(self.precision)} (95 % Wilson interval: {low} – {high}). Among {self.collection_size:,} "
            f"different videos like these, {show_count(self.false_pairs)} false pairs are to be expected, and at most "
            f"{show_count(self.false_pairs_bound)}."
        )

    def warn(self, *, used: int) -> str:
        """A warning for a sample with only `used` videos; empty when it is large enough."""
        if used >= SMALL_SAMPLE:
            return ""
        size = f"The sample is small: {used:,} {'video was' if used == 1 else 'videos were'} used"
        if not self.videos:
            return f"{size}, and none was left to test a threshold. Set sample_size to {SMALL_SAMPLE} or more."
        low, high = wilson_interval(self.whole, self.videos)
        return (
            f"{size}, {self.videos:,} of "
            f"them to test the threshold. All copies of {self.whole:,} of these {self.videos:,} were found. By chance "
            f"alone, the share among all videos like them may be as low as {show_percent(low)} or as high as "
            f"{show_percent(high)} (95 % Wilson interval: {low:.3f} to {high:.3f}), so the figures say little. Set "
            f"sample_size to {SMALL_SAMPLE} or more."
        )


def judge_threshold(
    labels: Sequence[Label],
    pairs: Sequence[Pair],
    *,
    threshold: float,
    collection_size: int,
    rows: Collection[int] | None = None,
    unread: Collection[int] = (),
    choose: Choose = min,
) -> ThresholdResult:
    """Judges a threshold on scored pairs of labelled files: which pairs match, each by itself, and which copies end in
    one group. `choose` names the video that a group keeps.

    Only files in `rows` count (None: all). Files in `unread` were compared with nothing, so their pairs are missed. Odd
    files and excerpts are left out.
    """
    counted = rows_that_count(labels, rows)
    matches = [same for similarity, same in judge_pairs(labels, pairs, counted) if is_match(similarity, threshold)]
    compared = [labels[row].group for row in counted if row not in set(unread)]
    found = _count_found(labels, pairs, counted, threshold=threshold, choose=choose)
    return ThresholdResult(
        threshold=threshold,
        right=sum(matches),
        wrong=len(matches) - sum(matches),
        labelled=pairs_of_copies(labels[row].group for row in counted),
        unlike=math.comb(len(compared), 2) - pairs_of_copies(compared),
        collection_size=collection_size,
        found=sum(together for together, _ in found),
        videos=len(found),
        whole=sum(together == every for together, every in found),
    )


def _count_found(
    labels: Sequence[Label], pairs: Sequence[Pair], counted: Collection[int], *, threshold: float, choose: Choose
) -> list[tuple[int, int]]:
    """For each label group: how many of its pairs end in one group, and how many pairs it has."""
    known = set(counted)
    inside = [pair for pair in pairs if pair.first in known and pair.second in known]
    groups = group_copies(inside, threshold=threshold, choose=choose)
    # A row without a group gets a place of its own.
    place = {row: group.number for group in groups for row in (group.kept, *group.copies)}
    places: dict[str, list[int]] = {}
    for row in counted:
        if labels[row].group:
            places.setdefault(labels[row].group, []).append(place.get(row, -1 - row))
    return [
        (sum(math.comb(size, 2) for size in Counter(of).values()), math.comb(len(of), 2))
        for of in places.values()
        if len(of) > 1
    ]


def propose_threshold(
    labels: Sequence[Label],
    pairs: Sequence[Pair],
    *,
    wanted_precision: float,
    collection_size: int,
    rows: Collection[int] | None = None,
    unread: Collection[int] = (),
) -> ThresholdResult:
    """Finds the lowest threshold whose precision is `wanted_precision` or more, at it and at every higher one.

    It is always the similarity of a pair of copies: between two of these, a lower threshold could only add false pairs.
    `rows` and `unread` are as in `judge_threshold`. Raises SettingError when there is no such threshold.
    """
    counted = rows_that_count(labels, rows)
    judged = sorted(judge_pairs(labels, pairs, counted), key=lambda pair: -pair[0])
    threshold, right, total = None, 0, 0
    for similarity, same in groupby(judged, key=lambda pair: pair[0]):
        found = [is_right for _, is_right in same]
        right, total = right + sum(found), total + len(found)
        if right / total < wanted_precision:
            break
        if any(found):
            threshold = similarity
    if threshold is None:
        raise SettingError("wanted_precision", wanted_precision, _why_unreachable(judged))
    return judge_threshold(
        labels, pairs, threshold=threshold, collection_size=collection_size, rows=rows, unread=unread
    )


def choose_threshold(
    labels: Sequence[Label], compared: Compared, *, wanted_precision: float, collection_size: int
) -> tuple[ThresholdResult, ThresholdResult, ThresholdResult]:
    """Chooses a threshold on one half of the label groups. Returns its result there, its result on the other half, and
    the result of the current threshold on the other half.

    A threshold above the current one is proposed only if it avoids a false pair in the first half, and one below it
    only if `MIN_LOOKALIKES` pairs of different videos of that half have a score below the current one. None is proposed
    if the other half is empty. Raises SettingError when no threshold reaches `wanted_precision`.
    """
    choosing, judging = (rows_of_half(labels, half) for half in (0, 1))
    chosen = propose_threshold(
        labels,
        compared.pairs,
        wanted_precision=wanted_precision,
        collection_size=collection_size,
        rows=choosing,
        unread=compared.unread,
    )
    judge = partial(
        judge_threshold,
        labels,
        compared.pairs,
        collection_size=collection_size,
        unread=compared.unread,
        choose=compared.choose,
    )
    in_use = judge(threshold=compared.threshold, rows=choosing)
    is_stricter_in_vain = chosen.threshold > in_use.threshold and chosen.wrong == in_use.wrong
    scored = judge_pairs(labels, compared.pairs, rows_that_count(labels, choosing))
    lookalikes = sum(not same and similarity < in_use.threshold for similarity, same in scored)
    is_looser_unproven = chosen.threshold < in_use.threshold and lookalikes < MIN_LOOKALIKES
    is_untested = not rows_that_count(labels, judging)
    stays = is_stricter_in_vain or is_looser_unproven or is_untested
    chosen = in_use if stays else judge(threshold=chosen.threshold, rows=choosing)
    reported, before = (
        judge(threshold=threshold, rows=judging) for threshold in (chosen.threshold, compared.threshold)
    )
    return chosen, reported, before


def _why_unreachable(judged: Sequence[tuple[float, bool]]) -> str:
    right = [similarity for similarity, is_right in judged if is_right]
    if not right:
        return "no pair of copies was found at any threshold: sample more videos, or choose other kinds of variants"
    worst = max(similarity for similarity, is_right in judged if not is_right)
    above = sum(similarity > worst for similarity in right)
    return (
        f"no threshold reaches it, because a pair of different videos has the similarity {worst:.4f}, and only "
        f"{above:,} of {len(right):,} pairs of copies have more. If that pair shows one video after all, name one of "
        "the two in leave_out; else raise num_frames, or lower wanted_precision"
    )


def describe_proposals(proposals: Mapping[str, ThresholdResult]) -> pd.DataFrame:
    """A table with a column for each threshold, under its heading, and a row for each number."""
    return pd.DataFrame({heading: _describe_proposal(one) for heading, one in proposals.items()}, dtype=object)


def _describe_proposal(proposal: ThresholdResult) -> dict[str, str]:
    low, high = proposal.precision_interval
    return {
        "threshold": f"{proposal.threshold:.4f}",
        "pairs of copies in one group": f"{proposal.found:,} of {proposal.labelled:,}",
        "recall": show_percent(proposal.recall),
        "videos with all copies in one group": f"{proposal.whole:,} of {proposal.videos:,}",
        "different videos taken for copies": f"{proposal.wrong:,} of {proposal.unlike:,}",
        "precision": show_percent(proposal.precision),
        "precision, 95 % interval": f"{show_percent(low)} – {show_percent(high)}",
        "false-pair rate": show_rate(proposal.false_pair_rate),
        "false-pair rate, 95 % bound": show_rate(proposal.false_pair_rate_bound),
        f"false pairs among {proposal.collection_size:,}": show_count(proposal.false_pairs),
        f"false pairs among {proposal.collection_size:,}, 95 % bound": show_count(proposal.false_pairs_bound),
    }


def show_percent(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{value:.1%}"


def show_rate(value: float | None) -> str:
    """A share that may be tiny, with two significant digits."""
    return "–" if value is None else f"{value:.2g}"


def show_count(value: float | None) -> str:
    """An expected number: whole, or with two significant digits when it is small."""
    return "–" if value is None else f"{value:.2g}" if value < 9.95 else f"{value:,.0f}"
