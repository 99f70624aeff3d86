"""Clients that do not send and do not read, at a service under a real server: what it does for them ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from quantry_http.body import BodyLimitMiddleware, allow_body
from quantry_http.problems import install_problem_handlers
from quantry_http.server import server_config
from quantry_telemetry.connections import ConnectionSettings

WAIT_S = 0.4


def make_app(stopped: asyncio.Event) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=10_000, wait_s=WAIT_S, stall_s=WAIT_S)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 60_000
                await asyncio.sleep(0)
        finally:
            stopped.set()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        return StreamingResponse(pieces())

    @app.post("/documents")
    async def documents(document: dict[str, int]) -> None:
        return None

    @app.post("/files", dependencies=[Depends(allow_body(10_000))])
    async def files(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    return app


async def say(port: int, beginning: bytes) -> bytes:
    """Sends the beginning of a request and no more; returns the answer, to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(beginning)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_clients_that_neither_send_nor_read_are_let_go() -> None:
    stopped = asyncio.Event()
    bounds = ConnectionSettings(http_head_timeout_s=WAIT_S, http_read_stall_s=WAIT_S)
    server = uvicorn.Server(server_config(make_app(stopped), "127.0.0.1", 0, bounds))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody that it has begun
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    fields = b" HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /endless HTTP/1.1\r\n\r\n")
        head, document, file = await asyncio.gather(
            say(port, b"GET /endless"), say(port, b"POST /documents" + fields), say(port, b"POST /files" + fields)
        )
        await asyncio.wait_for(stopped.wait(), 10)
    server.should_exit = True
    await serving
    assert [answer[:13] for answer in (head, document, file)] == [b"HTTP/1.1 408 "] * 3
    assert [b"body-stalled" in answer for answer in (head, document, file)] == [False, True, True]
