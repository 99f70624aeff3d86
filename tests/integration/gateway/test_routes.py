"""How the gateway learns routes, and how it lives without the api."""

from __future__ import annotations

import asyncio
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from factories.gateway import (
    GATEWAY_TOKEN,
    FakeRoutesApi,
    StartEngines,
    answer_normally,
    gateway_settings,
    refusing_url,
    route,
    running_gateway,
    serving,
    snapshot,
    until,
)
from quantry_core.routes import RouteSnapshot
from quantry_gateway import routes
from quantry_gateway.kept_routes import KeptRoutes
from quantry_gateway.routes import RouteWatcher
from quantry_gateway.table import CompiledRoutes, compile_routes


async def names(http: aiohttp.ClientSession, url: str) -> list[str] | None:
    async with http.get(f"{url}/v1/models") as answer:
        return [model["id"] for model in (await answer.json())["data"]] if answer.status == 200 else None


def check_mode(folder: Path) -> None:
    [kept] = folder.iterdir()
    assert kept.name == "routes.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_routes_follow_the_api_and_stay_when_it_is_away(stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    api = FakeRoutesApi(snapshot(route("one")))
    async with serving(api.handle) as api_url:
        url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url)))

        async def has_one() -> bool:
            return await names(http, url) == ["one"]

        async def has_two() -> bool:
            return await names(http, url) == ["one", "two"]

        await until(has_one)
        api.publish(snapshot(route("one"), route("two"), revision=2))
        await until(has_two)
        assert set(api.tokens) == {f"Bearer {GATEWAY_TOKEN}"}
        # A restored database may have an older revision: it counts all the same.
        api.publish(snapshot(route("one"), revision=1))
        await until(has_one)
        api.publish(snapshot(route("one"), route("two"), revision=2))
        await until(has_two)
    assert await names(http, url) == ["one", "two"]

    async def is_kept() -> bool:
        kept = KeptRoutes(tmp_path).load()
        return kept is not None and kept.revision == 2

    await until(is_kept)
    check_mode(tmp_path)


async def test_a_restart_without_the_api_serves_the_kept_routes(stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    (tmp_path / "routes.json").write_text(snapshot(route("kept"), revision=7).model_dump_json())
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, refusing_url())))
    async with http.get(f"{url}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    assert await names(http, url) == ["kept"]


async def test_without_any_routes_nothing_is_ready(stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    (tmp_path / "routes.json").write_text("{ cut off")
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, refusing_url())))
    async with http.get(f"{url}/healthz") as answer:
        assert answer.status == 503
        assert answer.content_type == "application/problem+json"
    async with http.get(f"{url}/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"}), "to start it again would bring no routes"
    async with http.get(f"{url}/v1/models") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "routes_unknown")
        assert answer.headers["retry-after"] == "2"


async def test_a_request_waits_a_moment_for_the_replica_that_is_becoming_ready(
    stack: AsyncExitStack, start_engines: StartEngines, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    api = FakeRoutesApi(snapshot(route("bard")))
    api_url = await stack.enter_async_context(serving(api.handle))
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url, gateway_ready_wait_s=20)))

    async def has_it() -> bool:
        return await names(http, url) == ["bard"]

    await until(has_it)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(http.post(f"{url}/v1/completions", json={"model": "bard"}))
        await asyncio.sleep(0.1)
        # A change elsewhere does not end the wait.
        api.publish(snapshot(route("bard"), route("other"), revision=2))
        await asyncio.sleep(0.1)
        assert not asked.done()
        api.publish(snapshot(route("bard", engine.url), revision=3))
    assert asked.result().status == 200


async def test_where_no_replica_becomes_ready_the_request_is_refused(
    stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    api_url = await stack.enter_async_context(serving(FakeRoutesApi(snapshot(route("bard"))).handle))
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url, gateway_ready_wait_s=0.1)))

    async def is_refused() -> bool:
        async with http.post(f"{url}/v1/completions", json={"model": "bard"}) as answer:
            code = (await answer.json())["error"]["code"]
            return answer.status == 503 and code == "no_replica_ready" and answer.headers["retry-after"] == "2"

    await until(is_refused)


async def test_an_unexpected_failure_does_not_end_the_watch(
    stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_compiled = 0

    def fail_twice(snapshot: RouteSnapshot) -> CompiledRoutes:
        nonlocal num_compiled
        num_compiled += 1
        if num_compiled <= 2:
            raise KeyError("a defect")
        return compile_routes(snapshot)

    monkeypatch.setattr(routes, "compile_routes", fail_twice)
    api_url = await stack.enter_async_context(serving(FakeRoutesApi(snapshot(route("one"))).handle))
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url)))

    async def has_one() -> bool:
        return await names(http, url) == ["one"]

    await until(has_one)
    assert num_compiled == 3


async def test_a_gateway_that_no_longer_follows_its_routes_is_not_well(
    stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end_at_once(_watcher: RouteWatcher) -> None:
        raise RuntimeError("whatever ends it")

    monkeypatch.setattr(RouteWatcher, "run", end_at_once)
    (tmp_path / "routes.json").write_text(snapshot(route("kept"), revision=7).model_dump_json())
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, refusing_url())))
    async with http.get(f"{url}/healthz") as answer:
        assert answer.status == 503
        assert "no longer follows" in (await answer.json(content_type=None))["detail"]
    assert await names(http, url) == ["kept"]
