"""What the driver says becomes readings; what it does not say, or refuses, becomes nothing, without noise."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from quantry_telemetry.gpu_metrics import GpuCollector, Owner
from quantry_telemetry.gpus import READ_EVERY_S, GpuProcess, GpuReading, Gpus, Nvml, load_nvml


class NVMLError(Exception):
    """As the library's."""


@dataclass
class Card:
    """One GPU of the fake driver. What is None is not supported by it."""

    uuid: str = "GPU-1"
    name: str = "NVIDIA H200"
    percent: int | None = 40
    used: int | None = 20
    total: int = 100
    celsius: int | None = 61
    milliwatts: int | None = 350_000
    ecc: dict[int, int] | None = field(default_factory=lambda: {0: 3, 1: 0})
    processes: list[SimpleNamespace] = field(default_factory=list)
    is_gone: bool = False


class FakeNvml:
    """The driver of a machine with these cards, by NVML's own names."""

    NVMLError = NVMLError

    def __init__(self, *cards: Card) -> None:
        self.cards = cards
        self.num_looks = 0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        self.num_looks += 1
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if self.cards[index].is_gone:
            raise NVMLError("GPU is lost")
        return self.cards[index]

    def nvmlDeviceGetUUID(self, handle: Card) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Card) -> str:
        return handle.name

    def nvmlDeviceGetUtilizationRates(self, handle: Card) -> Any:
        return SimpleNamespace(gpu=self._told(handle.percent), memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> Any:
        return SimpleNamespace(used=self._told(handle.used), total=handle.total, free=0)

    def nvmlDeviceGetTemperature(self, handle: Card, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._told(handle.celsius)

    def nvmlDeviceGetPowerUsage(self, handle: Card) -> int:
        return self._told(handle.milliwatts)

    def nvmlDeviceGetTotalEccErrors(self, handle: Card, error_type: int, counter_type: int, /) -> int:
        assert counter_type == pynvml.NVML_VOLATILE_ECC
        return (handle.ecc or {})[error_type] if handle.ecc is not None else self._told(None)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Card) -> list[SimpleNamespace]:
        return handle.processes

    @staticmethod
    def _told(value: int | None) -> int:
        if value is None:
            raise NVMLError("Not Supported")
        return value


def test_a_reading_says_what_the_driver_says() -> None:
    card = Card(processes=[SimpleNamespace(pid=7, usedGpuMemory=15), SimpleNamespace(pid=8, usedGpuMemory=None)])
    (reading,) = Gpus(lambda: FakeNvml(card)).read()
    assert reading == GpuReading(
        index=0,
        uuid="GPU-1",
        name="NVIDIA H200",
        utilization=0.4,
        memory_used_bytes=20,
        memory_total_bytes=100,
        temperature_c=61.0,
        power_w=350.0,
        num_ecc_corrected=3,
        num_ecc_uncorrected=0,
        processes=(GpuProcess(7, 15), GpuProcess(8, None)),
    )


def test_what_a_card_does_not_know_is_left_out_and_a_lost_card_too() -> None:
    plain = Card(uuid="GPU-2", percent=None, used=None, celsius=None, milliwatts=None, ecc=None)
    (reading,) = Gpus(lambda: FakeNvml(Card(is_gone=True), plain)).read()
    assert reading == GpuReading(index=1, uuid="GPU-2", name="NVIDIA H200")


def test_the_driver_is_looked_at_once_a_second() -> None:
    now_s = [100.0]
    driver = FakeNvml(Card())
    gpus = Gpus(lambda: driver, clock_s=lambda: now_s[0])
    for _ in range(3):
        gpus.read()
    assert driver.num_looks == 1
    now_s[0] += READ_EVERY_S
    gpus.read()
    assert driver.num_looks == 2


def test_without_library_or_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Gpus(lambda: None).read() == ()
    broken = ModuleType("pynvml")
    broken.NVMLError = NVMLError  # type: ignore[attr-defined]

    def nvml_init() -> None:
        raise NVMLError("Driver Not Loaded")

    broken.nvmlInit = nvml_init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert load_nvml() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert load_nvml() is None


def test_the_real_library_has_every_name_that_is_used() -> None:
    used = [name for name in vars(Nvml) if name.startswith("nvml")]
    assert len(used) == 11
    assert [name for name in used if not callable(getattr(pynvml, name, None))] == []
    assert issubclass(pynvml.NVMLError, Exception)


def test_metrics_name_cards_by_uuid_and_processes_by_their_owner() -> None:
    card = Card(
        processes=[
            SimpleNamespace(pid=7, usedGpuMemory=15),
            SimpleNamespace(pid=8, usedGpuMemory=5),
            SimpleNamespace(pid=9, usedGpuMemory=None),
        ]
    )
    registry = CollectorRegistry()
    GpuCollector(Gpus(lambda: FakeNvml(card)), lambda pid: Owner("job", "job_1") if pid in {7, 8} else None).register(registry)
    found = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in generate_latest(registry).decode().splitlines() if line[0] != "#"
    }
    assert found == {
        "quantry_gpus": 1,
        'quantry_gpu_info{gpu="GPU-1",index="0",model="NVIDIA H200"}': 1,
        'quantry_gpu_utilization_ratio{gpu="GPU-1"}': 0.4,
        'quantry_gpu_memory_used_bytes{gpu="GPU-1"}': 20,
        'quantry_gpu_memory_total_bytes{gpu="GPU-1"}': 100,
        'quantry_gpu_temperature_celsius{gpu="GPU-1"}': 61,
        'quantry_gpu_power_watts{gpu="GPU-1"}': 350,
        'quantry_gpu_ecc_errors_total{gpu="GPU-1",kind="corrected"}': 3,
        'quantry_gpu_ecc_errors_total{gpu="GPU-1",kind="uncorrected"}': 0,
        'quantry_gpu_process_memory_bytes{gpu="GPU-1",id="job_1",owner="job"}': 20,
        'quantry_gpu_process_memory_bytes{gpu="GPU-1",id="",owner="other"}': 0,
    }
