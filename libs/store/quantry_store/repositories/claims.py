"""Claims: which project takes a free slot, and which of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from math import log
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Interval, Select, Text, and_, bindparam, cast, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from quantry_core.errors import UnreadableJob
from quantry_core.execution import NextRequest
from quantry_core.jobs import Job, JobStatus, JobType
from quantry_store.repositories.jobs import JobRepository, to_job
from quantry_store.repositories.moves import starting
from quantry_store.tables import JobRow, ProjectRow

Draw = Callable[[], float]
"""Returns a random number from 0 up to, but not including, 1."""


class Contender(NamedTuple):
    """A project with a job that a slot could take now. Deploy jobs take no slot and are not counted."""

    project_id: str
    share: float
    max_running: int | None
    num_running: int


def fair_order(contenders: Sequence[Contender], draw: Draw) -> list[Contender]:
    """Returns projects in the order in which a free slot is offered to them: the least (num_running + 1) / share first.

    By that rule alone a project whose share does not amount to a whole slot would never have one: of two projects and one
    slot, that of the larger share would win each time. So where nothing of a project runs, an exponential draw with mean 1
    takes the place of the 1: the least of several draws, each over its share, is each one's as often as shares say (lottery
    scheduling: Waldspurger and Weihl, OSDI 1994). It is at most 2, so with equal shares an idle project is always before a busy one.
    """
    draws = {contender.project_id: -log(1.0 - draw()) for contender in contenders}

    def rank(contender: Contender) -> tuple[float, bool, float]:
        drawn, is_busy = draws[contender.project_id], contender.num_running > 0
        load = contender.num_running + 1 if is_busy else min(drawn, 2.0)
        return load / contender.share, is_busy, drawn / contender.share

    return sorted(contenders, key=rank)


class ClaimRepository:
    def __init__(self, session: AsyncSession, *, jobs: JobRepository) -> None:
        self._session = session
        self._jobs = jobs

    async def claim(self, request: NextRequest, *, lease_s: float, draw: Draw) -> Job | None:
        """Returns the next job of the queue, running in a new attempt with a lease of ``lease_s`` seconds; None if there is none.

        Projects take turns as ``fair_order`` says and never run more than their bound; within a project it goes by priority
        (0 first), then by age. Only jobs whose child environment the worker can start. Jobs that another claim is just
        taking are skipped, so claims wait for each other only within a project that has a bound. A job that cannot be read
        is ended as failed and the next one taken; one of a type that this release does not know is left to others.
        """
        holds_project = False
        for contender in fair_order(await self._contenders(request), draw):
            if contender.max_running is not None:
                # A second project is only tried: to wait for its row while holding the first could close a circle.
                has_slot = await self._has_slot(contender.project_id, skip_locked=holds_project)
                holds_project = True
                if not has_slot:
                    continue
            job = await self._take(contender.project_id, request, lease_s)
            if job is not None:
                return job
        return None

    async def _contenders(self, request: NextRequest) -> list[Contender]:
        return [Contender(*row) for row in await self._session.execute(_contending(), _parameters(request))]

    async def _has_slot(self, project_id: str, *, skip_locked: bool) -> bool:
        """Tells whether a project with a bound may run one more job; its row stays locked, so that two claims cannot both
        take the last place. Counted by a statement of its own: one that waited for the lock would count what was before."""
        bound = select(ProjectRow.max_running).where(ProjectRow.id == project_id)
        locked = (await self._session.execute(bound.with_for_update(key_share=True, skip_locked=skip_locked))).one_or_none()
        if locked is None:
            return False
        (max_running,) = locked
        num_running = (await self._session.scalars(select(func.count()).where(*_runs(project_id)))).one()
        return max_running is None or num_running < max_running

    async def _take(self, project_id: str, request: NextRequest, lease_s: float) -> Job | None:
        parameters = _parameters(request) | {
            "of_project": project_id,
            "worker": request.worker_id,
            "lease": timedelta(seconds=lease_s),
        }
        while True:
            row = await self._jobs.start(_taking(), parameters)
            if row is None:
                return None
            try:
                return to_job(row)
            except UnreadableJob as error:
                await self._jobs.fail_unreadable(row, error)


# The two statements of every claim are built once: to build them takes longer than Postgres takes to answer them. No parameter
# is named as a column of jobs is: SQLAlchemy would take it for one to be written.


@cache
def _contending() -> Select[str, float, int | None, int]:
    """Returns the statement that yields the projects with a job that the slot could take, and room for it."""
    num_running = select(func.count()).where(*_runs(ProjectRow.id)).scalar_subquery()
    # A probe of the index for each project: as EXISTS the planner reads the whole queue instead, however long it is.
    has_work = select(JobRow.id).where(_claimable(ProjectRow.id)).limit(1).scalar_subquery()
    return (
        select(ProjectRow.id, ProjectRow.share, ProjectRow.max_running, num_running)
        .where(
            has_work.is_not(None),
            or_(ProjectRow.max_running.is_(None), num_running < ProjectRow.max_running),
        )
        .order_by(ProjectRow.id)
    )


@cache
def _taking() -> Select[JobRow]:
    """Returns the statement that moves a project's next job to running, in a new attempt with a lease, and yields its row."""
    chosen = (
        select(JobRow.id)
        .where(_claimable(bindparam("of_project", type_=Text)))
        .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return starting(
        chosen,
        worker_id=bindparam("worker", type_=Text),
        lease_expires_at=func.now() + bindparam("lease", type_=Interval),
        toolchain_digest=_TOOLCHAINS[JobRow.environment].astext,
        num_attempt_events=0,
    )


_TOOLCHAINS = bindparam("toolchains", type_=JSONB)
"""The worker's environments, each with its toolchain digest."""


def _parameters(request: NextRequest) -> dict[str, Any]:
    return {"of_queue": request.queue, "toolchains": {str(name): digest for name, digest in request.environments.items()}}


def _runs(project_id: InstrumentedAttribute[str] | str) -> tuple[ColumnElement[bool], ...]:
    return JobRow.project_id == project_id, JobRow.status == JobStatus.RUNNING, JobRow.queue.is_not(None)


def _claimable(project_id: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    return and_(
        JobRow.project_id == project_id,
        JobRow.queue == bindparam("of_queue", type_=Text),
        JobRow.status == JobStatus.QUEUED,
        # Not IN: SQLAlchemy would write the list into the statement anew for each execution.
        or_(*(JobRow.type == type for type in JobType)),
        or_(JobRow.environment.is_(None), func.jsonb_exists(_TOOLCHAINS, cast(JobRow.environment, Text))),
    )
