"""The sweep loop outlives what it sweeps."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.away import AwayDatabase
from quantry_api.sweeps import MAX_BACKOFF_S, Sweeper, backoff_s
from quantry_core.errors import Unavailable
from quantry_store.database import Database


async def never_woken(_queue: object) -> bool:
    raise AssertionError("nothing can be woken while the database is away")


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a defect")])
async def test_the_loop_goes_on_after_failures(error: Exception) -> None:
    database = AwayDatabase(error)
    sweeping = asyncio.create_task(Sweeper(cast(Database, database), never_woken, interval_s=0.0).run())
    await asyncio.wait_for(database.asked_enough.wait(), 5)
    assert not sweeping.done()
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping


@given(interval_s=st.floats(0.001, 1000), num_failures=st.integers(0, 10**9))
def test_the_pause_grows_and_is_bounded(interval_s: float, num_failures: int) -> None:
    pause = backoff_s(interval_s, num_failures)
    assert interval_s <= pause <= max(interval_s, MAX_BACKOFF_S)
    assert backoff_s(interval_s, num_failures + 1) >= pause
    assert backoff_s(interval_s, 0) == interval_s
