"""The score of a pair, 0 to 1: a logistic model of a few measurements.

The weights lie in `score.json`, where benchmarks/fit_score.py writes them, and docs/decisions/015-score.md says from
which videos and with which figures. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources

TERMS = {
    "criteria": "1 where one of the criteria holds and the two have enough in common, else 0",
    "frames": "share of the compared frames that agree, less where these are fewer than eight",
    "scenes": "how many scenes the frames that agree show: 0 for one, 1 for six and more",
    "coverage": "the larger share of the two videos that both show",
    "motion": "how alike both change, 0 to 1; 0 where nothing moves",
    "differs": "1 where a region differs throughout, else 0",
    "region": "that part's share of the frame",
}
"""What the model adds up, each from 0 to 1."""

AGAINST = ("differs", "region")
"""More of these makes a score smaller, more of the others larger."""


@cache
def load_weights() -> Mapping[str, float]:
    """The weight of each of the `TERMS`, and `intercept`: what the model starts from."""
    text = resources.files("dedup_lib.match").joinpath("score.json").read_text("utf-8")
    weights: Mapping[str, float] = json.loads(text)
    return weights


def compute_score(terms: Mapping[str, float]) -> float:
    """The score, 0 to 1, of a pair whose `TERMS` have these values: the share of such pairs that are copies, among
    those that the model was fitted on."""
    return 1 / (1 + math.exp(-(load_weights()["intercept"] + sum(list_contributions(terms).values()))))


def list_contributions(terms: Mapping[str, float]) -> dict[str, float]:
    """What each term adds to the logarithm of the odds, from which the score follows."""
    weights = load_weights()
    return {name: weights[name] * terms[name] for name in TERMS}


def count_as_share(count: float, *, full: int) -> float:
    """A count as a number from 0 to 1, which `full` reaches: the first ones say more than the later ones."""
    return min(1.0, math.log1p(max(0.0, count)) / math.log1p(full))
