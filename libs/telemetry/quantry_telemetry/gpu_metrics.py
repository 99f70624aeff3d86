"""GPUs as metrics: read from the driver at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from quantry_telemetry.gpus import GpuReading, Gpus

OTHER = "other"
"""Owner of processes that are none of the service's."""

_GAUGES: tuple[tuple[str, str, Callable[[GpuReading], float | None]], ...] = (
    (
        "quantry_gpu_utilization_ratio",
        "Share of the last moments in which a kernel ran on the GPU.",
        lambda gpu: gpu.utilization,
    ),
    ("quantry_gpu_memory_used_bytes", "Memory of the GPU that is in use, by whomever.", lambda gpu: gpu.memory_used_bytes),
    ("quantry_gpu_memory_total_bytes", "Memory of the GPU.", lambda gpu: gpu.memory_total_bytes),
    ("quantry_gpu_temperature_celsius", "Temperature of the GPU.", lambda gpu: gpu.temperature_c),
    ("quantry_gpu_power_watts", "Power that the GPU draws.", lambda gpu: gpu.power_w),
)


class Owner(NamedTuple):
    """Whose process it is: ``job`` or ``replica`` with its id."""

    kind: str
    id: str


OwnerOf = Callable[[int], Owner | None]
"""Tells whose a process is; None: nobody's that the service knows."""


class GpuCollector:
    """The GPUs of this machine, as the service sees them."""

    def __init__(self, gpus: Gpus, owner_of: OwnerOf) -> None:
        self._gpus = gpus
        self._owner_of = owner_of

    def register(self, registry: CollectorRegistry) -> None:
        """Adds the GPUs to a registry."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yields what the driver says now; families without a sample where there is no GPU."""
        readings = self._gpus.read()
        yield GaugeMetricFamily("quantry_gpus", "GPUs that the driver knows on this host.", value=len(readings))
        info = GaugeMetricFamily("quantry_gpu_info", "Always 1: which GPU it is.", labels=["gpu", "index", "model"])
        errors = CounterMetricFamily(
            "quantry_gpu_ecc_errors", "ECC errors of the GPU's memory since its driver was loaded.", labels=["gpu", "kind"]
        )
        for gpu in readings:
            info.add_metric([gpu.uuid, str(gpu.index), gpu.name], 1)
            for kind, number in (("corrected", gpu.num_ecc_corrected), ("uncorrected", gpu.num_ecc_uncorrected)):
                if number is not None:
                    errors.add_metric([gpu.uuid, kind], number)
        yield info
        yield errors
        for name, words, value_of in _GAUGES:
            family = GaugeMetricFamily(name, words, labels=["gpu"])
            for gpu in readings:
                value = value_of(gpu)
                if value is not None:
                    family.add_metric([gpu.uuid], value)
            yield family
        yield self._processes(readings)

    def _processes(self, readings: tuple[GpuReading, ...]) -> Metric:
        family = GaugeMetricFamily(
            "quantry_gpu_process_memory_bytes",
            "Memory of the GPU that processes hold, by the job or replica they belong to.",
            labels=["gpu", "owner", "id"],
        )
        for gpu in readings:
            held: dict[Owner, int] = {}
            for process in gpu.processes:
                owner = self._owner_of(process.pid) or Owner(OTHER, "")
                held[owner] = held.get(owner, 0) + (process.memory_bytes or 0)
            for owner, num_bytes in held.items():
                family.add_metric([gpu.uuid, owner.kind, owner.id], num_bytes)
        return family
