"""How much there is to do, over every project: what the sweep and the metrics ask."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import BigInteger, and_, cast, func, literal, or_, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.jobs import JobStatus, Queue
from quantry_core.vault import VaultRunKind, VaultRunStatus
from quantry_core.webhooks import DeliveryState
from quantry_core.workers import WORKER_ALIVE_S
from quantry_store.repositories.open_jobs import OPEN_STATUSES
from quantry_store.tables import BlobRow, JobRow, VaultRunRow, WebhookDeliveryRow, WorkerRow


class QueueCount(NamedTuple):
    """How many jobs of a queue are in a status; those in no queue are deploy jobs."""

    queue: Queue | None
    status: JobStatus
    num_jobs: int


class Verification(NamedTuple):
    """When a verification of the vault ended, and how many blobs it found damaged or missing."""

    finished_at: datetime
    num_damaged: int


class CountRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def unfinished_jobs(self, project_id: str | None = None) -> list[QueueCount]:
        """Returns the jobs that have not ended by queue and status, of one project or of all; what there is none of is left out.

        A part for each status, because each has a partial index: the time does not grow with the jobs that have ended.
        """
        mine = () if project_id is None else (JobRow.project_id == project_id,)
        parts = [
            select(JobRow.queue, literal(status.value), func.count()).where(JobRow.status == status, *mine).group_by(JobRow.queue)
            for status in OPEN_STATUSES
        ]
        rows = await self._session.execute(union_all(*parts))
        return [QueueCount(queue, JobStatus(status), num_jobs) for queue, status, num_jobs in rows]

    async def oldest_queued_s(self, project_id: str | None = None) -> dict[Queue, float]:
        """Returns by queue how long its oldest job, of one project or of all, has been there to be taken, in seconds.

        Queues without one are left out.
        """
        since = func.greatest(JobRow.created_at, func.coalesce(JobRow.not_before, JobRow.created_at))
        age_s = func.extract("epoch", func.now() - func.min(since))
        statement = select(JobRow.queue, age_s).where(JobRow.status == JobStatus.QUEUED, JobRow.queue.is_not(None)).group_by(JobRow.queue)
        if project_id is not None:
            statement = statement.where(JobRow.project_id == project_id)
        ages = await self._session.execute(statement)
        return {queue: max(0.0, float(age_s)) for queue, age_s in ages if queue is not None}

    async def expired_leases(self) -> int:
        """Returns how many running jobs have a lease that is over, by the database's clock."""
        statement = select(func.count()).where(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < func.now())
        return int((await self._session.scalars(statement)).one())

    async def pending_deliveries(self) -> int:
        """Returns how many messages to webhooks have not arrived and are not given up."""
        statement = select(func.count()).where(WebhookDeliveryRow.state == DeliveryState.PENDING)
        return int((await self._session.scalars(statement)).one())

    async def stored_blobs(self) -> tuple[int, int]:
        """Returns how many blobs the vault is to hold, and their bytes."""
        statement = select(func.count(), func.coalesce(func.sum(BlobRow.size_bytes), 0))
        num_blobs, num_bytes = (await self._session.execute(statement)).one()
        return int(num_blobs), int(num_bytes)

    async def last_verification(self) -> Verification | None:
        """Returns what the newest verification of the vault found that came to its end, or found damage; None where there was none yet.

        One that found damage has failed. That of a single version says nothing of the vault, unless it found damage.
        """
        is_all_right = and_(VaultRunRow.status == VaultRunStatus.SUCCEEDED, VaultRunRow.request["version"].astext.is_(None))
        found_damage = cast(VaultRunRow.report["num_damaged"].astext, BigInteger) > 0
        statement = select(VaultRunRow.finished_at, VaultRunRow.report).where(
            VaultRunRow.kind == VaultRunKind.VERIFY, VaultRunRow.finished_at.is_not(None), or_(is_all_right, found_damage)
        )
        row = (await self._session.execute(statement.order_by(VaultRunRow.finished_at.desc()).limit(1))).one_or_none()
        return None if row is None else Verification(row.finished_at, int(row.report.get("num_damaged", 0)))

    async def database_state(self) -> tuple[datetime, str | None]:
        """Returns the database's clock, and the migration it is at; None where none was ever applied."""
        now = (await self._session.scalars(select(func.now()))).one()
        has_migrations = (await self._session.scalars(select(func.to_regclass("alembic_version").is_not(None)))).one()
        if not has_migrations:
            return now, None
        return now, await self._session.scalar(text("select version_num from alembic_version"))

    async def alive_slots(self) -> dict[Queue, int]:
        """Returns by queue the slots of workers that are alive and serve it; a slot that serves two counts at both."""
        alive = WorkerRow.last_seen_at > func.now() - timedelta(seconds=WORKER_ALIVE_S)
        slots: dict[Queue, int] = {}
        for queues, num_slots in await self._session.execute(select(WorkerRow.queues, WorkerRow.num_slots).where(alive)):
            for queue in queues:
                slots[queue] = slots.get(queue, 0) + num_slots
        return slots

    async def alive_workers(self) -> int:
        """Returns how many workers were heard of within WORKER_ALIVE_S seconds, by the database's clock."""
        statement = select(func.count()).where(WorkerRow.last_seen_at > func.now() - timedelta(seconds=WORKER_ALIVE_S))
        return int((await self._session.scalars(statement)).one())
