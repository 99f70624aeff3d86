"""Processes of the ml environment that need not import its libraries again, which takes each of them seconds: forked from one that has.

Each is a process of its own, with the environment, the directory and the descriptors it is given. What a test says of how a child is
started, or of what it imports, wants a real one: ``child_runs.run``.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from factories.child_runs import CHILD, LOG, ML_PYTHON, SHARED_CORES, Ran, ended, environment, write_task
from quantry_core.jobs import JobSpec
from quantry_worker.protocol import ChildInput

FORKS = Path(__file__).with_name("forks_in_ml.py")
STDIN, STDOUT, STDERR, EVENTS = 0, 1, 2, 50
TIMEOUT_S = 600.0


class Forked:
    """A process under way."""

    def __init__(self, told: int) -> None:
        self._told = told

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Returns its exit status, a signal's number below zero; kills it and raises TimeoutError where it takes longer."""
        with os.fdopen(self._told, "rb") as pipe:
            pid = int(pipe.readline() or b"0")
            assert pid, "what forks processes of the ml environment has ended"
            if not select.select([pipe], [], [], timeout)[0]:
                os.kill(pid, signal.SIGKILL)
                raise TimeoutError(f"a forked process still ran after {timeout:.0f} s")
            return int(pipe.readline())


def begin(
    arguments: Sequence[str | Path],
    descriptors: Mapping[int, int],
    variables: Mapping[str, str],
    directory: Path,
    *,
    module: str | None = None,
) -> Forked:
    """Starts a script, or a module in its stead, that has ``descriptors``: by the number it knows each under, the one here."""
    told, telling = os.pipe()
    request = {
        "arguments": [str(argument) for argument in arguments],
        "descriptors": list(descriptors),
        "environment": dict(variables),
        "directory": str(directory),
        "module": module,
    }
    socket.send_fds(_door(), [json.dumps(request).encode()], [telling, *descriptors.values()])
    os.close(telling)
    return Forked(told)


def run_script(
    script: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None, given: str = "", timeout_s: float = TIMEOUT_S
) -> str:
    """Returns what a script printed that was ``given`` this to read; fails with what it complained of."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(given.encode())
        stdin.seek(0)
        files: dict[int, IO[bytes]] = {STDIN: stdin, STDOUT: stdout, STDERR: stderr}
        descriptors = {number: file.fileno() for number, file in files.items()}
        child = begin([script, *arguments], descriptors, os.environ if variables is None else variables, Path.cwd())
        status = child.wait(timeout_s)
        stderr.seek(0)
        assert status == 0, stderr.read().decode(errors="replace")[-3000:]
        stdout.seek(0)
        return stdout.read().decode()


def run(directory: Path, spec: JobSpec, inputs: list[ChildInput], **more: Any) -> Ran:
    """Runs a worker's child to its end, as ``child_runs.run`` does."""
    started = time.monotonic()
    task_file = write_task(directory, spec, inputs, **more)
    reader, writer = os.pipe()
    with (directory / LOG).open("wb") as log, Path(os.devnull).open("rb") as nothing:
        descriptors = {STDIN: nothing.fileno(), STDOUT: log.fileno(), STDERR: log.fileno(), EVENTS: writer}
        child = begin([CHILD, task_file], descriptors, environment(directory, EVENTS), directory, module=CHILD)
    os.close(writer)
    return ended(directory, child, reader, started)


@cache
def _door() -> socket.socket:
    """Returns the socket of this process's own forks, which end with it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    home = tempfile.TemporaryDirectory(prefix="quantry-forks-")
    variables = {"PATH": os.defpath, "HOME": home.name, "HF_HUB_OFFLINE": "1", **SHARED_CORES}
    with there, Path(home.name, "log").open("wb") as log:
        process = subprocess.Popen(
            [ML_PYTHON, FORKS, str(there.fileno())], pass_fds=[there.fileno()], env=variables, stdout=log, stderr=log, cwd="/"
        )
    atexit.register(_end, here, process, home)
    return here


def _end(door: socket.socket, process: subprocess.Popen[bytes], home: tempfile.TemporaryDirectory[str]) -> None:
    door.close()
    process.wait(60)
    home.cleanup()
