"""What a quantize job will do to which module, decided from headers alone, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import InvalidInput
from quantry_core.jobs import QuantizeSpec
from quantry_core.linears import Shape, is_named, linear_modules
from quantry_core.methods import MethodInfo, Scheme, check_ignore, check_method

OUTPUT_LAYER = "lm_head"
FUSED_GROUPS: tuple[tuple[str, ...], ...] = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Modules that vLLM joins into one matrix product: all of them quantized alike, or none."""
ENGINE_MULTIPLE = 32
"""vLLM's W4A16 kernels take in and out features that are multiples of this."""
WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
NOT_CARRIED = frozenset({"config.json", "README.md"})
"""config.json gets a quantization_config; the master's card describes the master."""
MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class QuantizationPlan:
    """A checked quantize spec applied to one master."""

    method: MethodInfo
    scheme: Scheme
    bits: int
    group_size: int
    damping: float
    ignore: tuple[str, ...]
    targets: Mapping[str, Shape]
    """Modules to quantize."""
    kept: Mapping[str, Shape]
    """Linear modules that stay at 16 bit because ``ignore`` names them."""


def plan_quantization(spec: QuantizeSpec, master: CheckpointInfo) -> QuantizationPlan:
    """Returns the plan; raises InvalidInput naming the modules that cannot be quantized so, or served so afterwards."""
    method, scheme, group_size = check_method(spec.method, spec.scheme, spec.group_size)
    check_ignore(spec.ignore)
    linears = linear_modules(master.tensors)
    kept = {name: shape for name, shape in linears.items() if is_named(name, spec.ignore)}
    targets = {name: shape for name, shape in linears.items() if name not in kept}
    if not targets:
        raise InvalidInput("there is nothing to quantize: ignore names every Linear module of this model")
    if master.config.get("tie_word_embeddings") and not is_named(OUTPUT_LAYER, spec.ignore):
        raise InvalidInput(
            "this model's output layer is tied to its embedding: quantizing it would store the embedding twice; add lm_head to ignore"
        )
    _check_shapes(targets, group_size)
    _check_fused_groups(targets, kept)
    return QuantizationPlan(method, scheme, method.schemes[scheme], group_size, spec.damping, tuple(spec.ignore), targets, kept)


def unmatched_patterns(plan: QuantizationPlan) -> list[str]:
    """Returns the entries of ignore that name no module: probably a slip. The output layer may be absent because it is tied."""
    return [pattern for pattern in plan.ignore if pattern != OUTPUT_LAYER and not any(is_named(name, [pattern]) for name in plan.kept)]


def fused_groups(modules: Iterable[str]) -> list[list[str]]:
    """Returns the modules that vLLM fuses with one another, two or more each."""
    present = set(modules)
    groups: list[list[str]] = []
    for parts in FUSED_GROUPS:
        parents = sorted({name.rpartition(".")[0] for name in present if name.rpartition(".")[2] in parts})
        for parent in parents:
            members = [name for name in (f"{parent}.{part}" for part in parts) if name in present]
            if len(members) > 1:
                groups.append(members)
    return groups


def carried_files(master_files: Iterable[str]) -> list[str]:
    """Returns the files that a quantized version takes over from its master as they are: all but weights, config and model card."""
    return sorted(name for name in master_files if not name.endswith(WEIGHT_SUFFIXES) and name not in NOT_CARRIED)


def names_in_words(names: Iterable[str]) -> str:
    """Returns the first few names and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:MAX_NAMES_SHOWN])
    more = len(ordered) - MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _check_shapes(targets: Mapping[str, Shape], group_size: int) -> None:
    uneven = {f"{name} ({shape[1]} inputs)" for name, shape in targets.items() if shape[1] % group_size}
    if uneven:
        raise InvalidInput(
            f"group size {group_size} does not divide the inputs of {names_in_words(uneven)}; "
            "take a smaller group size, or ignore these modules"
        )
    odd = {f"{name} {shape}" for name, shape in targets.items() if shape[0] % ENGINE_MULTIPLE or shape[1] % ENGINE_MULTIPLE}
    if odd:
        raise InvalidInput(f"vLLM serves 4-bit modules whose sides are multiples of {ENGINE_MULTIPLE} only; ignore {names_in_words(odd)}")


def _check_fused_groups(targets: Mapping[str, Shape], kept: Mapping[str, Shape]) -> None:
    for group in fused_groups([*targets, *kept]):
        ignored = [name for name in group if name in kept]
        if ignored and len(ignored) < len(group):
            raise InvalidInput(f"vLLM joins {', '.join(group)} into one: ignore all of them or none, not {', '.join(ignored)} alone")
