"""Work on many blobs, some at a time, and how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TextIO, TypeVar

from quantry_store.repositories.blobs import Blob

SAY_INTERVAL_S = 2.0
MAX_WAITING = 64
"""Blobs that are handed to the threads ahead of time."""

R = TypeVar("R")

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Progress:
    """Says how far a step is, on one line of a terminal, or now and then on lines of a log."""

    def __init__(self, output: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = sys.stderr if output is None else output
        self._clock = clock
        self._said_at = -SAY_INTERVAL_S

    def say(self, line: str) -> None:
        """Says something once."""
        self._output.write(f"{line}\n")
        self._output.flush()

    def count(self, what: str, done: Sequence[Blob], total: Sequence[Blob]) -> None:
        """Says how many blobs and bytes are done, if the last time is a while ago or this is the end."""
        is_end = len(done) == len(total)
        if not is_end and self._clock() - self._said_at < SAY_INTERVAL_S:
            return
        self._said_at = self._clock()
        line = f"{what}: {len(done)} of {len(total)} blobs, {bytes_text(total_bytes(done))} of {bytes_text(total_bytes(total))}"
        overwrites = self._output.isatty()
        self._output.write(f"\r\x1b[K{line}" if overwrites else f"{line}\n")
        if overwrites and is_end:
            self._output.write("\n")
        self._output.flush()


def each(blobs: Sequence[Blob], work: Callable[[Blob], R], what: str, progress: Progress, *, parallel: int) -> dict[Blob, R]:
    """Returns what ``work`` returned for each blob. The first error of one is raised, once those under way have ended."""
    results: dict[Blob, R] = {}
    waiting = iter(blobs)
    with ThreadPoolExecutor(parallel, thread_name_prefix="backup") as pool:
        running: dict[Future[R], Blob] = {}
        try:
            while len(results) < len(blobs):
                while len(running) < MAX_WAITING and (blob := next(waiting, None)) is not None:
                    running[pool.submit(work, blob)] = blob
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results[running.pop(future)] = future.result()
                progress.count(what, list(results), blobs)
        finally:
            for future in running:
                future.cancel()
    return results


def total_bytes(blobs: Sequence[Blob]) -> int:
    return sum(blob.size_bytes for blob in blobs)


def bytes_text(num_bytes: float) -> str:
    """Returns bytes for people: ``1.4 GB``, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} {_UNITS[-1]}"
