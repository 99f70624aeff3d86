"""How much memory a child and its descendants hold, how much there is, and whether the kernel took one of them for using too much."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from quantry_worker.family import PROC, Family

SAMPLE_INTERVAL_S = 0.15
MAX_SHARE_OF_TIME = 0.05
"""Looking takes longer on a machine with many processes; it is then done less often, and never costs more than this share."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class FamilyMemory:
    """The resident bytes of a child and of all it started, seen in samples.

    One process counts with its resident set (RSS). Several count with their proportional sets (PSS): forked processes share
    pages, and a sum of resident sets would count a page once for each of them. The kernel walks the page tables for a PSS, so
    it is asked for only where there is something to share.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._next_sample_at = 0.0
        self.now_bytes = 0
        self.peak_bytes = 0

    def sample(self) -> None:
        """Looks once, at most every SAMPLE_INTERVAL_S seconds. A process that has ended counts nothing."""
        began = time.monotonic()
        if began < self._next_sample_at:
            return
        members = self._family.members()
        measure = resident_bytes if len(members) == 1 else proportional_bytes
        self.now_bytes = sum(measure(member.pid) for member in members)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        ended = time.monotonic()
        self._next_sample_at = ended + max(SAMPLE_INTERVAL_S, (ended - began) / MAX_SHARE_OF_TIME)


def resident_bytes(pid: int) -> int:
    """Returns the resident set of a process; 0 if it has ended."""
    fields = (_read(PROC / str(pid) / "statm") or "").split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else 0


def proportional_bytes(pid: int) -> int:
    """Returns the resident set of a process, each page divided by the processes that share it; 0 if it has ended."""
    for line in (_read(PROC / str(pid) / "smaps_rollup") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return resident_bytes(pid)


def machine_memory_bytes(cgroup_line: str | None = None, root: Path = _CGROUP_ROOT) -> int:
    """Returns the memory that this process's control group may use, or the machine's where that is less."""
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    limits = [_read(directory / name) for directory, names in _groups(cgroup_line, root) for name in names.limits]
    return min([physical_bytes, *(int(text) for text in limits if text is not None and text.strip().isdigit())])


def num_oom_kills(cgroup_line: str | None = None, root: Path = _CGROUP_ROOT) -> int | None:
    """Returns how many processes of this process's control group the kernel has killed for memory; None if it does not say.

    Reads cgroup v2's ``memory.events`` (v1: ``memory.oom_control``). ``cgroup_line`` is the text of /proc/self/cgroup.
    """
    for directory, names in _groups(cgroup_line, root):
        count = _oom_kill_count(_read(directory / names.events))
        if count is not None:
            return count
    return None


class _Names:
    """What the files of a memory control group are called."""

    def __init__(self, events: str, *limits: str) -> None:
        self.events = events
        self.limits = limits


_V1 = _Names("memory.oom_control", "memory.limit_in_bytes")
_V2 = _Names("memory.events", "memory.max")


def _groups(cgroup_line: str | None, root: Path) -> Iterator[tuple[Path, _Names]]:
    """Yields the folders that may be this process's group: in a container the path of the host is not there, but the root is."""
    text = _read(PROC / "self" / "cgroup") if cgroup_line is None else cgroup_line
    for line in (text or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield root / group.lstrip("/"), _V2
            yield root, _V2
        elif "memory" in controllers.split(","):
            yield root / "memory" / group.lstrip("/"), _V1
            yield root / "memory", _V1


def _oom_kill_count(text: str | None) -> int | None:
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _read(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text()
    return None
