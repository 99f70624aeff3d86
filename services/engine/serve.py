"""Starts vLLM's OpenAI-compatible server for one model directory, on CPU or CUDA.

Runs under the Python of the engine's environment, standard library only: it checks its arguments, sets the environment
that makes vLLM stay offline and start quickly, and replaces itself with the server, so the process id stays the same.

    .venvs/engine-cpu/bin/python services/engine/serve.py --model DIR --served-model-name NAME --port 8001
    .venvs/engine-cpu/bin/python services/engine/serve.py --about

The second prints ``{"version": ..., "device": "cpu" | "cuda"}`` of the vLLM it would start. Code that comes with a model is
never run: there is no way to pass --trust-remote-code.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

SERVER_MODULE = "vllm.entrypoints.openai.api_server"

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""Nothing is fetched and nothing is reported."""

KEEP_ENVIRON = {"SPT_NOENV": "1"}
"""Process titles leave /proc/<pid>/environ alone: whose engine a process is, is read from there."""

ON_CPU = {
    # Replicas share the machine: bound to cores, a second one would sit on the first one's.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # On AMX hosts int4 weights would be computed with 8-bit activations: not the scheme the version says.
    "VLLM_CPU_INT4_W4A8": "0",
    # The executor runs inside the engine's process (see server_command).
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # An idle OpenMP thread sleeps instead of spinning on a core that another replica needs.
    "OMP_WAIT_POLICY": "PASSIVE",
    # The engine's own sockets stay on this machine.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}

LOADING_ADAPTERS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
"""Opens /v1/load_lora_adapter and /v1/unload_lora_adapter, which take any folder of this machine."""

FIXES_ON_CPU = {
    # vLLM finds its plugins among the distributions on the path.
    "PYTHONPATH": str(Path(__file__).resolve().with_name("plugins")),
    "VLLM_PLUGINS": "quantry_vllm_fixes",
}
"""Without them the CPU build answers requests of the base with an adapter's tokens, where both are in one batch."""

ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 512)
"""What vLLM takes as the highest rank, but 1 and 320."""

MEMORY_SHARE = "0.1"
"""Of the GPU's or the NUMA node's memory. With an explicit KV size vLLM only checks that so much is free at the start, and
its default (0.92) fails beside the engine of the release before."""


def main() -> NoReturn:
    if sys.argv[1:] == ["--about"]:
        sys.stdout.write(json.dumps(engine_facts()) + "\n")
        sys.exit()
    arguments = parse_arguments(sys.argv[1:])
    device = engine_facts()["device"]
    environment = server_environment(device, arguments.threads, os.environ) | adapter_environment(arguments, device)
    command = server_command(arguments, device)
    sys.stderr.write(f"serve: {device}: {' '.join(command)}\n")
    os.execve(command[0], command, environment)  # noqa: S606  replacing this process without a shell is the point


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Returns the checked arguments; exits with status 2 and a sentence where one cannot be."""
    parser = argparse.ArgumentParser(prog="serve.py", description=__doc__.split("\n", 1)[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--served-model-name", nargs="+", required=True, help="the names that requests may carry; the first is answered")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--max-model-len", type=int, default=None, help="context length in tokens; the model's own if not given")
    parser.add_argument("--kv-cache-bytes", type=int, default=256 * 1024**2, help="memory of the KV cache, in bytes")
    parser.add_argument("--max-num-seqs", type=int, default=16, help="sequences decoded together")
    parser.add_argument(
        "--shutdown-timeout", type=int, default=120, help="seconds that running requests have to finish in after SIGTERM; 0 aborts them"
    )
    parser.add_argument("--max-adapters", type=int, default=0, help="LoRA adapters that can be loaded while it runs; 0: none")
    parser.add_argument("--max-adapter-rank", type=int, choices=ADAPTER_RANKS, default=16, help="the highest rank of such an adapter")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs that the model is spread over")
    parser.add_argument("--threads", type=int, default=default_threads(), help="OpenMP threads of a CPU engine")
    arguments = parser.parse_args(words)
    if not (arguments.model / "config.json").is_file():
        parser.error(f"{arguments.model} is not a checkpoint: it has no config.json")
    if arguments.threads < 1:
        parser.error(f"an engine needs a thread, not {arguments.threads}")
    if arguments.num_gpus < 1:
        parser.error(f"--num-gpus is a count from 1, not {arguments.num_gpus}")
    if arguments.max_adapters < 0:
        parser.error(f"--max-adapters is a count, not {arguments.max_adapters}")
    return arguments


def default_threads() -> int:
    """Returns the cores this process may use less one, which is left to the HTTP server; at least 1. vLLM's own rule."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def engine_facts() -> dict[str, str]:
    """Returns version and device ("cpu" or "cuda": what it was built for) of the installed vLLM; exits with a sentence if there is none."""
    for distribution in ("vllm-cpu", "vllm"):
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        return {"version": found, "device": "cpu" if distribution == "vllm-cpu" or "+cpu" in found else "cuda"}
    sys.exit(f"serve.py: {sys.executable} has no vLLM; run it with the engine environment's Python")


def server_environment(device: str, num_threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the server's environment.

    Bytecode is always cached: vLLM imports some 5,000 modules, and compiling them anew takes half of a CPU start.
    """
    environment = {name: value for name, value in inherited.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.update(OFFLINE | KEEP_ENVIRON)
    if device == "cpu":
        environment.update(ON_CPU)
        environment["OMP_NUM_THREADS"] = str(num_threads)
    return environment


def adapter_environment(arguments: argparse.Namespace, device: str) -> dict[str, str]:
    """Returns what comes to the server's environment where adapters may be loaded; nothing where they may not."""
    if not arguments.max_adapters:
        return {}
    return LOADING_ADAPTERS | (FIXES_ON_CPU if device == "cpu" else {})


def server_command(arguments: argparse.Namespace, device: str) -> list[str]:
    """Returns the command line. ``-P`` keeps the working directory off the import path."""
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-m", SERVER_MODULE]
    command += ["--model", str(arguments.model), "--served-model-name", *arguments.served_model_name]
    command += ["--host", arguments.host, "--port", str(arguments.port), "--max-num-seqs", str(arguments.max_num_seqs)]
    if arguments.max_model_len is not None:
        command += ["--max-model-len", str(arguments.max_model_len)]
    # An explicit size, so that two releases fit beside each other while one takes over from the other.
    command += ["--kv-cache-memory-bytes", str(arguments.kv_cache_bytes), "--gpu-memory-utilization", MEMORY_SHARE]
    # Without it vLLM cuts every request that runs when SIGTERM comes; with it the engine ends as soon as it is idle.
    command += ["--shutdown-timeout", str(arguments.shutdown_timeout)]
    if arguments.max_adapters:
        # All of them can take part in one batch; vLLM keeps no others beside them.
        command += ["--enable-lora", "--max-loras", str(arguments.max_adapters), "--max-cpu-loras", str(arguments.max_adapters)]
        command += ["--max-lora-rank", str(arguments.max_adapter_rank)]
    if arguments.num_gpus > 1:
        command += ["--tensor-parallel-size", str(arguments.num_gpus)]
    if device == "cpu":
        # Eager: nothing is compiled, and with an explicit KV size vLLM skips its warm-up. uni: two processes instead of
        # three, each of which would import PyTorch and vLLM again (9 s of CPU time and 0.4 GB).
        command += ["--enforce-eager", "--distributed-executor-backend", "uni"]
    return command


if __name__ == "__main__":
    main()
