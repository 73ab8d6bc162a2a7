"""The score of a pair, 0 to 1: a logistic model of a few measurements.

benchmarks/fit_score.py writes the weights to `score.json`. docs/decisions/015-score.md gives the videos and the
figures. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources

TERMS = {
    "criteria": "1 where one of the criteria holds and the two have enough in common, else 0",
    "scenes": "how many scenes the frames that agree show: 0 for one, 1 for six and more",
    "coverage": "the larger share of the two videos that both show",
    "motion": "how alike both change, 0 to 1; 0 where nothing moves",
    "differs": "1 where a region or the sound differs throughout, else 0",
}
"""The inputs of the model, each from 0 to 1."""

AGAINST = ("differs",)
"""Terms that lower the score; the others raise it."""


@cache
def load_weights() -> Mapping[str, float]:
    """The weight of each of the `TERMS`, and `intercept`, the constant of the model."""
    text = resources.files("dedup_lib.match").joinpath("score.json").read_text("utf-8")
    weights: Mapping[str, float] = json.loads(text)
    return weights


def compute_score(terms: Mapping[str, float]) -> float:
    """The score, 0 to 1, of a pair with these values of the `TERMS`: the share of copies among such pairs in the data
    that the model was fitted to."""
    return 1 / (1 + math.exp(-(load_weights()["intercept"] + sum(list_contributions(terms).values()))))


def list_contributions(terms: Mapping[str, float]) -> dict[str, float]:
    """What each term adds to the logarithm of the odds; the score follows from their sum."""
    weights = load_weights()
    return {name: weights[name] * terms[name] for name in TERMS}


def count_as_share(count: float, *, full: int) -> float:
    """A count as a number from 0 to 1, which it reaches at `full`. The first ones count more than the later ones."""
    return min(1.0, math.log1p(max(0.0, count)) / math.log1p(full))
