"""Projects: limits, counts, and the command that sets them."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import Platform, import_spec
from quantry_api.limits import change_limits
from quantry_core.errors import NotFound
from quantry_core.projects import ProjectLimits


async def test_new_project_has_a_share_of_one_and_no_bounds(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        project = await uow.projects.get(platform.project_id)
        assert await uow.projects.limits(platform.project_id) == ProjectLimits() == project.limits
    assert (project.name, project.num_waiting, project.num_queued, project.num_running) == ("default", 0, 0, 0)


async def test_jobs_are_counted_by_where_they_are(platform: Platform, stranger: Platform) -> None:
    await stranger.submit(import_spec())
    await platform.rollout(await platform.master())
    jobs = [await platform.submit(import_spec()) for _ in range(5)]
    await platform.sql("update jobs set status = 'waiting', waiting_on = 'limit' where id = %s", jobs[0].id)
    await platform.sql("update jobs set status = 'running' where id = any(%s)", [job.id for job in jobs[1:3]])
    async with platform.database.begin() as uow:
        project = await uow.projects.get(platform.project_id)
    assert (project.num_waiting, project.num_queued, project.num_running) == (1, 2, 2)


async def test_limits_change_one_by_one(platform: Platform) -> None:
    assert (await change_limits(platform.database, "default", {"share": 2.5, "max_queued": 10})).limits == ProjectLimits(
        share=2.5, max_queued=10
    )
    project = await change_limits(platform.database, "default", {"max_running": 3, "max_queued": None})
    assert project.limits == ProjectLimits(share=2.5, max_running=3)
    assert (await change_limits(platform.database, "default", {})).limits == project.limits


async def test_changes_at_once_are_all_there(platform: Platform) -> None:
    await asyncio.gather(*(change_limits(platform.database, "default", {name: 7}) for name in ("share", "max_queued", "max_running")))
    async with platform.database.begin() as uow:
        assert await uow.projects.limits(platform.project_id) == ProjectLimits(share=7, max_queued=7, max_running=7)


async def test_limits_of_nobody(platform: Platform) -> None:
    with pytest.raises(NotFound, match="no project 'nobody'"):
        await change_limits(platform.database, "nobody", {"share": 2})
    async with platform.database.begin() as uow:
        for read in (uow.projects.get, uow.projects.limits):
            with pytest.raises(NotFound):
                await read("prj_0")


@pytest.mark.parametrize("change", [{"share": 0}, {"max_queued": 0}, {"max_running": -1}, {"share": 10**6}])
async def test_limits_that_cannot_be_change_nothing(platform: Platform, change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        await change_limits(platform.database, "default", change)
    async with platform.database.begin() as uow:
        assert await uow.projects.limits(platform.project_id) == ProjectLimits()
