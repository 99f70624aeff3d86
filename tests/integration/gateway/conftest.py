"""A gateway under a real server, with engines that a test can make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from factories.gateway import (
    KEY,
    FakeEngine,
    FakeRoutesApi,
    Handler,
    RoutedGateway,
    StartEngines,
    StartGateway,
    StartRouted,
    gateway_settings,
    route,
    running_gateway,
    serving,
    snapshot,
    until,
)
from quantry_core.routes import Route
from quantry_gateway import app
from quantry_gateway.hooks import Hooks
from quantry_gateway.outcomes import Outcome


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Closes what a test opened, last first."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client with a viewer's key."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
        yield session


@pytest.fixture
def start_engines(stack: AsyncExitStack) -> StartEngines:
    """Starts one engine per behaviour."""

    async def start(*behaviours: Handler) -> list[FakeEngine]:
        engines = [FakeEngine(behaviour) for behaviour in behaviours]
        for engine in engines:
            engine.url = await stack.enter_async_context(serving(engine.handle))
        return engines

    return start


@pytest.fixture
def start_gateway(stack: AsyncExitStack, tmp_path: Path) -> StartGateway:
    """Starts a gateway whose deployment ``bard`` has replicas at the given URLs, and waits until it is ready."""

    async def start(*replica_urls: str, **changes: object) -> str:
        api = FakeRoutesApi(snapshot(route("bard", *replica_urls), route("other", project_id="prj_2")))
        api_url = await stack.enter_async_context(serving(api.handle))
        url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url, **changes)))

        async def is_ready() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
                return response.status == 200

        await until(is_ready)
        return url

    return start


@pytest.fixture
def start_routed(stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartRouted:
    """Starts a gateway with these routes, whose outcomes a test can read, and waits until it is ready."""

    async def start(*routes: Route, **changes: object) -> RoutedGateway:
        outcomes: list[Outcome] = []
        monkeypatch.setattr(app, "build_hooks", lambda _surroundings: Hooks(sinks=(outcomes.append,)))
        api = FakeRoutesApi(snapshot(*routes))
        api_url = await stack.enter_async_context(serving(api.handle))
        gateway = RoutedGateway(
            await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url, **changes))), api, outcomes
        )

        async def is_ready() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/healthz") as response:
                return response.status == 200

        await until(is_ready)
        return gateway

    return start
