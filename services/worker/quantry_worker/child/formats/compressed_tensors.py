"""quantization_config of compressed-tensors: which module has which layout, read as strictly as we write it.

Several config groups may stand side by side; a group that names a module goes before one that names its class. The library
knows exact names, ``re:`` expressions that match from the start, and class names; no globs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.linears import Shape
from quantry_core.methods import Format, Granularity, NumberType
from quantry_worker.child.formats.floats import Fp8, MxFp4, NvFp4
from quantry_worker.child.formats.integers import ByteIntegers, PackedIntegers
from quantry_worker.child.formats.stored import StatedWeights, StoredCheckpoint, StoredModule
from quantry_worker.child.numerics.tensors import TensorReader

LINEAR_CLASS = "Linear"
GRANULARITIES = {
    "tensor": Granularity.TENSOR,
    "channel": Granularity.CHANNEL,
    "group": Granularity.GROUP,
    "tensor_group": Granularity.GROUP,
}
NUMBER_TYPES = {"int": NumberType.INT, "float": NumberType.FLOAT}
MAX_BITS = 8


@dataclass(frozen=True)
class Group:
    """One config group."""

    targets: tuple[str, ...]
    layout: str
    stated: StatedWeights
    has_input_scale: bool

    def names(self, module: str) -> bool:
        return _is_among(module, self.targets)


def open_compressed_tensors(info: CheckpointInfo, reader: TensorReader, linears: Mapping[str, Shape]) -> StoredCheckpoint:
    """Returns the checkpoint; raises SourceRefused if its quantization_config is not one that is known here."""
    stated = info.config.get("quantization_config")
    if not isinstance(stated, dict):
        raise SourceRefused("config.json has no quantization_config")
    if stated.get("quant_method") != Format.COMPRESSED_TENSORS:
        raise SourceRefused(f"quantization_config is of quant_method {stated.get('quant_method')}, expected is compressed-tensors")
    status = stated.get("quantization_status", "compressed")
    if status != "compressed":
        raise SourceRefused(f"quantization_config says the weights are {status}, not compressed")
    config_groups = stated.get("config_groups")
    if not isinstance(config_groups, dict):
        raise SourceRefused("quantization_config has no config_groups")
    groups = [_group(name, group, stated.get("format")) for name, group in sorted(config_groups.items())]
    ignore = tuple(stated.get("ignore") or ())
    modules = {}
    for name, shape in linears.items():
        group = None if _is_among(name, ignore) else _group_of(name, groups)
        if group is not None:
            modules[name] = _module(name, shape, group, reader)
    return StoredCheckpoint(info, reader, modules, has_kv_scheme=stated.get("kv_cache_scheme") is not None)


def _group_of(module: str, groups: list[Group]) -> Group | None:
    by_name = [group for group in groups if group.names(module)]
    by_class = [group for group in groups if LINEAR_CLASS in group.targets]
    return next(iter([*by_name, *by_class]), None)


def _group(name: str, group: Any, default_layout: Any) -> Group:
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        raise SourceRefused(f"quantization_config: {name} says nothing of weights")
    bits, size, strategy = weights.get("num_bits"), weights.get("group_size"), weights.get("strategy")
    if not isinstance(bits, int) or not 1 < bits <= MAX_BITS or weights.get("type") not in NUMBER_TYPES or strategy not in GRANULARITIES:
        raise SourceRefused(f"quantization_config: {name} has weights of {bits} bits, type {weights.get('type')}, strategy {strategy}")
    granularity = GRANULARITIES[strategy]
    if granularity is not Granularity.GROUP:
        size = None
    elif not isinstance(size, int) or size < 1:
        raise SourceRefused(f"quantization_config: group_size of {name} is {size!r}")
    activations = group.get("input_activations")
    return Group(
        targets=tuple(group.get("targets") or ()),
        layout=str(group.get("format") or default_layout),
        stated=StatedWeights(bits, NUMBER_TYPES[weights["type"]], granularity, size, symmetric=weights.get("symmetric") is True),
        # Scaled at run time, per token, where it is true; from a stored scale where it is false, or "local" to each group.
        has_input_scale=activations is not None and activations.get("dynamic") is not True,
    )


def _module(name: str, shape: Shape, group: Group, reader: TensorReader) -> StoredModule:
    stated = group.stated
    match group.layout:
        case "pack-quantized":
            return PackedIntegers(name, shape, stated, reader)
        case "int-quantized":
            return ByteIntegers(name, shape, stated, group.has_input_scale, reader)
        case "float-quantized":
            return Fp8(name, shape, stated, group.has_input_scale, reader)
        case "nvfp4-pack-quantized":
            return NvFp4(name, shape, stated, group.has_input_scale, reader)
        case "mxfp4-pack-quantized":
            return MxFp4(name, shape, stated, reader)
        case other:
            raise SourceRefused(f"quantization_config: format {other} is not known here")


EXPRESSION_PREFIX = "re:"
"""Begins a target or an exception that is a regular expression."""


def _is_among(module: str, patterns: tuple[str, ...]) -> bool:
    return any(
        re.match(pattern.removeprefix(EXPRESSION_PREFIX), module) is not None
        if pattern.startswith(EXPRESSION_PREFIX)
        else pattern == module
        for pattern in patterns
    )
