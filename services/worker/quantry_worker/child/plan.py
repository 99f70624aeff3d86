"""What a quantize job will do to a master on this disk, decided from headers alone, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from quantry_core import plans
from quantry_core.checkpoints import CheckpointInfo
from quantry_core.families import fused_groups
from quantry_core.jobs import QuantizeSpec
from quantry_core.plans import QuantizationPlan, Target, names_in_words

__all__ = [
    "QuantizationPlan",
    "Target",
    "carried_files",
    "fused_groups",
    "names_in_words",
    "plan_quantization",
]

WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
NOT_CARRIED = frozenset({"config.json", "README.md"})
"""config.json gets a quantization_config; the master's card describes the master."""


def plan_quantization(spec: QuantizeSpec, master: CheckpointInfo) -> QuantizationPlan:
    """Returns the plan; raises what quantry_core.plans does, as at submission."""
    return plans.plan_quantization(spec, master.config, master.tensors)


def carried_files(master_files: Iterable[str]) -> list[str]:
    """Returns the files that a quantized version takes over from its master as they are: all but weights, config and model card."""
    return sorted(name for name in master_files if not name.endswith(WEIGHT_SUFFIXES) and name not in NOT_CARRIED)
