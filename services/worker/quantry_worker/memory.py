"""How much memory a child and its descendants hold, and whether the kernel took one of them for using too much."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

SAMPLE_INTERVAL_S = 0.5
_CGROUP_ROOT = Path("/sys/fs/cgroup")


class PeakMemory:
    """The highest sum of resident bytes over a process and its descendants, seen in samples."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._next_sample_at = 0.0
        self.peak_bytes = 0

    def sample(self) -> None:
        """Looks once, at most every SAMPLE_INTERVAL_S seconds. A process that has ended counts nothing."""
        now = time.monotonic()
        if now < self._next_sample_at:
            return
        self._next_sample_at = now + SAMPLE_INTERVAL_S
        self.peak_bytes = max(self.peak_bytes, _resident_bytes(self._process))


def _resident_bytes(process: psutil.Process) -> int:
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            # It ended between the listing and the look.
            continue
    return total


def num_oom_kills(cgroup_line: str | None = None, root: Path = _CGROUP_ROOT) -> int | None:
    """Returns how many processes of this process's control group the kernel has killed for memory; None if it does not say.

    Reads cgroup v2's ``memory.events`` (v1: ``memory.oom_control``). ``cgroup_line`` is the text of /proc/self/cgroup.
    """
    text = _read(Path("/proc/self/cgroup")) if cgroup_line is None else cgroup_line
    for line in (text or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            candidates = [root / group.lstrip("/") / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            candidates = [root / "memory" / group.lstrip("/") / "memory.oom_control", root / "memory" / "memory.oom_control"]
        else:
            continue
        for path in candidates:
            count = _oom_kill_count(_read(path))
            if count is not None:
                return count
    return None


def _oom_kill_count(text: str | None) -> int | None:
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
