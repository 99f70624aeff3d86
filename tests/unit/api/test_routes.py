"""How long a gateway's long-poll lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

from quantry_api.routes.service import wait_for_routes
from quantry_store.database import Database

REVISION = 7


class FakeDatabase:
    """Its routes stay at one revision."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SimpleNamespace]:
        async def revision() -> int:
            return REVISION

        yield SimpleNamespace(routes=SimpleNamespace(revision=revision))


async def test_a_poll_whose_gateway_has_left_ends_long_before_its_time() -> None:
    async def has_left() -> bool:
        return True

    assert await wait_for_routes(cast(Database, FakeDatabase()), REVISION, 3600.0, has_left=has_left) is None


async def test_a_poll_that_may_not_wait_answers_at_once() -> None:
    async def has_left() -> bool:
        return False

    assert await wait_for_routes(cast(Database, FakeDatabase()), REVISION, 0.0, has_left=has_left) is None
