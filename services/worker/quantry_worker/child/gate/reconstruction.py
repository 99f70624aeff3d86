"""Check ``reconstruction``: dequantized weights are near the master's, every row read, block by block, and judged piece by piece.

An error pooled over a module hides a row, or a stretch of columns, that holds something else. So two kinds of pieces are
judged: each row over all its columns, and each group of columns over the rows of one block. The relative error of a piece is
||W - W'|| / ||W|| (Frobenius), W the master's weight and W' the dequantized one. Where SmoothQuant or AWQ scaled channels
before rounding, W is scaled alike, by scales fitted in ``smoothing.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantry_core.gate import GateCheck
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import Float32, StoredModule
from quantry_worker.child.gate.findings import GateInput, RowReader, evidence, not_asked
from quantry_worker.child.gate.smoothing import Pairs, Smoothing, fit_smoothing
from quantry_worker.child.gate.tensors import SMOOTHING_METHODS

Sums = NDArray[np.float64]
"""Sums of squares."""

BLOCK_WEIGHTS = 1 << 20
"""Weights in memory at a time; with all that is computed of them some 20 MB."""
PIECE_INPUTS = 128
"""Columns that are judged together where one scale covers more of them."""
MAX_RELATIVE_ERRORS = ((8, 0.3), (4, 0.6), (3, 1.2), (0, 1.5))
"""Bits from which on each bound holds. What is unrelated to the master's weights has an error of sqrt(1 + r^2), r the ratio of
their norms: 1 for zeros, 1.4 for another layer's. Rounding to nearest errs by step / sqrt(12), a step being 2 / (2^bits - 1) of
a group's largest weight; for normal weights in groups of 128 that is 0.1 at 4 bits, 0.24 at 3, 0.55 at 2 and under 0.01 at 8.
Methods that make up for what they rounded err more in a single row: GPTQ up to 0.26 at 4 bits on the example model, 0.8 at 3 and
1.1 at 2. Below 4 bits an error alone thus tells little, and MIN_COSINE tells what is unrelated. E4M3, with
3 bits of mantissa, errs by 0.03, E2M1 and NF4 by about 0.1. At 8 bits the room above is for rows with a weight of 100 times the
others' size. docs/gate.md has the table of what was measured."""
MIN_COSINE = 0.35
"""Least <W, W'> / (||W|| ||W'||) of a piece. An error of e at right angles to W leaves 1 / sqrt(1 + e^2): 0.67 for the 1.1 of GPTQ
at 2 bits. Zeros have none, and what is unrelated has 0, give or take 1 / sqrt(n) for a piece of n weights."""
DUST = 1e-3
"""Share of the module's RMS weight by which weights may be off whatever their size: rows and columns that training has all
but switched off lie below the smallest scale there is and become zeros, and no such error shows in what the module computes."""
SMOOTHING_RANGE = (1e-4, 1e4)
"""Where fitted channel scales lie. Weights that were replaced by zeros have one of 0."""


@dataclass(frozen=True)
class Reconstruction:
    """What the comparison of one module gave."""

    relative_error: float
    """Over the whole module; NaN where a number is not finite."""
    problems: list[str]


class Pieces(NamedTuple):
    """All rows of a module, or all groups of columns."""

    name: str
    kind: str
    errors: Sums
    norms: Sums
    ours: Sums
    """||W'||^2."""
    allowance: Sums
    """What any piece may be off by, however small it is."""


