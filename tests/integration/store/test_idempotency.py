"""Idempotency keys in the database: one thing for one request, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from factories.store import Platform, import_spec
from quantry_core.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from quantry_core.jobs import JobSubmission
from quantry_store.transactions import submit_job

SAME, OTHER = "a" * 64, "b" * 64


async def submit_once(platform: Platform, key: str = "key", request: str = SAME) -> str:
    """Returns the id of the job that a request stands for."""
    async with platform.database.begin() as uow:
        made = await uow.idempotency.claim(platform.project_id, key, request)
        if made is not None:
            return made
        job = await submit_job(uow, platform.admin, JobSubmission(spec=import_spec()))
        await uow.idempotency.save(platform.project_id, key, request, job.id)
        return job.id


async def test_a_key_stands_for_one_request(platform: Platform, stranger: Platform) -> None:
    made = await submit_once(platform)
    assert await submit_once(platform) == made
    with pytest.raises(IdempotencyKeyReused):
        await submit_once(platform, request=OTHER)
    assert await submit_once(platform, key="another") != made
    assert await submit_once(stranger) != made, "a key is its project's own"
    async with platform.database.begin() as uow:
        assert await uow.idempotency.find(platform.project_id, "key", SAME) == made
        assert await uow.idempotency.find(platform.project_id, "unused", SAME) is None


async def test_a_key_that_is_being_used_is_in_flight(platform: Platform) -> None:
    async with platform.database.begin() as first:
        assert await first.idempotency.claim(platform.project_id, "key", SAME) is None
        for request in (SAME, OTHER):
            with pytest.raises(IdempotencyKeyInFlight):
                await submit_once(platform, request=request)
        await submit_once(platform, key="another")
    await submit_once(platform)


async def test_a_request_that_failed_leaves_its_key_free(platform: Platform) -> None:
    with suppress(RuntimeError):
        async with platform.database.begin() as uow:
            await uow.idempotency.claim(platform.project_id, "key", SAME)
            await uow.idempotency.save(platform.project_id, "key", SAME, "job_x")
            raise RuntimeError("the service died")
    await submit_once(platform, request=OTHER)


async def test_many_at_once_make_one_job(platform: Platform) -> None:
    answers = await asyncio.gather(*(submit_once(platform) for _ in range(10)), return_exceptions=True)
    made = {answer for answer in answers if isinstance(answer, str)}
    assert len(made) == 1
    assert all(isinstance(answer, str | IdempotencyKeyInFlight) for answer in answers)
    assert await platform.sql("select count(*) from jobs") == [(1,)]
