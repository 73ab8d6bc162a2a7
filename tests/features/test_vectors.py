from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dedup_lib.features.vectors import cosines, is_unit, normalise_rows, pool_vectors, stack_rows
from dedup_lib.records import Pooling

shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)
tables = arrays.arrays(np.float64, shapes, elements=st.floats(allow_nan=False, allow_infinity=False))
directed = tables.filter(lambda rows: bool(rows.any(axis=1).all()))


@given(rows=directed)
def test_any_finite_row_comes_to_unit_length(rows: NDArray[np.float64]) -> None:
    unit = normalise_rows(rows)
    assert (unit.shape, unit.dtype) == (rows.shape, np.float32)
    assert is_unit(unit, tolerance=1e-6)
    # Entries far below the largest round to zero; no sign turns.
    assert ((np.sign(unit) == np.sign(rows)) | (unit == 0)).all()


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-30, 1.0, 1e30, 1e307])
def test_direction_does_not_depend_on_magnitude(scale: float) -> None:
    np.testing.assert_allclose(normalise_rows([[3 * scale, -3 * scale]]), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-6)


def test_normalising_again_changes_nothing_that_counts() -> None:
    rows = normalise_rows(np.random.default_rng(0).normal(size=(50, 256)))
    np.testing.assert_allclose(normalise_rows(rows), rows, atol=1e-7)


def test_a_row_is_a_table_and_an_empty_table_is_fine() -> None:
    np.testing.assert_array_equal(normalise_rows([3, 4]), np.array([[0.6, 0.8]], np.float32))
    assert normalise_rows(np.zeros((0, 5))).shape == (0, 5)
    assert is_unit(np.zeros((0, 5), np.float32))


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(entry: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        normalise_rows([[1.0, 2.0], [entry, 1.0]])
    assert not is_unit(np.array([[1.0, 0.0], [entry, 0.0]], np.float32))


def test_a_row_of_zeros_has_no_direction() -> None:
    with pytest.raises(ValueError, match="no direction"):
        normalise_rows([[1.0, 2.0], [0.0, 0.0]])


@pytest.mark.parametrize("length", [0.0, 0.99, 1.01, 1e30])
def test_other_lengths_are_not_unit(length: float) -> None:
    assert not is_unit(np.array([[1.0, 0.0], [length, 0.0]], np.float32))


def test_pooling() -> None:
    rows = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, -1]], np.float32)
    np.testing.assert_array_equal(pool_vectors(rows, Pooling.FRAMES), rows)
    np.testing.assert_array_equal(pool_vectors(rows, Pooling.FIRST), rows[:1])
    np.testing.assert_allclose(pool_vectors(rows, Pooling.AVERAGE), normalise_rows([[1.6, 0.8, -1]]), atol=1e-7)
    np.testing.assert_allclose(pool_vectors(rows, Pooling.MAX), normalise_rows([[1, 0.8, 0]]), atol=1e-7)


@given(rows=directed, pooling=st.sampled_from(Pooling))
def test_pooled_vectors_have_unit_length_whatever_the_frames(rows: NDArray[np.float64], pooling: Pooling) -> None:
    pooled = pool_vectors(normalise_rows(rows), pooling)
    assert pooled.dtype == np.float32
    assert pooled.shape == (rows.shape if pooling == Pooling.FRAMES else (1, rows.shape[1]))
    assert is_unit(pooled)


@pytest.mark.parametrize("pooling", [Pooling.AVERAGE, Pooling.MAX])
def test_frames_that_cancel_out_leave_the_first(pooling: Pooling) -> None:
    opposite = np.array([[1, 0], [-1, 0]] if pooling == Pooling.AVERAGE else [[-1, 0], [0, -1]], np.float32)
    np.testing.assert_array_equal(pool_vectors(opposite, pooling), opposite[:1])


@pytest.mark.parametrize("pooling", Pooling)
def test_there_must_be_something_to_pool(pooling: Pooling) -> None:
    with pytest.raises(ValueError, match="no vector to pool"):
        pool_vectors(np.zeros((0, 3), np.float32), pooling)


@given(rows=directed)
def test_cosines_are_bounded_and_symmetric_and_do_not_depend_on_company(rows: NDArray[np.float64]) -> None:
    unit = normalise_rows(rows)
    other = np.roll(unit, 1, axis=0)
    found = cosines(unit, other)
    assert (np.abs(found) <= 1).all()
    np.testing.assert_array_equal(found, cosines(other, unit))
    np.testing.assert_array_equal(cosines(unit, unit), 1)
    alone = [cosines(unit[n : n + 1], other[n : n + 1])[0] for n in range(len(unit))]
    np.testing.assert_array_equal(found, alone)


def test_cosines_of_bits_are_exact() -> None:
    rows = np.full((257, 256), 1 / 16, np.float32)
    for differing in range(257):
        rows[differing, :differing] *= -1
    found = cosines(np.repeat(rows[:1], 257, axis=0), rows)
    np.testing.assert_array_equal(found, 1 - 2 * np.arange(257) / 256)


def test_stacking_keeps_every_bit() -> None:
    rows = normalise_rows(np.random.default_rng(0).normal(size=(3, 5)))
    stacked = stack_rows([row.tolist() for row in rows])
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked, rows)
