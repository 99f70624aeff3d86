"""How several processes share a training: each strategy as fields of TrainingArguments, and what cannot be, said before any work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_core.methods import Format
from quantry_core.training import Strategy

DEFAULT_ZERO_STAGE = 2


class Host(NamedTuple):
    """What a job of several processes finds where it runs."""

    num_gpus: int
    """That the job sees."""
    has_deepspeed: bool


def this_host(num_gpus: int) -> Host:
    """Returns the host of this process."""
    return Host(num_gpus, find_spec("deepspeed") is not None)


def check_strategy(distributed: DistributedSpec, spec: FinetuneSpec, base_format: Format | None, host: Host) -> None:
    """Raises InvalidInput with the reason where the strategy cannot be followed on this host."""
    strategy, num_processes = distributed.strategy, distributed.num_processes
    if strategy is Strategy.DEEPSPEED and not host.has_deepspeed:
        raise InvalidInput(
            "strategy deepspeed needs the library of that name, which the ml environment of this worker does not have; "
            "fsdp shards as much, ddp nothing"
        )
    if strategy is not Strategy.DDP and host.num_gpus == 0:
        raise InvalidInput(f"strategy {strategy} shards over GPUs, and this job sees none; processes on the CPU share their work by ddp")
    if 0 < host.num_gpus < num_processes:
        raise InvalidInput(f"{num_processes} processes need as many GPUs; this job sees {host.num_gpus}")
    is_packed = spec.base_precision is not None or base_format is Format.BITSANDBYTES
    if strategy is not Strategy.DDP and is_packed:
        raise InvalidInput(f"strategy {strategy} cannot shard weights that bitsandbytes has packed; take ddp, or a 16-bit base")


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
    stage = distributed.zero_stage or DEFAULT_ZERO_STAGE
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if distributed.offload_to_cpu:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if distributed.offload_to_cpu:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    automatic = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {"zero_optimization": zero, "bf16": {"enabled": "auto"}, **dict.fromkeys(automatic, "auto")}
