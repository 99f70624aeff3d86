"""What accelerate is told of each strategy, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_core.methods import Format
from quantry_worker.child.training.strategies import Host, check_strategy, strategy_arguments

TWO_GPUS = Host(num_gpus=2, has_deepspeed=True)


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
        ({"zero_stage": 3}, {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}),
        (
            {"zero_stage": 3, "offload_to_cpu": True},
            {
                "stage": 3,
                "stage3_gather_16bit_weights_on_model_save": True,
                "offload_optimizer": {"device": "cpu", "pin_memory": True},
                "offload_param": {"device": "cpu", "pin_memory": True},
            },
        ),
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


@pytest.mark.parametrize(
    ("strategy", "host", "base_format", "changes", "words"),
    [
        ("deepspeed", Host(2, has_deepspeed=False), Format.SAFETENSORS, {}, "does not have"),
        ("deepspeed", Host(0, has_deepspeed=True), Format.SAFETENSORS, {}, "this job sees none"),
        ("fsdp", Host(0, has_deepspeed=False), Format.SAFETENSORS, {}, "this job sees none"),
        ("ddp", Host(1, has_deepspeed=False), Format.SAFETENSORS, {}, "this job sees 1"),
        ("fsdp", TWO_GPUS, Format.BITSANDBYTES, {}, "cannot shard weights"),
        ("fsdp", TWO_GPUS, Format.SAFETENSORS, {"base_precision": "nf4"}, "cannot shard weights"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    strategy: str, host: Host, base_format: Format, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_strategy(DistributedSpec(strategy=strategy), spec(**changes), base_format, host)


@pytest.mark.parametrize(
    ("strategy", "host", "base_format"),
    [
        ("ddp", Host(0, has_deepspeed=False), Format.BITSANDBYTES),
        ("ddp", TWO_GPUS, Format.SAFETENSORS),
        ("fsdp", Host(4, has_deepspeed=False), Format.SAFETENSORS),
        ("deepspeed", TWO_GPUS, Format.SAFETENSORS),
    ],
)
def test_what_can_be_is_let_be(strategy: str, host: Host, base_format: Format) -> None:
    check_strategy(DistributedSpec(strategy=strategy), spec(), base_format, host)
