"""Gate of a merged version: what was not to change has not, what changed is W + update, and the model computes what was trained.

A sum of updates is computed once more in numpy, in float64, from the formulas of ``numerics/low_rank.py``, by other code than wrote
it. What ties and dare make is drawn or sorted: it is computed again by the same functions, so there the stored numbers are checked
and not the method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.adapters import WEIGHTS_PATH
from quantry_core.checkpoints import CARD_PATH, CheckpointInfo, check_master, inspect_checkpoint, read_safetensors
from quantry_core.errors import QuantryError
from quantry_core.families import family_of
from quantry_core.training import AdapterKind, AdapterMerge
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.gate.findings import MAX_PROBLEMS
from quantry_worker.child.gate.reader import log_probabilities, probe_ids
from quantry_worker.child.merging.combine import Combination
from quantry_worker.child.merging.weights import Weights
from quantry_worker.child.merging.write import merged_tensor
from quantry_worker.child.numerics.divergence import kl_nats, same_top1
from quantry_worker.child.numerics.low_rank import PREFIX, Adapter
from quantry_worker.child.numerics.model import load_model
from quantry_worker.child.numerics.tensors import TensorReader, nonfinite_tensors

MERGE_CHECK = "merge"
"""The evidence's name."""
HALF_STEP = {"F16": 2.0**-11, "BF16": 2.0**-8, "F32": 2.0**-24}
"""Largest relative error of rounding to the nearest."""
SMALLEST_HALF_STEP = {"F16": 2.0**-25, "BF16": 2.0**-134, "F32": 2.0**-150}
"""Largest absolute one, near zero."""
ARITHMETIC = 1e-5
"""What float32 sums add, relative to the largest number of the tensor. Measured on the example model: 2e-7."""

Float64 = NDArray[np.float64]


@dataclass
class _Findings:
    problems: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


def check_merged(
    weights: Weights, combination: Combination, output_dir: Path, expected: Callable[[], Any], at_most_nats: float
) -> EvidenceDraft:
    """Returns the evidence of the check. ``expected`` loads the model whose logits the merged one's are compared with."""
    found = _Findings()
    try:
        merged = inspect_checkpoint(DirectoryCheckpoint(output_dir))
        check_master(merged)
        _check_files(weights, merged, found)
        if not found.problems:
            _check_tensors(weights, combination, merged, TensorReader(DirectoryCheckpoint(output_dir), merged), found)
        if not found.problems:
            _check_logits(weights, output_dir, expected, at_most_nats, found)
    except QuantryError as error:
        found.problems.append(error.detail)
    return EvidenceDraft(
        kind=EvidenceKind.GATE,
        name=MERGE_CHECK,
        verdict=Verdict.FAIL if found.problems else Verdict.PASS,
        metrics=found.metrics | {"num_problems": len(found.problems), "problems": found.problems[:MAX_PROBLEMS]},
    )


def _check_files(weights: Weights, merged: CheckpointInfo, found: _Findings) -> None:
    theirs = {name: size for name, size in weights.master.files.items() if name != CARD_PATH}
    for name, size in theirs.items():
        if merged.files.get(name) != size:
            found.problems.append(f"{name} has {merged.files.get(name, 0)} bytes, the 16-bit version's has {size}")
    found.problems += [f"{name} is not in the 16-bit version" for name in merged.files.keys() - theirs.keys()]
    if merged.tensors != weights.master.tensors or merged.tensor_files != weights.master.tensor_files:
        found.problems.append("names, dtypes, shapes or places of tensors are not the 16-bit version's")
    if merged.config != weights.master.config:
        found.problems.append("config.json is not the 16-bit version's")
    found.metrics["weights_bytes"] = merged.weights_bytes


