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

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


class Resource(StrEnum):
    """What a slot of a queue has."""

    CPU = "cpu"
    GPU = "gpu"


class QueueClass(BaseModel):
    """A queue and the memory that one of its slots has: RAM for cpu, VRAM for gpu; None where there is no bound."""

    model_config = ConfigDict(frozen=True)

    name: Queue
    max_memory_bytes: int | None = Field(default=None, ge=1)

    @property
    def resource(self) -> Resource:
        return resource_of(self.name)


DEFAULT_QUEUES = (QueueClass(name="cpu"), QueueClass(name="gpu"))


def resource_of(queue: Queue) -> Resource:
    """Returns what a queue's slots have, by its name."""
    return Resource(queue.partition("-")[0])


def parse_queues(text: str) -> list[QueueClass]:
    """Returns the classes of ``cpu=16GiB,cpu-large,gpu=24GiB,gpu-80g=80GiB``; raises ValueError naming the part that is wrong."""
    queues: list[QueueClass] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, has_size, size = part.partition("=")
        if re.fullmatch(QUEUE_PATTERN, name.strip()) is None:
            raise ValueError(f"{name.strip()!r} is no queue: cpu, gpu, or one of them with a class, such as gpu-80g")
        if any(queue.name == name.strip() for queue in queues):
            raise ValueError(f"the queue {name.strip()!r} is named twice")
        queues.append(QueueClass(name=name.strip(), max_memory_bytes=parse_bytes(size) if has_size else None))
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


def route(
    queues: Sequence[QueueClass], resource: Resource, *, ram_bytes: int | None, vram_bytes: int | None, queue: Queue | None = None
) -> Queue:
    """Returns the queue a job goes to: the one it names, else the smallest class of its resource that its estimate fits in.

    Unknown needs (None) go to the first class. Raises InvalidInput if there is no such queue, or none that is large enough.
    """
    if queue is not None:
        if all(known.name != queue for known in queues):
            raise _refusal("queue", f"there is no queue {queue!r} here; there are {_names(queues)}")
        return queue
    candidates = [known for known in queues if known.resource is resource]
    if not candidates:
        raise _refusal("resource", f"there is no queue for {resource} here; there are {_names(queues)}")
    needed_bytes = ram_bytes if resource is Resource.CPU else vram_bytes
    if needed_bytes is None:
        return candidates[0].name
    by_size = sorted(candidates, key=lambda known: known.max_memory_bytes or float("inf"))
    for known in by_size:
        if known.max_memory_bytes is None or known.max_memory_bytes >= needed_bytes:
            return known.name
    largest = by_size[-1]
    raise _refusal(
        "spec",
        f"the job needs about {needed_bytes / 1024**3:.1f} GiB and the largest queue for {resource}, {largest.name}, has "
        f"{(largest.max_memory_bytes or 0) / 1024**3:.1f} GiB; name a queue to try it all the same",
    )


def _refusal(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])


def _names(queues: Iterable[QueueClass]) -> str:
    return ", ".join(known.name for known in queues)
