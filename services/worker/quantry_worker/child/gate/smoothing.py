"""Undoes what SmoothQuant and AWQ did to a weight before rounding it: W' is about diag(r) W diag(c).

SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, eq. 3) and AWQ (Lin et al. 2023, arXiv:2306.00978, eq. 2) multiply input
channels by c and divide what goes before them, a norm or the rows of another weight, by the same. Neither stores c, so it is
fitted: alternating least squares, in passes over blocks of rows, so that no weight is in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantry_core.linears import Shape
from quantry_worker.child.formats.stored import Float32

NUM_SWEEPS = 3
"""Of rows and columns: each leaves a small share of what the one before left, rounding being small beside the weights."""

Pairs = Callable[[], Iterator[tuple[Float32, Float32]]]
"""Yields consecutive rows of W' and of W, anew each time."""


class Smoothing(NamedTuple):
    """The fitted scales."""

    rows: NDArray[np.float64]
    """r, shape [out]."""
    columns: NDArray[np.float64]
    """c, shape [in]."""


def fit_smoothing(pairs: Pairs, shape: Shape) -> Smoothing:
    """Returns r and c that bring diag(r) W diag(c) nearest to W'; 0 where W is 0."""
    rows, columns = np.ones(shape[0]), np.ones(shape[1])
    for _ in range(NUM_SWEEPS):
        columns = _fit_columns(pairs, rows)
        rows = _fit_rows(pairs, columns)
    return Smoothing(rows, columns)


def _fit_columns(pairs: Pairs, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    # c_j = sum over i of r_i W_ij W'_ij / sum over i of (r_i W_ij)^2
    products, squares, start = np.zeros(0), np.zeros(0), 0
    for ours, original in pairs():
        scaled = original.astype(np.float64) * rows[start : start + len(original), None]
        start += len(original)
        products = (scaled * ours).sum(axis=0) + (products if products.size else 0.0)
        squares = (scaled * scaled).sum(axis=0) + (squares if squares.size else 0.0)
    return _ratio(products, squares)


def _fit_rows(pairs: Pairs, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    fitted = []
    for ours, original in pairs():
        scaled = original.astype(np.float64) * columns
        fitted.append(_ratio((scaled * ours).sum(axis=1), (scaled * scaled).sum(axis=1)))
    return np.concatenate(fitted)


def _ratio(products: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
    return result
