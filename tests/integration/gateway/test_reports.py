"""What was counted reaches the api once, however often it has to be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr

from factories.gateway import refusing_url, serving, until
from factories.internal_api import LOST, InternalApi
from factories.outcomes import outcome
from quantry_core.traffic import Demand, Tally, TrafficReport
from quantry_gateway.reports import PATH, Reporter
from quantry_gateway.tallies import Tallies
from quantry_gateway.telling import Teller


@asynccontextmanager
async def reporting(
    api_url: str, tallies: Tallies, demands: Callable[[], list[Demand]] = list, *, interval_s: float = 0.01, max_windows: int = 600
) -> AsyncIterator[Reporter]:
    """Runs a reporter for as long as the block does."""
    async with aiohttp.ClientSession() as session:
        teller = Teller(session, api_url=api_url, token=SecretStr("qtr_gateway"))
        reporter = Reporter(teller, tallies, demands, interval_s=interval_s, max_backlog_windows=max_windows)
        running = asyncio.create_task(reporter.run())
        try:
            yield reporter
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def reports(api: InternalApi) -> list[TrafficReport]:
    return [TrafficReport.model_validate(document) for document in api.documents(PATH)]


def counted(told: list[TrafficReport]) -> Tally:
    """Returns what an api that goes by the numbers has counted: each once."""
    whole = Tally()
    for report in {(report.gateway_id, report.sequence): report for report in reversed(told)}.values():
        for window in report.windows:
            whole = whole.merged(window.tally)
    return whole


async def test_what_was_told_arrives_with_the_token_and_numbered() -> None:
    api, tallies = InternalApi(), Tallies()
    async with serving(api.handle) as url, reporting(url, tallies):
        for _ in range(3):
            tallies.tell(outcome())
            num_before = len(api.told)

            async def has_come(num_before: int = num_before) -> bool:
                return len(api.told) > num_before

            await until(has_come)
    told = reports(api)
    assert [report.sequence for report in told] == [1, 2, 3]
    assert len({report.gateway_id for report in told}) == 1
    assert counted(told).num_answered == 3
    assert api.tokens == {"Bearer qtr_gateway"}


async def test_nothing_is_said_where_nothing_happened() -> None:
    api = InternalApi()
    async with serving(api.handle) as url, reporting(url, Tallies()):
        await asyncio.sleep(0.1)
    assert api.told == []


@pytest.mark.parametrize("trouble", [LOST, 500, 503, 401, 404, 429])
async def test_a_report_that_was_not_answered_is_told_again_with_its_number(trouble: int) -> None:
    api, tallies = InternalApi(trouble, trouble), Tallies()
    async with serving(api.handle) as url, reporting(url, tallies):
        tallies.tell(outcome())

        async def has_been_told() -> bool:
            tallies.tell(outcome())
            return len(api.told) >= 4

        await until(has_been_told)
    told = reports(api)
    assert [report.sequence for report in told[:4]] == [1, 1, 1, 2]
    assert told[0] == told[1] == told[2]


async def test_a_report_that_will_never_be_taken_does_not_hold_up_the_next() -> None:
    api, tallies = InternalApi(422), Tallies()
    async with serving(api.handle) as url, reporting(url, tallies):
        tallies.tell(outcome(release_id="rel_broken"))

        async def has_come() -> bool:
            return len(api.told) == 1

        await until(has_come)
        tallies.tell(outcome())

        async def both_have_come() -> bool:
            return len(api.told) == 2

        await until(both_have_come)
    assert [report.sequence for report in reports(api)] == [1, 2]


async def test_no_count_is_lost_and_memory_is_bounded_while_the_api_is_away() -> None:
    tallies, api = Tallies(), InternalApi()
    async with reporting(refusing_url(), tallies, interval_s=0.002, max_windows=10) as reporter:
        for _ in range(100):
            tallies.tell(outcome())
            tallies.tell(outcome(release_id="rel_2"))
            await asyncio.sleep(0.003)
        assert len(reporter._backlog) <= 10
        async with serving(api.handle) as url:
            reporter._teller._api_url = url
            tallies.tell(outcome())

            async def has_caught_up() -> bool:
                return counted(reports(api)).num_answered == 201

            await until(has_caught_up)
    for report in reports(api):
        releases = [window.release_id for window in report.windows]
        assert len(set(releases)) == len(releases)


async def test_who_waits_is_told_as_it_is_now() -> None:
    api, tallies, waiting = InternalApi(503), Tallies(), [Demand(deployment_id="dep_1", num_waiting=3)]
    async with serving(api.handle) as url, reporting(url, tallies, lambda: list(waiting)):

        async def has_tried() -> bool:
            return len(api.told) == 1

        await until(has_tried)
        waiting.clear()
        tallies.tell(outcome())

        async def has_come() -> bool:
            return len(api.told) == 2

        await until(has_come)
    first, second = reports(api)
    assert (first.windows, first.demands) == ([], [Demand(deployment_id="dep_1", num_waiting=3)])
    assert (len(second.windows), second.demands) == (1, [])
    assert second.sequence > first.sequence, "the first may have been heard: its number cannot carry other counts"


async def test_what_is_left_at_the_end_is_told() -> None:
    api, tallies = InternalApi(), Tallies()
    async with serving(api.handle) as url, reporting(url, tallies, interval_s=60) as reporter:
        tallies.tell(outcome())
        await reporter.flush(timeout_s=1)
    assert counted(reports(api)).num_answered == 1


async def test_the_end_does_not_wait_for_an_api_that_hangs() -> None:
    async def hang(_request: object) -> None:
        await asyncio.sleep(60)

    tallies = Tallies()
    async with serving(hang) as url, reporting(url, tallies, interval_s=60) as reporter:  # type: ignore[arg-type]
        tallies.tell(outcome())
        began_s = asyncio.get_running_loop().time()
        await reporter.flush(timeout_s=0.2)
        assert asyncio.get_running_loop().time() - began_s < 1
