"""Arithmetic on vectors: unit length, pooling, cosine.

Vectors are float32 of shape (N, D). They are brought to unit length in `normalise_rows` and nowhere else, so
that everywhere behind it the inner product is the cosine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dedup_lib.records import Pooling, Vectors

DECIMALS = 7
"""Decimals of a similarity: enough to distinguish two float32 vectors, and to write n/128 exactly."""


def normalise_rows(rows: ArrayLike) -> Vectors:
    """Rows scaled to unit length, float32 (N, D).

    Raises ValueError for a row that is not finite or has no direction (zero length).
    """
    wide = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    if not np.isfinite(wide).all():
        raise ValueError("a vector holds NaN or infinity")
    # Dividing by the largest entry first keeps the squares of very large or very small rows in range.
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
    if (largest == 0).any():
        raise ValueError("a vector of zero length has no direction")
    scaled = wide / largest
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True), dtype=np.float32)


def stack_rows(rows: Sequence[ArrayLike]) -> Vectors:
    """Vectors that already have unit length, as one float32 array (N, D)."""
    return np.asarray(rows, dtype=np.float32)


def is_unit(rows: Vectors, *, tolerance: float = 1e-3) -> bool:
    """Whether every row is finite and of unit length."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return bool(np.isfinite(rows).all() and (np.abs(lengths - 1) <= tolerance).all())


def pool_vectors(rows: Vectors, pooling: Pooling) -> Vectors:
    """The vectors of one video's frames (N, D) in the form that a collection stores, of unit length.

    `frames` keeps them all. As (1, D), `first` keeps the first, `average` their mean, and `max` the largest value of
    each dimension. A mean or maximum of zero has no direction, so the first vector replaces it. Raises ValueError for
    no rows.
    """
    if len(rows) == 0:
        raise ValueError("there is no vector to pool")
    match pooling:
        case Pooling.FRAMES:
            return rows
        case Pooling.FIRST:
            return rows[:1]
        case Pooling.AVERAGE:
            pooled = rows.mean(axis=0, dtype=np.float64)
        case Pooling.MAX:
            pooled = rows.max(axis=0).astype(np.float64)
    return normalise_rows(pooled if pooled.any() else rows[0])


def cosines(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """Cosine of each row of `first` with the same row of `second`, float64 (N,), rounded to `DECIMALS`.

    Each cosine is computed by itself and in float64. So it does not depend on the other rows, and a threshold decides
    the same way every time.
    """
    left, right = first.astype(np.float64), second.astype(np.float64)
    products = np.einsum("nd,nd->n", left, right)
    # Rows in float32 have unit length to about seven digits. Without this, two equal rows may give less than 1.
    products /= np.sqrt(np.einsum("nd,nd->n", left, left) * np.einsum("nd,nd->n", right, right))
    return np.asarray(np.round(np.clip(products, -1.0, 1.0), DECIMALS), dtype=np.float64)
