"""Which training jobs several processes can share, by what they find where they run."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.jobs import FinetuneSpec, QuantizeSpec
from quantry_core.training.strategies import Host, not_shared, num_gpus_of

TWO_GPUS = Host(num_gpus=2, has_deepspeed=True)


def spec(strategy: str | None, **changes: Any) -> FinetuneSpec:
    distributed = None if strategy is None else {"strategy": strategy}
    return FinetuneSpec.model_validate({"model": "bard", "training_file": "text", "distributed": distributed} | changes)


@pytest.mark.parametrize(
    ("strategy", "host", "is_packed", "changes", "words"),
    [
        ("deepspeed", Host(2, has_deepspeed=False), False, {}, "does not have"),
        ("deepspeed", Host(0, has_deepspeed=True), False, {}, "this job gets none"),
        ("fsdp", Host(0, has_deepspeed=False), False, {}, "this job gets none"),
        ("ddp", Host(1, has_deepspeed=False), False, {}, "2 processes need as many GPUs, and this job gets 1"),
        ("fsdp", TWO_GPUS, True, {}, "cannot shard weights"),
        ("deepspeed", TWO_GPUS, False, {"base_precision": "nf4"}, "cannot shard weights"),
    ],
)
def test_what_cannot_be_shared_is_told(strategy: str, host: Host, is_packed: bool, changes: dict[str, Any], words: str) -> None:
    reason = not_shared(spec(strategy, **changes), host, is_packed=is_packed)
    assert reason is not None
    assert words in reason


@pytest.mark.parametrize(
    ("strategy", "host", "is_packed"),
    [
        (None, Host(0, has_deepspeed=False), True),
        ("ddp", Host(0, has_deepspeed=False), True),
        ("ddp", TWO_GPUS, True),
        ("fsdp", Host(4, has_deepspeed=False), False),
        ("deepspeed", TWO_GPUS, False),
    ],
)
def test_what_can_be_shared_is_let_be(strategy: str | None, host: Host, is_packed: bool) -> None:
    assert not_shared(spec(strategy), host, is_packed=is_packed) is None


def test_each_process_has_a_gpu_of_its_own() -> None:
    shared = spec(None, distributed={"num_processes": 4})
    assert [num_gpus_of(job) for job in (spec(None), shared, QuantizeSpec(base="bard", method="rtn"))] == [1, 4, 1]
