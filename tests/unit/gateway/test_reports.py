"""Which numbers reports carry."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from pydantic import BaseModel

from factories.outcomes import outcome
from quantry_core.traffic import Demand, TrafficReport
from quantry_gateway.reports import Reporter
from quantry_gateway.tallies import Tallies
from quantry_gateway.telling import Teller


class Hearing:
    """A teller whose api hears every report and never says so to the first."""

    def __init__(self) -> None:
        self.heard: list[TrafficReport] = []
        self.has_heard = asyncio.Event()

    async def post(self, _path: str, document: BaseModel, *, timeout_s: float) -> None:
        self.heard.append(cast("TrafficReport", document))
        if not self.has_heard.is_set():
            self.has_heard.set()
            await asyncio.Event().wait()


async def test_a_demand_that_is_cut_short_by_the_end_does_not_take_the_number_of_what_was_counted() -> None:
    api, tallies = Hearing(), Tallies()
    demands = [Demand(deployment_id="dep_1", num_waiting=1)]
    reporter = Reporter(cast("Teller", api), tallies, lambda: demands, interval_s=0.0, max_backlog_windows=10)
    running = asyncio.create_task(reporter.run())
    await api.has_heard.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    tallies.tell(outcome())
    await reporter.flush(timeout_s=1.0)
    demand, counted = api.heard
    assert (len(demand.windows), len(counted.windows)) == (0, 1)
    assert counted.sequence > demand.sequence
