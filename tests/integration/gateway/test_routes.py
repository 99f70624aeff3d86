"""How the gateway learns routes, and how it lives without the api."""

from __future__ import annotations

import stat
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from factories.gateway import (
    GATEWAY_TOKEN,
    FakeRoutesApi,
    gateway_settings,
    refusing_url,
    route,
    running_gateway,
    serving,
    snapshot,
    until,
)
from quantry_gateway.kept_routes import KeptRoutes


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
    async with http.get(f"{url}/v1/models") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "routes_unknown")
        assert answer.headers["retry-after"] == "2"
