"""A quick engine that fails as vLLM does. Started by the controller in place of services/engine/serve.py, with the same arguments.

It streams and answers whole in OpenAI's shapes, says who it is as ``system_fingerprint``, and gives logprobs where it is asked for them.
What it does is told by "fake" in the config.json of the model it serves, and changed while it runs by ``POST /fake/behaviour``;
``GET /fake/seen`` says what it was asked. On SIGTERM it ends at once and its streams with it, as vLLM does without a shutdown timeout.

One file and no import of this package: the controller starts it by its path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = ("to", "be", "or", "not", "that", "is", "the", "question", "whether", "nobler")


@dataclass(frozen=True)
class Behaviour:
    """Shares are of requests, 0 to 1; what each request meets is drawn anew."""

    name: str = "fake"
    ttft_s: float = 0.02
    gap_s: float = 0.1
    """Between two tokens."""

    error_share: float = 0.0
    """Answered 500."""

    hang_share: float = 0.0
    """Taken, and never answered."""

    drop_share: float = 0.0
    """Taken, and the connection closed."""

    cut_share: float = 0.0
    """Answered 200, and cut in the middle of a stream."""

    wrong_share: float = 0.0
    """Share of tokens that are others than those of a sound engine."""

    start_s: float = 0.0
    crashes_at_start: bool = False

    def changed(self, changes: dict[str, Any]) -> Behaviour:
        """Returns it with other values; ValueError for a field that there is not."""
        unknown = set(changes) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"a fake engine has no {sorted(unknown)}")
        return replace(self, **changes)


class FakeEngine:
    """One server's state and its answers."""

    def __init__(self, names: list[str], model: Path, behaviour: Behaviour) -> None:
        self.names = names
        self.model = model
        self.behaviour = behaviour
        self.num_seen = 0
        self.num_running = 0
        self.last_seen_at = 0.0
        """Unix time in seconds."""

    def app(self) -> web.Application:
        """Returns the server."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/fake/seen", self.seen)
        app.router.add_post("/fake/behaviour", self.change)
        app.router.add_post("/v1/completions", self.generate)
        app.router.add_post("/v1/chat/completions", self.generate)
        return app

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def models(self, _request: web.Request) -> web.Response:
        listed = [{"id": name, "object": "model", "root": str(self.model), "parent": None} for name in self.names]
        return web.json_response({"object": "list", "data": listed})

    async def metrics(self, _request: web.Request) -> web.Response:
        lines = ["vllm:num_requests_waiting 0", f"vllm:num_requests_running {self.num_running}", "vllm:kv_cache_usage_perc 0.0", ""]
        return web.Response(text="\n".join(lines))

    async def seen(self, _request: web.Request) -> web.Response:
        told = {"pid": os.getpid(), "seen": self.num_seen, "running": self.num_running, "last_seen_at": self.last_seen_at}
        return web.json_response(told | {"behaviour": asdict(self.behaviour)})

    async def change(self, request: web.Request) -> web.Response:
        self.behaviour = self.behaviour.changed(await request.json())
        return web.json_response(asdict(self.behaviour))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("model") not in self.names:
            return web.json_response({"error": {"message": "no such model", "code": 404}}, status=404)
        if body.get("prompt") != "The":
            # That is how the controller asks whether it answers at all.
            self.num_seen += 1
            self.last_seen_at = time.time()
        self.num_running += 1
        try:
            return await self._answer(request, body)
        finally:
            self.num_running -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        now, draw = self.behaviour, random.random()
        if draw < now.hang_share:
            await asyncio.sleep(3600)
        draw -= now.hang_share
        if 0 <= draw < now.drop_share and request.transport is not None:
            request.transport.abort()
            return web.Response()
        draw -= now.drop_share
        if 0 <= draw < now.error_share:
            return web.json_response({"error": {"message": "EngineDeadError", "code": 500}}, status=500)
        draw -= now.error_share
        await asyncio.sleep(now.ttft_s)
        is_chat = request.path.endswith("/chat/completions")
        tokens = self._tokens(body)
        if body.get("stream"):
            return await self._stream(request, tokens, is_chat=is_chat, is_cut=0 <= draw < now.cut_share)
        await asyncio.sleep(now.gap_s * len(tokens))
        return web.json_response(self._whole(tokens, is_chat=is_chat))

    def _tokens(self, body: dict[str, Any]) -> list[str]:
        """Returns what a sound engine says, and other words in the places that this one spoils."""
        num = int(body.get("max_tokens") or 16)
        spoilt = random.Random(json.dumps(body.get("messages") or body.get("prompt")))
        return [" error" if spoilt.random() < self.behaviour.wrong_share else f" {WORDS[at % len(WORDS)]}" for at in range(num)]

    async def _stream(self, request: web.Request, tokens: list[str], *, is_chat: bool, is_cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        kept = tokens[: len(tokens) // 2 + 1] if is_cut else tokens
        for at, token in enumerate(kept):
            if at:
                await asyncio.sleep(self.behaviour.gap_s)
            choice = {"delta": {"content": token}} if is_chat else {"text": token}
            await response.write(_event(self._document(is_chat, "chat.completion.chunk") | {"choices": [{"index": 0, **choice}]}))
        if is_cut and request.transport is not None:
            request.transport.abort()
            return response
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _whole(self, tokens: list[str], *, is_chat: bool) -> dict[str, Any]:
        text = "".join(tokens)
        if is_chat:
            content = [{"token": token, "logprob": -0.5, "top_logprobs": []} for token in tokens]
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "logprobs": {"content": content}}
        else:
            choice = {"text": text, "logprobs": {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens)}}
        usage = {"prompt_tokens": 8, "completion_tokens": len(tokens), "total_tokens": 8 + len(tokens)}
        choices = [{"index": 0, "finish_reason": "length", **choice}]
        return self._document(is_chat, "chat.completion") | {"choices": choices, "usage": usage}

    def _document(self, is_chat: bool, kind: str) -> dict[str, Any]:
        return {
            "id": f"fake-{os.getpid()}-{self.num_seen}",
            "object": kind if is_chat else "text_completion",
            "created": 1,
            "model": self.names[0],
            "system_fingerprint": self.behaviour.name,
        }


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


async def serve(engine: FakeEngine, host: str, port: int) -> None:
    """Answers until it is killed."""
    runner = web.AppRunner(engine.app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    print("Application startup complete.", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Starts as it is told; exits with status 3 where it is to crash."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", nargs="+", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    # What else a real engine is told does not matter here.
    arguments, _ = parser.parse_known_args()
    told = json.loads((arguments.model / "config.json").read_text()).get("fake", {})
    behaviour = Behaviour().changed(told)
    time.sleep(behaviour.start_s)
    if behaviour.crashes_at_start:
        print("RuntimeError: the weights do not fit this engine", flush=True)
        sys.exit(3)
    # At once, whatever is under way.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    asyncio.run(serve(FakeEngine(arguments.served_model_name, arguments.model, behaviour), arguments.host, arguments.port))


if __name__ == "__main__":
    main()