def check_reconstruction(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored = given.stored
    if stored.opaque:
        # Nothing is compared here; the reader's logits against the master's must do.
        return not_asked(GateCheck.RECONSTRUCTION, {"not_compared": stored.opaque})
    is_smoothed = given.plan.method.method in SMOOTHING_METHODS
    problems: list[str] = []
    errors: dict[str, float] = {}
    for index, (name, module) in enumerate(stored.modules.items()):
        given.on_progress(index / len(stored.modules), f"{GateCheck.RECONSTRUCTION}: {name}")
        if not stored.has_parts(module):
            problems.append(f"{name} cannot be dequantized: the form of its tensors is wrong")
            continue
        one = compare_with_master(name, module, given.original_weight(name), is_smoothed=is_smoothed)
        problems += one.problems
        errors[name] = one.relative_error
    metrics: dict[str, Any] = {
        "relative_error_max": max(errors.values(), default=None),
        "relative_error_mean": float(np.mean(list(errors.values()))) if errors else None,
        "num_modules": len(errors),
    }
    return evidence(GateCheck.RECONSTRUCTION, problems, metrics)


def max_relative_error(bits: float) -> float:
    """Returns the bound for weights of so many bits."""
    return next(bound for lowest, bound in MAX_RELATIVE_ERRORS if bits >= lowest)


def compare_with_master(name: str, module: StoredModule, original: RowReader, *, is_smoothed: bool) -> Reconstruction:
    """Returns how far a module is from the master's weight, and which of its pieces are too far."""
    num_rows, in_features = module.shape
    pairs = _pairs(module, original)
    smoothing = fit_smoothing(pairs, module.shape) if is_smoothed else None
    piece = _piece_inputs(module)
    by_row: list[Sums] = []
    by_column_group: list[Sums] = []
    group_weights: list[int] = []
    for squares in _squares(pairs, smoothing, piece):
        # squares is [3, rows, num_pieces].
        by_row.append(squares.sum(axis=2))
        by_column_group.append(squares.sum(axis=1))
        group_weights += [squares.shape[1] * piece] * squares.shape[2]
    row_errors, row_norms, row_ours = np.concatenate(by_row, axis=1)
    group_errors, group_norms, group_ours = np.concatenate(by_column_group, axis=1)
    norm = float(row_norms.sum())
    if not np.isfinite(row_errors.sum() + norm):
        return Reconstruction(float("nan"), [f"{name}: a number, dequantized or in the master, is infinite or NaN"])
    dust = DUST**2 * norm / (num_rows * in_features)
    # Rows are rounded one by one, so that one of zeros stays zero; a column takes what its neighbours' rounding left over.
    row_allowance = np.where(row_norms > 0, dust * in_features, 0.0)
    bound = max_relative_error(module.stated.bits)
    problems = [
        *([] if smoothing is None else _smoothing_problems(name, smoothing, row_norms, pairs)),
        *_too_far(Pieces(name, "rows", row_errors, row_norms, row_ours, row_allowance), bound),
        *_too_far(Pieces(name, "column groups", group_errors, group_norms, group_ours, dust * np.asarray(group_weights)), bound),
    ]
    return Reconstruction(float(np.sqrt(_ratio(row_errors.sum(), row_norms.sum()))), problems)


def _piece_inputs(module: StoredModule) -> int:
    """Returns how many columns make a piece: a group, some groups if they are small, or as many where there are none."""
    size = module.stated.group_size
    wanted = PIECE_INPUTS if size is None else max(size, PIECE_INPUTS // size * size)
    return wanted if module.shape[1] % wanted == 0 else (size if size and module.shape[1] % size == 0 else module.shape[1])


def _pairs(module: StoredModule, original: RowReader) -> Pairs:
    def pairs() -> Iterator[tuple[Float32, Float32]]:
        start = 0
        with np.errstate(invalid="ignore", over="ignore"):
            for ours in module.blocks(BLOCK_WEIGHTS):
                yield ours, original(start, len(ours))
                start += len(ours)

    return pairs


def _squares(pairs: Pairs, smoothing: Smoothing | None, piece: int) -> Iterator[Sums]:
    """Yields ||W - W'||^2, ||W||^2 and ||W'||^2 of each piece of each row, [3, rows, num_pieces], one block of rows after another."""
    start = 0
    for ours, original in pairs():
        with np.errstate(invalid="ignore", over="ignore"):
            # An infinity or NaN goes through to the sums and is found there.
            if smoothing is not None:
                expected = (original * smoothing.rows[start : start + len(original), None] * smoothing.columns).astype(np.float32)
            else:
                expected = original
            start += len(original)
            sums = np.stack([_group_sums(one, piece) for one in (ours - expected, expected, ours)])
        yield sums


def _group_sums(values: NDArray[np.float32], piece: int) -> Sums:
    grouped = values.reshape(len(values), -1, piece)
    sums: Sums = np.einsum("rgi,rgi->rg", grouped, grouped, dtype=np.float64)
    return sums


def _smoothing_problems(name: str, smoothing: Smoothing, row_norms: Sums, pairs: Pairs) -> list[str]:
    """A channel whose weights became zeros, or another's, has no scale that brings the master's to it."""
    low, high = SMOOTHING_RANGE
    column_norms = sum((original.astype(np.float64) ** 2).sum(axis=0) for _, original in pairs())
    problems = []
    for kind, scales, norms in (("rows", smoothing.rows, row_norms), ("columns", smoothing.columns, np.asarray(column_norms))):
        is_live = norms > DUST**2 * norms.mean()
        is_wrong = is_live & ~((scales > low) & (scales < high))
        if is_wrong.any():
            problems.append(
                f"{name}: no channel scale brings the master's weight to {int(is_wrong.sum())} of {len(scales)} {kind} "
                f"(the first is {int(is_wrong.argmax())})"
            )
    return problems


def _too_far(pieces: Pieces, bound: float) -> list[str]:
    name, kind, errors, norms, ours, allowance = pieces
    # 2 <W, W'> = ||W||^2 + ||W'||^2 - ||W - W'||^2
    is_unrelated = (norms + ours - errors <= 2 * MIN_COSINE * np.sqrt(norms * ours)) & (errors > allowance)
    is_too_far = (errors > bound**2 * norms + allowance) | is_unrelated
    if not is_too_far.any():
        return []
    worst = float(np.sqrt(_ratio(errors[is_too_far], norms[is_too_far]).max()))
    return [
        f"{name} is not the master's weight in {int(is_too_far.sum())} of {len(errors)} {kind} "
        f"(the first is {int(is_too_far.argmax())}): relative error up to {worst:.2f}, at most {bound}"
    ]


def _ratio(errors: Sums, norms: Sums) -> Sums:
    """Returns errors / norms: infinite where there is an error and no norm, 0 where there is neither."""
    where_none = np.where(errors > 0, np.inf, 0.0)
    return np.divide(errors, norms, out=where_none, where=norms > 0)
