"""Processes of the stack by what they are, found by pid and parentage, and signals to them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaos.platform import Chaos, wait_until
from quantry_local.launch import LaunchFile

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Family:
    """One worker's processes: its main process, its pool processes, and the children that run recipes."""

    main: int
    pool: list[int]
    children: list[int]


def family_of(main: int) -> Family:
    """Returns a worker's processes as they are now."""
    try:
        pool = [process for process in psutil.Process(main).children() if is_alive(process.pid)]
        children = [child.pid for process in pool for child in _children(process)]
    except psutil.Error:
        return Family(main, [], [])
    return Family(main, [process.pid for process in pool], children)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def is_alive(pid: int) -> bool:
    """Tells whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def send(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; returns False for a process that has gone, and for 0: to the kernel that is this process's own group."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def with_tests(launch: LaunchFile) -> LaunchFile:
    """Returns how a process is started that can import this package too."""
    path = os.pathsep.join([str(TESTS), *filter(None, [launch.environment.get("PYTHONPATH")])])
    return launch.model_copy(update={"environment": {**launch.environment, "PYTHONPATH": path}})


class Replica:
    """A process of the product beside the stack's own, started anew when it dies. It carries the stack's mark, so `down` ends it."""

    def __init__(self, launch: LaunchFile, log: Path) -> None:
        self._launch = launch
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.num_starts = 0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def ensure(self) -> None:
        """Starts the process unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._launch.command,
                env=self._launch.environment,
                cwd=self._launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.num_starts += 1

    def stop(self) -> None:
        """Ends the process in its own time, then by force."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def work_dir_of(chaos: Chaos, name: str) -> Path:
    """Returns the work folder of an extra worker."""
    return chaos.scratch / f"worker-{name}"


@contextmanager
def extra_worker(
    chaos: Chaos, name: str, *, num_slots: int, module: str = "quantry_worker", variables: Mapping[str, str] | None = None
) -> Iterator[Replica]:
    """Yields one more worker host of the stack, with a work folder of its own, once it takes work."""
    launch = with_tests(chaos.launch_file("worker"))
    work_dir = work_dir_of(chaos, name)
    changed = {"QUANTRY_WORK_DIR": str(work_dir), "QUANTRY_WORKER_SLOTS": str(num_slots), **(variables or {})}
    log = chaos.scratch / f"worker-{name}.log"
    changes = {"command": [launch.command[0], "-m", module], "environment": {**launch.environment, **changed}}
    replica = Replica(launch.model_copy(update=changes), log)
    replica.ensure()
    try:
        if not wait_until((work_dir / "worker.alive").exists, READY_TIMEOUT_S):
            raise RuntimeError(f"the worker {name} does not take work:\n{log.read_text()[-3000:]}")
        yield replica
    finally:
        replica.stop()


def wait_for_part(chaos: Chaos, part: str, old_pid: int, timeout_s: float = READY_TIMEOUT_S) -> float:
    """Returns seconds until the process manager has started a part anew; raises TimeoutError."""
    began = time.monotonic()
    if not wait_until(lambda: chaos.program(part).pid not in {0, old_pid}, timeout_s):
        raise TimeoutError(f"{part} was not started again within {timeout_s:.0f} s")
    return time.monotonic() - began
