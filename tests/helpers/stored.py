"""Vectors to store."""

from __future__ import annotations

import numpy as np

from dedup_lib.features.vectors import normalise_rows
from dedup_lib.records import Recipe, Vectors, VideoVectors

DIMENSION = 8

RECIPE = Recipe(encoder="pdq", model="", num_frames=3, frame_span="spread")


def unit_rows(number: int, *, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    return normalise_rows(np.random.default_rng(seed).normal(size=(number, dimension)))


def video(url: str, *, frames: int = 1, seed: int = 0) -> VideoVectors:
    return VideoVectors(url=url, vectors=unit_rows(frames, seed=seed), positions=tuple(range(frames)))
