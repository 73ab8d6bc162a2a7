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
from dedup_lib.groups.matcher import ComparedPairs
from dedup_lib.groups.scored import Scored
from dedup_lib.records import Pair, video_key

URLS = [f"https://user:secret@example.com/{row}.mp4" for row in range(6)]
PAIRS = (
    Pair(first=0, second=1, similarity=1.0),
    Pair(first=1, second=2, similarity=0.6),
    Pair(first=3, second=4, similarity=0.4),
)


def describe(pairs: tuple[Pair, ...] = PAIRS, *, threshold: float = 0.5, **told: Any) -> dict[str, Any]:
    nearest = np.array([1.0, 1.0, 0.6, 0.4, -0.3, np.nan])
    scored = Scored(pairs=pairs, nearest=nearest, floor=0.3, expanded_queries=0)
    return sweep.describe_sweep(
        ComparedPairs.by_cosine(scored),
        thresholds=[0.3, 0.4, 0.5, 0.6, 0.8, 1.0],
        threshold=threshold,
        num_videos=6,
        urls=URLS,
        choose=min,
        **({"same": (), "different": ()} | told),
    )


def test_counts_and_changes_at_every_threshold() -> None:
    found = describe()
    assert found["points"]["duplicates"] == [2, 2, 1, 1, 1, 1]
    assert found["points"]["kept"] == [4, 4, 5, 5, 5, 5]
    assert found["changes"] == {"appear": [1, 1, 0, 0, 0, 0], "vanish": [0] * 6, "change": [0] * 6}
    assert found["nearest"]["without"] == 1 and sum(found["nearest"]["counts"]) == 5
    assert found["nearest"]["edges"][0] == -0.3


def test_only_what_changes_is_named_and_without_passwords() -> None:
    found = describe()
    cosine = found["rules"].index("cosine")
    assert found["parts"] == [[[0, [[3, [[4, 0.4, cosine]]]]], [2, []]]]
    assert found["videos"] == {str(row): [video_key(URLS[row]), f"https://example.com/{row}.mp4"] for row in (3, 4)}


def test_what_a_person_brought_together_has_no_similarity() -> None:
    found = describe(same=[(3, 5)])
    person = found["rules"].index("a person's decision")
    first, last = found["parts"][0]
    assert first[1] == [[3, [[4, 0.4, found["rules"].index("cosine")], [5, None, person]]]]
    assert last[1] == [[3, [[5, None, person]]]]


def test_what_is_not_named_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MAX_MEMBERS", 1)
    found = describe()
    assert (found["parts"], found["videos"], found["parts_left_out"]) == ([], {}, 1)
    assert found["changes"]["appear"] == [1, 1, 0, 0, 0, 0]


def test_nothing_to_sweep() -> None:
    found = describe(())
    assert found["points"]["groups"] == [0] * 6
    assert found["parts"] == []
    assert group_copies([], threshold=0.5) == []


@given(low=st.floats(-1, 0.99), high=st.floats(0.0, 1.0), threshold=st.floats(-1, 1))
def test_steps_are_round_few_and_hold_the_decision(low: float, high: float, threshold: float) -> None:
    low = min(low, threshold)
    if high <= low:
        return
    found = sweep.round_thresholds(low, high, threshold=threshold)
    assert found == sorted(set(found)) and threshold in found and found[0] == low
    assert len(found) <= sweep.MAX_STEPS + 4
    inner = [one for one in found if one not in (low, threshold)]
    assert all(after - before >= 0.0009 for before, after in pairwise(inner))
