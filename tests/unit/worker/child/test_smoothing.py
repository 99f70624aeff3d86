"""Channel scales of SmoothQuant and AWQ, fitted back from weights that were scaled by known ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quantry_worker.child.gate.smoothing import fit_smoothing

RANDOM = np.random.default_rng(3)
ROWS, COLUMNS = 40, 24


def in_blocks(ours: NDArray[np.float32], original: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for start in range(0, len(ours), 7):
        yield ours[start : start + 7], original[start : start + 7]


def test_scales_of_rows_and_columns_are_found_again() -> None:
    original = RANDOM.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    rows, columns = RANDOM.uniform(0.2, 5, ROWS), RANDOM.uniform(0.01, 100, COLUMNS)
    ours = (original * rows[:, None] * columns).astype(np.float32)
    fitted = fit_smoothing(lambda: in_blocks(ours, original), (ROWS, COLUMNS))
    # Rows and columns share one factor between them; their products do not.
    np.testing.assert_allclose(np.outer(fitted.rows, fitted.columns), np.outer(rows, columns), rtol=0.05)


def test_what_is_unrelated_has_no_scales_that_bring_it_near() -> None:
    original, other = RANDOM.standard_normal((2, 200, 300)).astype(np.float32)
    fitted = fit_smoothing(lambda: in_blocks(other, original), (200, 300))
    left = other - original * fitted.rows[:, None] * fitted.columns
    assert np.linalg.norm(left) / np.linalg.norm(other) > 0.95


def test_zeros_have_scales_of_zero() -> None:
    original = RANDOM.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    ours = original.copy()
    ours[5] = 0
    assert fit_smoothing(lambda: in_blocks(ours, original), (ROWS, COLUMNS)).rows[5] == 0
