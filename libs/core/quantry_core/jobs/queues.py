"""Queues by resource and by memory class, and which of them a job goes to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.errors import FieldProblem, InvalidInput

QUEUE_PATTERN = r"^(cpu|gpu)(-[a-z0-9]{1,24})?$"

Queue = Annotated[str, StringConstraints(pattern=QUEUE_PATTERN)]
"""``cpu``, ``gpu``, or a class of one of them such as ``gpu-80g``. Deploy jobs are in none: the rollout controller runs them."""

CPU_QUEUE: Queue = "cpu"

MAX_GPUS = 64
"""Of one host."""

_NUM_GPUS = re.compile(r"(\d+)x(.*)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


class Resource(StrEnum):
    """What a slot of a queue has."""

    CPU = "cpu"
    GPU = "gpu"


class QueueClass(BaseModel):
    """A queue and what one of its slots has. Memory is RAM for cpu, VRAM of each GPU for gpu; None where there is no bound."""

    model_config = ConfigDict(frozen=True)

    name: Queue
    max_memory_bytes: int | None = Field(default=None, ge=1)
    num_gpus: int = Field(default=1, ge=1, le=MAX_GPUS, description="Of a queue for GPUs: how many one slot has.")

    @property
    def resource(self) -> Resource:
        return resource_of(self.name)


DEFAULT_QUEUES = (QueueClass(name="cpu"), QueueClass(name="gpu"))


def resource_of(queue: Queue) -> Resource:
    """Returns what a queue's slots have, by its name."""
    return Resource(queue.partition("-")[0])


def parse_queues(text: str) -> list[QueueClass]:
    """Returns the classes of ``cpu=16GiB,cpu-large,gpu=24GiB,gpu-quad=4x80GiB``; raises ValueError naming the part that is wrong.

    The last has four GPUs of 80 GiB for each slot; ``gpu-quad=4x`` has four without a bound.
    """
    queues: list[QueueClass] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, has_size, size = part.partition("=")
        if re.fullmatch(QUEUE_PATTERN, name.strip()) is None:
            raise ValueError(f"{name.strip()!r} is no queue: cpu, gpu, or one of them with a class, such as gpu-80g")
        if any(queue.name == name.strip() for queue in queues):
            raise ValueError(f"the queue {name.strip()!r} is named twice")
        queues.append(_class(name.strip(), size.strip() if has_size else None))
    if not queues:
        raise ValueError("there is no queue at all")
    return queues


def parse_bytes(text: str) -> int:
    """Returns bytes from ``512MiB``, ``1.5 GiB`` or ``1048576``; raises ValueError for anything else and for zero."""
    match = _SIZE.fullmatch(text.strip())
    num_bytes = round(float(match[1]) * _UNITS[match[2] or "B"]) if match else 0
    if num_bytes < 1:
        raise ValueError(f"{text!r} is no size: a number of bytes above zero, or one with KiB, MiB, GiB or TiB")
    return num_bytes


def classes_for(queues: Sequence[QueueClass], resource: Resource, num_gpus: int) -> list[QueueClass]:
    """Returns the queues of a resource; of those for GPUs the ones whose slots have so many, those with the fewest first."""
    has_enough = (queue for queue in queues if queue.resource is resource and (resource is Resource.CPU or queue.num_gpus >= num_gpus))
    return sorted(has_enough, key=lambda queue: queue.num_gpus)


def route(
    queues: Sequence[QueueClass],
    resource: Resource,
    *,
    ram_bytes: int | None,
    vram_bytes: int | None,
    num_gpus: int = 1,
    queue: Queue | None = None,
) -> Queue:
    """Returns the queue a job goes to: the one it names, else the smallest class of its resource that its estimate fits in.

    ``vram_bytes`` are of each GPU; slots with more GPUs than a job works with are taken where no others have the memory.
    Unknown needs (None) go to the first class. Raises InvalidInput if there is no such queue, or none that is large enough.
    """
    if queue is not None:
        if all(known.name != queue for known in queues):
            raise _refusal("queue", f"there is no queue {queue!r} here; there are {_names(queues)}")
        return queue
    candidates = classes_for(queues, resource, num_gpus)
    if not candidates:
        what = resource if resource is Resource.CPU or num_gpus == 1 else f"{num_gpus} GPUs a job"
        raise _refusal("resource", f"there is no queue for {what} here; there are {_names(queues)}")
    needed_bytes = ram_bytes if resource is Resource.CPU else vram_bytes
    if needed_bytes is None:
        return candidates[0].name
    by_size = sorted(candidates, key=lambda known: known.max_memory_bytes or float("inf"))
    for known in sorted(by_size, key=lambda known: known.num_gpus):
        if known.max_memory_bytes is None or known.max_memory_bytes >= needed_bytes:
            return known.name
    largest = by_size[-1]
    raise _refusal(
        "spec",
        f"the job needs about {needed_bytes / 1024**3:.1f} GiB and the largest queue for {resource}, {largest.name}, has "
        f"{(largest.max_memory_bytes or 0) / 1024**3:.1f} GiB; name a queue to try it all the same",
    )


def _class(name: Queue, size: str | None) -> QueueClass:
    """Returns the class of one part of a list; raises ValueError for a size that is none, and for GPUs of a queue that has none."""
    counted = None if size is None else _NUM_GPUS.fullmatch(size)
    if size is None or counted is None:
        return QueueClass(name=name, max_memory_bytes=None if size is None else parse_bytes(size))
    num_gpus, rest = int(counted[1]), counted[2].strip()
    if resource_of(name) is Resource.CPU or not 1 <= num_gpus <= MAX_GPUS:
        raise ValueError(f"{name}={size}: a queue for GPUs has 1 to {MAX_GPUS} for each slot, and one for the CPU has none")
    return QueueClass(name=name, max_memory_bytes=parse_bytes(rest) if rest else None, num_gpus=num_gpus)


def _refusal(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])


def _names(queues: Iterable[QueueClass]) -> str:
    return ", ".join(known.name for known in queues)
