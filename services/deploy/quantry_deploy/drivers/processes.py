"""Engine processes on this machine: started in a session of their own, known again by their environment, ended by group.

A replica's processes all carry ``QUANTRY_REPLICA_ID`` and the controller's directory in their environment. That finds
them again whatever happened in between: a controller that was killed, a reused process id, an engine whose parent died.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from quantry_core.ports import LISTENING_PORTS

REPLICA_VARIABLE = "QUANTRY_REPLICA_ID"
URL_VARIABLE = "QUANTRY_REPLICA_URL"
OWNER_VARIABLE = "QUANTRY_DEPLOY_DIR"
GPUS_VARIABLE = "QUANTRY_REPLICA_GPUS"
"""The GPUs that a replica was given. Engines may change CUDA_VISIBLE_DEVICES for their children."""

KILL_WAIT_S = 1.0
"""Seconds that the kernel is given to remove what was killed."""

ENVIRONMENT_WAIT_S = 1.0
ENVIRONMENT_STEP_S = 0.001

START_TOLERANCE_S = 2.0
"""A process's start time is counted from boot; the clock may have been set since it was recorded."""


@dataclass(frozen=True)
class EngineProcess:
    """The leader of a replica's processes."""

    replica_id: str
    pid: int
    started_at: float
    """Unix time in seconds."""
    url: str


@dataclass(frozen=True)
class _Found:
    """A process as the scan found it."""

    process: psutil.Process
    replica_id: str
    url: str
    started_at: float
    is_leader: bool
    gpus: tuple[str, ...]


@dataclass
class _Child:
    """A process that this table started."""

    popen: subprocess.Popen[bytes]
    replica_id: str
    is_told: bool = False
    """Nobody asks any more how it ended: it can be forgotten once it has."""


