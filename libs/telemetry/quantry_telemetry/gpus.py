"""What GPUs of this machine do, asked of the driver through NVML. No library, no driver or no GPU: there are none, and no noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import structlog

READ_EVERY_S = 1.0
"""What was read last is good for so long: several readers of /metrics cost the driver one look."""

_TEMPERATURE_GPU = 0
_VOLATILE = 0
_CORRECTED, _UNCORRECTED = 0, 1

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)


class Nvml(Protocol):
    """What is used of NVML, by the names that the module ``pynvml`` (package nvidia-ml-py) gives it."""

    @property
    def NVMLError(self) -> type[Exception]: ...
    def nvmlInit(self) -> Any: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...
    def nvmlDeviceGetTotalEccErrors(self, handle: Any, error_type: int, counter_type: int, /) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU. In a container the driver may name the host's processes, or none."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment. None: the driver does not say."""

    index: int
    uuid: str
    name: str
    utilization: float | None = None
    """Share of the last moments in which a kernel ran, 0 to 1."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    num_ecc_corrected: int | None = None
    num_ecc_uncorrected: int | None = None
    """ECC errors of memory since the driver was loaded."""
    processes: tuple[GpuProcess, ...] = ()


def load_nvml() -> Nvml | None:
    """Returns the library, ready; None where it, its driver or the right to ask is missing."""
    try:
        import pynvml  # noqa: PLC0415  only hosts with GPUs have a use for it
    except ImportError:
        return None
    nvml = cast("Nvml", pynvml)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        _log.debug("no GPUs", problem=str(error))
        return None
    return nvml


class Gpus:
    """The GPUs of this machine. The library is loaded at the first look: in the process that looks, after its forks."""

    def __init__(self, load: Callable[[], Nvml | None] = load_nvml, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock_s = clock_s
        self._nvml: Nvml | None = None
        self._is_loaded = False
        self._read_at_s = float("-inf")
        self._readings: tuple[GpuReading, ...] = ()

    def read(self) -> tuple[GpuReading, ...]:
        """Returns what each GPU does now, or did READ_EVERY_S ago at most; empty where there is none. Never raises for the driver."""
        now_s = self._clock_s()
        if now_s - self._read_at_s >= READ_EVERY_S:
            self._readings, self._read_at_s = self._look(), now_s
        return self._readings

    def _look(self) -> tuple[GpuReading, ...]:
        if not self._is_loaded:
            self._nvml, self._is_loaded = self._load(), True
        nvml = self._nvml
        if nvml is None:
            return ()
        count = _told(nvml, nvml.nvmlDeviceGetCount) or 0
        return tuple(reading for index in range(count) if (reading := _told(nvml, partial(_reading, nvml, index))) is not None)


def _reading(nvml: Nvml, index: int) -> GpuReading:
    """Returns one GPU's reading; raises NVMLError where it has no name: it fell off the bus."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    rates = _told(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = _told(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    celsius = _told(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_GPU))
    processes = _told(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
    return GpuReading(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        utilization=None if rates is None else rates.gpu / 100,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        temperature_c=None if celsius is None else float(celsius),
        power_w=None if milliwatts is None else milliwatts / 1000,
        num_ecc_corrected=_told(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, _CORRECTED, _VOLATILE)),
        num_ecc_uncorrected=_told(nvml, lambda: nvml.nvmlDeviceGetTotalEccErrors(handle, _UNCORRECTED, _VOLATILE)),
        processes=tuple(GpuProcess(int(one.pid), one.usedGpuMemory) for one in processes),
    )


def _told(nvml: Nvml, question: Callable[[], Value]) -> Value | None:
    """Returns the driver's answer; None where it has none: many cards lack a sensor, and a card may go while it is asked."""
    try:
        return question()
    except nvml.NVMLError:
        return None
