"""Samples how much memory a stack uses: the sum of PSS over its processes, once a second."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from quantry_local.leftovers import find_processes

INTERVAL_S = 1.0


class MemorySampler:
    """Keeps the highest sum seen while its ``with`` block runs. This process counts too."""

    def __init__(self, state_dir: Path, interval_s: float = INTERVAL_S) -> None:
        self._state_dir = state_dir
        self._interval_s = interval_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.peak_bytes = 0
        """Highest sum of PSS; 0 where the kernel does not tell."""

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            pids = [process.pid for process in find_processes(self._state_dir)]
            self.peak_bytes = max(self.peak_bytes, sum_pss_bytes([os.getpid(), *pids]))
            if self._done.wait(self._interval_s):
                return


def sum_pss_bytes(pids: Iterable[int]) -> int:
    """Returns the summed PSS (proportional set size: shared pages divided among their users) of those that still live."""
    return sum(pss_bytes(Path(f"/proc/{pid}/smaps_rollup")) for pid in pids)


def pss_bytes(smaps_rollup: Path) -> int:
    """Returns the PSS that a /proc/<pid>/smaps_rollup file states; 0 if it cannot be read."""
    try:
        stated = re.search(r"^Pss:\s+(\d+) kB$", smaps_rollup.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(stated[1]) * 1024 if stated else 0
