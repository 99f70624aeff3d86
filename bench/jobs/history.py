"""List, claim and sweep beside few finished jobs and beside many: what has ended must cost nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.embedded import Measured
from bench.report import middle
from quantry_core.execution import NextRequest
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import CPU_QUEUE, ImportSpec, JobSubmission
from quantry_core.keys import Identity, Role
from quantry_core.methods import Environment
from quantry_store.database import Database
from quantry_store.migrate import upgrade
from quantry_store.settings import StoreSettings
from quantry_store.transactions import claim_next, expired_jobs, queues_with_work, releasable_jobs, submit_job

FEW, MANY = 100, 100_000
NUM_ROUNDS = 40
EVENTS_PER_JOB = 3

FINISHED_JOBS = """
insert into jobs (id, project_id, type, status, reason, spec, inputs, queue, environment, priority, needs, labels, metadata, force,
                  attempt, num_attempt_events, num_lost_attempts, retries, cancel_requested, last_seq, created_at, started_at, finished_at,
                  result)
select 'job_' || lpad(to_hex(n), 32, '0'), %(project)s, 'import',
       case when n %% 10 = 0 then 'failed' else 'succeeded' end, case when n %% 10 = 0 then 'invalid_input' else 'completed' end,
       '{"type": "import", "model": "bard", "source": "/models/bard"}', '[]', 'cpu', 'ml', 5, '[]', '{}', '{}', false,
       1, 1, 0, '{}', false, 3, now() - interval '2 days', now() - interval '2 days', now() - interval '1 day', '{}'
from generate_series(1, %(count)s) n
"""
FINISHED_EVENTS = """
insert into job_events (job_id, seq, project_id, attempt, kind, data)
select 'job_' || lpad(to_hex(n), 32, '0'), seq, %(project)s, 1, 'state', '{}'
from generate_series(1, %(count)s) n, generate_series(1, %(events)s) seq
"""


@dataclass
class Timings:
    """Median milliseconds of each action in one database."""

    list_ms: float
    claim_ms: float
    sweep_ms: float


def compare(measured: Measured, num_repetitions: int) -> list[tuple[Timings, Timings]]:
    """Returns for each repetition the timings beside FEW and beside MANY finished jobs, taken in turn."""
    for name, count in (("bench_few", FEW), ("bench_many", MANY)):
        measured.make_database(name)
        upgrade(StoreSettings(database_url=measured.sqlalchemy_url(name)))
        project_id = asyncio.run(_project(measured.sqlalchemy_url(name)))
        with measured.database(name) as connection:
            connection.execute(FINISHED_JOBS, {"project": project_id, "count": count})
            connection.execute(FINISHED_EVENTS, {"project": project_id, "count": count, "events": EVENTS_PER_JOB})
            connection.execute("vacuum analyze")
    pairs = []
    for _ in range(num_repetitions):
        few, many = (asyncio.run(_time(measured.sqlalchemy_url(name))) for name in ("bench_few", "bench_many"))
        pairs.append((few, many))
    return pairs


async def _project(url: str) -> str:
    database = Database(url, pool_size=1)
    try:
        async with database.begin() as uow:
            return await uow.projects.get_or_create("default")
    finally:
        await database.close()


async def _time(url: str) -> Timings:
    database = Database(url, pool_size=2)
    try:
        async with database.begin() as uow:
            project_id = await uow.projects.get_or_create("default")
        identity = Identity(key_id="key_bench", project_id=project_id, role=Role.OPERATOR)
        request = NextRequest(queue=CPU_QUEUE, worker_id=new_id(IdPrefix.WORKER), environments={Environment.ML: "0" * 64})

        async def listed() -> None:
            async with database.begin() as uow:
                await uow.jobs.list(project_id, limit=50)

        async def submit() -> None:
            async with database.begin() as uow:
                await submit_job(uow, identity, JobSubmission(spec=ImportSpec(model="bard", source="/models/bard")))

        async def claim() -> None:
            async with database.begin() as uow:
                if await claim_next(uow, request, lease_s=3600, heartbeat_s=4) is None:
                    raise RuntimeError("there was nothing to claim")

        async def sweep() -> None:
            async with database.begin() as uow:
                await expired_jobs(uow)
            async with database.begin() as uow:
                await releasable_jobs(uow)
            async with database.begin() as uow:
                await queues_with_work(uow)

        return Timings(await _median_ms(listed), await _median_ms(claim, before=submit), await _median_ms(sweep))
    finally:
        await database.close()


async def _median_ms(action: Callable[[], Awaitable[None]], *, before: Callable[[], Awaitable[None]] | None = None) -> float:
    milliseconds = []
    for _ in range(NUM_ROUNDS):
        if before is not None:
            await before()
        started = time.perf_counter()
        await action()
        milliseconds.append((time.perf_counter() - started) * 1000)
    return middle(milliseconds)
