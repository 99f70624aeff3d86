"""Finds and ends what a stack left running: after a kill -9 of its process manager, and to prove that nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

STACK_VARIABLE = "QUANTRY_STATE_DIR"
TERM_WAIT_S = 2.0
POSTGRES_WAIT_S = 2.0
KILL_WAIT_S = 1.0


def stack_mark(state_dir: Path) -> str:
    """Returns the value of QUANTRY_STATE_DIR in every process of a stack.

    It names a folder below the state directory, not the directory itself: people export that one in their shells, and
    their shells must never be taken for parts of the stack.
    """
    return str(state_dir / "supervisor")


def find_processes(state_dir: Path) -> list[psutil.Process]:
    """Returns every living process that carries this stack's mark, and their descendants; never this process or those above it."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid in ours or process.pid in found or not carries_mark(process, state_dir):
            continue
        found[process.pid] = process
        with suppress(psutil.Error):
            # Postgres's children write their titles over their environment: they are known by their parent.
            found.update({child.pid: child for child in process.children(recursive=True) if child.pid not in ours})
    return [process for process in found.values() if is_alive(process)]


def carries_mark(process: psutil.Process, state_dir: Path) -> bool:
    """Tells whether a process was started as part of this stack. One whose environment we may not read was not."""
    try:
        return process.environ().get(STACK_VARIABLE) == stack_mark(state_dir)
    except (psutil.Error, OSError):
        return False


def is_alive(process: psutil.Process) -> bool:
    """Tells whether a process runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_processes(state_dir: Path) -> int:
    """Ends all processes of the stack and returns how many there were. Takes at most 7 seconds.

    Everything but Postgres first, with SIGTERM and then SIGKILL; Postgres last, with the signal of its fast shutdown.
    """
    found = find_processes(state_dir)
    postgres = [process for process in found if _is_postgres(process)]
    others = [process for process in found if process not in postgres]
    _signal(others, signal.SIGTERM)
    _kill(wait_for_end(others, TERM_WAIT_S))
    _signal(postgres, signal.SIGINT)
    _kill(wait_for_end(postgres, POSTGRES_WAIT_S))
    # Whatever was started while this went on.
    _kill(find_processes(state_dir))
    return len(found)


def wait_for_end(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Returns the processes that still live after at most ``timeout_s``."""
    # psutil.wait_procs would wait for zombies too, and an orphan's zombie stays where process 1 collects none.
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [process for process in alive if is_alive(process)]
    return alive


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name() == "postgres"
    except psutil.Error:
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    processes = list(processes)
    _signal(processes, signal.SIGKILL)
    wait_for_end(processes, KILL_WAIT_S)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
