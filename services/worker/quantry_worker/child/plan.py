"""What a quantize job will do to which module, decided from headers alone, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import InvalidInput
from quantry_core.families import (
    OUTPUT_LAYER,
    blocks_refusal,
    context_tokens,
    expert_groups,
    family_of,
    fused_groups,
    is_router,
    is_tied,
    refusal,
)
from quantry_core.jobs import QuantizeSpec, chosen, overridden
from quantry_core.linears import Shape, is_named, linear_modules
from quantry_core.methods import Format, Granularity, MethodChoice, MethodInfo, NumberType, Scheme, Weights

__all__ = [
    "OUTPUT_LAYER",
    "QuantizationPlan",
    "Target",
    "carried_files",
    "fused_groups",
    "names_in_words",
    "plan_quantization",
    "unmatched_patterns",
]

ENGINE_MULTIPLE = 32
"""vLLM's W4A16 kernels, and the gptq layout, take in and out features that are multiples of this."""
WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
NOT_CARRIED = frozenset({"config.json", "README.md"})
"""config.json gets a quantization_config; the master's card describes the master."""
MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """A module to quantize, and how."""

    shape: Shape
    weights: Weights


@dataclass(frozen=True)
class QuantizationPlan:
    """A checked quantize spec applied to one master."""

    spec: QuantizeSpec
    choice: MethodChoice
    targets: Mapping[str, Target]
    """Modules to quantize. None for a scheme that leaves weights as they are, such as KV_FP8."""
    kept: Mapping[str, Shape]
    """Linear modules that stay at 16 bit because ``ignore`` or ``keep_16bit`` names them, or because the scheme leaves them so."""

    @property
    def method(self) -> MethodInfo:
        return self.choice.info

    @property
    def scheme(self) -> Scheme:
        return self.choice.scheme

    @property
    def kept_patterns(self) -> tuple[str, ...]:
        return tuple(self.spec.kept_patterns)

    @property
    def has_kv_scales(self) -> bool:
        return self.spec.has_kv_scales


def plan_quantization(spec: QuantizeSpec, master: CheckpointInfo) -> QuantizationPlan:
    """Returns the plan; raises InvalidInput naming the modules that cannot be quantized so, or served so afterwards."""
    choice = chosen(spec)
    if (reason := refusal(choice, master.config, master.tensors)) is not None:
        raise InvalidInput(reason)
    _check_calibration(spec, master)
    family = family_of(master.config)
    linears = linear_modules(master.tensors, family.transposed)
    if choice.scheme is Scheme.KV_FP8:
        return QuantizationPlan(spec, choice, {}, linears)
    kept = {name: shape for name, shape in linears.items() if is_router(name) or is_named(name, spec.kept_patterns)}
    if choice.info.format is Format.GGUF and (reason := blocks_refusal(choice.scheme, kept, master.tensors)) is not None:
        raise InvalidInput(reason)
    targets = {name: Target(shape, _weights(name, choice, spec)) for name, shape in linears.items() if name not in kept}
    if not targets:
        raise InvalidInput("there is nothing to quantize: ignore names every Linear module of this model")
    _check_output_layer(spec, choice, master, targets)
    _check_shapes(targets, choice.info.format)
    _check_fused_groups(targets, kept)
    return QuantizationPlan(spec, choice, targets, kept)


def unmatched_patterns(plan: QuantizationPlan) -> list[str]:
    """Returns the patterns that name no module: probably a slip. The output layer may be absent because it is tied."""
    modules = [*plan.targets, *plan.kept]
    overriding = [pattern for override in plan.spec.overrides for pattern in override.modules]
    patterns = [pattern for pattern in (*plan.kept_patterns, *overriding) if pattern != OUTPUT_LAYER]
    return [pattern for pattern in patterns if not any(is_named(name, [pattern]) for name in modules)]


def carried_files(master_files: Iterable[str]) -> list[str]:
    """Returns the files that a quantized version takes over from its master as they are: all but weights, config and model card."""
    return sorted(name for name in master_files if not name.endswith(WEIGHT_SUFFIXES) and name not in NOT_CARRIED)


def names_in_words(names: Iterable[str]) -> str:
    """Returns the first few names and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:MAX_NAMES_SHOWN])
    more = len(ordered) - MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _weights(module: str, choice: MethodChoice, spec: QuantizeSpec) -> Weights:
    naming = [override for override in spec.overrides if is_named(module, override.modules)]
    return overridden(choice, spec, naming[-1]) if naming else choice.weights


def _check_calibration(spec: QuantizeSpec, master: CheckpointInfo) -> None:
    context = context_tokens(master.config)
    if spec.calibration is not None and context is not None and spec.calibration.length_tokens > context:
        raise InvalidInput(f"calibration.length_tokens is {spec.calibration.length_tokens}, but the model's context is {context} tokens")


def _check_output_layer(spec: QuantizeSpec, choice: MethodChoice, master: CheckpointInfo, targets: Mapping[str, Target]) -> None:
    names = family_of(master.config).output_layers
    if is_tied(master.config) and not any(is_named(name, spec.kept_patterns) for name in names):
        raise InvalidInput(
            f"this model's output layer is tied to its embedding: quantizing it would store the embedding twice; add {names[0]} to ignore"
        )
    for name in names:
        if name in targets and name != names[-1]:
            raise InvalidInput(f"{name}, the output layer, has another name in the loaded model than in its file; add it to ignore")
        if name in targets and choice.info.format is Format.GPTQ:
            raise InvalidInput(f"method {choice.info.method} leaves the output layer at 16 bit; add {name} to ignore")


def _check_shapes(targets: Mapping[str, Target], format_: Format) -> None:
    by_size: dict[int, set[str]] = {}
    odd: set[str] = set()
    for name, target in targets.items():
        rows, columns = target.shape
        size = target.weights.group_size
        if size is not None and columns % size:
            by_size.setdefault(size, set()).add(f"{name} ({columns} inputs)")
        is_packed = target.weights.number_type is NumberType.INT and (target.weights.bits == 4 or format_ is Format.GPTQ)
        if is_packed and (rows % ENGINE_MULTIPLE or columns % ENGINE_MULTIPLE):
            odd.add(f"{name} {target.shape}")
    for size, uneven in by_size.items():
        raise InvalidInput(
            f"group size {size} does not divide the inputs of {names_in_words(uneven)}; take a smaller group size, or ignore these modules"
        )
    if odd:
        raise InvalidInput(f"vLLM serves packed modules whose sides are multiples of {ENGINE_MULTIPLE} only; ignore {names_in_words(odd)}")


def _check_fused_groups(targets: Mapping[str, Target], kept: Mapping[str, Shape]) -> None:
    modules = [*targets, *kept]
    for group in (*fused_groups(modules), *expert_groups(modules)):
        schemes = {name: "16 bit" if name in kept else _in_words(targets[name].weights) for name in group}
        if len(set(schemes.values())) > 1:
            by_scheme = {
                scheme: names_in_words(name for name in group if schemes[name] == scheme) for scheme in sorted(set(schemes.values()))
            }
            each = "; ".join(f"{scheme} for {names}" for scheme, names in by_scheme.items())
            raise InvalidInput(f"engines join {names_in_words(group)} into one, so they must share one scheme; asked for were {each}")


def _in_words(weights: Weights) -> str:
    size = f" in groups of {weights.group_size}" if weights.granularity is Granularity.GROUP else ""
    return f"{weights.scheme}{size}"
