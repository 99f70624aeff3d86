"""The loop that fires schedules outlives what it works with."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from factories.away import AwayDatabase
from quantry_api.schedules.loop import Scheduler
from quantry_core.errors import Unavailable
from quantry_store.database import Database


async def never_called(*_arguments: object) -> Any:
    raise AssertionError("nothing can be due while the database is away")


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a defect")])
async def test_the_loop_goes_on_after_failures(error: Exception) -> None:
    database = AwayDatabase(error)
    scheduler = Scheduler(cast(Database, database), never_called, never_called, lambda: None, interval_s=0.0, grace_s=60.0)
    firing = asyncio.create_task(scheduler.run())
    await asyncio.wait_for(database.asked_enough.wait(), 5)
    assert not firing.done()
    firing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await firing
