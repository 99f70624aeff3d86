"""Claims: order, what is skipped, turns between projects, and their bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from factories.store import LEASE_S, TOOLCHAIN, WORKER_ID, Platform, import_spec, make_platform, quantize_spec
from quantry_core.datasets import DatasetKind
from quantry_core.execution import NextRequest
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, CPU_QUEUE, InputRole, Job, JobStatus
from quantry_core.methods import Environment, Format
from quantry_core.projects import ProjectLimits
from quantry_core.versions import VersionKind
from quantry_store.transactions import begin_rollout, claim_next

REQUEST = NextRequest(queue=CPU_QUEUE, worker_id=WORKER_ID, environments={Environment.ML: TOOLCHAIN})


async def limit(platform: Platform, name: str, **limits: float) -> None:
    async with platform.database.begin() as uow:
        await uow.projects.set_limits(name, ProjectLimits.model_validate(limits))


async def claimed(platform: Platform, num_slots: int, rng: Random | None = None) -> list[Job]:
    """Returns what so many slots are given, one after the other; those that find nothing are left out."""
    leases = [await (platform.lease() if rng is None else platform.lease(draw=rng.random)) for _ in range(num_slots)]
    return [lease.job for lease in leases if lease is not None]


async def test_claims_go_by_priority_then_age(platform: Platform) -> None:
    late, early = await platform.submit(import_spec(), priority=5), await platform.submit(import_spec(), priority=5)
    await platform.sql("update jobs set created_at = created_at + interval '1 hour' where id = %s", late.id)
    urgent, idle = await platform.submit(import_spec(), priority=0), await platform.submit(import_spec(), priority=9)
    assert [(await platform.claim()).id for _ in range(4)] == [urgent.id, early.id, late.id, idle.id]
    assert await platform.lease() is None


async def test_lease_says_all_a_worker_needs(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await platform.submit(quantize_spec("bard", "tales"))
    lease = await platform.lease()
    assert lease is not None
    assert (lease.attempt, lease.job.attempt, lease.job.status, lease.lease_s, lease.heartbeat_s) == (1, 1, JobStatus.RUNNING, LEASE_S, 10)
    assert lease.job.started_at is not None
    base, calibration, corpus = lease.inputs
    assert (base.role, base.id, base.ref) == (InputRole.BASE, master.id, "bard@1")
    assert (base.kind, base.format) == (VersionKind.MASTER, Format.SAFETENSORS)
    assert [file.path for file in base.files] == ["config.json", "model.safetensors"]
    assert (calibration.role, calibration.id, calibration.ref) == (InputRole.CALIBRATION, tales.id, "tales@1")
    assert [(file.path, file.sha256, file.size_bytes) for file in calibration.files] == [("text.txt", tales.sha256, tales.size_bytes)]
    assert (calibration.dataset_kind, base.dataset_kind) == (DatasetKind.TEXT, None)
    assert (corpus.role, corpus.ref) == (InputRole.CORPUS, f"{BUILT_IN_QUALITY_CORPUS}@1")


async def test_jobs_wait_for_a_worker_with_their_environment(platform: Platform) -> None:
    await platform.submit(import_spec())
    assert await platform.lease(environments=[]) is None
    assert await platform.lease(environments=[Environment.ML]) is not None


async def test_claimers_skip_what_another_is_taking(platform: Platform) -> None:
    first, second = await platform.submit(import_spec()), await platform.submit(import_spec())
    async with platform.database.begin() as one, platform.database.begin() as two, platform.database.begin() as three:
        leases = [await claim_next(uow, REQUEST, lease_s=LEASE_S, heartbeat_s=10) for uow in (one, two, three)]
    assert [lease.job.id if lease is not None else None for lease in leases] == [first.id, second.id, None]


async def test_no_job_is_claimed_twice(platform: Platform) -> None:
    jobs = [await platform.submit(import_spec()) for _ in range(12)]

    async def slot() -> list[str]:
        claimed = []
        while (lease := await platform.lease()) is not None:
            claimed.append(lease.job.id)
        return claimed

    claimed = [job_id for ids in await asyncio.gather(*(slot() for _ in range(4))) for job_id in ids]
    assert sorted(claimed) == sorted(job.id for job in jobs)


async def test_unreadable_job_is_ended_and_the_next_one_claimed(platform: Platform) -> None:
    bad, unknown, good = [await platform.submit(import_spec()) for _ in range(3)]
    await platform.sql("update jobs set spec = spec - 'source' where id = %s", bad.id)
    await platform.sql("update jobs set type = 'distill' where id = %s", unknown.id)
    assert (await platform.claim()).id == good.id
    assert await platform.lease() is None
    ((status, reason, message, attempt, is_finished),) = await platform.sql(
        "select status, reason, message, attempt, finished_at is not null from jobs where id = %s", bad.id
    )
    assert (status, reason, attempt, is_finished) == ("failed", "internal", 1, True)
    assert "cannot be read by this release (spec.import.source: Field required)" in message
    assert [event.data["status"] for event in await platform.events(bad)] == ["queued", "running", "failed"]
    assert await platform.sql("select status from jobs where id = %s", unknown.id) == [("queued",)], "left to a release that knows it"


async def test_claim_notes_worker_and_toolchain(platform: Platform) -> None:
    await platform.submit(import_spec())
    job = await platform.claim()
    assert job.worker_id == WORKER_ID
    assert await platform.sql("select toolchain_digest, num_attempt_events from jobs") == [(TOOLCHAIN, 0)]


async def test_a_queue_gives_only_its_own_jobs(platform: Platform) -> None:
    job = await platform.submit(import_spec())
    await platform.sql("update jobs set queue = 'gpu-80g'")
    assert await platform.lease() is None
    async with platform.database.begin() as uow:
        lease = await claim_next(uow, REQUEST.model_copy(update={"queue": "gpu-80g"}), lease_s=LEASE_S, heartbeat_s=10)
    assert lease is not None
    assert lease.job.id == job.id


async def test_projects_take_turns_by_their_shares(platform: Platform, stranger: Platform) -> None:
    await limit(platform, "stranger", share=2)
    for _ in range(6):
        await platform.submit(import_spec(), priority=0)
        await stranger.submit(import_spec(), priority=9)
    # With the mean for every draw the order is that of (num_running + 1) / share.
    projects = [job.project_id for job in await claimed(platform, 9)]
    counts = [Counter(projects[:num_slots]) for num_slots in (3, 6, 9)]
    assert [(count[platform.project_id], count[stranger.project_id]) for count in counts] == [(1, 2), (2, 4), (3, 6)]
    assert len(await claimed(platform, 9)) == 3, "what one project leaves the other takes"


async def test_one_slot_goes_to_every_project_as_often_as_its_share_says(platform: Platform, stranger: Platform) -> None:
    await limit(platform, "stranger", share=2)
    await platform.submit(import_spec())
    await stranger.submit(import_spec())
    rng, given = Random(20), Counter[str]()
    for _ in range(150):
        (job,) = await claimed(platform, 1, rng)
        given[job.project_id] += 1
        await platform.sql("update jobs set status = 'queued'")
    # Binomial with 150 trials at 1/3: 50 and a deviation of 5.8; three of them on either side.
    assert 33 <= given[platform.project_id] <= 67


async def test_project_at_its_bound_leaves_slots_to_others(platform: Platform, stranger: Platform) -> None:
    await limit(platform, "default", max_running=2)
    for _ in range(4):
        await platform.submit(import_spec(), priority=0)
    await stranger.submit(import_spec(), priority=9)
    jobs = await claimed(platform, 6)
    assert Counter(job.project_id for job in jobs) == {platform.project_id: 2, stranger.project_id: 1}
    (mine, *_) = [job for job in jobs if job.project_id == platform.project_id]
    await platform.sql("update jobs set status = 'succeeded' where id = %s", mine.id)
    assert [job.project_id for job in await claimed(platform, 3)] == [platform.project_id]


async def test_bound_is_exact_however_many_claim_at_once(platform: Platform, stranger: Platform) -> None:
    await limit(platform, "default", max_running=3)
    await limit(platform, "stranger", max_running=2)
    for _ in range(8):
        await platform.submit(import_spec())
        await stranger.submit(import_spec())
    for _ in range(3):
        leases = await asyncio.gather(*(platform.lease() for _ in range(8)))
        rows = await platform.sql("select project_id, count(*) from jobs where status = 'running' group by 1")
        assert all(num_running <= {platform.project_id: 3, stranger.project_id: 2}[project] for project, num_running in rows)
    assert dict(rows) == {platform.project_id: 3, stranger.project_id: 2}
    assert leases == [None] * 8


async def test_every_slot_is_filled_up_to_the_bound_at_once(platform: Platform) -> None:
    await limit(platform, "default", max_running=8)
    for _ in range(8):
        await platform.submit(import_spec())
    leases = await asyncio.gather(*(platform.lease() for _ in range(8)))
    assert None not in leases, "claims of a bounded project wait for each other and do not go away empty"


async def test_bound_that_is_raised_holds_at_once(platform: Platform) -> None:
    for _ in range(3):
        await platform.submit(import_spec())
    await limit(platform, "default", max_running=1)
    assert len(await claimed(platform, 3)) == 1
    await limit(platform, "default", max_running=2)
    assert len(await claimed(platform, 3)) == 1
    await limit(platform, "default")
    assert len(await claimed(platform, 3)) == 1


async def test_deploy_jobs_take_no_slot(platform: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    await limit(platform, "default", max_running=1)
    await platform.submit(import_spec())
    assert len(await claimed(platform, 1)) == 1
    async with platform.database.begin() as uow:
        assert (await uow.projects.get(platform.project_id)).num_running == 1


async def test_busy_claims_of_many_projects_never_close_a_circle(platform: Platform) -> None:
    names = [f"tenant-{n}" for n in range(4)]
    tenants = [await make_platform(platform.url, platform.database, name) for name in names]
    for name, tenant in zip(names, tenants, strict=True):
        await limit(platform, name, max_running=6)
        for _ in range(6):
            await tenant.submit(import_spec())
    rng, ids = Random(3), set[str]()
    for _ in range(4):
        leases = await asyncio.gather(*(platform.lease(draw=rng.random) for _ in range(8)))
        ids |= {lease.job.id for lease in leases if lease is not None}
    assert len(ids) == 24
    assert await platform.sql("select distinct status from jobs") == [(JobStatus.RUNNING,)]


@pytest.mark.parametrize("statement", ["update jobs set status = 'waiting', waiting_on = 'needs'", "update jobs set queue = null"])
async def test_what_may_not_be_claimed_yet_is_not(platform: Platform, statement: str) -> None:
    await platform.submit(import_spec())
    await platform.sql(statement)
    assert await platform.lease() is None
