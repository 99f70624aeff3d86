"""How far a packed module's numbers are from the master's: every row is read, block by block, and judged piece by piece.

An error pooled over a module hides a row, or a stretch of columns, that holds something else. So two kinds of pieces are
judged: each row over all its columns, and each group of columns over the rows of one block. The relative error of a piece is
||W - W'|| / ||W|| (Frobenius), W the master's weight and W' the dequantized one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_core.linears import Shape
from quantry_worker.child.gate.packing import dequantize_rows, unpack_rows
from quantry_worker.child.numerics.tensors import TensorReader

Sums = NDArray[np.float64]
"""Sums of squares."""

BLOCK_WEIGHTS = 1 << 20
"""Weights in memory at a time; with all that is computed of them some 20 MB."""
MAX_RELATIVE_ERROR = 0.6
"""What is unrelated to the master's weights has an error of sqrt(1 + r^2), r the ratio of their norms: 1 for zeros, 1.4 for
another layer's. Rounding to nearest in groups of 128 normal weights gives 0.11 (step / sqrt(12), a step being 1/7.5 of the
group's largest); GPTQ, which moves weights to make up for what it rounded, gives up to 0.26 in a row and 0.18 in a group of
columns of the example model. The bound lies twice over the one and well below the other."""
DUST = 1e-3
"""Share of the module's RMS weight by which weights may be off whatever their size: rows and columns that training has all
but switched off lie below the smallest scale there is and become zeros, and no such error shows in what the module computes."""


@dataclass(frozen=True)
class Reconstruction:
    """What the comparison of one module gave."""

    relative_error: float
    """Over the whole module; NaN where a number is not finite."""
    problems: list[str]


def compare_with_master(module: str, shape: Shape, reader: TensorReader, master_reader: TensorReader, bits: int) -> Reconstruction:
    """Returns how far a packed module is from the master's weight, and which of its pieces are too far."""
    num_rows, in_features = shape
    by_row: list[Sums] = []
    by_column_group: list[Sums] = []
    group_weights: list[int] = []
    for errors, norms in _squares(module, shape, reader, master_reader, bits):
        by_row.append(np.stack([errors.sum(axis=1), norms.sum(axis=1)]))
        by_column_group.append(np.stack([errors.sum(axis=0), norms.sum(axis=0)]))
        num_groups = errors.shape[1]
        group_weights += [len(errors) * in_features // num_groups] * num_groups
    row_errors, row_norms = np.concatenate(by_row, axis=1)
    group_errors, group_norms = np.concatenate(by_column_group, axis=1)
    norm = float(row_norms.sum())
    if not np.isfinite(row_errors.sum() + norm):
        return Reconstruction(float("nan"), [f"{module}: a number, unpacked or in the master, is infinite or NaN"])
    dust = DUST**2 * norm / (num_rows * in_features)
    # Rows are rounded one by one, so that one of zeros stays zero; a column takes what its neighbours' rounding left over.
    row_allowance = np.where(row_norms > 0, dust * in_features, 0.0)
    group_allowance = dust * np.asarray(group_weights)
    problems = [
        *_too_far(module, "rows", row_errors, row_norms, row_allowance),
        *_too_far(module, "column groups", group_errors, group_norms, group_allowance),
    ]
    return Reconstruction(float(np.sqrt(_ratio(row_errors.sum(), row_norms.sum()))), problems)


def _squares(module: str, shape: Shape, reader: TensorReader, master_reader: TensorReader, bits: int) -> Iterator[tuple[Sums, Sums]]:
    """Yields ||W - W'||^2 and ||W||^2 of each group of each row, both [rows, num_groups], one block of rows after another."""
    num_rows, in_features = shape
    step = max(1, BLOCK_WEIGHTS // in_features)
    for start in range(0, num_rows, step):
        count = min(step, num_rows - start)
        packed = reader.integer_rows(f"{module}.weight_packed", start, count)
        scales = reader.float_rows(f"{module}.weight_scale", start, count)
        original = master_reader.float_rows(f"{module}.weight", start, count)
        with np.errstate(invalid="ignore", over="ignore"):
            # An infinity or NaN goes through to the sums and is found there.
            difference = dequantize_rows(unpack_rows(packed, bits, in_features), scales)
            difference -= original
            sums = _group_sums(difference, scales.shape[1]), _group_sums(original, scales.shape[1])
        yield sums


def _group_sums(values: NDArray[np.float32], num_groups: int) -> Sums:
    grouped = values.reshape(len(values), num_groups, -1)
    sums: Sums = np.einsum("rgi,rgi->rg", grouped, grouped, dtype=np.float64)
    return sums


def _too_far(module: str, kind: str, errors: Sums, norms: Sums, allowance: Sums) -> list[str]:
    is_too_far = errors > MAX_RELATIVE_ERROR**2 * norms + allowance
    if not is_too_far.any():
        return []
    worst = float(np.sqrt(_ratio(errors[is_too_far], norms[is_too_far]).max()))
    return [
        f"{module} is not the master's weight in {int(is_too_far.sum())} of {len(errors)} {kind} "
        f"(the first is {int(is_too_far.argmax())}): relative error up to {worst:.2f}, at most {MAX_RELATIVE_ERROR}"
    ]


def _ratio(errors: Sums, norms: Sums) -> Sums:
    """Returns errors / norms: infinite where there is an error and no norm, 0 where there is neither."""
    where_none = np.where(errors > 0, np.inf, 0.0)
    return np.divide(errors, norms, out=where_none, where=norms > 0)
