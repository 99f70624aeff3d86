"""A service's requests are counted by the templates of their addresses, and its /metrics are for whoever may read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, Gauge
from pydantic import SecretStr

from quantry_core.errors import Conflict, Unavailable
from quantry_core.permissions import ANYONE
from quantry_core.traces import carried_traceparent
from quantry_http.app import create_app
from quantry_http.metrics import Exposition
from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork

TOKEN = "a-token-for-prometheus"
DOORS = {
    (method, path): ANYONE
    for method, path in (
        *(("GET", path) for path in ("/healthz", "/livez", "/metrics", "/api/v1/things/{name}", "/api/v1/carried")),
        ("POST", "/api/v1/things/{name}"),
    )
}


class FakeDatabase:
    is_away = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        await self.ping()
        yield

    async def ping(self) -> None:
        if self.is_away:
            raise Unavailable("the database did not answer; try again")


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def make(database: FakeDatabase) -> Callable[..., FastAPI]:
    """Returns an app with a router below a prefix, as the services have them."""

    def made(token: str | None = None) -> FastAPI:
        registry = CollectorRegistry()
        seen = Gauge("quantry_seen", "What the database says.", registry=registry)

        async def read(_uow: UnitOfWork) -> None:
            seen.set(7)

        exposition = Exposition(registry, None if token is None else SecretStr(token), read)
        app = create_app("test", database=cast(Database, database), permissions=DOORS, metrics=exposition)
        router = APIRouter()

        @router.get("/things/{name}")
        async def show(name: str) -> str:
            return name

        @router.post("/things/{name}")
        async def fail(name: str) -> str:
            raise Conflict(name) if name == "taken" else RuntimeError(name)

        @router.get("/carried")
        async def carried() -> str | None:
            return carried_traceparent()

        app.include_router(router, prefix="/api/v1")
        return app

    return made


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test")


async def scrape(client: httpx.AsyncClient, **headers: str) -> dict[str, float]:
    response = await client.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_requests_are_counted_by_method_template_and_status(make: Callable[..., FastAPI]) -> None:
    async with client_of(make()) as client:
        for path in ("/api/v1/things/one", "/api/v1/things/two", "/api/v1/nothing", "/api/v1/things/a/b"):
            await client.get(path)
        for name in ("taken", "broken"):
            await client.post(f"/api/v1/things/{name}")
        await client.request("BREW", "/api/v1/things/tea")
        found = await scrape(client)
    template = "/api/v1/things/{name}"
    assert {name: value for name, value in found.items() if name.startswith("quantry_http_requests_total")} == {
        f'quantry_http_requests_total{{method="GET",route="{template}",status="200"}}': 2,
        'quantry_http_requests_total{method="GET",route="none",status="404"}': 2,
        f'quantry_http_requests_total{{method="POST",route="{template}",status="409"}}': 1,
        f'quantry_http_requests_total{{method="POST",route="{template}",status="500"}}': 1,
        f'quantry_http_requests_total{{method="other",route="{template}",status="405"}}': 1,
    }
    assert found[f'quantry_http_request_duration_seconds_count{{method="GET",route="{template}"}}'] == 2
    # This request itself.
    assert found["quantry_http_requests_in_flight"] == 1
    assert (found["quantry_database_up"], found["quantry_seen"]) == (1, 7)


async def test_metrics_are_there_while_the_database_is_away(make: Callable[..., FastAPI], database: FakeDatabase) -> None:
    async with client_of(make()) as client:
        await scrape(client)
        database.is_away = True
        found = await scrape(client)
    assert (found["quantry_database_up"], found["quantry_seen"]) == (0, 7)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}, {"Authorization": "Basic " + TOKEN}]
)
async def test_with_a_token_nobody_reads_without_it(make: Callable[..., FastAPI], headers: dict[str, str]) -> None:
    async with client_of(make(TOKEN)) as client:
        refused = await client.get("/metrics", headers=headers)
        assert (refused.status_code, refused.json()["status"]) == (401, 401)
        assert TOKEN not in refused.text
        assert (await scrape(client, Authorization=f"Bearer {TOKEN}"))["quantry_database_up"] == 1


async def test_a_trace_context_is_nothing_where_traces_are_off(make: Callable[..., FastAPI]) -> None:
    async with client_of(make()) as client:
        given = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        response: Any = (await client.get("/api/v1/carried", headers=given)).json()
    assert response is None
