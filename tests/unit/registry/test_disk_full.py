"""A request that finds the disk full, on an app of its own."""

from __future__ import annotations

import errno
from typing import cast

import httpx
import pytest
from fastapi import FastAPI

from quantry_core.permissions import ANYONE, Need
from quantry_http.app import create_app
from quantry_registry.disk_full import install_disk_full_handler
from quantry_store.database import Database

DOORS: dict[tuple[str, str], Need] = {
    **{("GET", path): ANYONE for path in ("/healthz", "/livez", "/metrics")},
    ("PUT", "/{number}"): ANYONE,
}


class NoDatabase:
    async def ping(self) -> None:
        """Never asked."""


@pytest.fixture
def app() -> FastAPI:
    made = create_app("test", database=cast(Database, NoDatabase()), permissions=DOORS)
    install_disk_full_handler(made)

    @made.put("/{number}")
    async def fail(number: int) -> None:
        raise OSError(number, "what the system says")

    return made


async def put(app: FastAPI, number: int) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.put(f"/{number}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_named(app: FastAPI, number: int) -> None:
    answer = await put(app, number)
    assert answer.status_code == 507
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:quantry:problem:disk-full"
    assert "temporary files is full" in answer.json()["detail"]


async def test_another_failure_of_the_system_says_nothing_of_the_inside(app: FastAPI) -> None:
    answer = await put(app, errno.EIO)
    assert (answer.status_code, "what the system says" in answer.text) == (500, False)
