"""The peer's HTTP server: each POST is one insert and one commit. ``python -m bench.jobs.peer.server <port> <postgres folder>``"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DATABASE = "bench_peer"


def build(postgres_dir: str) -> Starlette:
    """Returns the server."""
    engine = create_async_engine(f"postgresql+psycopg://quantry@/{DATABASE}?host={postgres_dir}&port=5432", pool_size=10)
    insert = text("insert into steps (id, step) values (:id, :step)")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    async def take(request: Request) -> Response:
        async with engine.begin() as connection:
            await connection.execute(insert, {"id": request.path_params["id"], "step": "taken"})
        return Response(status_code=204)

    async def submit(request: Request) -> Response:
        body = await request.json()
        async with engine.begin() as connection:
            await connection.execute(insert, {"id": body["id"], "step": "submitted"})
        return Response(status_code=201)

    return Starlette(routes=[Route("/take/{id}", take, methods=["POST"]), Route("/submit", submit, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
