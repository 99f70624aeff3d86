from __future__ import annotations

from pathlib import Path

import pytest

from quantry_core.workers import Device
from quantry_worker.devices import find_devices

TWO_GPUS = """\
0, GPU-aaaa, NVIDIA H200, 143771
1, GPU-bbbb, NVIDIA A10, with a comma, [N/A]
"""
FIRST = Device(id="GPU-aaaa", name="NVIDIA H200", memory_bytes=143771 * 1024**2)
SECOND = Device(id="GPU-bbbb", name="NVIDIA A10, with a comma", memory_bytes=None)


@pytest.mark.parametrize(
    ("names", "devices"),
    [
        ([], []),
        (["auto"], [FIRST, SECOND]),
        (["1", "GPU-aaaa"], [SECOND.model_copy(update={"id": "1"}), FIRST]),
        (["7"], [Device(id="7")]),
    ],
)
def test_devices_are_named_or_asked_for(names: list[str], devices: list[Device]) -> None:
    assert find_devices(names, query=lambda: TWO_GPUS) == devices


def test_without_the_tool_the_drivers_files_are_read(tmp_path: Path) -> None:
    for address, uuid in (("0000:01:00.0", "GPU-aaaa"), ("0000:02:00.0", "GPU-bbbb")):
        (tmp_path / address).mkdir()
        (tmp_path / address / "information").write_text(f"Model: \t\t NVIDIA H200\nIRQ:   70\nGPU UUID: \t {uuid}\n")
    found = find_devices(["auto"], query=lambda: None, driver_directory=tmp_path)
    assert found == [Device(id="GPU-aaaa", name="NVIDIA H200"), Device(id="GPU-bbbb", name="NVIDIA H200")]


def test_a_machine_without_a_gpu_has_none(tmp_path: Path) -> None:
    assert find_devices(["auto"], query=lambda: None, driver_directory=tmp_path / "nothing") == []
    assert find_devices(["auto"], query=lambda: "No devices were found\n") == []
