"""A bare vLLM: the command and the environment that the platform's launch script gives it, without the platform."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx

from bench.embedded import ROOT, free_port
from quantry_core.jobs import EngineConfig

ENGINE_PYTHON = ROOT / ".venvs" / "engine-cpu" / "bin" / "python"
SCRIPT = ROOT / "services" / "engine" / "serve.py"
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.1
CONTEXT_TOKENS = 512


@dataclass(frozen=True)
class Where:
    """Which vLLM the engines are, and where the results go."""

    python: Path = ENGINE_PYTHON
    device: str = "cpu"
    folder: str = ""
    """Below bench/results, with its slash."""

    is_written: bool = True
    """Whether results are kept, or only printed."""

    @property
    def settings(self) -> dict[str, str]:
        """Returns what a stack is started with. It gives no GPUs out: with one of them both releases are on it."""
        return {"QUANTRY_WORKER_SLOTS": "1", "QUANTRY_ENGINE_PYTHON": str(self.python)}


HERE = Where()


@dataclass(frozen=True)
class Engine:
    """One that answers."""

    url: str
    name: str
    start_s: float
    """From its start until its first token."""


def engine_config() -> EngineConfig:
    """Returns what every engine of these benchmarks is started with."""
    return EngineConfig(max_model_len_tokens=CONTEXT_TOKENS)


@contextmanager
def bare_engine(checkpoint: Path, name: str, log: Path, where: Where = HERE) -> Iterator[Engine]:
    """Yields a bare vLLM once it has given a token; it is ended afterwards."""
    script = _launch_script()
    port = free_port()
    config = engine_config()
    arguments = Namespace(
        model=checkpoint,
        served_model_name=[name],
        host="127.0.0.1",
        port=port,
        max_model_len=config.max_model_len_tokens,
        kv_cache_bytes=config.kv_cache_bytes,
        max_num_seqs=config.max_num_seqs,
        shutdown_timeout=0,
        max_adapters=0,
        max_adapter_rank=16,
        num_gpus=config.num_gpus,
        threads=script.default_threads(),
    )
    command = [str(where.python), *script.server_command(arguments, where.device)[1:]]
    environment = script.server_environment(where.device, arguments.threads, os.environ)
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_token(url, name, process, log)
        yield Engine(url, name, time.monotonic() - began)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_token(url: str, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once an engine has given a token; RuntimeError with the end of its log if it ends or takes too long."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    body = {"model": name, "prompt": "The", "max_tokens": 1, "temperature": 0}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while True:
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the engine does not answer:\n{log.read_text(errors='replace')[-3000:]}")
            with suppress(httpx.TransportError):
                if http.get("/health").status_code == 200 and http.post("/v1/completions", json=body).status_code == 200:
                    return
            time.sleep(POLL_S)


def device_of(python: Path) -> str:
    """Returns what the vLLM of an environment runs on: cpu or cuda. RuntimeError with its words where there is none."""
    done = subprocess.run([str(python), "-P", str(SCRIPT), "--about"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{python} starts no vLLM: {(done.stderr or done.stdout).strip()}")
    return str(json.loads(done.stdout)["device"])


def _launch_script() -> ModuleType:
    """Returns services/engine/serve.py as a module: it is a script of no package, so that nothing of the platform comes with it."""
    name = "quantry_engine_serve"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SCRIPT)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{SCRIPT} is no script")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
