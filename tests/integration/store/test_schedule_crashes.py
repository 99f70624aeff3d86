"""A schedule's due times when processes die, and when several are at it: neither lost nor doubled."""

from __future__ import annotations

import asyncio

import pytest

from factories.schedules import GRACE, Clockwork, pipeline_template, prepared, wind_up
from factories.store import Platform, opened
from quantry_core.jobs import JobStatus
from quantry_core.schedules import OverlapPolicy, RunOutcome
from quantry_store.transactions import fire_due
from quantry_store.unit_of_work import UnitOfWork


class Crash(Exception):
    """The process dies here."""


@pytest.mark.parametrize("method", ["add_run", "change", "standing"])
async def test_a_crash_neither_loses_nor_doubles(platform: Platform, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    clockwork = await wind_up(platform)
    due_at = await clockwork.due_since(seconds=5)
    repository = type((await _some_uow(platform)).schedules)
    working = getattr(repository, method)

    async def crash_after(*arguments: object, **keywords: object) -> None:
        await working(*arguments, **keywords)
        raise Crash

    monkeypatch.setattr(repository, method, crash_after)
    with pytest.raises(Crash):
        await clockwork.fire()
    monkeypatch.setattr(repository, method, working)
    assert (await clockwork.num_jobs(), await clockwork.runs()) == (0, [])
    run = await clockwork.fired()
    assert (run.outcome, run.due_at) == (RunOutcome.FIRED, due_at)
    assert await clockwork.fire() is None
    assert await clockwork.num_jobs() == 1


async def test_a_crash_between_firing_and_commit_takes_everything_back(platform: Platform) -> None:
    clockwork = await wind_up(platform, pipeline_template(), overlap=OverlapPolicy.CANCEL_PREVIOUS)
    await clockwork.due_since(seconds=5)
    first = await clockwork.fired()
    await clockwork.due_since(seconds=4)

    async def fire_and_crash() -> None:
        async with platform.database.begin() as uow:
            assert await fire_due(uow, clockwork.schedule.id, prepared(clockwork.template), grace=GRACE) is not None
            raise Crash

    with pytest.raises(Crash):
        await fire_and_crash()
    async with platform.database.begin() as uow:
        before = await uow.pipelines.get(platform.project_id, first.pipeline_id or "")
    assert {job.status for job in before.jobs} == {JobStatus.QUEUED, JobStatus.WAITING}, "nothing was cancelled"
    assert (await clockwork.fired()).outcome is RunOutcome.FIRED
    assert await clockwork.num_jobs() == 4


async def test_a_schedule_that_somebody_has_is_passed_by(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(seconds=5)
    async with platform.database.begin() as uow:
        assert await uow.schedules.claim(clockwork.schedule.id) is not None
        assert await clockwork.fire() is None
    assert (await clockwork.fired()).outcome is RunOutcome.FIRED


async def test_many_at_once_fire_each_due_time_once(platform: Platform) -> None:
    clockworks = [await wind_up(platform, name=f"schedule-{number}") for number in range(4)]
    for clockwork in clockworks:
        await clockwork.due_since(seconds=5)

    async def race(clockwork: Clockwork, url: str) -> int:
        async with opened(url) as database:
            rival = Clockwork(Platform(url, database, platform.admin, platform.worker), clockwork.schedule, clockwork.template)
            firing = await rival.fire()
            return 0 if firing is None else len(firing.runs)

    counts = await asyncio.gather(*(race(clockwork, platform.url) for clockwork in clockworks for _ in range(5)))
    assert sum(counts) == 4
    assert [await clockwork.num_jobs() for clockwork in clockworks] == [1, 1, 1, 1]


async def _some_uow(platform: Platform) -> UnitOfWork:
    async with platform.database.begin() as uow:
        return uow
