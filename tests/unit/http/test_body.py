"""Bodies that come slowly, and bodies that are no JSON, on an app with two endpoints of its own."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.types import Message

from quantry_core.errors import PROBLEM_TYPE_PREFIX
from quantry_http.body import BodyLimitMiddleware, allow_body
from quantry_http.problems import install_problem_handlers

JSON = {"Content-Type": "application/json"}


class Thing(BaseModel):
    name: str
    size: float = 0
    more: dict[str, Any] = {}


def make_app(*, wait_s: float = 30, stall_s: float = 30) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=64_000, wait_s=wait_s, stall_s=stall_s)

    @app.post("/things")
    async def things(thing: Thing) -> str:
        return thing.name

    @app.post("/files", dependencies=[Depends(allow_body(100_000))])
    async def files(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    return app


async def ask(app: FastAPI, path: str, content: Any, headers: dict[str, str]) -> tuple[int, str, str]:
    """Returns status, type and words of the answer."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
        answer = await client.post(path, content=content)
    problem = answer.json()
    return answer.status_code, problem["type"].removeprefix(PROBLEM_TYPE_PREFIX), problem["detail"]


async def stalled() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


@pytest.mark.parametrize(("path", "waits"), [("/things", {"wait_s": 0.01}), ("/files", {"stall_s": 0.01})])
async def test_a_body_that_stops_coming_is_408(path: str, waits: dict[str, float]) -> None:
    # A client that reads an answer before it has sent its own request: httpx's does not.
    sent: list[Message] = []
    begun = False

    async def receive() -> Message:
        nonlocal begun
        if begun:
            await asyncio.Event().wait()
        begun = True
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in JSON.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await make_app(**waits)(scope, receive, send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["type"]) == (408, "urn:quantry:problem:body-stalled")


async def test_a_compressed_body_is_refused_unread() -> None:
    bomb = gzip.compress(b'{"name": "' + b"a" * 10_000_000 + b'"}')
    for path in ("/things", "/files"):
        status, kind, words = await ask(make_app(), path, bomb, {**JSON, "Content-Encoding": "gzip"})
        assert (status, kind) == (415, "unsupported-media-type")
        assert "Content-Encoding" in words


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"[" * 10_000, 400, "nested too deeply"),
        (b'{"name": "a", "more": ' + b'{"a":' * 10_000 + b"0" + b"}" * 10_001, 400, "nested too deeply"),
        (b'{"name": "a", "size": ' + b"9" * 5000 + b"}", 400, "4300 digits"),
        (b'{"name": "\xff"}', 400, "UTF-8"),
        (b'{"name": "a"', 422, "not JSON"),
        (b'{"name": "a\x00"}', 422, "not JSON"),
        (b'{"name": "\\ud800"}', 400, "half of a character"),
        (b'{"name": "a", "size": NaN}', 400, "NaN is no number"),
        (b'{"name": "a", "size": 1e400}', 400, "1e400"),
        (b'{"name": "a", "more": {"a": [1, -Infinity]}}', 400, "-Infinity is no number"),
        (b'{"name": "a", "name": "b"}', 400, "'name' comes twice"),
    ],
)
async def test_what_is_no_json_says_why(content: bytes, status: int, words: str) -> None:
    answered = await ask(make_app(), "/things", content, JSON)
    assert (answered[0], words in answered[2]) == (status, True), answered


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x"])
async def test_another_kind_of_body_is_no_json(content_type: str) -> None:
    status, kind, words = await ask(make_app(), "/things", b'{"name": "a"}', {"Content-Type": content_type})
    assert (status, kind) == (422, "invalid-input"), words
