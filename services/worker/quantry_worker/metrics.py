"""The worker's metrics: slots, attempts, cache, memory of children, GPUs. Read by the main process at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from quantry_core.workers import Device
from quantry_telemetry.gpu_metrics import GpuCollector, Owner
from quantry_telemetry.gpus import GpuReading, Gpus
from quantry_telemetry.registry import service_registry
from quantry_worker.family import Family
from quantry_worker.figures import ATTEMPT_SECONDS, Duration, Figures, all_figures

CACHE_LOOK_EVERY_S = 15.0
"""A walk over the cache's folder costs more than the rest together."""

JOB = "job"


def worker_registry(figures_dir: Path, cache_dir: Path, *, num_slots: int, gpus: Gpus) -> CollectorRegistry:
    """Returns the registry of a worker with so many slots."""
    registry = service_registry("worker")
    registry.register(SlotCollector(figures_dir, cache_dir, num_slots))
    GpuCollector(gpus, Jobs(lambda: all_figures(figures_dir, num_slots)).owner_of).register(registry)
    return registry


class SlotCollector:
    """Reads what the slots wrote."""

    def __init__(self, figures_dir: Path, cache_dir: Path, num_slots: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._figures_dir = figures_dir
        self._cache_dir = cache_dir
        self._num_slots = num_slots
        self._clock_s = clock_s
        self._cache_bytes = 0
        self._looked_at_s = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        slots = all_figures(self._figures_dir, self._num_slots)
        running = [slot.running for slot in slots if slot.running is not None]
        yield GaugeMetricFamily("quantry_worker_slots", "Jobs that this worker may run at a time.", value=self._num_slots)
        yield GaugeMetricFamily("quantry_worker_slots_busy", "Jobs that it runs now.", value=len(running))
        jobs = GaugeMetricFamily("quantry_worker_jobs_running", "Jobs that it runs now, by type.", labels=["type"])
        for kind in sorted({one.type for one in running}):
            jobs.add_metric([kind], sum(one.type == kind for one in running))
        yield jobs
        yield _attempts(slots)
        yield _durations(slots)
        memory = GaugeMetricFamily(
            "quantry_worker_child_memory_bytes", "Memory that a slot's child and all it started hold.", labels=["slot"]
        )
        peak = GaugeMetricFamily(
            "quantry_worker_child_memory_peak_bytes", "The most that a child of the slot held so far.", labels=["slot"]
        )
        for index, slot in enumerate(slots):
            memory.add_metric([str(index)], 0 if slot.running is None else slot.running.memory_bytes)
            peak.add_metric([str(index)], slot.peak_memory_bytes)
        yield memory
        yield peak
        pulled = CounterMetricFamily("quantry_worker_input_bytes", "Bytes of inputs, by where they came from.", labels=["source"])
        pulled.add_metric(["vault"], sum(slot.fetched_bytes for slot in slots))
        pulled.add_metric(["cache"], sum(slot.cached_bytes for slot in slots))
        yield pulled
        yield GaugeMetricFamily("quantry_worker_cache_bytes", "Bytes of the cache of inputs.", value=self._cache())

    def _cache(self) -> int:
        now_s = self._clock_s()
        if now_s - self._looked_at_s >= CACHE_LOOK_EVERY_S:
            self._cache_bytes, self._looked_at_s = _size_bytes(self._cache_dir), now_s
        return self._cache_bytes


class Jobs:
    """Which process belongs to which job of this worker."""

    def __init__(self, figures: Callable[[], Sequence[Figures]], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._figures = figures
        self._clock_s = clock_s
        self._owners: dict[int, Owner] = {}
        self._looked_at_s = float("-inf")

    def owner_of(self, pid: int) -> Owner | None:
        """Returns the job of a process; None where it is no job's."""
        now_s = self._clock_s()
        if now_s - self._looked_at_s >= 1.0:
            running = [slot.running for slot in self._figures() if slot.running is not None]
            self._owners = {
                member.pid: Owner(JOB, one.job_id)
                for one in running
                if one.child_pid is not None
                for member in Family(one.child_pid).members()
            }
            self._looked_at_s = now_s
        return self._owners.get(pid)


def with_readings(devices: Sequence[Device], readings: Sequence[GpuReading]) -> list[Device]:
    """Returns the devices with what the driver says of them now. A device is named by its UUID or its index."""
    known = {name: reading for reading in readings for name in (reading.uuid, str(reading.index))}
    return [device if (reading := known.get(device.id)) is None else _with_reading(device, reading) for device in devices]


def _with_reading(device: Device, reading: GpuReading) -> Device:
    errors = [number for number in (reading.num_ecc_corrected, reading.num_ecc_uncorrected) if number is not None]
    update: dict[str, object] = {
        "utilization": reading.utilization,
        "memory_used_bytes": reading.memory_used_bytes,
        "temperature_c": reading.temperature_c,
        "power_w": reading.power_w,
        "num_ecc_errors": sum(errors) if errors else None,
    }
    return device.model_copy(update=update)


def _attempts(slots: Sequence[Figures]) -> Metric:
    numbers: dict[tuple[str, str, str], int] = {}
    for slot in slots:
        for one in slot.ended:
            labels = (one.type, one.outcome, one.reason)
            numbers[labels] = numbers.get(labels, 0) + one.number
    family = CounterMetricFamily(
        "quantry_worker_attempts",
        "Attempts that ended, as this worker saw it; dropped: they had lost their job.",
        labels=["type", "outcome", "reason"],
    )
    for labels, number in numbers.items():
        family.add_metric(labels, number)
    return family


def _durations(slots: Sequence[Figures]) -> Metric:
    family = HistogramMetricFamily("quantry_worker_attempt_duration_seconds", "From the claim to the end of the work.", labels=["type"])
    for kind in sorted({kind for slot in slots for kind in slot.durations}):
        of_kind = [slot.durations.get(kind, Duration()) for slot in slots]
        counts = [sum(one.counts[index] for one in of_kind) for index in range(len(ATTEMPT_SECONDS) + 1)]
        bounds = [*(str(bound) for bound in ATTEMPT_SECONDS), "+Inf"]
        family.add_metric([kind], list(zip(bounds, accumulate(counts), strict=True)), sum(one.sum_s for one in of_kind))
    return family


def _size_bytes(directory: Path) -> int:
    try:
        return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    except OSError:
        # An entry went while it was looked at.
        return 0
