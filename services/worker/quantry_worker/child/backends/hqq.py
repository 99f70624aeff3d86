"""HQQ: Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog/. Writes compressed-tensors, format pack-quantized.

The hqq library's solver looks for the zero point of each group that makes the l_p norm (p = 0.7) of the error least, with the
scale as the range gives it. Its zero points are real numbers; engines store integers. Simply rounding them gives away what was
won, so here both neighbours of the solver's zero point are tried, and with each of them scale and integers are fitted in turn
by least squares (Lloyd 1982, doi:10.1109/TIT.1982.1056489), until the best of all is kept. The rounding of the plain range is
among the candidates: no group comes out worse than rounded to nearest.

G is a number of groups, g the weights of one. The model is never loaded: rows are read, solved and written block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from hqq.core.optimize import optimize_weights_proximal_legacy

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.methods import Weights
from quantry_worker.child.backends.master_model import TORCH_DTYPES, modules_left_alone
from quantry_worker.child.backends.shards import Shard, copy_tensor, layouts, target_of, write_config, write_index
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import QuantizationPlan, Target
from quantry_worker.child.reporter import Units
from quantry_worker.child.toolchain import toolchain

BLOCK_WEIGHTS = 1 << 22
"""Weights that are solved at a time; with all that the solver makes of them some 200 MB."""
PACKED_ROWS = 32
"""Zero points are packed down the columns: a multiple of this many rows is whole words at any number of bits."""
LP_NORM, BETA, KAPPA = 0.7, 10.0, 1.01
"""The library's own: the norm, the weight of the penalty, and how that grows at each step."""
NUM_REFITS = 5
"""Rounds of fitting scale and integers to each other; later ones change next to nothing."""


