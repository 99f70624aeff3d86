"""Jobs of several processes, held to the GPUs of the queues that there are."""

from __future__ import annotations

import pytest

from quantry_api.estimates.sharing import check_shared
from quantry_core.errors import InvalidInput
from quantry_core.jobs import JobSubmission, Resource, parse_queues

QUEUES = parse_queues("cpu,gpu=24GiB,gpu-pair=2x24GiB")


def check(
    strategy: str, *, queue: str | None = None, num_processes: int = 2, resource: Resource = Resource.GPU, has_deepspeed: bool = False
) -> None:
    distributed = {"strategy": strategy, "num_processes": num_processes}
    spec = {"type": "finetune", "model": "bard", "training_file": "text", "distributed": distributed}
    submission = JobSubmission.model_validate({"spec": spec, "queue": queue})
    check_shared(submission, resource, QUEUES, is_packed=False, has_deepspeed=has_deepspeed)


def test_a_queue_that_is_named_must_have_the_gpus() -> None:
    check("ddp", queue="gpu-pair")
    check("fsdp")
    with pytest.raises(InvalidInput, match="this job gets 1") as caught:
        check("ddp", queue="gpu")
    assert [problem.field for problem in caught.value.errors] == ["spec.distributed"]


def test_without_a_name_the_widest_queue_counts() -> None:
    with pytest.raises(InvalidInput, match="3 processes need as many GPUs, and this job gets 2"):
        check("ddp", num_processes=3)


def test_shards_are_refused_for_the_cpu_and_deepspeed_where_workers_lack_it() -> None:
    check("ddp", resource=Resource.CPU, num_processes=8)
    with pytest.raises(InvalidInput, match="gets none"):
        check("fsdp", resource=Resource.CPU)
    with pytest.raises(InvalidInput, match="library of that name"):
        check("deepspeed")
    check("deepspeed", has_deepspeed=True)
