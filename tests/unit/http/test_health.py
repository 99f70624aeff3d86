"""Being well and being alive. No socket is used."""

from __future__ import annotations

import httpx
from fastapi import FastAPI

from quantry_http.health import health_router


async def test_a_service_whose_database_is_away_is_not_well_but_lives() -> None:
    async def database_is_away() -> None:
        raise ConnectionError

    app = FastAPI()
    app.include_router(health_router({"database": database_is_away}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/healthz")).status_code == 500  # no handler here makes a 503 of what it raises
        assert (await client.get("/livez")).json() == {"status": "ok"}
