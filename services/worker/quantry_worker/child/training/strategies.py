"""How several processes share a training: each strategy as fields of TrainingArguments, and what cannot be, said before any work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_core.methods import Format
from quantry_core.training import Strategy
from quantry_core.training.strategies import Host, not_shared

DEFAULT_ZERO_STAGE = 2


def check_strategy(spec: FinetuneSpec, base_format: Format | None, num_gpus: int) -> None:
    """Raises InvalidInput with the reason where the strategy cannot be followed here, where the job sees so many GPUs."""
    host = Host(num_gpus, has_deepspeed=find_spec("deepspeed") is not None)
    reason = not_shared(spec, host, is_packed=base_format is Format.BITSANDBYTES)
    if reason is not None:
        raise InvalidInput(reason)


def strategy_arguments(distributed: DistributedSpec, spec: FinetuneSpec) -> dict[str, Any]:
    """Returns the fields of TrainingArguments that have accelerate follow the strategy."""
    match distributed.strategy:
        case Strategy.DDP:
            return {"ddp_find_unused_parameters": False}
        case Strategy.FSDP:
            return {"fsdp": True, "fsdp_config": _fsdp(distributed, spec), "gradient_checkpointing": False}
        case Strategy.DEEPSPEED:
            return {"deepspeed": _deepspeed(distributed)}


def _fsdp(distributed: DistributedSpec, spec: FinetuneSpec) -> dict[str, Any]:
    """Returns FSDP2's settings: a shard for each block of the model; activations are its own to compute again."""
    return {
        "version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": True,
        "cpu_offload": distributed.offload_to_cpu,
        "state_dict_type": "FULL_STATE_DICT",
        "activation_checkpointing": spec.hyperparameters.gradient_checkpointing,
    }


def _deepspeed(distributed: DistributedSpec) -> dict[str, Any]:
    """Returns a configuration of DeepSpeed; what is "auto" is taken from the trainer's arguments."""
    zero: dict[str, Any] = {"stage": distributed.zero_stage or DEFAULT_ZERO_STAGE, "overlap_comm": True, "contiguous_gradients": True}
    if distributed.offload_to_cpu:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    automatic = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {"zero_optimization": zero, "bf16": {"enabled": "auto"}, **dict.fromkeys(automatic, "auto")}
