"""Processes of the comparison: each on a core that it is given, its CPU time and its memory read from the kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0


class Cores(NamedTuple):
    """Where everything runs. With one core only both are the same, and the figures say less."""

    around: set[int]
    """Client, engine and control plane."""

    proxy: set[int]


def two_cores() -> Cores:
    """Returns two cores that this process may use, or one twice."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores({allowed[0]}, {allowed[1] if len(allowed) > 1 else allowed[0]})


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Has what is started meanwhile run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str], port: int, cores: set[int], log: Path, *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[psutil.Process]:
    """Yields a process once it takes connections; it and what it started are ended afterwards."""
    with log.open("wb") as output, on_cores(cores):
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for_port(process, port, log)
        yield psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_well(url: str) -> None:
    """Returns once a GET of ``url`` answers 200; RuntimeError if it does not in time."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while httpx.get(url, trust_env=False).status_code != 200:
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"{url} does not answer 200")
        time.sleep(0.1)


def cpu_s(process: psutil.Process) -> float:
    """Returns the CPU seconds that a process and its children have used, of all their threads.

    By the kernel's CPU clock of each process, in nanoseconds: what ps shows is counted in hundredths of a second.
    """
    return sum(time.clock_gettime(_cpu_clock(one.pid)) for one in _family(process))


def _cpu_clock(pid: int) -> int:
    """Returns the number of another process's CPU clock: what clock_getcpuclockid(3) does on Linux."""
    return (~pid << 3) | 2


def resident_mb(process: psutil.Process) -> float:
    """Returns the resident memory of a process and its children, in MB."""
    return sum(one.memory_info().rss for one in _family(process)) / 1e6


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise RuntimeError(f"{process.args!r} does not listen on {port}:\n{log.read_text(errors='replace')[-3000:]}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.1)
