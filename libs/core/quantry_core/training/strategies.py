"""Which training jobs several processes can share: asked at submission, and by the child before it loads anything."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.jobs import FinetuneSpec, JobSpec
from quantry_core.training.names import Strategy


class Host(NamedTuple):
    """What a job of several processes finds where it runs."""

    num_gpus: int
    """That the job can see; 0 in a queue for the CPU."""
    has_deepspeed: bool
    """Its environment has the library, which no lock file of ours brings."""


def num_gpus_of(spec: JobSpec) -> int:
    """Returns how many GPUs a job works with where it runs on GPUs at all: one for each of its processes."""
    return 1 if not isinstance(spec, FinetuneSpec) or spec.distributed is None else spec.distributed.num_processes


def not_shared(spec: FinetuneSpec, host: Host, *, is_packed: bool) -> str | None:
    """Returns why the processes of a job cannot share it there, and what to do instead; None if they can, or it has only one.

    ``is_packed`` says that bitsandbytes packed the base.
    """
    if spec.distributed is None:
        return None
    strategy, num_processes = spec.distributed.strategy, spec.distributed.num_processes
    if strategy is not Strategy.DDP and host.num_gpus == 0:
        return f"strategy {strategy} shards over GPUs, and this job gets none; processes on the CPU share their work by ddp"
    if strategy is Strategy.DEEPSPEED and not host.has_deepspeed:
        return (
            "strategy deepspeed needs the library of that name, which the ml environment of the worker does not have; "
            "fsdp shards as much, ddp nothing"
        )
    if 0 < host.num_gpus < num_processes:
        return f"{num_processes} processes need as many GPUs, and this job gets {host.num_gpus}: name a queue whose slots have so many"
    if strategy is not Strategy.DDP and (is_packed or spec.base_precision is not None):
        return f"strategy {strategy} cannot shard weights that bitsandbytes has packed; take ddp, or a 16-bit base"
    return None
