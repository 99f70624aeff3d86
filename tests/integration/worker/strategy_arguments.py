"""Run in the ml environment: has transformers take the settings of the strategies; prints one line of JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from trl import SFTConfig

from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_worker.child.training.strategies import strategy_arguments


def made(folder: Path, distributed: DistributedSpec) -> SFTConfig:
    """Returns a trainer's arguments with those of a strategy."""
    spec = FinetuneSpec.model_validate({"model": "bard", "training_file": "text", "hyperparameters": {"gradient_checkpointing": True}})
    return SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", **strategy_arguments(distributed, spec))


def main(folder: Path) -> dict[str, Any]:
    ddp = made(folder, DistributedSpec(strategy="ddp"))
    fsdp = made(folder, DistributedSpec(strategy="fsdp", offload_to_cpu=True))
    plugin = fsdp.fsdp_plugin_args
    deepspeed = strategy_arguments(DistributedSpec(strategy="deepspeed"), FinetuneSpec(model="bard", training_file="text"))
    return {
        "ddp_find_unused_parameters": ddp.ddp_find_unused_parameters,
        "fsdp_version": plugin["fsdp_version"],
        "fsdp_offloads": bool(plugin["cpu_offload"]),
        "fsdp_reshards": bool(plugin["reshard_after_forward"]),
        "fsdp_loads_on_one": bool(plugin["cpu_ram_efficient_loading"]),
        "fsdp_recomputes": bool(plugin["activation_checkpointing"]),
        "fsdp_state_dict": str(plugin["state_dict_type"]),
        "deepspeed_unknown": sorted(set(deepspeed) - {field.name for field in fields(TrainingArguments)}),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
