"""Waiting jobs: which of them can move now, and whether a project's queue has room for one more.

Nothing here reads what has ended but by its key, so it costs the same however long the history is.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, func, literal, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from quantry_core.errors import UnreadableJob
from quantry_core.jobs import FINAL_STATUSES, Job, JobStatus, JobType, WaitingOn
from quantry_store.repositories.jobs import JobRepository, to_job
from quantry_store.tables import DeploymentRow, JobNeedRow, JobRow, ProjectRow, RolloutRow

MAX_JOBS_PER_RELEASE = 100

_ORDER = (JobRow.priority, JobRow.created_at, JobRow.id)


class WaitingRepository:
    def __init__(self, session: AsyncSession, *, jobs: JobRepository) -> None:
        self._session = session
        self._jobs = jobs

    async def releasable(self) -> list[str]:
        """Returns the ids of waiting jobs, of any project, that can move now: by priority, then age, at most MAX_JOBS_PER_RELEASE.

        Jobs that would go on waiting for room or for a rollout are not among them, so they keep back nobody. Locks nothing.
        """
        found: dict[str, tuple[int, datetime, str]] = {}
        for statement in (_with_ended_needs(), _due(), _with_room(), _without_rollout()):
            for job_id, priority, created_at in await self._session.execute(statement.limit(MAX_JOBS_PER_RELEASE)):
                found[job_id] = (priority, created_at, job_id)
        return sorted(found, key=lambda job_id: found[job_id])[:MAX_JOBS_PER_RELEASE]

    async def lock(self, job_id: str) -> Job | None:
        """Returns the job, its row locked, if it waits and nobody else is at it; None otherwise.

        None too after ending one that cannot be read as failed, and for one of a type that this release does not know.
        """
        statement = (
            select(JobRow)
            .where(JobRow.id == job_id, JobRow.status == JobStatus.WAITING, JobRow.type.in_(list(JobType)))
            .with_for_update(skip_locked=True, key_share=True)
        )
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            return None
        try:
            return to_job(row)
        except UnreadableJob as error:
            await self._jobs.fail_unreadable(row, error)
            return None

    async def has_room(self, project_id: str) -> bool:
        """Tells whether one more job of a project may be queued. Where there is a bound, the project's row stays locked until
        the transaction ends, so that two submissions cannot both take the last place."""
        max_queued = await self.lock_room(project_id)
        if max_queued is None:
            return True
        num_queued = (await self._session.scalars(select(func.count()).where(JobRow.project_id == project_id, *_in_queue(JobRow)))).one()
        return num_queued < max_queued

    async def lock_room(self, project_id: str) -> int | None:
        """Returns how many jobs of a project may be queued, its row locked until the transaction ends; None, locking nothing, where
        there is no bound."""
        statement = select(ProjectRow.max_queued).where(ProjectRow.id == project_id)
        if (await self._session.scalars(statement)).one() is None:
            return None
        # Read again under the lock: the bound may just have been changed.
        return (await self._session.scalars(statement.with_for_update(key_share=True))).one()

    async def has_others_in_line(self, project_id: str, priority: int) -> bool:
        """Tells whether jobs of a project already wait for room that a new one of this priority must not take from them."""
        statement = select(JobRow.id).where(*_waits(WaitingOn.LIMIT), JobRow.project_id == project_id, JobRow.priority <= priority).limit(1)
        return (await self._session.scalars(statement)).one_or_none() is not None


def _with_ended_needs() -> Select[str, int, datetime]:
    """Jobs with a need that ended and was not looked at yet. Begins at the open edges: few, and none once a job has ended."""
    needed = select(JobNeedRow.needed_job_id).where(~JobNeedRow.is_settled).distinct().subquery()
    ended = select(needed.c.needed_job_id).join(JobRow, JobRow.id == needed.c.needed_job_id).where(JobRow.status.in_(FINAL_STATUSES))
    open_edges = select(JobNeedRow.job_id).where(~JobNeedRow.is_settled, JobNeedRow.needed_job_id.in_(ended))
    return _ids().where(JobRow.status == JobStatus.WAITING, JobRow.id.in_(open_edges)).order_by(*_ORDER)


def _due() -> Select[str, int, datetime]:
    """Jobs whose time has come, longest ago first."""
    return _ids().where(*_waits(WaitingOn.TIME), JobRow.not_before <= func.now()).order_by(JobRow.not_before)


def _with_room() -> Select[str, int, datetime]:
    """Of each project as many jobs as its queue has places left, the first in line."""
    queued = aliased(JobRow)
    counted = select(func.count(queued.id)).where(queued.project_id == ProjectRow.id, *_in_queue(queued))
    num_queued = counted.correlate(ProjectRow).scalar_subquery()
    num_places = func.least(func.coalesce(ProjectRow.max_queued - num_queued, MAX_JOBS_PER_RELEASE), MAX_JOBS_PER_RELEASE)
    line = (
        _ids()
        .where(*_waits(WaitingOn.LIMIT), JobRow.project_id == ProjectRow.id)
        .order_by(*_ORDER)
        .limit(func.greatest(num_places, 0))
        .lateral("line")
    )
    # One look at the index tells whether a project has a line at all: what is queued is counted for those that do.
    first = (
        select(JobRow.id).where(*_waits(WaitingOn.LIMIT), JobRow.project_id == ProjectRow.id).order_by(*_ORDER).limit(1).lateral("first")
    )
    return select(line.c.id, line.c.priority, line.c.created_at).select_from(ProjectRow).join(first, true()).join(line, true())


def _without_rollout() -> Select[str, int, datetime]:
    """Of each deployment without an active rollout the first deploy job in line."""
    name = func.jsonb_extract_path_text(JobRow.spec, "deployment")
    active = (
        select(literal(1))
        .select_from(DeploymentRow)
        .join(RolloutRow, and_(RolloutRow.deployment_id == DeploymentRow.id, RolloutRow.finished_at.is_(None)))
        .where(DeploymentRow.project_id == JobRow.project_id, DeploymentRow.name == name)
        .exists()
    )
    first = (
        select(JobRow.id, JobRow.priority, JobRow.created_at)
        .where(*_waits(WaitingOn.ROLLOUT), ~active)
        .ext(distinct_on(JobRow.project_id, name))
        .order_by(JobRow.project_id, name, *_ORDER)
        .subquery()
    )
    return select(first.c.id, first.c.priority, first.c.created_at).order_by(first.c.priority, first.c.created_at, first.c.id)


def _ids() -> Select[str, int, datetime]:
    """Those of a type that this release does not know are left to others, and take no place from any here."""
    return select(JobRow.id, JobRow.priority, JobRow.created_at).where(JobRow.type.in_(list(JobType)))


def _waits(on: WaitingOn) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return JobRow.status == JobStatus.WAITING, JobRow.waiting_on == on


def _in_queue(job: type[JobRow]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What a project's bound counts. Deploy jobs are in no queue: they take no worker's time."""
    return job.status == JobStatus.QUEUED, job.queue.is_not(None)
