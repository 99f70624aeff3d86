"""What accelerate is told of each strategy, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_core.methods import Format
from quantry_worker.child.training.strategies import check_strategy, strategy_arguments


def spec(**changes: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"model": "bard", "training_file": "text"} | changes)


def test_ddp_asks_for_no_unused_parameters() -> None:
    assert strategy_arguments(DistributedSpec(strategy="ddp"), spec()) == {"ddp_find_unused_parameters": False}


@pytest.mark.parametrize("offload", [False, True])
def test_fsdp_shards_each_block_and_recomputes_activations_itself(offload: bool) -> None:
    asked = spec(hyperparameters={"gradient_checkpointing": True})
    assert strategy_arguments(DistributedSpec(strategy="fsdp", offload_to_cpu=offload), asked) == {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": True,
            "cpu_offload": offload,
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": True,
        },
        "gradient_checkpointing": False,
    }


@pytest.mark.parametrize(
    ("changes", "zero"),
    [
        ({}, {"stage": 2}),
        ({"zero_stage": 1}, {"stage": 1}),
        ({"zero_stage": 2, "offload_to_cpu": True}, {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": True}}),
    ],
)
def test_deepspeed_takes_the_stage_and_the_rest_from_the_trainer(changes: dict[str, Any], zero: dict[str, Any]) -> None:
    found = strategy_arguments(DistributedSpec(strategy="deepspeed", **changes), spec())
    assert found == {
        "deepspeed": {
            "zero_optimization": {"overlap_comm": True, "contiguous_gradients": True} | zero,
            "bf16": {"enabled": "auto"},
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
        }
    }


def test_the_job_is_held_to_what_its_own_host_has() -> None:
    with pytest.raises(InvalidInput, match="this job gets 1"):
        check_strategy(spec(distributed={"strategy": "ddp"}), Format.SAFETENSORS, 1)
    with pytest.raises(InvalidInput, match="cannot shard weights"):
        check_strategy(spec(distributed={"strategy": "fsdp"}), Format.BITSANDBYTES, 2)
    check_strategy(spec(distributed={"strategy": "fsdp"}), Format.SAFETENSORS, 2)
