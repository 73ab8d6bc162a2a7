"""The score: its weights keep what the criteria decide, and each term works the way that it is said to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_lib.match.evidence import MIN_COMMON_SHARE
from dedup_lib.match.score import AGAINST, TERMS, compute_score, count_as_share, list_contributions, load_weights

VALUES = st.fixed_dictionaries({name: st.floats(0, 1) for name in TERMS})


def test_every_term_has_a_weight_of_its_sign() -> None:
    weights = load_weights()
    assert set(weights) == {"intercept", *TERMS}
    assert all(weights[name] <= 0 if name in AGAINST else weights[name] >= 0 for name in TERMS)


@given(values=VALUES)
def test_what_meets_the_criteria_ends_above_a_half_and_all_else_below(values: dict[str, float]) -> None:
    values |= {"coverage": max(values["coverage"], MIN_COMMON_SHARE)}
    assert compute_score(values | {"criteria": 1.0, "differs": 0.0}) > 0.5
    assert compute_score(values | {"criteria": 0.0}) < 0.5
    assert compute_score(values | {"criteria": 1.0, "differs": 1.0}) < 0.5


@given(values=VALUES)
def test_the_contributions_are_the_whole_score(values: dict[str, float]) -> None:
    total = load_weights()["intercept"] + sum(list_contributions(values).values())
    assert compute_score(values) == pytest.approx(1 / (1 + math.exp(-total)))


@pytest.mark.parametrize(("count", "share"), [(-1, 0.0), (0, 0.0), (8, 1.0), (100, 1.0)])
def test_a_count_is_a_share_of_what_is_enough(count: float, share: float) -> None:
    assert count_as_share(count, full=8) == share
    assert 0.3 < count_as_share(1, full=8) < 0.4
