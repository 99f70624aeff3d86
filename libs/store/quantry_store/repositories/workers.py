"""Workers: what each last said of itself, and when."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Boolean, ColumnElement, and_, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.jobs import JobStatus, Queue
from quantry_core.methods import Environment
from quantry_core.workers import WORKER_ALIVE_S, Worker, WorkerHello
from quantry_store.repositories.audit import AuditRepository
from quantry_store.tables import JobRow, WorkerRow

SAME_TOOLCHAIN_S = 24 * 3600.0
"""A worker that was heard of so lately still tells which toolchains a queue has."""


class WorkerRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository) -> None:
        self._session = session
        self._audit = audit

    async def save(self, worker_id: str, hello: WorkerHello, *, project_id: str, key_id: str | None = None) -> None:
        """Notes what a worker says of itself, and that it was heard of now. ``project_id`` is that of its key, ``key_id``.

        The first time is an act; that it is still there is none.
        """
        said = hello.model_dump(mode="json") | {"project_id": project_id, "key_id": key_id}
        statement = insert(WorkerRow).values(id=worker_id, **said)
        news = {name: statement.excluded[name] for name in said} | {"last_seen_at": func.now()}
        # A row that this statement wrote anew has no xmax.
        is_new: ColumnElement[bool] = literal_column("xmax = 0", Boolean)
        saved = statement.on_conflict_do_update(index_elements=[WorkerRow.id], set_=news).returning(is_new)
        if (await self._session.scalars(saved)).one():
            facts = {"host": hello.host, "queues": list(hello.queues), "num_slots": hello.num_slots}
            await self._audit.record(None, "worker.register", "worker", worker_id, facts, project_id=project_id)

    async def list(self, project_id: str | None = None) -> builtins.list[Worker]:
        """Returns every worker that is known, by host and start, with the ids of the jobs it runs: of one project where given."""
        is_alive = WorkerRow.last_seen_at > func.now() - timedelta(seconds=WORKER_ALIVE_S)
        runs = and_(JobRow.worker_id == WorkerRow.id, JobRow.status == JobStatus.RUNNING)
        if project_id is not None:
            runs = and_(runs, JobRow.project_id == project_id)
        job_ids = func.array_agg(aggregate_order_by(JobRow.id, JobRow.id)).filter(JobRow.id.is_not(None))
        rows = await self._session.execute(
            select(WorkerRow, is_alive, job_ids)
            .outerjoin(JobRow, runs)
            .group_by(WorkerRow.id)
            .order_by(WorkerRow.host, WorkerRow.started_at, WorkerRow.id)
        )
        return [_worker(row, alive, ids or ()) for row, alive, ids in rows]

    async def toolchains(self, queue: Queue, environment: Environment) -> set[str]:
        """Returns the toolchain digests that an environment has on workers of a queue, as heard within SAME_TOOLCHAIN_S seconds."""
        digest = WorkerRow.environments[environment.value].astext
        statement = select(digest).where(
            WorkerRow.last_seen_at > func.now() - timedelta(seconds=SAME_TOOLCHAIN_S),
            WorkerRow.queues.contains([queue]),
            digest.is_not(None),
        )
        return set(await self._session.scalars(statement))


def _worker(row: WorkerRow, is_alive: bool, job_ids: Sequence[str]) -> Worker:
    return Worker(
        id=row.id,
        host=row.host,
        pid=row.pid,
        version=row.version,
        queues=row.queues,
        num_slots=row.num_slots,
        environments=row.environments,
        devices=row.devices,
        memory_bytes=row.memory_bytes,
        is_alive=is_alive,
        job_ids=list(job_ids),
        started_at=row.started_at,
        last_seen_at=row.last_seen_at,
    )
