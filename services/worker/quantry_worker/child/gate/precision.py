"""Check ``precision``: every module has the bits the recipe asked for, and what was to stay at 16 bit has.

Bits are counted from what lies on disk, scales included, not from what a config claims: a merge followed by a quantization
that left full precision is found by its bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from quantry_core.families import family_of, is_tied
from quantry_core.gate import GateCheck
from quantry_core.gguf_schemes import MATRIX_TYPES
from quantry_core.layouts import stored_parts
from quantry_core.linears import Shape
from quantry_core.methods import Format, Granularity, Scheme, Weights
from quantry_core.safetensors import DTYPE_BITS
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import StatedWeights, StoredCheckpoint
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.numerics.tensors import bits_of
from quantry_worker.child.plan import QuantizationPlan, Target

BITS_TOLERANCE = 0.01
"""Share by which a module may take more or less than its parts by the book: shapes, a state in JSON, a wider scale of scales."""
CONSTANT_BITS = 1024
"""The same for a module of any size."""
PLAIN_BITS = 16


def check_precision(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored, plan = given.stored, given.plan
    shapes = {name: target.shape for name, target in plan.targets.items()} | dict(plan.kept)
    bits = {name: stored_bits(name, shape, stored) for name, shape in shapes.items()}
    problems = [*_stated_problems(stored, plan), *_bits_problems(bits, given)]
    return evidence(GateCheck.PRECISION, problems, _metrics(bits, shapes, given, stored))


def stored_bits(module: str, shape: Shape, stored: StoredCheckpoint) -> float:
    """Returns the bits on disk per weight of a module, everything that belongs to it counted; 0 if nothing does."""
    known = stored.modules.get(module)
    names = {f"{module}.weight", *(known.parts() if known is not None else ())}
    total = sum(bits_of(stored.info, name) for name in names if name in stored.info.tensors)
    return total / (shape[0] * shape[1])


def _stated_problems(stored: StoredCheckpoint, plan: QuantizationPlan) -> list[str]:
    problems = []
    for name, target in plan.targets.items():
        module = stored.modules.get(name)
        if module is None:
            problems.append(f"{name} was to be quantized, and the checkpoint says it is not")
        elif plan.method.format is Format.GGUF:
            problems += _block_problems(name, module.stated.bits, plan.scheme)
        elif not _is_as_asked(module.stated, target.weights):
            problems.append(f"{name} is said to have {_in_words(module.stated)}, asked for were {_in_words(_asked(target.weights))}")
    if plan.method.format is not Format.GGUF:
        problems += [f"{name} was to stay at 16 bit, and is said to be quantized" for name in plan.kept if name in stored.modules]
    return problems


def _block_problems(name: str, bits: float, scheme: Scheme) -> list[str]:
    allowed = [one.bits for one in MATRIX_TYPES[scheme]]
    if bits in allowed:
        return []
    return [f"{name} takes {bits:g} bits a weight, {scheme} stores matrices at {' or '.join(f'{one:g}' for one in allowed)}"]


def _is_as_asked(stated: StatedWeights, asked: Weights) -> bool:
    if asked.granularity is Granularity.GROUP and stated.granularity is Granularity.GROUP:
        return stated == _asked(asked)
    return stated._replace(group_size=None) == _asked(asked)._replace(group_size=None)


def _asked(weights: Weights) -> StatedWeights:
    return StatedWeights(weights.bits, weights.number_type, weights.granularity, weights.group_size, weights.symmetric)


def _in_words(weights: StatedWeights) -> str:
    size = f" of {weights.group_size}" if weights.group_size is not None else ""
    symmetry = "symmetric" if weights.symmetric else "with zero points"
    return f"{weights.bits:g}-bit {weights.number_type} weights, one scale a {weights.granularity}{size}, {symmetry}"


def _bits_problems(bits: Mapping[str, float], given: GateInput) -> list[str]:
    problems: list[str] = []
    if given.plan.method.format is Format.GGUF:
        # A file's blocks are all there is of a module, so their kind has said it; the output layer is one of them.
        return problems
    for name, target in given.plan.targets.items():
        expected = min(_expected_bits(name, target, given), key=lambda one: abs(one - bits[name]))
        slack = expected * BITS_TOLERANCE + CONSTANT_BITS / (target.shape[0] * target.shape[1])
        if not abs(bits[name] - expected) <= slack:
            problems.append(
                f"{name} takes {bits[name]:.2f} bits a weight, asked for were {target.weights.bits:g} and its scales, {expected:.2f} in all"
            )
    for name in given.plan.kept:
        if bits[name] != PLAIN_BITS and not _is_tied(name, given):
            problems.append(f"{name} was to stay at 16 bits and takes {bits[name]:.2f}")
    return problems


def _expected_bits(name: str, target: Target, given: GateInput) -> list[float]:
    """Returns what the parts of a module take by the book. W4A8 is written one weight a byte, or packed as W4A16 is."""
    shape, dtype = target.shape, given.master.tensors[f"{name}.weight"].dtype
    is_nested = bool(given.plan.choice.options.get("double_quantization", True))
    ways = [target.weights, *([replace(target.weights, scheme=Scheme.W4A16)] if target.weights.scheme is Scheme.W4A8 else [])]
    expected = []
    for weights in ways:
        parts = stored_parts(shape, weights, given.plan.method.format, dtype, double_quantization=is_nested)
        expected.append(sum(prod(part.shape) * DTYPE_BITS[part.dtype] for part in parts.values()) / prod(shape))
    return expected


def _is_tied(name: str, given: GateInput) -> bool:
    """Masters may store a tied output layer beside its embedding; what is written here stores it once."""
    return is_tied(given.master.config) and name in family_of(given.master.config).output_layers


def _metrics(bits: dict[str, float], shapes: dict[str, Shape], given: GateInput, stored: StoredCheckpoint) -> dict[str, Any]:
    plan, num_parameters = given.plan, given.master.num_parameters
    kinds: dict[str, list[str]] = defaultdict(list)
    for module in sorted(plan.targets):
        kinds[module.rpartition(".")[2]].append(module)
    return {
        "bits_per_weight": _mean_bits(plan.targets, bits, shapes),
        "bits_per_weight_by_kind": {kind: _mean_bits(modules, bits, shapes) for kind, modules in kinds.items()},
        "bits_per_parameter": sum(bits_of(stored.info, name) for name in stored.info.tensors) / num_parameters,
        "num_quantized_modules": len(plan.targets),
        "num_kept_modules": len(plan.kept),
        "share_quantized": sum(target.shape[0] * target.shape[1] for target in plan.targets.values()) / num_parameters,
    }


def _mean_bits(modules: Iterable[str], bits: Mapping[str, float], shapes: Mapping[str, Shape]) -> float | None:
    sizes = {module: shapes[module][0] * shapes[module][1] for module in modules}
    return sum(bits[module] * size for module, size in sizes.items()) / sum(sizes.values()) if sizes else None
