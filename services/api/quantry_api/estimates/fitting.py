"""Whether a fine-tune job fits where it is to run, and what would if it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.estimates import CheckpointFacts, finetune_peak_bytes, fitting_changes, is_packed
from quantry_core.jobs import Estimate, FinetuneSpec, JobSubmission, QueueClass, Resource, classes_for
from quantry_core.training.strategies import num_gpus_of

GIB = 1024**3


class Bound(NamedTuple):
    """Memory that a job must fit in."""

    field: str
    """Of the submission: what an error names."""
    words: str
    max_bytes: int
    resource: Resource
    """cpu is resident memory, gpu device memory."""


def check_fits(
    submission: JobSubmission, base: CheckpointFacts, estimate: Estimate, resource: Resource, queues: Sequence[QueueClass]
) -> None:
    """Raises InvalidInput naming what would fit, where a fine-tune job is larger than the largest queue of its resource or than its own
    limit. One that names a queue is held to its limit alone; jobs of other types are let through.
    """
    spec = submission.spec
    if not isinstance(spec, FinetuneSpec):
        return
    for bound in _bounds(submission, resource, queues):
        figure = "peak_ram_bytes" if bound.resource is Resource.CPU else "peak_vram_bytes"
        needed = getattr(estimate, figure)
        if needed is None or needed <= bound.max_bytes:
            continue
        factor = estimate.corrections.get(figure, 1.0)

        def fits(changed: FinetuneSpec, *, bound: Bound = bound, factor: float = factor) -> bool:
            return factor * finetune_peak_bytes(base, changed, resource, of=bound.resource) <= bound.max_bytes

        changes = fitting_changes(spec, fits, is_packed=is_packed(base))
        ways = f"it would fit with {', or '.join(changes)}" if changes else "nothing that a spec can say makes it fit: take a smaller model"
        queue = "; name a queue to try it all the same" if bound.field == "spec" else ""
        sentence = f"the job needs about {_gib(needed)} and {bound.words} {_gib(bound.max_bytes)}; {ways}{queue}"
        raise InvalidInput(sentence, errors=[FieldProblem(field=bound.field, message=sentence)])


def _bounds(submission: JobSubmission, resource: Resource, queues: Sequence[QueueClass]) -> list[Bound]:
    bounds: list[Bound] = []
    limit = submission.limits.memory_bytes
    if limit is not None:
        bounds.append(Bound("limits.memory_bytes", "its own limit is", limit, Resource.CPU))
    classes = classes_for(queues, resource, num_gpus_of(submission.spec))
    if submission.queue is None and classes and all(known.max_memory_bytes is not None for known in classes):
        largest = max(classes, key=lambda known: known.max_memory_bytes or 0)
        words = f"the largest queue for {resource}, {largest.name}, has"
        bounds.append(Bound("spec", words, largest.max_memory_bytes or 0, resource))
    return bounds


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
