"""Jobs whose stored record this release cannot read: named, and in nobody's way."""

from __future__ import annotations

import pytest

from factories.releases import bard_pipeline, submit_steps
from factories.store import Platform, import_spec
from quantry_core.errors import UnreadableJob
from quantry_core.jobs import Job
from quantry_store.transactions import cancel_job, cancel_pipeline

SPOILT = ["update jobs set spec = spec - 'source' where id = %s", "update jobs set type = 'distill' where id = %s"]


async def spoil(platform: Platform, job: Job, statement: str) -> None:
    await platform.sql(statement, job.id)


@pytest.mark.parametrize("statement", SPOILT)
async def test_it_is_named_and_neither_shown_nor_cancelled(platform: Platform, statement: str) -> None:
    job = await platform.submit(import_spec())
    await spoil(platform, job, statement)
    with pytest.raises(UnreadableJob, match=f"{job.id} cannot be read by this release"):
        await platform.job(job.id)
    with pytest.raises(UnreadableJob, match=job.id):
        async with platform.database.begin() as uow:
            await cancel_job(uow, platform.admin, job.id)


@pytest.mark.parametrize("statement", SPOILT)
async def test_a_list_goes_on_without_it(platform: Platform, statement: str) -> None:
    jobs = [await platform.submit(import_spec()) for _ in range(4)]
    for job in jobs[1:3]:
        await spoil(platform, job, statement)
    seen: list[str] = []
    after: str | None = None
    for _ in jobs:
        async with platform.database.begin() as uow:
            page = await uow.jobs.list(platform.project_id, limit=1, after=after)
        seen += [job.id for job in page.data]
        after = page.last_id
        if not page.has_more:
            break
    assert seen == [jobs[3].id, jobs[0].id], "a page that holds nothing readable still says where the next one begins"


@pytest.mark.parametrize("statement", SPOILT)
async def test_its_pipeline_names_it(platform: Platform, statement: str) -> None:
    await platform.dataset()
    pipeline = await submit_steps(platform, bard_pipeline())
    fetch = pipeline.jobs[0]
    await spoil(platform, fetch, statement)
    async with platform.database.begin() as uow:
        with pytest.raises(UnreadableJob, match=f"({fetch.id}|{pipeline.id}) cannot be read"):
            await cancel_pipeline(uow, platform.admin, pipeline.id)
