"""Starts llama.cpp's OpenAI-compatible server for one GGUF file, out of the xllamacpp wheel.

Runs under the Python of the engine's environment. Like serve.py it checks its arguments and serves on; unlike it the server
runs in this process, on threads of its own, and SIGTERM is answered here.

    .venvs/engine-llama-cpp/bin/python services/engine/serve_llama_cpp.py --model DIR --served-model-name NAME --port 8001
    .venvs/engine-llama-cpp/bin/python services/engine/serve_llama_cpp.py --about

The second prints ``{"version": ..., "device": "cpu" | "cuda"}`` of the llama.cpp it would start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

POLL_S = 0.1
"""Between two looks at the signal and, once it came, at the requests that run."""

QUIET_LOOKS = 3
"""So often in a row nothing must run before the process ends: the last bytes of an answer are written after its last token."""

BUSY_GAUGES = ("llamacpp:requests_processing", "llamacpp:requests_deferred")

WARNINGS = 2
"""Level of the log: errors and warnings. The next level writes eight lines for each request."""


def main() -> None:
    if sys.argv[1:] == ["--about"]:
        sys.stdout.write(json.dumps(engine_facts()) + "\n")
        return
    arguments = parse_arguments(sys.argv[1:])
    stop = threading.Event()
    server = start(arguments)
    # Only now: before it serves, SIGTERM has nothing to wait for and ends the process where it stands.
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    sys.stderr.write(f"serve: {server.listening_address}: {arguments.slots} sequences of {arguments.context_tokens} tokens\n")
    while not stop.wait(POLL_S):
        pass
    drain(server.listening_address, arguments.shutdown_timeout)
    # The server has no way to be stopped that does not end in its threads' destructors.
    os._exit(0)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Returns the checked arguments, ``model`` as the file; exits with status 2 and a sentence where one cannot be."""
    parser = argparse.ArgumentParser(
        prog="serve_llama_cpp.py", description=__doc__.split("\n", 1)[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="GGUF file, or a directory that holds one")
    parser.add_argument("--served-model-name", required=True, help="the name that requests carry and answers show")
    parser.add_argument("--mark", default=None, help="shown as a tag of the model in /v1/models")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--slots", type=int, default=4, help="sequences decoded together; others wait")
    parser.add_argument("--context-tokens", type=int, default=4096, help="context length of one sequence")
    parser.add_argument(
        "--shutdown-timeout", type=int, default=120, help="seconds that running requests have to finish in after SIGTERM; 0 aborts them"
    )
    parser.add_argument("--threads", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1), help="threads that decode on a CPU")
    arguments = parser.parse_args(words)
    for name in ("slots", "context_tokens", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is a count from 1, not {getattr(arguments, name)}")
    arguments.model = gguf_file(parser, arguments.model)
    return arguments


def gguf_file(parser: argparse.ArgumentParser, model: Path) -> Path:
    """Returns the GGUF file that is meant; of one in parts the first, by which llama.cpp finds the others."""
    if model.is_file():
        return model
    files = sorted(model.glob("*.gguf"))
    if not files:
        parser.error(f"{model} holds no GGUF file")
    if len(files) > 1 and "-00001-of-" not in files[0].name:
        parser.error(f"{model} holds {len(files)} GGUF files: {', '.join(file.name for file in files)}; name one")
    return files[0]


def engine_facts() -> dict[str, str]:
    """Returns version and device of the installed llama.cpp; exits with a sentence if there is none."""
    try:
        found = version("xllamacpp")
    except PackageNotFoundError:
        sys.exit(f"serve_llama_cpp.py: {sys.executable} has no xllamacpp; run it with the environment engine-llama-cpp")
    import xllamacpp  # noqa: PLC0415  what has it missing says so above

    devices = {str(device.get("type", "")) for device in xllamacpp.get_device_info()}
    return {"version": found, "device": "cuda" if any("GPU" in name for name in devices) else "cpu"}


def start(arguments: argparse.Namespace) -> Any:
    """Returns the server, which has loaded the model and listens; exits with a sentence where it cannot."""
    engine_facts()
    import xllamacpp  # noqa: PLC0415  what has it missing says so above

    try:
        return xllamacpp.Server(server_params(xllamacpp.CommonParams(), arguments))
    except RuntimeError as error:
        sys.exit(f"serve_llama_cpp.py: {arguments.model} is not served: {error}")


def server_params(params: Any, arguments: argparse.Namespace) -> Any:
    """Returns the parameters with everything set that the arguments say, and what opens nothing to anybody else."""
    params.model.path = str(arguments.model)
    params.model_alias = {arguments.served_model_name}
    if arguments.mark is not None:
        params.model_tags = {arguments.mark}
    params.hostnames, params.port = [arguments.host], arguments.port
    # Each sequence has its own part of the cache: one that grows never takes another's.
    params.n_parallel, params.n_ctx, params.kv_unified = arguments.slots, arguments.slots * arguments.context_tokens, False
    # What was asked for, or an error: otherwise llama.cpp makes the context shorter until it fits.
    params.fit_params = False
    # Prompts that were answered are not kept in 8 GiB more of memory.
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.endpoint_metrics, params.endpoint_slots, params.ui = True, False, False
    # No page in a browser of this host may ask it.
    params.cors_origins, params.cors_credentials = "null", False
    params.offline, params.verbosity = True, WARNINGS
    return params


def drain(url: str, within_s: float) -> None:
    """Returns once no request has run for a moment, or after so many seconds."""
    deadline_s = time.monotonic() + within_s
    num_quiet = 0
    while num_quiet < QUIET_LOOKS and time.monotonic() < deadline_s:
        num_quiet = 0 if is_busy(url) else num_quiet + 1
        time.sleep(POLL_S)


def is_busy(url: str) -> bool:
    """Tells whether requests run or wait; a server that does not answer is taken for busy."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=POLL_S * 50) as answer:  # noqa: S310  our own server
            lines = answer.read().decode().splitlines()
    except OSError:
        return True
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in lines if line.startswith(BUSY_GAUGES))


if __name__ == "__main__":
    main()
