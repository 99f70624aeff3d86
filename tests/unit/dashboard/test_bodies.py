"""What the dashboard takes of a request's body."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from fastapi import FastAPI, Form, Request
from starlette.types import Message, Scope

from quantry_dashboard import uploads
from quantry_dashboard.bodies import MAX_BODY_BYTES, BoundedBodies
from quantry_telemetry.connections import ConnectionSettings

FORM = (b"content-type", b"application/x-www-form-urlencoded")


def make_app() -> BoundedBodies:
    app = FastAPI()

    @app.post("/sign-in")
    async def sign_in(api_key: str = Form()) -> str:
        return api_key

    @app.put(uploads.PATH)
    async def upload(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    async def plain(scope: Scope, receive: object, send: object) -> None:
        await Request(scope, receive).body()  # type: ignore[arg-type]

    app.mount("/plain", plain)
    return BoundedBodies(app, ConnectionSettings(http_body_timeout_s=0.01, http_body_stall_s=0.01))


async def ask(method: str, path: str, pieces: Sequence[bytes], *, ends: bool, declared: int | None = None) -> tuple[int, bytes]:
    """Returns status and body of the answer to a request whose body comes in pieces, and stops coming unless it ends."""
    left, sent = list(pieces), list[Message]()

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": not ends or bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [FORM] if declared is None else [FORM, (b"content-length", b"%d" % declared)]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await make_app()(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/sign-in"), ("PUT", uploads.PATH), ("POST", "/plain/x")])
async def test_a_body_that_stops_coming_is_408(method: str, path: str) -> None:
    status, words = await ask(method, path, [b"api_key="], ends=False)
    assert (status, b"0.01 s" in words) == (408, True)


async def test_a_form_is_short_and_an_upload_may_be_long() -> None:
    long = [b"x" * MAX_BODY_BYTES, b"x"]
    assert (await ask("POST", "/sign-in", long, ends=True))[0] == 413
    assert (await ask("POST", "/sign-in", [], ends=True, declared=MAX_BODY_BYTES + 1))[0] == 413
    assert await ask("PUT", uploads.PATH, long, ends=True) == (200, b"%d" % (MAX_BODY_BYTES + 1))
    assert await ask("POST", "/sign-in", [b"api_key=", b"qtr_1"], ends=True) == (200, b'"qtr_1"')