def _check_tensors(weights: Weights, combination: Combination, merged: CheckpointInfo, reader: TensorReader, found: _Findings) -> None:
    original = TensorReader(DirectoryCheckpoint(weights.master_dir), weights.master)
    updated = {f"{module}.weight" for module in combination.modules}
    worst, num_identical, num_changed = 0.0, 0, 0
    for name, info in merged.tensors.items():
        if name not in updated and weights.is_master:
            num_identical += 1
            if not reader.is_same_as(name, original):
                found.problems.append(f"{name} has no update and is not what it was")
            continue
        expected = _expected(weights, combination, name) if name in updated else weights.tensor(name).double().numpy()
        bound = np.abs(expected) * HALF_STEP[info.dtype] + SMALLEST_HALF_STEP[info.dtype] + ARITHMETIC * np.abs(expected).max(initial=0)
        error = np.abs(reader.floats(name).astype(np.float64) - expected)
        worst = max(worst, float((error / bound).max(initial=0)))
        num_changed += int(name in updated)
        # Written so that NaN is found too.
        if not (error <= bound).all():
            found.problems.append(f"{name} is not its weight with the update: off by {float(error.max()):.3g}")
    found.problems += [f"{name} holds an infinity or NaN" for name in nonfinite_tensors(reader, merged)]
    found.metrics |= {"num_updated": num_changed, "num_identical": num_identical, "largest_error_of_bound": worst}


def _expected(weights: Weights, combination: Combination, name: str) -> Float64:
    """Returns a weight with its update in float64, in the shape that it is stored in."""
    if combination.method is not AdapterMerge.LINEAR:
        merged: Float64 = merged_tensor(weights, combination, name).double().numpy()
        return merged
    module = name.removesuffix(".weight")
    turned = module.rpartition(".")[2] in family_of(weights.master.config).transposed
    stored: Float64 = weights.tensor(name).double().numpy()
    weight = stored.T if turned else stored
    total = weight.copy()
    for adapter, share in zip(combination.adapters, combination.weights, strict=True):
        if module in adapter.shapes:
            total += share * (_adapted(adapter, module, weight) - weight)
    return total.T if turned else total


def _adapted(adapter: Adapter, module: str, weight: Float64) -> Float64:
    files = DirectoryCheckpoint(adapter.directory)
    tensors = read_safetensors(files, WEIGHTS_PATH, files.files()[WEIGHTS_PATH])
    info = CheckpointInfo(config={}, files=dict(files.files()), tensors=tensors, tensor_files=dict.fromkeys(tensors, WEIGHTS_PATH))
    reader, place = TensorReader(files, info), f"{PREFIX}{module}"
    a, b = (reader.floats(f"{place}.{part}.weight").astype(np.float64) for part in ("lora_A", "lora_B"))
    rank = math.sqrt(a.shape[0]) if adapter.info.kind is AdapterKind.RSLORA else a.shape[0]
    direction: Float64 = weight + adapter.info.alpha / rank * np.einsum("or,ri->oi", b, a, optimize=True)
    if adapter.info.kind is not AdapterKind.DORA:
        return direction
    magnitude: Float64 = reader.floats(f"{place}.lora_magnitude_vector").astype(np.float64)
    scaled: Float64 = direction * (magnitude / np.sqrt((direction**2).sum(axis=1)))[:, None]
    return scaled


def _check_logits(weights: Weights, output_dir: Path, expected: Callable[[], Any], at_most_nats: float, found: _Findings) -> None:
    token_ids: torch.Tensor = probe_ids(output_dir, weights.master.config)
    theirs = log_probabilities(expected, token_ids)
    ours = log_probabilities(lambda: load_model(output_dir), token_ids)
    kl = float(kl_nats(theirs, ours).mean())
    found.metrics |= {
        "num_tokens": int(token_ids.numel()),
        "kl_unmerged_nats": kl,
        "kl_unmerged_nats_at_most": at_most_nats,
        "top1_agreement_unmerged": float(same_top1(theirs, ours).mean()),
    }
    if not torch.isfinite(ours).all():
        found.problems.append("its logits are not finite")
    elif not kl <= at_most_nats:
        found.problems.append(f"its logits are {kl:.3g} nats from the unmerged model's, at most {at_most_nats:g} are rounding")