class ProcessTable:
    """The engine processes of one controller directory."""

    def __init__(self, owner: Path) -> None:
        self._owner = str(owner)
        self._children: dict[int, _Child] = {}

    def spawn(
        self,
        replica_id: str,
        url: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        *,
        gpus: Sequence[str] = (),
    ) -> EngineProcess:
        """Starts a process in a new session, its output appended to ``log_path`` (mode 0600); ``gpus`` are its alone. Raises OSError."""
        own = {REPLICA_VARIABLE: replica_id, URL_VARIABLE: url, OWNER_VARIABLE: self._owner}
        if gpus:
            own |= {GPUS_VARIABLE: ",".join(gpus), "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                command,
                env={**environment, **own},
                cwd=self._owner,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._children[child.pid] = _Child(child, replica_id)
        process = psutil.Process(child.pid)
        _wait_for_environment(process)
        return EngineProcess(replica_id, child.pid, process.create_time(), url)

    def leader(self, replica_id: str) -> EngineProcess | None:
        """Returns the running leader of a replica's processes, recorded or not."""
        for found in self._scan():
            if found.replica_id == replica_id and found.is_leader:
                return EngineProcess(replica_id, found.process.pid, found.started_at, found.url)
        return None

    def is_running(self, pid: int, started_at: float) -> bool:
        """Tells whether the process is there and is the one that was started then."""
        child = self._children.get(pid)
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - started_at) >= START_TOLERANCE_S:
                return False
            if child is not None:
                # A child whose first thread has ended before the others is no zombie to be waited for: it still runs.
                return child.popen.poll() is None
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def ending(self, pid: int) -> str:
        """Returns how a process ended, for people, as far as that is known: only our own children tell."""
        child = self._children.get(pid)
        status = None if child is None else child.popen.poll()
        if status is None:
            return "ended"
        if status >= 0:
            return f"ended with exit status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        hint = ", as the kernel does when memory runs out" if -status == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"

    def terminate(self, pid: int, started_at: float) -> None:
        """Sends SIGTERM to a replica's process group, if its leader is still the one that was started then."""
        if self.is_running(pid, started_at):
            _signal_group(pid, signal.SIGTERM)

    def kill(self, replica_id: str) -> None:
        """Sends SIGKILL to every process of a replica, its leader's group and what left it. How they ended is told no more."""
        for child in list(self._children.values()):
            child.is_told = child.is_told or child.replica_id == replica_id
        self._kill([found.process for found in self._scan() if found.replica_id == replica_id])

    def kill_only(self, pids: Collection[int]) -> None:
        """Sends SIGKILL to those of these processes that are engines of this directory."""
        self._kill([found.process for found in self._scan() if found.process.pid in pids])

    def end_all(self, within_s: float) -> None:
        """Sends SIGTERM to every engine's group at once, waits up to ``within_s`` seconds, and kills what is left."""
        engines = self._scan()
        for engine in engines:
            if engine.is_leader:
                _signal_group(engine.process.pid, signal.SIGTERM)
        psutil.wait_procs([engine.process for engine in engines], timeout=within_s)
        for pid in list(self._children):
            self._reap(pid)
        self._kill([engine.process for engine in self._scan()])

    def pids(self) -> dict[str, set[int]]:
        """Returns the process ids of this controller's engines by replica id."""
        pids: dict[str, set[int]] = {}
        for found in self._scan():
            pids.setdefault(found.replica_id, set()).add(found.process.pid)
        return pids

    def gpus(self) -> dict[str, tuple[str, ...]]:
        """Returns the GPUs that each replica's processes were given, as long as one of them runs."""
        return {found.replica_id: found.gpus for found in self._scan() if found.gpus}

    def ports(self) -> set[int]:
        """Returns the ports that running engines were given, whoever started them: one that loads has yet to listen on its own."""
        return {port for found in self._scan() if (port := urlsplit(found.url).port) is not None}

    def memory_bytes(self) -> dict[str, int]:
        """Returns the resident memory of each replica's processes, what they share counted more than once."""
        sizes: dict[str, int] = {}
        for found in self._scan():
            with suppress(psutil.NoSuchProcess):
                sizes[found.replica_id] = sizes.get(found.replica_id, 0) + found.process.memory_info().rss
        return sizes

    def _scan(self) -> list[_Found]:
        """Returns the running engine processes of this directory, and forgets the children that are gone for good."""
        for pid, child in list(self._children.items()):
            if child.popen.poll() is not None and child.is_told:
                self._children.pop(pid, None)
        found: list[_Found] = []
        for pid in psutil.pids():
            # What ends while it is looked at, or belongs to another user, is none of ours.
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                # Not process_iter: that may know a reused id by who had it before, whom a signal no longer reaches.
                process = psutil.Process(pid)
                environment = process.environ()
                if environment.get(OWNER_VARIABLE) == self._owner and REPLICA_VARIABLE in environment:
                    found.append(
                        _Found(
                            process=process,
                            replica_id=environment[REPLICA_VARIABLE],
                            url=environment.get(URL_VARIABLE, ""),
                            started_at=process.create_time(),
                            is_leader=os.getpgid(process.pid) == process.pid,
                            gpus=tuple(gpu for gpu in environment.get(GPUS_VARIABLE, "").split(",") if gpu),
                        )
                    )
        return found

    def _kill(self, processes: Collection[psutil.Process]) -> None:
        """Sends SIGKILL to processes and waits a moment until they are gone; our own children first, who tell how they ended once."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for child in [self._children[process.pid] for process in processes if process.pid in self._children]:
            with suppress(subprocess.TimeoutExpired):
                child.popen.wait(KILL_WAIT_S)
        psutil.wait_procs(processes, timeout=KILL_WAIT_S)

    def _reap(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is not None:
            child.popen.poll()


def free_port(host: str, taken: set[int]) -> int:
    """Returns a TCP port that nobody listens on and that is not in ``taken``.

    An engine binds its port only seconds after it was started, so the caller names the ports it gave away; and vLLM
    shares a port with others of the same user (SO_REUSEPORT) instead of failing.
    """
    candidates = [port for port in LISTENING_PORTS if port not in taken]
    random.shuffle(candidates)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError(errno.EADDRINUSE, f"no port of {host} is free from {LISTENING_PORTS.start} to {LISTENING_PORTS.stop - 1}")


def _wait_for_environment(process: psutil.Process) -> None:
    """Waits until a process that was just begun can be known by its environment, or has ended.

    Linux lets the parent go on as soon as the child has left its memory, a moment before it says where the new environment is
    (``fs/exec.c``, ``begin_new_exec``): until then that reads as empty, and a scan would not know the engine.
    """
    deadline_s = time.monotonic() + ENVIRONMENT_WAIT_S
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        while not process.environ() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline_s:
            time.sleep(ENVIRONMENT_STEP_S)


def _signal_group(pgid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pgid, number)
