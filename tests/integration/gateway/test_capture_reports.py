"""Captured prompts reach the api, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from factories.gateway import serving, until
from factories.internal_api import LOST, InternalApi
from factories.outcomes import outcome, table_of, watched_route
from quantry_core.captures import CaptureReport, CaptureSettings
from quantry_gateway.captures import PATH, Captures, CaptureTeller
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.telling import Teller


def all_prompts() -> Captures:
    return Captures(WatchedDeployments(table_of(watched_route(capture=CaptureSettings(percent=100)))), max_bytes=10**6, hold_s=60)


@asynccontextmanager
async def telling(api_url: str, captures: Captures) -> AsyncIterator[CaptureTeller]:
    """Runs a teller of captures for as long as the block does."""
    async with aiohttp.ClientSession() as session:
        teller = CaptureTeller(Teller(session, api_url=api_url, token=SecretStr("qtr_gateway")), captures, interval_s=0.01)
        running = asyncio.create_task(teller.run())
        try:
            yield teller
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def reports(api: InternalApi) -> list[CaptureReport]:
    return [CaptureReport.model_validate(document) for document in api.documents(PATH)]


async def test_prompts_arrive() -> None:
    api, captures = InternalApi(), all_prompts()
    for _ in range(3):
        captures.tell(outcome())
    async with serving(api.handle) as url, telling(url, captures):

        async def has_come() -> bool:
            return bool(api.told)

        await until(has_come)
    [report] = reports(api)
    assert [prompt.body for prompt in report.prompts] == ['[{"role":"user","content":"To be"}]'] * 3
    assert api.tokens == {"Bearer qtr_gateway"}


@pytest.mark.parametrize("trouble", [LOST, 500, 503])
async def test_an_unanswered_report_is_told_again_with_the_same_ids(trouble: int) -> None:
    api, captures = InternalApi(trouble), all_prompts()
    captures.tell(outcome())
    async with serving(api.handle) as url, telling(url, captures):

        async def has_come_twice() -> bool:
            return len(api.told) == 2

        await until(has_come_twice)
    first, second = reports(api)
    assert first == second


@pytest.mark.parametrize("status", [409, 422])
async def test_refused_prompts_are_counted_and_never_logged(status: int) -> None:
    api, captures = InternalApi(status), all_prompts()
    captures.tell(outcome())
    with capture_logs() as lines:
        async with serving(api.handle) as url, telling(url, captures):

            async def is_dropped() -> bool:
                return captures.num_dropped == 1

            await until(is_dropped)
            captures.tell(outcome())

            async def has_come_too() -> bool:
                return len(api.told) == 2

            await until(has_come_too)
    assert lines
    assert "To be" not in str(lines)


async def test_what_the_api_does_not_take_in_time_is_dropped() -> None:
    api, captures = InternalApi(*[503] * 50), all_prompts()
    captures.hold_s = 0.05
    captures.tell(outcome())
    async with serving(api.handle) as url, telling(url, captures):

        async def is_dropped() -> bool:
            return captures.num_dropped == 1

        await until(is_dropped)
    assert len(captures) == 0


async def test_what_is_held_at_the_end_is_told() -> None:
    api, captures = InternalApi(), all_prompts()
    async with serving(api.handle) as url, telling(url, captures) as teller:
        captures.tell(outcome())
        await teller.flush(timeout_s=1)
    assert sum(len(report.prompts) for report in reports(api)) == 1
