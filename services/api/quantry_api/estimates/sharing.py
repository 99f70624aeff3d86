"""Whether the processes of a fine-tune job can share it in the queue that it would go to."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import FinetuneSpec, JobSubmission, QueueClass, Resource
from quantry_core.training.strategies import Host, not_shared


def check_shared(
    submission: JobSubmission, resource: Resource, queues: Sequence[QueueClass], *, is_packed: bool, has_deepspeed: bool
) -> None:
    """Raises InvalidInput with the reason where they cannot: too few GPUs, a strategy or a library that is not there, packed weights.

    ``is_packed`` says that bitsandbytes packed the base. Of a queue that does not exist another sentence tells.
    """
    if not isinstance(submission.spec, FinetuneSpec):
        return
    classes = [known for known in queues if known.resource is resource and submission.queue in {None, known.name}]
    if not classes:
        return
    num_gpus = 0 if resource is Resource.CPU else max(known.num_gpus for known in classes)
    reason = not_shared(submission.spec, Host(num_gpus, has_deepspeed), is_packed=is_packed)
    if reason is not None:
        raise InvalidInput(reason, errors=[FieldProblem(field="spec.distributed", message=reason)])
