"""Check 2: every module has the bits the recipe asked for, and its packed numbers stand for the master's weights.

Bits are counted from what lies on disk, scales included, not from what a config claims. Scales must be finite, positive
and not all 1. Modules that vLLM fuses share one scheme. Every row of each module is unpacked and compared with the master's:
an error of the size of the weights themselves means that something else is stored there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.linears import Shape
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.gate.packing import PACKED_PARTS, packed_columns
from quantry_worker.child.gate.reconstruction import compare_with_master
from quantry_worker.child.gate.stated import StatedQuantization, read_quantization
from quantry_worker.child.numerics.tensors import TensorReader, bits_of
from quantry_worker.child.plan import QuantizationPlan, fused_groups

NAME = "precision"
BITS_TOLERANCE = 0.01
"""Share by which bits per weight may exceed the scheme's: the module's stored shape."""


def check_precision(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    info = inspect_checkpoint(given.output)
    stated = read_quantization(info)
    plan = given.plan
    reader, master_reader = TensorReader(given.output, info), TensorReader(given.original, given.master)
    bits = {module: stored_bits(module, shape, info) for module, shape in ({**plan.targets, **plan.kept}).items()}
    problems = [*_scheme_problems(stated, plan), *_bits_problems(bits, plan), *_fused_problems(bits)]
    errors: dict[str, float] = {}
    for module, shape in plan.targets.items():
        if not _is_readable(module, shape, info, plan):
            continue
        problems += scale_problems(module, reader)
        reconstruction = compare_with_master(module, shape, reader, master_reader, plan.bits)
        problems += reconstruction.problems
        errors[module] = reconstruction.relative_error
    return evidence(NAME, problems, _metrics(bits, errors, info, given))


def stored_bits(module: str, shape: Shape, info: CheckpointInfo) -> float:
    """Returns the bits on disk per weight of a module, everything that belongs to it counted; 0 if nothing does."""
    names = [f"{module}.{part}" for part in ("weight", *PACKED_PARTS) if f"{module}.{part}" in info.tensors]
    return sum(bits_of(info, name) for name in names) / (shape[0] * shape[1]) if names else 0.0


def scale_problems(module: str, reader: TensorReader) -> list[str]:
    """Returns what is wrong with a module's scales."""
    scales = reader.floats(f"{module}.weight_scale")
    if not np.isfinite(scales).all():
        return [f"{module}: a scale is infinite or not a number"]
    if (scales <= 0).any():
        return [f"{module}: {int((scales <= 0).sum())} scales are not positive"]
    if scales.size > 1 and (scales == 1).all():
        return [f"{module}: every scale is 1, so none was fitted"]
    return []


def _scheme_problems(stated: StatedQuantization, plan: QuantizationPlan) -> list[str]:
    problems = []
    if stated.bits != plan.bits:
        problems.append(f"config.json says {stated.bits} bits, asked for were {plan.bits}")
    if stated.group_size != plan.group_size:
        problems.append(f"config.json says group size {stated.group_size}, asked for was {plan.group_size}")
    wrongly_kept = [module for module in plan.targets if not stated.covers(module)]
    wrongly_covered = [module for module in plan.kept if stated.covers(module)]
    problems += [f"config.json leaves out {module}, which was to be quantized" for module in wrongly_kept]
    problems += [f"config.json covers {module}, which was to be ignored" for module in wrongly_covered]
    return problems


def _bits_problems(bits: dict[str, float], plan: QuantizationPlan) -> list[str]:
    scale_bits = 16 / plan.group_size
    shape_bits = {module: 128 / (shape[0] * shape[1]) for module, shape in plan.targets.items()}
    problems = []
    for module in plan.targets:
        limit = (plan.bits + scale_bits + shape_bits[module]) * (1 + BITS_TOLERANCE)
        if not plan.bits <= bits[module] <= limit:
            problems.append(
                f"{module} takes {bits[module]:.2f} bits a weight, asked for were {plan.bits} and its scales, {limit:.2f} in all"
            )
    for module in plan.kept:
        if bits[module] != 16:
            problems.append(f"{module} was to stay at 16 bits and takes {bits[module]:.2f}")
    return problems


def _fused_problems(bits: dict[str, float]) -> list[str]:
    problems = []
    for group in fused_groups(bits):
        is_plain = {bits[module] == 16 for module in group}
        if len(is_plain) > 1:
            problems.append(f"{', '.join(group)} are fused by vLLM but do not share one scheme")
    return problems


def _is_readable(module: str, shape: Shape, info: CheckpointInfo, plan: QuantizationPlan) -> bool:
    """Whether the parts have the form that the numbers are read by; where not, the checks on headers have said so."""
    packed, scale = info.tensors.get(f"{module}.weight_packed"), info.tensors.get(f"{module}.weight_scale")
    return (
        packed is not None
        and scale is not None
        and packed.dtype == "I32"
        and scale.dtype in {"F16", "BF16", "F32"}
        and packed.shape == (shape[0], packed_columns(shape[1], plan.bits))
        and scale.shape == (shape[0], shape[1] // plan.group_size)
    )


def _metrics(bits: dict[str, float], errors: dict[str, float], info: CheckpointInfo, given: GateInput) -> dict[str, Any]:
    plan = given.plan
    shapes = {**plan.targets, **plan.kept}
    targets_weights = sum(shape[0] * shape[1] for shape in plan.targets.values())
    return {
        "bits_per_weight": _mean_bits(plan.targets, bits, shapes),
        "bits_per_weight_by_kind": {kind: _mean_bits(modules, bits, shapes) for kind, modules in _by_kind(plan.targets).items()},
        "bits_per_parameter": sum(bits_of(info, name) for name in info.tensors) / given.master.num_parameters,
        "num_quantized_modules": len(plan.targets),
        "num_kept_modules": len(plan.kept),
        "share_quantized": targets_weights / given.master.num_parameters,
        "relative_error_max": max(errors.values(), default=None),
        "relative_error_mean": float(np.mean(list(errors.values()))) if errors else None,
    }


def _by_kind(modules: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for module in sorted(modules):
        kinds[module.rpartition(".")[2]].append(module)
    return dict(kinds)


def _mean_bits(modules: Iterable[str], bits: dict[str, float], shapes: dict[str, Shape]) -> float:
    sizes = {module: shapes[module][0] * shapes[module][1] for module in modules}
    return sum(bits[module] * size for module, size in sizes.items()) / sum(sizes.values())
