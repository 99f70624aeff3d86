"""A quick stand-in for vLLM's server: the same arguments, the same answers on the paths that the controller asks.

What it does is written in the config.json of the model it is given, under "behaviour":

- "serve": answers at once.
- "crash": writes a line and exits with status 3.
- "never": listens, but is never healthy.
- "stubborn": answers, and ignores SIGTERM.
- "impostor": answers for a model of another name.
- "mute": is healthy and lists its model, and never completes anything.
- "parent": answers, from a process that has a child of its own, as vLLM has.

Started with --max-adapters it loads and unloads adapters as vLLM does, refuses more than those, and one of REFUSED_ALPHA.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REFUSED_ALPHA = 13.0

ASKED = "fake engine: asked for a completion"
"""A line of its log for each."""

METRICS = Path(os.environ.get("QUANTRY_STATE_DIR", "/nonexistent")) / "engine-metrics"
"""What GET /metrics answers, where this file is there."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", nargs="+", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kv-cache-bytes", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    parser.add_argument("--shutdown-timeout", type=int, required=True)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--max-adapters", type=int, default=0)
    parser.add_argument("--max-adapter-rank", type=int, default=16)
    parser.add_argument("--num-gpus", type=int, default=1)
    arguments = parser.parse_args()
    behaviour = json.loads((arguments.model / "config.json").read_text()).get("behaviour", "serve")
    print(f"fake engine: {behaviour}", flush=True)
    if behaviour == "crash":
        print("RuntimeError: the weights do not fit this engine", flush=True)
        sys.exit(3)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "parent":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    names = ["somebody-else"] if behaviour == "impostor" else arguments.served_model_name
    server = ThreadingHTTPServer(
        (arguments.host, arguments.port), make_handler(names, arguments.model, behaviour, max_adapters=arguments.max_adapters)
    )
    server.serve_forever()


def make_handler(names: list[str], model: Path, behaviour: str, *, max_adapters: int) -> type[BaseHTTPRequestHandler]:
    adapters: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(503 if behaviour == "never" else 200, {})
            elif self.path == "/v1/models":
                bases = [{"id": name, "root": str(model), "parent": None} for name in names]
                loaded = [{"id": name, "root": root, "parent": names[0]} for name, root in adapters.items()]
                self.answer(200, {"object": "list", "data": [*bases, *loaded]})
            elif self.path == "/metrics" and METRICS.is_file():
                self.send(200, METRICS.read_bytes())
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if max_adapters and self.path == "/v1/load_lora_adapter":
                self.load(body["lora_name"], Path(body["lora_path"]))
                return
            if max_adapters and self.path == "/v1/unload_lora_adapter":
                self.answer(200 if adapters.pop(body["lora_name"], None) else 404, {})
                return
            if self.path != "/v1/completions" or body["model"] not in {*names, *adapters}:
                self.answer(404, {})
                return
            print(ASKED, flush=True)
            if behaviour == "mute":
                time.sleep(600)
            text = json.dumps(
                {"pid": os.getpid(), "model": str(model), "adapter": adapters.get(body["model"]), "environment": dict(os.environ)}
            )
            self.answer(200, {"choices": [{"text": text, "index": 0}], "usage": {"completion_tokens": body["max_tokens"]}})

        def load(self, name: str, folder: Path) -> None:
            refusal = None
            if name in adapters:
                refusal = f"The lora adapter '{name}' has already been loaded."
            elif len(adapters) == max_adapters:
                refusal = "more adapters than a batch can have"
            elif json.loads((folder / "adapter_config.json").read_text()).get("lora_alpha") == REFUSED_ALPHA:
                refusal = "there is no such kernel"
            if refusal is None:
                adapters[name] = str(folder)
            self.answer(200 if refusal is None else 500, {"error": {"message": refusal}})

        def answer(self, status: int, document: dict[str, Any]) -> None:
            self.send(status, json.dumps(document).encode())

        def send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Keeps the log to what the engine says of itself."""

    return Handler


if __name__ == "__main__":
    main()
