"""What a fine sweep leaves for the overview."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.groups import sweep
from dedup_lib.groups.grouping import group_copies
from dedup_lib.groups.keepers import KeeperPolicy
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.matches import Matches, SearchPlan
from dedup_lib.groups.scored import Scored
from dedup_lib.groups.thresholds import round_thresholds
from dedup_lib.records import Pair, Pooling, Recipe, video_key

URLS = [f"https://user:secret@example.com/{row}.mp4" for row in range(6)]
PAIRS = (
    Pair(first=0, second=1, similarity=1.0),
    Pair(first=1, second=2, similarity=0.6),
    Pair(first=3, second=4, similarity=0.4),
)


def describe(pairs: tuple[Pair, ...] = PAIRS, *, same: frozenset[tuple[int, int]] = frozenset()) -> dict[str, Any]:
    nearest = np.array([1.0, 1.0, 0.6, 0.4, -0.3, np.nan])
    scored = Scored(pairs=pairs, nearest=nearest, floor=0.3, expanded_queries=0)
    plan = SearchPlan(
        store="Milvus Lite, milvus.db",
        collection="videos",
        pooling=Pooling.FRAMES,
        recipe=Recipe(encoder="pdq", model="", num_frames=8, frame_span="spread"),
        measure="cosine",
        threshold=0.5,
        review_from=0.03,
        versions="review",
        sweep_low=0.3,
        floor=0.3,
    )
    return sweep.describe_sweep(
        Matches(
            compared=ComparedPairs.by_cosine(scored),
            plan=plan,
            urls=URLS,
            compared_rows=range(6),
            new_rows=6,
            keeper=KeeperPolicy(name="first_seen", traits=[]),
            same=same,
        )
    )


def test_counts_and_changes_at_every_threshold() -> None:
    found = describe()
    at = found["thresholds"]
    assert (at[0], at[-1], len(at), found["threshold"]) == (0.3, 1.0, 71, 0.5)
    low = [threshold <= 0.4 for threshold in at]
    assert found["points"]["duplicates"] == [2 if is_low else 1 for is_low in low]
    assert found["points"]["kept"] == [4 if is_low else 5 for is_low in low]
    assert found["changes"] == {"appear": [int(is_low) for is_low in low], "vanish": [0] * 71, "change": [0] * 71}
    assert found["nearest"]["without"] == 1 and sum(found["nearest"]["counts"]) == 5
    assert found["nearest"]["edges"][0] == -0.3


def test_only_what_changes_is_named_and_without_passwords() -> None:
    found = describe()
    cosine = found["rules"].index("cosine")
    assert found["parts"] == [[[0, [[3, [[4, 0.4, cosine]]]]], [found["thresholds"].index(0.41), []]]]
    assert found["videos"] == {str(row): [video_key(URLS[row]), f"https://example.com/{row}.mp4"] for row in (3, 4)}


def test_what_a_person_brought_together_has_no_similarity() -> None:
    found = describe(same=frozenset({(3, 5)}))
    person = found["rules"].index("a person's decision")
    first, last = found["parts"][0]
    assert first[1] == [[3, [[4, 0.4, found["rules"].index("cosine")], [5, None, person]]]]
    assert last[1] == [[3, [[5, None, person]]]]


def test_what_joins_a_copy_is_said_as_at_the_threshold_that_decides() -> None:
    """A person joined two videos whose similarity suffices at lower thresholds only. Another one comes and goes."""
    pairs = (Pair(first=0, second=1, similarity=0.45), Pair(first=0, second=2, similarity=0.9))
    found = describe(pairs, same=frozenset({(0, 1)}))
    rules = found["rules"]
    lowest, _ = found["parts"][0]
    assert lowest == [0, [[0, [[1, 0.45, rules.index("a person's decision")], [2, 0.9, rules.index("cosine")]]]]]


def test_what_is_not_named_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MAX_MEMBERS", 1)
    found = describe()
    assert (found["parts"], found["videos"], found["parts_left_out"]) == ([], {}, 1)
    assert found["changes"]["appear"][:12] == [1] * 11 + [0]


def test_nothing_to_sweep() -> None:
    found = describe(())
    assert set(found["points"]["groups"]) == {0}
    assert found["parts"] == []
    assert group_copies([], threshold=0.5) == []


@given(low=st.floats(-1, 1), threshold=st.floats(-1, 1), most=st.integers(2, 1000))
def test_steps_are_round_few_and_hold_the_decision(low: float, threshold: float, most: int) -> None:
    low = min(low, threshold)
    found = round_thresholds(low, threshold=threshold, most=most)
    assert found == sorted(set(found)) and threshold in found and found[0] == low
    assert len(found) <= max(most, 4) + 4
    inner = [one for one in found if one not in (low, threshold)]
    assert all(after - before >= 0.0009 for before, after in pairwise(inner))
