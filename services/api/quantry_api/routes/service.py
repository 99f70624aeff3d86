"""Waits for the routes to change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from quantry_core.routes import RouteSnapshot
from quantry_store.database import Database

POLL_INTERVAL_S = 0.25


async def wait_for_routes(
    database: Database, after: int | None, wait_s: float, *, has_left: Callable[[], Awaitable[bool]]
) -> RouteSnapshot | None:
    """Returns the routes once their revision differs from ``after``; None if it does not within ``wait_s`` seconds.

    Gives up when the gateway ``has_left``: nobody reads the answer then, and it would hold up the api's own stop.

    Differs, not grows: after a restore of the database the revision may be a smaller one, and gateways must follow.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        async with database.begin() as uow:
            if await uow.routes.revision() != after:
                return await uow.routes.snapshot()
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0 or await has_left():
            return None
        await asyncio.sleep(min(POLL_INTERVAL_S, left_s))
