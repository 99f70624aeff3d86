"""The quantization_config of a checkpoint, read as strictly as we write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.linears import is_named
from quantry_core.methods import Format

LINEAR_CLASS = "Linear"
PACKED_FORMAT = "pack-quantized"


@dataclass(frozen=True)
class StatedQuantization:
    """One group of modules that share a scheme, and what it leaves out."""

    bits: int
    group_size: int
    targets: tuple[str, ...]
    ignore: tuple[str, ...]

    def covers(self, module: str) -> bool:
        """Tells whether a Linear module is said to be quantized."""
        return (LINEAR_CLASS in self.targets or is_named(module, self.targets)) and not is_named(module, self.ignore)


def read_quantization(info: CheckpointInfo) -> StatedQuantization:
    """Returns what config.json says; raises SourceRefused if it is not one group of packed, symmetric, grouped integers."""
    stated = info.config.get("quantization_config")
    if not isinstance(stated, dict):
        raise SourceRefused("config.json has no quantization_config")
    if stated.get("quant_method") != Format.COMPRESSED_TENSORS or stated.get("format") != PACKED_FORMAT:
        raise SourceRefused(f"quantization_config is {stated.get('quant_method')}, {stated.get('format')}; expected is {PACKED_FORMAT}")
    groups = stated.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        raise SourceRefused("quantization_config has not exactly one config group")
    (group,) = groups.values()
    weights = group.get("weights") or {}
    wanted = {"type": "int", "symmetric": True, "strategy": "group", "dynamic": False}
    wrong = {name: weights.get(name) for name, value in wanted.items() if weights.get(name) != value}
    if wrong or group.get("input_activations") or group.get("output_activations"):
        raise SourceRefused(f"quantization_config is no weight-only scheme of symmetric integers in groups: {wrong or 'activations too'}")
    return StatedQuantization(
        bits=_natural(weights, "num_bits"),
        group_size=_natural(weights, "group_size"),
        targets=tuple(group.get("targets") or ()),
        ignore=tuple(stated.get("ignore") or ()),
    )


def _natural(weights: dict[str, Any], name: str) -> int:
    value = weights.get(name)
    if not isinstance(value, int) or value < 1:
        raise SourceRefused(f"quantization_config: {name} is {value!r}")
    return value
