"""This machine: Python, memory, disk, processor, GPUs."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quantry.checkup.findings import Check, Finding, Teller
from quantry.cli.output import bytes_text

AREA = "machine"
OLDEST_PYTHON = (3, 11)
GIB = 1024**3
LITTLE_MEMORY_BYTES = 8 * GIB
LITTLE_FREE_MEMORY_BYTES = 2 * GIB
LITTLE_DISK_BYTES = 20 * GIB
NO_DISK_BYTES = 2 * GIB

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")


def machine_checks(folder: Path) -> list[Check]:
    """Returns the looks at this machine; ``folder`` is where data would lie."""
    looks: dict[str, Callable[[], Sequence[Finding]]] = {
        "python": partial(look_at_python, sys.version_info[:3]),
        "processor": look_at_processor,
        "memory": look_at_memory,
        "disk": partial(look_at_disk, folder),
        "gpu": look_at_gpus,
    }
    return [Check(AREA, name, look) for name, look in looks.items()]


def look_at_python(version: Sequence[int]) -> list[Finding]:
    """Tells whether this Python is new enough."""
    tell, words = Teller(AREA, "python"), ".".join(map(str, version))
    if tuple(version[:2]) < OLDEST_PYTHON:
        return [tell.fail(f"Python {words}", f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")]
    return [tell.ok(f"Python {words}, {platform.system()} {platform.machine()}")]


def look_at_processor(cpuinfo: Path = _CPUINFO) -> list[Finding]:
    """Tells how many cores there are, and which wide instructions an engine on the CPU finds."""
    tell = Teller(AREA, "processor")
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    flags = set(found[1].split()) if found else set()
    named = [name for name, flag in (("AMX", "amx_tile"), ("AVX-512", "avx512f"), ("AVX2", "avx2"), ("NEON", "asimd")) if flag in flags]
    words = f"{num_cores} cores" + (f", {', '.join(named)}" if named else "")
    if found and not named:
        return [tell.warn(f"{words}, neither AVX2 nor NEON", "serve and quantize elsewhere: engines on this CPU are slow or do not start")]
    if num_cores < 2:
        return [tell.warn(words, "give it 2 cores or more: a job and the services share what is there")]
    return [tell.ok(words)]


def look_at_memory(meminfo: Path = _MEMINFO) -> list[Finding]:
    """Tells how much memory there is, and how much of it is free."""
    tell = Teller(AREA, "memory")
    if not meminfo.is_file():
        return [tell.ok("not told by this system")]
    sizes = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)}
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    words = f"{bytes_text(total)}, {bytes_text(free)} of it available"
    if free < LITTLE_FREE_MEMORY_BYTES:
        return [tell.warn(words, "stop what else runs here: a job that finds no memory ends as out_of_memory")]
    if total < LITTLE_MEMORY_BYTES:
        return [tell.warn(words, "enough for the client; services, a job and an engine want 8 GiB or more")]
    return [tell.ok(words)]


def look_at_disk(folder: Path) -> list[Finding]:
    """Tells how much room there is where data would lie."""
    tell, place = Teller(AREA, "disk"), _nearest(folder.absolute())
    free = shutil.disk_usage(place).free
    words = f"{bytes_text(free)} free at {place}"
    if free < NO_DISK_BYTES:
        return [tell.fail(words, "free some: models, caches and the vault have no room")]
    if free < LITTLE_DISK_BYTES:
        return [tell.warn(words, "free some: a model is held several times, as master, in caches, quantized")]
    return [tell.ok(words)]


def look_at_gpus(nvml: Any = None) -> list[Finding]:
    """Tells of each GPU. Without nvidia-ml-py, a driver or a GPU there are none, which is no fault."""
    tell = Teller(AREA, "gpu")
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except ImportError:
        return [tell.ok("not looked for: nvidia-ml-py is not installed here")]
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if Path("/dev/nvidia0").exists():
            return [tell.fail(f"a GPU is there, its driver does not answer: {error}", "look at nvidia-smi: driver and library must fit")]
        return [tell.ok("none; jobs run on the CPU")]
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_gpu(tell, nvml, handle) for handle in handles] or [tell.ok("none; jobs run on the CPU")]
    finally:
        nvml.nvmlShutdown()


def _gpu(tell: Teller, nvml: Any, handle: Any) -> Finding:
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    words = f"{name.decode() if isinstance(name, bytes) else name}, {bytes_text(memory.free)} of {bytes_text(memory.total)} free"
    if memory.free < memory.total / 10:
        return tell.warn(words, "somebody else holds its memory: nvidia-smi names the process")
    return tell.ok(words)


def _nearest(folder: Path) -> Path:
    """Returns the folder, or the one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())
