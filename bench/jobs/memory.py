"""How much memory a supervisor holds: the pool process that runs a job's child, and the worker's main process."""

from __future__ import annotations

from pathlib import Path

import psutil

from bench.embedded import Measured


def supervisors(measured: Measured) -> list[psutil.Process]:
    """Returns the worker's pool processes."""
    (worker,) = (part for part in measured.stack.status() if part.name == "worker")
    return psutil.Process(worker.pid).children()


def resident_mb(measured: Measured) -> float:
    """Returns the largest resident set of a pool process, in MB; shared pages count in full."""
    return max(process.memory_info().rss for process in supervisors(measured)) / 1e6


def has_torch(measured: Measured) -> bool:
    """Tells whether a supervisor has a library of torch mapped."""
    return any("libtorch" in Path(f"/proc/{process.pid}/maps").read_text() for process in supervisors(measured))
