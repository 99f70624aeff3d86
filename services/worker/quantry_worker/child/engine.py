"""A vLLM server of this job's own: on a free port of the loopback, with the version alone, gone when the job is.

services/engine/serve.py starts it, with the flags and the environment that a deployment gets. It stays in the child's session,
so that whoever ends the child ends it too.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quantry_core.errors import InvalidInput
from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.methods import DeviceKind
from quantry_worker.family import Family
from quantry_worker.memory import FamilyMemory
from quantry_worker.protocol import ChildTask

HOST = "127.0.0.1"
MIN_KV_CACHE_BYTES = 256 * 1024**2
START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 20.0
LAST_WORDS_S = 5.0
"""How long the pipe is read on once the server has ended: a process that came loose may hold it open for ever."""
POLL_S = 0.25
MEMORY_INTERVAL_S = 0.5
TAIL_LINES = 40
MAX_SOCKET_FOLDER_CHARS = 60
"""vLLM makes Unix sockets below TMPDIR, and a socket's path may have 107 characters."""
SHORT_TMPDIR = "/tmp"  # noqa: S108


@dataclass(frozen=True)
class EngineFacts:
    """Which vLLM an environment has."""

    python: Path
    script: Path
    """services/engine/serve.py."""
    version: str
    device: DeviceKind
    """What it was built for."""


class Engine:
    """A server that was started, with all that it starts, and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, served_name: str, facts: EngineFacts) -> None:
        self.process = process
        self.port = port
        self.served_name = served_name
        """Of this server alone: what answers to it is no other one that came to its port."""
        self.facts = facts
        self.start_s = 0.0
        self.family = Family(process.pid)
        self.memory = FamilyMemory(self.family)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def has_ended(self) -> bool:
        """Tells whether the server is dead, without reaping it: until then its pid is not given again."""
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.process.returncode is not None or os.waitid(os.P_PID, self.process.pid, ended) is not None

    def last_words(self) -> str:
        """Returns the last line that names an error, or the last one there is; of a server that has ended, of all it said."""
        if self.has_ended():
            self._reader.join(LAST_WORDS_S)
        lines = list(self._tail)
        errors = [line for line in lines if "Error" in line]
        return (errors or lines or ["it said nothing"])[-1][-500:]

    def stop(self) -> None:
        """Ends the server and all it started: those too that outlived it, if they are of its group or were seen before."""
        # A look while it may still live: who belongs to it is known by that when it is gone.
        self.family.members()
        if not self.has_ended():
            # Not by Popen, which reaps it if it has ended meanwhile.
            os.kill(self.process.pid, signal.SIGTERM)
            give_up_at = time.monotonic() + STOP_TIMEOUT_S
            while not self.has_ended() and time.monotonic() < give_up_at:
                time.sleep(POLL_S)
        # Before it is reaped: then its pid may be another's.
        self.family.kill()
        self.process.wait()
        self._reader.join(LAST_WORDS_S)

    def _pass_on(self) -> None:
        """Prints what the server prints, so that it never waits for a reader, and keeps its last lines, as they come."""
        if self.process.stdout is None:
            raise ValueError("the server was started without a pipe to read")
        with self.process.stdout as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._tail.append(text)
                print(f"vllm: {text}", flush=True)  # noqa: T201  the job's log


def engine_facts(python: Path, script: Path) -> EngineFacts:
    """Returns the vLLM of an environment; raises InvalidInput if it has none."""
    asked = subprocess.run([python, "-P", script, "--about"], capture_output=True, text=True, check=False, timeout=60)
    if asked.returncode != 0:
        raise InvalidInput("the engine environment of this worker has no vLLM")
    facts = json.loads(asked.stdout)
    return EngineFacts(python, script, facts["version"], DeviceKind(facts["device"]))


def task_engine(task: ChildTask) -> EngineFacts | None:
    """Returns the vLLM that a job may use, None where its worker has none; raises InvalidInput if the environment lacks it."""
    if task.engine_python is None or task.engine_script is None:
        return None
    return engine_facts(task.engine_python, task.engine_script)


def unseen_device(facts: EngineFacts) -> str | None:
    """Returns why an engine cannot start in this process: it was built for GPUs, and none is to be seen; None where it can."""
    if facts.device is not DeviceKind.CUDA or os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return None
    return f"the vLLM {facts.version} of this worker was built for CUDA, and a job of this queue sees no GPU"


@contextmanager
def running_engine(
    facts: EngineFacts, model: Path, *, max_num_seqs: int, max_model_len: int, kv_cache_bytes: int, num_threads: int
) -> Iterator[Engine]:
    """Starts vLLM on a checkpoint and yields it once it answers; whatever happens, it and all it started end with the block.

    Raises InvalidInput with vLLM's last words if it cannot serve the checkpoint.
    """
    served_name = f"subject-{secrets.token_hex(8)}"
    with _reserved_port() as port:
        command = [str(facts.python), "-P", str(facts.script), "--model", str(model), "--served-model-name", served_name]
        command += ["--host", HOST, "--port", str(port), "--max-num-seqs", str(max_num_seqs), "--max-model-len", str(max_model_len)]
        # Nothing runs any more when it is told to stop, or nobody waits for it.
        command += ["--kv-cache-bytes", str(kv_cache_bytes), "--threads", str(max(1, num_threads - 1)), "--shutdown-timeout", "0"]
        # A process group of its own, in the child's session: its processes are found by that when it is gone before a look at it.
        process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        engine = Engine(process, port, served_name, facts)
        try:
            _wait_until_ready(engine)
            with _sampling(engine.memory):
                yield engine
        finally:
            engine.stop()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Yields a port that nobody who asks for any free one is given during the block.

    It stays bound, but nothing listens on it, so the server may bind it beside: both set SO_REUSEADDR, see socket(7).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield holder.getsockname()[1]


@contextmanager
def _sampling(memory: FamilyMemory) -> Iterator[None]:
    """Looks at the engine's memory again and again while the block runs."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(MEMORY_INTERVAL_S):
            memory.sample()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def kv_cache_bytes(model: CheckpointFacts, num_tokens: int) -> int:
    """Returns a KV cache that holds so many tokens at 16 bit with a quarter to spare; 256 MiB at least."""
    # Keys and values, two bytes each.
    per_token = 2 * 2 * model.num_layers * model.kv_width
    return max(MIN_KV_CACHE_BYTES, num_tokens * per_token * 5 // 4)


def _environment() -> dict[str, str]:
    # The path to this code's packages is no path to the engine's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if len(environment.get("TMPDIR", "")) > MAX_SOCKET_FOLDER_CHARS:
        environment["TMPDIR"] = SHORT_TMPDIR
    return environment


def _wait_until_ready(engine: Engine) -> None:
    started = time.monotonic()
    while True:
        engine.memory.sample()
        # First: whoever answers on the port of a server that has ended is another.
        if engine.has_ended():
            raise InvalidInput(f"vLLM {engine.facts.version} cannot serve this version: {engine.last_words()}")
        if _serves(engine.port, engine.served_name):
            break
        if time.monotonic() - started > START_TIMEOUT_S:
            raise InvalidInput(f"vLLM {engine.facts.version} did not answer within {START_TIMEOUT_S:.0f} s: {engine.last_words()}")
        time.sleep(POLL_S)
    engine.start_s = time.monotonic() - started


def _serves(port: int, served_name: str) -> bool:
    """Tells whether the server on a port serves a model of this name."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        models = json.loads(response.read())["data"] if response.status == 200 else []
        return served_name in [model["id"] for model in models]
    # Whatever another server answers there, it is not this one's list of models.
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()