class Solution(NamedTuple):
    """Groups in integers: a weight is (level - zero) * scale."""

    levels: torch.Tensor
    """[G, g], float32, whole numbers from 0 to 2^bits - 1."""
    scale: torch.Tensor
    """[G, 1], float32, a value that the stored dtype holds."""
    zero: torch.Tensor
    """[G, 1], float32, whole numbers from 0 to 2^bits - 1."""

    @property
    def weights(self) -> torch.Tensor:
        """What the integers stand for, [G, g]."""
        return (self.levels - self.zero) * self.scale


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder, in the shards of the master."""
    torch.set_num_threads(order.num_threads)
    reader = TensorReader(DirectoryCheckpoint(order.master_dir), order.master)
    files = layouts(order.plan, order.master)
    tally = _Tally(order)
    for file, layout in files.items():
        with Shard(order.output_dir / file, layout) as shard:
            for name in (name for name, lies_in in order.master.tensor_files.items() if lies_in == file):
                module = target_of(name, order.plan)
                if module is None:
                    copy_tensor(shard, name, reader, layout[name])
                    continue
                for part, data, error, norm in _quantized(module, order, reader):
                    shard.write(f"{module}.{part}", data)
                    tally.add(error, norm)
                tally.finish(module)
    write_index(order.output_dir, order.master, files)
    write_config(order.output_dir, order.master, quantization_config(order.plan, order.master.config))
    return QuantizationReport(
        toolchain=toolchain("torch", "hqq", "compressed-tensors"),
        settings={"lp_norm": LP_NORM, "num_refits": NUM_REFITS, "compute_dtype": "float32", "num_threads": order.num_threads},
        metrics={"relative_error": tally.relative_error},
    )


def solve(groups: torch.Tensor, bits: int, *, iterations: int, dtype: torch.dtype) -> Solution:
    """Returns groups [G, g] (float32) as integers with a scale that ``dtype`` holds and a whole zero point each."""
    top = 2**bits - 1
    # Zero is always within the range, so that the zero point is one of the levels.
    low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
    scale = torch.where(high > low, (high - low) / top, torch.ones_like(low))
    ranged = -low / scale
    _, _, solved = optimize_weights_proximal_legacy(
        groups,
        1 / scale,
        ranged,
        [0, top],
        axis=1,
        device="cpu",
        opt_params={"lp_norm": LP_NORM, "beta": BETA, "kappa": KAPPA, "iters": iterations},
    )
    zeros = (ranged.round(), solved.floor(), solved.floor() + 1)
    fits = (fit for zero in zeros for fit in _fits(groups, scale, zero.clamp(0, top), top, dtype))
    return reduce(partial(_better, groups), fits)


def quantization_config(plan: QuantizationPlan, config: dict[str, Any]) -> dict[str, Any]:
    """Returns what config.json says of the weights, in compressed-tensors' words.

    One group is for the class Linear, less what is ignored; of several groups each names its modules.
    """
    by_weights: dict[Weights, list[str]] = {}
    for module, target in plan.targets.items():
        by_weights.setdefault(target.weights, []).append(module)
    groups = {
        f"group_{index}": {
            "targets": ["Linear"] if len(by_weights) == 1 else sorted(modules),
            "weights": {
                "num_bits": round(weights.bits),
                "type": "int",
                "symmetric": False,
                "strategy": "group",
                "group_size": weights.group_size,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
            "format": "pack-quantized",
        }
        for index, (weights, modules) in enumerate(by_weights.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "version": version("compressed-tensors"),
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "kv_cache_scheme": None,
        "ignore": modules_left_alone(plan, config),
    }


def _fits(groups: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, top: int, dtype: torch.dtype) -> Iterator[Solution]:
    """Yields what fitting scale and levels to each other gives for one choice of zero points, the given scale first."""
    for _ in range(NUM_REFITS + 1):
        # A group of dust gets the smallest normal number for its scale, and zeros for its weights.
        stored = scale.clamp(min=torch.finfo(dtype).tiny).to(dtype).float()
        levels = (groups / stored + zero).round().clamp(0, top)
        yield Solution(levels, stored, zero)
        # argmin over s of |W - (levels - zero) s|^2
        steps = levels - zero
        power = _squares(steps)
        scale = torch.where(power > 0, (groups * steps).sum(1, keepdim=True) / power.clamp(min=1), stored)


def _better(groups: torch.Tensor, one: Solution, other: Solution) -> Solution:
    """Returns of each group what is nearer to it."""
    is_nearer = _squares(groups - other.weights) < _squares(groups - one.weights)
    return Solution(*(torch.where(is_nearer, theirs, ours) for theirs, ours in zip(other, one, strict=True)))


def _squares(values: torch.Tensor) -> torch.Tensor:
    return (values * values).sum(1, keepdim=True)


class _Piece(NamedTuple):
    part: str
    data: bytes
    error: float
    """Squared error of the weights that this piece stands for; 0 where another piece has counted it."""
    norm: float


def _quantized(module: str, order: QuantizationOrder, reader: TensorReader) -> Iterator[_Piece]:
    """Yields the stored bytes of a module, block of rows by block of rows, each part in its order."""
    target = order.plan.targets[module]
    dtype = TORCH_DTYPES[order.master.tensors[f"{module}.weight"].dtype]
    num_rows, in_features = target.shape
    step = max(PACKED_ROWS, BLOCK_WEIGHTS // in_features // PACKED_ROWS * PACKED_ROWS)
    for start in range(0, num_rows, step):
        rows = torch.from_numpy(reader.float_rows(f"{module}.weight", start, min(step, num_rows - start)))
        yield from _block(rows, target, dtype, int(order.plan.choice.options["iterations"]))
    yield _Piece("weight_shape", np.asarray(target.shape, dtype="<i8").tobytes(), 0.0, 0.0)


def _block(rows: torch.Tensor, target: Target, dtype: torch.dtype, iterations: int) -> Iterator[_Piece]:
    # rows has the shape [R, in_features], float32.
    bits = round(target.weights.bits)
    groups = rows.reshape(-1, target.weights.group_size or rows.shape[1])
    solution = solve(groups, bits, iterations=iterations, dtype=dtype)
    # compressed-tensors counts levels from -2^(bits-1).
    offset = 2 ** (bits - 1)
    levels = (solution.levels - offset).to(torch.int8).reshape(rows.shape)
    zeros = (solution.zero - offset).to(torch.int8).reshape(len(rows), -1)
    error, norm = float(_squares(groups - solution.weights).double().sum()), float(_squares(groups).double().sum())
    yield _Piece("weight_packed", _bytes(pack_to_int32(levels, bits)), error, norm)
    yield _Piece("weight_scale", _bytes(solution.scale.reshape(len(rows), -1).to(dtype)), 0.0, 0.0)
    yield _Piece("weight_zero_point", _bytes(pack_to_int32(zeros, bits, packed_dim=0)), 0.0, 0.0)


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy().tobytes())


class _Tally:
    """How far the work is, and how far the integers are from the weights."""

    def __init__(self, order: QuantizationOrder) -> None:
        self._order = order
        self._num_done = 0
        self._error = self._norm = 0.0

    def add(self, error: float, norm: float) -> None:
        self._error += error
        self._norm += norm

    def finish(self, module: str) -> None:
        self._num_done += 1
        total = len(self._order.plan.targets)
        self._order.on_progress(self._num_done / total, module, Units(self._num_done, total, "modules"))

    @property
    def relative_error(self) -> float:
        """||W - W'|| / ||W|| over all modules (Frobenius)."""
        return float(np.sqrt(self._error / self._norm)) if self._norm else 0.0
