"""The control plane that the measured gateway learns from: one route, one key. ``python -m bench.gateway.control <port> <engine's URL>``

It answers long polls of the routes, and takes what the gateway reports of its requests, as the api does.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import uvloop
from aiohttp import web

from quantry_core.keys import Role, hash_key
from quantry_core.routes import Route, RoutedKey, RoutedReplica, RouteSnapshot, Variant, VariantRole

KEY = "qtr_key-of-the-benchmark"
TOKEN = "qtr_token-of-the-benchmark"
MODEL = "bard"


def snapshot(engine_url: str) -> RouteSnapshot:
    """Returns the routes: one deployment, one release, one replica that takes as many requests as there are."""
    replica = RoutedReplica(id="rep_1", release_id="rel_1", url=engine_url, max_requests=10_000)
    variant = Variant(role=VariantRole.STABLE, release_id="rel_1", release_number=1, percent=100, replicas=[replica])
    route = Route(deployment=MODEL, deployment_id="dep_1", project_id="prj_1", created_at=datetime.now(UTC), variants=[variant])
    key = RoutedKey(key_id="key_1", key_hash=hash_key(KEY), project_id="prj_1", role=Role.VIEWER)
    return RouteSnapshot(revision=1, routes=[route], keys=[key])


def build(engine_url: str) -> web.Application:
    """Returns the server."""
    told = snapshot(engine_url)

    async def routes(request: web.Request) -> web.Response:
        if request.query.get("after") == str(told.revision):
            await asyncio.sleep(float(request.query.get("wait_s", "20")))
            return web.Response(status=204)
        return web.Response(body=told.model_dump_json().encode(), content_type="application/json")

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_get("/internal/v1/routes", routes)
    app.router.add_post("/internal/v1/{report}", take)
    return app


async def serve(port: int, engine_url: str) -> None:
    """Answers until it is ended."""
    runner = web.AppRunner(build(engine_url), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
