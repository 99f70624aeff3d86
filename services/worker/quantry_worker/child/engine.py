"""A vLLM server of this job's own: on a free port of the loopback, with the version alone, gone when the job is.

services/engine/serve.py starts it, with the flags and the environment that a deployment gets. It stays in the child's session,
so that whoever ends the child ends it too.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.methods import DeviceKind
from quantry_worker.family import Family
from quantry_worker.memory import FamilyMemory
from quantry_worker.protocol import ChildTask

HOST = "127.0.0.1"
SERVED_NAME = "subject"
MIN_KV_CACHE_BYTES = 256 * 1024**2
START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 20.0
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
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, facts: EngineFacts) -> None:
        self.process = process
        self.port = port
        self.facts = facts
        self.start_s = 0.0
        self.memory = FamilyMemory(Family(process.pid))


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


@contextmanager
def running_engine(
    facts: EngineFacts, model: Path, *, max_num_seqs: int, max_model_len: int, kv_cache_bytes: int, num_threads: int
) -> Iterator[Engine]:
    """Starts vLLM on a checkpoint and yields it once it answers; whatever happens, it and all it started end with the block.

    Raises InvalidInput with vLLM's last words if it cannot serve the checkpoint.
    """
    port = _free_port()
    command = [str(facts.python), "-P", str(facts.script), "--model", str(model), "--served-model-name", SERVED_NAME]
    command += ["--host", HOST, "--port", str(port), "--max-num-seqs", str(max_num_seqs), "--max-model-len", str(max_model_len)]
    # Nothing runs any more when it is told to stop, or nobody waits for it.
    command += ["--kv-cache-bytes", str(kv_cache_bytes), "--threads", str(max(1, num_threads - 1)), "--shutdown-timeout", "0"]
    process = subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    engine = Engine(process, port, facts)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_pass_on, args=(process, tail), daemon=True)
    reader.start()
    try:
        _wait_until_ready(engine, tail)
        with _sampling(engine.memory):
            yield engine
    finally:
        _stop(process)
        reader.join()


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


def kv_cache_bytes(config: Mapping[str, Any], num_tokens: int) -> int:
    """Returns a KV cache that holds so many tokens at 16 bit with a quarter to spare; 256 MiB at least."""
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or 1
    head_dim = config.get("head_dim") or config.get("hidden_size", 0) // config.get("num_attention_heads", 1)
    # Keys and values, two bytes each.
    per_token: int = 2 * 2 * config.get("num_hidden_layers", 1) * heads * head_dim
    return max(MIN_KV_CACHE_BYTES, num_tokens * per_token * 5 // 4)


def _environment() -> dict[str, str]:
    # The path to this code's packages is no path to the engine's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if len(environment.get("TMPDIR", "")) > MAX_SOCKET_FOLDER_CHARS:
        environment["TMPDIR"] = SHORT_TMPDIR
    return environment


def _wait_until_ready(engine: Engine, tail: deque[str]) -> None:
    started = time.monotonic()
    while not _is_healthy(engine.port):
        engine.memory.sample()
        if engine.process.poll() is not None:
            raise InvalidInput(f"vLLM {engine.facts.version} cannot serve this version: {_last_words(tail)}")
        if time.monotonic() - started > START_TIMEOUT_S:
            raise InvalidInput(f"vLLM {engine.facts.version} did not answer within {START_TIMEOUT_S:.0f} s: {_last_words(tail)}")
        time.sleep(POLL_S)
    engine.start_s = time.monotonic() - started


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pass_on(process: subprocess.Popen[bytes], tail: deque[str]) -> None:
    """Prints what the server prints, so that it never waits for a reader, and keeps its last lines, as they come."""
    if process.stdout is None:
        raise ValueError("the server was started without a pipe to read")
    with process.stdout as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            tail.append(text)
            print(f"vllm: {text}", flush=True)  # noqa: T201  the job's log


def _last_words(tail: deque[str]) -> str:
    """Returns the last line that names an error, or the last one there is."""
    errors = [line for line in tail if "Error" in line]
    return (errors or list(tail) or ["it said nothing"])[-1][-500:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = Family(process.pid)
    if process.poll() is None:
        # Found while the leader lives: then they are known when it is gone.
        family.members()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    family.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
