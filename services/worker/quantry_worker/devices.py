"""The GPUs of this machine, without CUDA: by name from the settings, or asked of the driver."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from quantry_core.workers import Device
from quantry_worker.settings import AUTO_GPUS

log = structlog.get_logger(__name__)

QUERY = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
QUERY_TIMEOUT_S = 30.0
DRIVER_DIRECTORY = Path("/proc/driver/nvidia/gpus")
MEBIBYTE = 1024**2


def find_devices(
    names: Sequence[str], *, query: Callable[[], str | None] | None = None, driver_directory: Path = DRIVER_DIRECTORY
) -> list[Device]:
    """Returns the GPUs with these indices or UUIDs, in this order; all that the driver knows for ``auto``.

    What is named counts as there: the driver only adds its name and memory (bytes). ``query`` returns what QUERY prints.
    """
    if not names:
        return []
    text = (query or _ask_driver)()
    known = _parse_query(text) if text is not None else _read_driver(driver_directory)
    if list(names) == [AUTO_GPUS]:
        return [device for _, device in known]
    by_name = {name: device for index, device in known for name in (index, device.id)}
    return [by_name[name].model_copy(update={"id": name}) if name in by_name else Device(id=name) for name in names]


def _ask_driver() -> str | None:
    try:
        return subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=QUERY_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.info("nvidia-smi does not answer", problem=str(error))
        return None


def _parse_query(text: str) -> list[tuple[str, Device]]:
    """Returns index and device of each line ``0, GPU-1234, NVIDIA H200, 143771``; memory may be ``[N/A]``."""
    found: list[tuple[str, Device]] = []
    for line in text.splitlines():
        index, has_more, rest = line.partition(",")
        uuid, _, rest = rest.partition(",")
        name, _, mebibytes = rest.rpartition(",")
        if has_more and uuid.strip():
            size = mebibytes.strip()
            memory_bytes = int(size) * MEBIBYTE if size.isdigit() else None
            found.append((index.strip(), Device(id=uuid.strip(), name=name.strip()[:120], memory_bytes=memory_bytes)))
    return found


def _read_driver(directory: Path) -> list[tuple[str, Device]]:
    """Returns the same from the files of the kernel's driver, where the tool is not installed."""
    found: list[tuple[str, Device]] = []
    for path in sorted(directory.glob("*/information")):
        fields = dict(line.partition(":")[::2] for line in path.read_text().splitlines())
        uuid = fields.get("GPU UUID", "").strip()
        if uuid:
            found.append((str(len(found)), Device(id=uuid, name=fields.get("Model", "").strip()[:120])))
    return found
