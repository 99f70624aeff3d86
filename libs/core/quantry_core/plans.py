"""What a quantize job does to which module, and what speaks against it: decided from config.json and headers alone.

The control plane asks at submission, where the base's headers are at hand, and the worker again, from the files themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.families import (
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
from quantry_core.linears import Shape, Shaped, is_named, linear_modules
from quantry_core.methods import Format, Granularity, MethodChoice, MethodInfo, NumberType, Scheme, Weights

ENGINE_MULTIPLE = 32
"""vLLM's W4A16 kernels, and the gptq layout, take in and out features that are multiples of this."""
MAX_NAMES_SHOWN = 5
MAX_NEAR = 3


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


def plan_quantization(spec: QuantizeSpec, config: Mapping[str, Any], tensors: Mapping[str, Shaped]) -> QuantizationPlan:
    """Returns the plan for a master with this config.json and these tensors.

    Raises UnknownMethod or UnknownScheme; InvalidInput naming the fields, and the modules that cannot be quantized so, or served
    so afterwards, or the patterns that name no module.
    """
    choice = chosen(spec)
    if (reason := refusal(choice, config, tensors)) is not None:
        raise _refused("method", reason)
    _check_calibration(spec, config)
    linears = linear_modules(tensors, family_of(config).transposed)
    _check_patterns(spec, config, tensors, linears)
    if choice.scheme is Scheme.KV_FP8:
        return QuantizationPlan(spec, choice, {}, linears)
    kept = {name: shape for name, shape in linears.items() if is_router(name) or is_named(name, spec.kept_patterns)}
    if choice.info.format is Format.GGUF and (reason := blocks_refusal(choice.scheme, kept, tensors)) is not None:
        raise _refused("method", reason)
    targets = {name: Target(shape, _weights(name, choice, spec)) for name, shape in linears.items() if name not in kept}
    if not targets:
        raise _refused("ignore", "there is nothing to quantize: ignore names every Linear module of this model")
    _check_output_layer(spec, choice, config, targets)
    _check_shapes(targets, choice.info.format)
    _check_fused_groups(targets, kept)
    return QuantizationPlan(spec, choice, targets, kept)


def names_in_words(names: Iterable[str]) -> str:
    """Returns the first few names and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:MAX_NAMES_SHOWN])
    more = len(ordered) - MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _weights(module: str, choice: MethodChoice, spec: QuantizeSpec) -> Weights:
    naming = [override for override in spec.overrides if is_named(module, override.modules)]
    return overridden(choice, spec, naming[-1]) if naming else choice.weights


def _check_calibration(spec: QuantizeSpec, config: Mapping[str, Any]) -> None:
    context = context_tokens(config)
    if spec.calibration is not None and context is not None and spec.calibration.length_tokens > context:
        raise _refused(
            "calibration.length_tokens",
            f"calibration.length_tokens is {spec.calibration.length_tokens}, but the model's context is {context} tokens",
        )


def _check_patterns(spec: QuantizeSpec, config: Mapping[str, Any], tensors: Mapping[str, Shaped], linears: Mapping[str, Shape]) -> None:
    """A mistyped pattern would give other precision than was asked for.

    The output layer may be named where it is none of the file's, because it is tied; and so may what is no Linear module, such as
    the embedding, where it is to stay at 16 bit as it does in any case.
    """
    output_layers = family_of(config).output_layers
    staying = {*linears, *output_layers, *(name.rpartition(".")[0] for name in tensors)}
    changing = [name for name in linears if not is_router(name)]
    problems = [
        *_unmatched("ignore", spec.ignore, staying, linears),
        *_unmatched("keep_16bit", spec.keep_16bit, staying, linears),
    ]
    for index, override in enumerate(spec.overrides):
        problems += _unmatched(f"overrides.{index}.modules", override.modules, changing, linears)
    if problems:
        raise InvalidInput("; ".join(problem.message for problem in problems[:MAX_NAMES_SHOWN]), errors=problems)


def _unmatched(field: str, patterns: Iterable[str], names: Iterable[str], linears: Iterable[str]) -> Iterator[FieldProblem]:
    for pattern in patterns:
        if any(is_named(name, [pattern]) for name in names):
            continue
        near = near_modules(pattern, linears)
        instead = f"; near it are {', '.join(near)}" if near else ""
        yield FieldProblem(field=f"spec.{field}", message=f"{field}: {pattern!r} names no module of this model{instead}")


def near_modules(pattern: str, modules: Iterable[str]) -> list[str]:
    """Returns the first modules whose last names are most like the last word of a pattern, nearest first; at most MAX_NEAR."""
    by_last: dict[str, str] = {}
    for module in modules:
        by_last.setdefault(module.rpartition(".")[2], module)
    words = "".join(character if character.isalnum() or character == "_" else " " for character in pattern).split()
    return [by_last[last] for last in get_close_matches(words[-1] if words else "", by_last, n=MAX_NEAR)]


def _check_output_layer(spec: QuantizeSpec, choice: MethodChoice, config: Mapping[str, Any], targets: Mapping[str, Target]) -> None:
    names = family_of(config).output_layers
    if is_tied(config) and not any(is_named(name, spec.kept_patterns) for name in names):
        raise _refused(
            "ignore",
            f"this model's output layer is tied to its embedding: quantizing it would store the embedding twice; add {names[0]} to ignore",
        )
    for name in names:
        if name in targets and name != names[-1]:
            raise _refused("ignore", f"{name}, the output layer, has another name in the loaded model than in its file; add it to ignore")
        if name in targets and choice.info.format is Format.GPTQ:
            raise _refused("ignore", f"method {choice.info.method} leaves the output layer at 16 bit; add {name} to ignore")


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
        raise _refused(
            "group_size",
            f"group size {size} does not divide the inputs of {names_in_words(uneven)}; take a smaller group size, or ignore these modules",
        )
    if odd:
        raise _refused(
            "ignore", f"vLLM serves packed modules whose sides are multiples of {ENGINE_MULTIPLE} only; ignore {names_in_words(odd)}"
        )


def _check_fused_groups(targets: Mapping[str, Target], kept: Mapping[str, Shape]) -> None:
    modules = [*targets, *kept]
    for group in (*fused_groups(modules), *expert_groups(modules)):
        schemes = {name: "16 bit" if name in kept else _in_words(targets[name].weights) for name in group}
        if len(set(schemes.values())) > 1:
            by_scheme = {
                scheme: names_in_words(name for name in group if schemes[name] == scheme) for scheme in sorted(set(schemes.values()))
            }
            each = "; ".join(f"{scheme} for {names}" for scheme, names in by_scheme.items())
            raise _refused(
                "overrides", f"engines join {names_in_words(group)} into one, so they must share one scheme; asked for were {each}"
            )


def _in_words(weights: Weights) -> str:
    size = f" in groups of {weights.group_size}" if weights.granularity is Granularity.GROUP else ""
    return f"{weights.scheme}{size}"


def _refused(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field=f"spec.{field}", message=sentence)])
