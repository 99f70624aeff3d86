"""What a host has for engines: memory, and GPUs that each go to one replica at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from quantry_core.errors import NotServable, Unavailable
from quantry_core.jobs import EngineConfig
from quantry_core.methods import DeviceKind
from quantry_core.versions import Version

NVIDIA_SMI_TIMEOUT_S = 30.0
CGROUP_ROOT = Path("/sys/fs/cgroup")
MIB = 1024**2


@dataclass(frozen=True)
class Gpu:
    """One GPU, as CUDA_VISIBLE_DEVICES names it."""

    id: str
    memory_bytes: int | None = None
    """None: nobody said."""


@dataclass(frozen=True)
class Host:
    """What there is. ``gpus`` is empty where engines are not given any: they run on the CPU, or all see what this process sees."""

    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()

    def check_fits(self, version: Version, engine: EngineConfig) -> None:
        """Raises NotServable where weights and KV cache of one replica could never fit, whatever else runs.

        Neither counts what the engine itself takes, so what passes may still be too much.
        """
        needed_bytes = needed_memory_bytes(version, engine)
        what = f"{version.weights_bytes:,} bytes of weights and {engine.kv_cache_bytes:,} of KV cache"
        if not self.gpus:
            if needed_bytes > self.memory_bytes:
                raise NotServable(
                    f"{version.ref} is too large for this host: {what}, and the host has {self.memory_bytes:,} bytes of memory"
                )
            return
        if engine.num_gpus > len(self.gpus):
            raise NotServable(f"{version.ref} asks for {engine.num_gpus} GPUs a replica, and this host has {len(self.gpus)}")
        sizes = sorted((gpu.memory_bytes for gpu in self.gpus if gpu.memory_bytes is not None), reverse=True)
        if len(sizes) == len(self.gpus) and needed_bytes > sum(sizes[: engine.num_gpus]):
            raise NotServable(
                f"{version.ref} is too large for {engine.num_gpus} GPUs of this host: {what}, and the largest {engine.num_gpus} have "
                f"{sum(sizes[: engine.num_gpus]):,} bytes of memory; take more GPUs a replica, or a smaller kv_cache_bytes"
            )

    def choose_gpus(self, num_gpus: int, taken: Collection[str]) -> tuple[str, ...]:
        """Returns GPUs that nobody has; raises Unavailable with what is missing. Without GPUs to give out there are none to wait for."""
        if not self.gpus:
            return ()
        free = [gpu.id for gpu in self.gpus if gpu.id not in taken]
        if len(free) < num_gpus:
            raise Unavailable(f"it waits for GPUs: {num_gpus} wanted, {len(free)} of {len(self.gpus)} on this host free")
        return tuple(free[:num_gpus])

    def check_free(self, needed_bytes: int, available_bytes: int, promised_bytes: int) -> None:
        """Raises Unavailable with the numbers where a replica on the CPU does not fit beside what runs now.

        ``promised_bytes`` is what started engines have yet to take of the memory that is available.
        """
        if self.gpus or needed_bytes <= available_bytes - promised_bytes:
            return
        raise Unavailable(
            f"it waits for memory: it takes {_gib(needed_bytes)}, and of {_gib(self.memory_bytes)} on this host "
            f"{_gib(available_bytes)} are available, {_gib(promised_bytes)} of them for engines that are starting"
        )


def _gib(size_bytes: int) -> str:
    """Coarse, so that a message that is written each second changes seldom."""
    return f"{size_bytes / 1024**3:.1f} GiB"


def needed_memory_bytes(version: Version, engine: EngineConfig) -> int:
    """Returns the bytes that one replica takes at least: its weights as they are stored, and its KV cache."""
    return version.weights_bytes + engine.kv_cache_bytes


def read_host(device: DeviceKind | None, gpus: str | None, environ: Mapping[str, str] = os.environ) -> Host:
    """Returns what this host has. GPUs are given out where ``device`` is cuda: those that ``gpus`` names, else those of
    CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists."""
    memory_bytes = memory_limit_bytes()
    if device is not DeviceKind.CUDA:
        return Host(memory_bytes)
    known = list_gpus()
    named = gpus if gpus is not None else environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return Host(memory_bytes, tuple(known.values()))
    ids = [word.strip() for word in named.split(",") if word.strip()]
    by_any_name = {**known, **{gpu.id: gpu for gpu in known.values()}}
    sizes = {id_: by_any_name[id_].memory_bytes if id_ in by_any_name else None for id_ in ids}
    return Host(memory_bytes, tuple(Gpu(id_, size) for id_, size in sizes.items()))


def list_gpus() -> dict[str, Gpu]:
    """Returns the GPUs that nvidia-smi lists, by their uuid; none where there is no such program or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(listed.splitlines())


def parse_gpus(lines: Sequence[str]) -> dict[str, Gpu]:
    """Returns GPUs by uuid out of lines of index, uuid and MiB."""
    gpus: dict[str, Gpu] = {}
    for line in lines:
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and words[0].isdigit():
            gpus[words[1]] = Gpu(words[0], int(words[2]) * MIB if words[2].isdigit() else None)
    return gpus


def memory_limit_bytes(root: Path = CGROUP_ROOT) -> int:
    """Returns the bytes of memory that this process and its children may use: the machine's, or its cgroup's limit where that is less."""
    limits = [_number(directory / name) for directory in _cgroups(root) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit is not None)])


def available_memory_bytes(root: Path = CGROUP_ROOT) -> int:
    """Returns the bytes that can be had without swapping: of the machine, or of the cgroup's limit where that is less.

    Pages of files count as available: they go when memory is needed.
    """
    available = [psutil.virtual_memory().available]
    for directory in _cgroups(root):
        limit, used = _number(directory / "memory.max"), _number(directory / "memory.current")
        if limit is not None and used is not None:
            available.append(max(0, limit - used + _file_pages_bytes(directory / "memory.stat")))
    return min(available)


def _cgroups(root: Path) -> list[Path]:
    """Returns the directories of this process's cgroup and those above it, as far as they can be seen."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    path = next((line.split("::", 1)[1] for line in lines if line.startswith("0::")), "/").strip("/")
    directory = root / path
    return [root, *(parent for parent in [directory, *directory.parents] if root in parent.parents)]


def _file_pages_bytes(stat: Path) -> int:
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split()[:1] in (["inactive_file"], ["active_file"]))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
