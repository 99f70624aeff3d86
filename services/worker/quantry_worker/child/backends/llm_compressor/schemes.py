"""A plan's Weights in compressed-tensors' words: one config group for each way in which modules are stored."""

from __future__ import annotations

from collections.abc import Mapping

from compressed_tensors.config import CompressionFormat
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, preset_name_to_scheme

from quantry_core.methods import SCHEMES, Activations, Granularity, NumberType, Weights
from quantry_worker.child.plan import QuantizationPlan

LINEAR_CLASS = "Linear"

Groups = Mapping[str, QuantizationScheme]
"""Config groups by name, as config.json has them."""


def config_groups(plan: QuantizationPlan) -> Groups:
    """Returns the groups, that of most modules first; none if no module is quantized.

    A single group is for the class Linear, less what is ignored. Of several groups each names its modules: engines that join
    q, k and v look for the parts' names, and a class beside the names would be taken for a second answer.
    """
    by_weights: dict[Weights, list[str]] = {}
    for module, target in plan.targets.items():
        by_weights.setdefault(target.weights, []).append(module)
    ordered = sorted(by_weights.items(), key=lambda one: (-len(one[1]), one[1]))
    if len(ordered) == 1:
        return {"group_0": scheme_of(ordered[0][0], [LINEAR_CLASS])}
    return {f"group_{index}": scheme_of(weights, sorted(modules)) for index, (weights, modules) in enumerate(ordered)}


def scheme_of(weights: Weights, targets: list[str]) -> QuantizationScheme:
    """Returns the scheme for modules that are stored so. Number formats that a standard fixes come from the library's presets."""
    if weights.number_type is not NumberType.INT:
        return preset_name_to_scheme(weights.scheme, targets)
    stored = QuantizationArgs(
        num_bits=int(weights.bits),
        type="int",
        symmetric=weights.symmetric,
        strategy="channel" if weights.granularity is Granularity.CHANNEL else "group",
        group_size=weights.group_size,
    )
    if SCHEMES[weights.scheme].activations is Activations.SIXTEEN_BIT:
        return QuantizationScheme(targets=targets, weights=stored)
    per_token = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    # Left to itself the library stores a 4-bit number in 8 bits wherever activations are quantized.
    packed = CompressionFormat.pack_quantized if weights.bits < 8 else None
    return QuantizationScheme(targets=targets, weights=stored, input_activations=per_token, format=packed)


def kv_cache_scheme(plan: QuantizationPlan) -> QuantizationArgs | None:
    """Returns how keys and values are cached: E4M3, one scale for all of a layer's keys and one for its values; None for 16 bit."""
    if not plan.has_kv_scales:
        return None
    return QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy="tensor", dynamic=False)
