"""Every pair of states, legal and illegal, through the one setter there is."""

from __future__ import annotations

import psycopg
import pytest

from factories.store import Platform, import_spec
from quantry_core.errors import IllegalTransition
from quantry_core.jobs import FINAL_STATUSES, TRANSITIONS, EventKind, JobReason, JobStatus
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, ROLLOUT_TRANSITIONS, RolloutState


@pytest.mark.parametrize("old", list(JobStatus))
async def test_moves_of_a_job(platform: Platform, old: JobStatus) -> None:
    for new in JobStatus:
        job = await platform.submit(import_spec())
        await platform.sql("update jobs set status = %s where id = %s", old.value, job.id)
        if new in TRANSITIONS[old]:
            await move(platform, job.id, new)
            moved = await platform.job(job.id)
            assert (moved.status, moved.reason, moved.message) == (new, JobReason.INTERNAL, "a test")
            assert (moved.finished_at is not None) == (new in FINAL_STATUSES)
            last = (await platform.events(job))[-1]
            assert (last.kind, last.data) == (EventKind.STATE, {"status": new, "reason": "internal", "message": "a test"})
        else:
            with pytest.raises(IllegalTransition, match=f"a {old} job cannot become {new}"):
                await move(platform, job.id, new)
            assert (await platform.job(job.id)).status is old
            assert len(await platform.events(job)) == 1


async def move(platform: Platform, job_id: str, status: JobStatus) -> None:
    async with platform.database.begin() as uow:
        job = await uow.jobs.lock(platform.project_id, job_id)
        await uow.jobs.move(job, status, reason=JobReason.INTERNAL, message="a test")


async def test_moves_of_a_rollout(platform: Platform) -> None:
    master = await platform.master()
    for position, (old, new) in enumerate((old, new) for old in RolloutState for new in RolloutState):
        rollout = await platform.rollout(master, f"chat-{position}")
        await platform.sql("update rollouts set state = %s where id = %s", old.value, rollout.id)
        async with platform.database.begin() as uow:
            locked = await uow.rollouts.lock(rollout.id)
            if new in ROLLOUT_TRANSITIONS[old]:
                moved = await uow.rollouts.move(locked, new, message="a test")
                assert (moved.state, moved.message) == (new, "a test")
                assert (moved.finished_at is None) == (new in ACTIVE_ROLLOUT_STATES)
            else:
                with pytest.raises(IllegalTransition, match=f"a {old} rollout cannot become {new}"):
                    await uow.rollouts.move(locked, new)


async def test_second_active_rollout_is_refused_by_the_database_itself(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master)
    other = await platform.submit(import_spec())
    statement = (
        "insert into rollouts select (jsonb_populate_record(rollouts, jsonb_build_object('id', 'rol_2', 'job_id', %s::text))).*"
        " from rollouts where id = %s"
    )
    with pytest.raises(psycopg.errors.UniqueViolation, match="uq_rollouts_active"):
        await platform.sql(statement, other.id, rollout.id)
    await platform.sql("update rollouts set finished_at = now() where id = %s", rollout.id)
    assert (await platform.rollout(master)).id != rollout.id
