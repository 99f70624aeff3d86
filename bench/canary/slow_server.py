"""A server that someone else runs, and that is slow: each generation waits before it is passed on to a real engine.

``python -m bench.canary.slow_server <port> <engine's URL> <seconds>``
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web


def build(engine_url: str, delay_s: float) -> web.Application:
    """Returns the server. Health, models and questions of one token are passed on at once: it looks well, and is slow."""

    async def with_session(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(engine_url, timeout=aiohttp.ClientTimeout(total=None)) as session:
            app["session"] = session
            yield

    async def pass_on(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if body and b'"max_tokens": 1,' not in body and b'"max_tokens":1,' not in body:
            await asyncio.sleep(delay_s)
        session: aiohttp.ClientSession = request.app["session"]
        async with session.request(request.method, request.path, data=body, headers={"content-type": "application/json"}) as answer:
            response = web.StreamResponse(status=answer.status, headers={"content-type": answer.headers.get("content-type", "text/plain")})
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=64 * 1024**2)
    app.cleanup_ctx.append(with_session)
    app.router.add_route("*", "/{path:.*}", pass_on)
    return app


if __name__ == "__main__":
    web.run_app(build(sys.argv[2], float(sys.argv[3])), host="127.0.0.1", port=int(sys.argv[1]), print=None)
