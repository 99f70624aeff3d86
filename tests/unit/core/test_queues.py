"""Queues by resource and memory, and where a job goes."""

from __future__ import annotations

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs import DEFAULT_QUEUES, QueueClass, Resource, parse_bytes, parse_queues, resource_of, route

GIB = 1024**3
QUEUES = parse_queues("cpu=16GiB, cpu-large, gpu=24GiB, gpu-80g=80GiB")


def test_queues_are_read_from_one_line() -> None:
    assert [
        QueueClass(name="cpu", max_memory_bytes=16 * GIB),
        QueueClass(name="cpu-large"),
        QueueClass(name="gpu", max_memory_bytes=24 * GIB),
        QueueClass(name="gpu-80g", max_memory_bytes=80 * GIB),
    ] == QUEUES
    assert [queue.resource for queue in QUEUES] == [Resource.CPU, Resource.CPU, Resource.GPU, Resource.GPU]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no queue at all"),
        ("tpu", "is no queue"),
        ("cpu,cpu", "twice"),
        ("cpu=0", "no size"),
        ("cpu=lots", "no size"),
        ("CPU", "is no queue"),
        ("cpu=2x16GiB", "one for the CPU has none"),
        ("gpu=0x", "1 to 64 for each slot"),
        ("gpu=2x0", "no size"),
    ],
)
def test_what_is_no_list_of_queues_is_told(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_queues(text)


@pytest.mark.parametrize(("text", "size_bytes"), [("512MiB", 512 * 1024**2), ("1.5 GiB", 3 * GIB // 2), ("7", 7), ("2TiB", 2048 * GIB)])
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("resource", "ram", "vram", "queue"),
    [
        (Resource.CPU, GIB, None, "cpu"),
        (Resource.CPU, 16 * GIB, None, "cpu"),
        (Resource.CPU, 17 * GIB, None, "cpu-large"),
        (Resource.CPU, None, None, "cpu"),
        (Resource.GPU, 500 * GIB, GIB, "gpu"),
        (Resource.GPU, GIB, 25 * GIB, "gpu-80g"),
        (Resource.GPU, GIB, None, "gpu"),
    ],
)
def test_a_job_goes_to_the_smallest_queue_it_fits_in(resource: Resource, ram: int | None, vram: int | None, queue: str) -> None:
    assert route(QUEUES, resource, ram_bytes=ram, vram_bytes=vram) == queue


def test_a_job_of_several_processes_goes_where_a_slot_has_as_many_gpus() -> None:
    queues = parse_queues("cpu,gpu=24GiB,gpu-quad=4x80GiB,gpu-pair=2x24GiB,gpu-oct=8x")
    assert [queue.num_gpus for queue in queues] == [1, 1, 4, 2, 8]
    assert [queue.max_memory_bytes for queue in queues] == [None, 24 * GIB, 80 * GIB, 24 * GIB, None]

    def queue(num_gpus: int, vram: int | None, resource: Resource = Resource.GPU) -> str:
        return route(queues, resource, ram_bytes=None, vram_bytes=vram, num_gpus=num_gpus)

    assert [queue(1, GIB), queue(2, GIB), queue(3, GIB), queue(5, 90 * GIB), queue(2, None)] == [
        "gpu",
        "gpu-pair",
        "gpu-quad",
        "gpu-oct",
        "gpu-pair",
    ]
    assert [queue(1, 25 * GIB), queue(1, 90 * GIB)] == ["gpu-quad", "gpu-oct"]
    assert queue(4, None, Resource.CPU) == "cpu"
    with pytest.raises(InvalidInput, match="no queue for 9 GPUs a job"):
        queue(9, None)


def test_a_job_that_fits_nowhere_is_told_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"needs about 90.0 GiB .* gpu-80g, has 80.0 GiB"):
        route(QUEUES, Resource.GPU, ram_bytes=None, vram_bytes=90 * GIB)


def test_a_named_queue_outranks_the_estimate_and_must_exist() -> None:
    assert route(QUEUES, Resource.CPU, ram_bytes=None, vram_bytes=90 * GIB, queue="gpu") == "gpu"
    with pytest.raises(InvalidInput, match="no queue 'gpu-40g' here"):
        route(QUEUES, Resource.CPU, ram_bytes=None, vram_bytes=None, queue="gpu-40g")


def test_without_a_queue_for_a_resource_nothing_goes_there() -> None:
    with pytest.raises(InvalidInput, match="no queue for gpu"):
        route(parse_queues("cpu"), Resource.GPU, ram_bytes=None, vram_bytes=None)


def test_the_defaults_take_anything() -> None:
    assert route(DEFAULT_QUEUES, Resource.CPU, ram_bytes=10**15, vram_bytes=None) == "cpu"
    assert resource_of("gpu-80g") is Resource.GPU
