"""Schedules and their runs: read, made, changed, and found when something is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from quantry_core.errors import Conflict, InvalidInput, UnknownSchedule
from quantry_core.firing import HeldRun, Standing
from quantry_core.ids import IdPrefix, new_id, uuid7
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.schedules import NUM_NEXT_RUNS, MissedPolicy, OverlapPolicy, RunOutcome, Schedule, ScheduleRun, ScheduleSubmission
from quantry_store.cron import Cron, parse_cron
from quantry_store.repositories.open_jobs import OPEN_STATUSES
from quantry_store.repositories.paging import load_page
from quantry_store.tables import JobRow, ScheduleRow, ScheduleRunRow

MAX_DUE = 100
MAX_FORGOTTEN = 1000


@dataclass(frozen=True)
class ScheduleRecord:
    """A schedule as it is worked with. ``next_run_at`` is known while it is paused too."""

    id: str
    name: str
    cron: Cron
    template: dict[str, Any]
    overlap: OverlapPolicy
    missed: MissedPolicy
    is_paused: bool
    next_run_at: datetime | None
    identity: Identity
    """In whose name its runs are submitted: who made or last changed it."""
    created_at: datetime


class ScheduleRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, project_id: str, schedule_id: str) -> Schedule:
        """Returns a schedule with its next and last runs; raises UnknownSchedule."""
        row = await self._row(project_id, schedule_id)
        return _schedule(row, (await self._last_runs([row.id])).get(row.id))

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Schedule]:
        """Returns a page of a project's schedules, newest first."""
        statement = select(ScheduleRow).where(ScheduleRow.project_id == project_id)
        page = await load_page(self._session, statement, ScheduleRow.id, lambda row: _schedule(row[0], None), after=after, limit=limit)
        last_runs = await self._last_runs([schedule.id for schedule in page.data])
        data = [schedule.model_copy(update={"last_run": last_runs.get(schedule.id)}) for schedule in page.data]
        return page.model_copy(update={"data": data})

    async def templates(self, project_id: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Returns name and template of every schedule of a project, paused ones too, as they were stored."""
        statement = select(ScheduleRow.name, ScheduleRow.template).where(ScheduleRow.project_id == project_id).order_by(ScheduleRow.id)
        return [(name, template) for name, template in await self._session.execute(statement)]

    async def add(self, identity: Identity, submission: ScheduleSubmission, next_run_at: datetime | None) -> ScheduleRecord:
        """Returns a new schedule; raises Conflict if its project has one of that name."""
        values = {
            "id": new_id(IdPrefix.SCHEDULE),
            "project_id": identity.project_id,
            "name": submission.name,
            "cron": submission.cron,
            "time_zone": submission.time_zone,
            "template": submission.template.model_dump(mode="json"),
            "overlap": submission.overlap,
            "missed": submission.missed,
            "is_paused": submission.is_paused,
            "next_run_at": next_run_at,
            "created_by_key_id": identity.key_id,
            "created_by_role": identity.role,
        }
        statement = insert(ScheduleRow).values(values).on_conflict_do_nothing(index_elements=[ScheduleRow.project_id, ScheduleRow.name])
        row = (await self._session.scalars(statement.returning(ScheduleRow))).one_or_none()
        if row is None:
            raise Conflict(f"there is a schedule {submission.name!r} already; change that one, or delete it")
        return _record(row)

    async def load(self, project_id: str, schedule_id: str) -> ScheduleRecord:
        """Returns a schedule as it is worked with, without a lock; raises UnknownSchedule."""
        return _record(await self._row(project_id, schedule_id))

    async def lock(self, project_id: str, schedule_id: str) -> ScheduleRecord:
        """Returns a schedule with its row locked until the transaction ends; raises UnknownSchedule. Locked before any job."""
        statement = _in_project(project_id, schedule_id).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _unknown(schedule_id)
        return _record(row)

    async def claim(self, schedule_id: str) -> ScheduleRecord | None:
        """Returns a schedule with its row locked, None if somebody else has it, it is paused, or it is gone."""
        statement = (
            select(ScheduleRow)
            .where(ScheduleRow.id == schedule_id, ScheduleRow.is_paused.is_(False))
            .with_for_update(skip_locked=True, key_share=True)
        )
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        return None if row is None else _record(row)

    async def change(self, schedule_id: str, **values: Any) -> None:
        """Writes columns of a locked schedule."""
        await self._session.execute(
            update(ScheduleRow).where(ScheduleRow.id == schedule_id).values(**values).execution_options(synchronize_session=False)
        )

    async def delete(self, schedule_id: str) -> None:
        """Deletes a locked schedule with its runs; its jobs and pipelines stay."""
        await self._session.execute(delete(ScheduleRow).where(ScheduleRow.id == schedule_id).execution_options(synchronize_session=False))

    async def due(self, *, after: str = "") -> Sequence[ScheduleRecord]:
        """Returns schedules, of any project, that have something due or a held run whose turn it is: by id from ``after`` on,
        at most MAX_DUE. Locks nothing."""
        held = exists().where(ScheduleRunRow.schedule_id == ScheduleRow.id, ScheduleRunRow.outcome == RunOutcome.HELD)
        statements = (
            select(ScheduleRow).where(ScheduleRow.next_run_at <= func.now()),
            # Begins at the held runs, of which there are few; never at the jobs.
            select(ScheduleRow).where(held, ~exists().where(*_open_jobs(ScheduleRow.id))),
        )
        found: dict[str, ScheduleRow] = {}
        for statement in statements:
            # Written as the index ix_schedules_due has it.
            waiting = statement.where(~ScheduleRow.is_paused, ScheduleRow.id > after).order_by(ScheduleRow.id).limit(MAX_DUE)
            found |= {row.id: row for row in await self._session.scalars(waiting)}
        return [_record(found[schedule_id]) for schedule_id in sorted(found)[:MAX_DUE]]

    async def standing(self, schedule_id: str) -> Standing:
        """Returns which of a schedule's jobs or pipelines is not over, and its held runs."""
        statement = select(JobRow.pipeline_id, JobRow.id).where(*_open_jobs(schedule_id)).order_by(JobRow.id.desc()).limit(1)
        open_job = (await self._session.execute(statement)).one_or_none()
        held = (
            select(ScheduleRunRow.id, ScheduleRunRow.due_at)
            .where(ScheduleRunRow.schedule_id == schedule_id, ScheduleRunRow.outcome == RunOutcome.HELD)
            .order_by(ScheduleRunRow.due_at, ScheduleRunRow.id)
        )
        return Standing(
            busy_with=None if open_job is None else open_job[0] or open_job[1],
            held=[HeldRun(*row) for row in await self._session.execute(held)],
        )

    async def unfinished(self, schedule_id: str) -> tuple[Sequence[str], Sequence[str]]:
        """Returns the pipelines of a schedule that are not over, and its unfinished jobs outside of pipelines, by id."""
        rows = (await self._session.execute(select(JobRow.pipeline_id, JobRow.id).where(*_open_jobs(schedule_id)))).all()
        pipelines = {pipeline_id for pipeline_id, _ in rows if pipeline_id is not None}
        return sorted(pipelines), sorted(job_id for pipeline_id, job_id in rows if pipeline_id is None)

    async def add_run(
        self,
        schedule: ScheduleRecord,
        due_at: datetime,
        outcome: RunOutcome,
        *,
        is_manual: bool = False,
        job_id: str | None = None,
        pipeline_id: str | None = None,
        message: str | None = None,
    ) -> ScheduleRun:
        """Returns a new run of a locked schedule."""
        row = ScheduleRunRow(
            id=new_id(IdPrefix.SCHEDULE_RUN),
            schedule_id=schedule.id,
            project_id=schedule.identity.project_id,
            due_at=due_at,
            outcome=outcome,
            is_manual=is_manual,
            job_id=job_id,
            pipeline_id=pipeline_id,
            message=message,
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        return _run(row)

    async def get_run(self, project_id: str, run_id: str) -> ScheduleRun:
        """Returns a run; raises UnknownSchedule if it went with its schedule."""
        statement = select(ScheduleRunRow).where(ScheduleRunRow.id == run_id, ScheduleRunRow.project_id == project_id)
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise UnknownSchedule(f"the schedule of run {run_id!r} was deleted")
        return _run(row)

    async def settle_held(
        self, run_id: str, outcome: RunOutcome, *, job_id: str | None = None, pipeline_id: str | None = None, message: str | None = None
    ) -> ScheduleRun:
        """Returns a held run of a locked schedule with what became of it now."""
        rows = await self._session.scalars(
            update(ScheduleRunRow)
            .where(ScheduleRunRow.id == run_id)
            .values(outcome=outcome, job_id=job_id, pipeline_id=pipeline_id, message=message, fired_at=func.now())
            .returning(ScheduleRunRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        return _run(rows.one())

    async def skip_held(self, schedule_id: str, message: str) -> None:
        """Writes off all held runs of a locked schedule."""
        await self._session.execute(
            update(ScheduleRunRow)
            .where(ScheduleRunRow.schedule_id == schedule_id, ScheduleRunRow.outcome == RunOutcome.HELD)
            .values(outcome=RunOutcome.SKIPPED, message=message, fired_at=func.now())
            .execution_options(synchronize_session=False)
        )

    async def runs(
        self, project_id: str, schedule_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT, outcome: RunOutcome | None = None
    ) -> Page[ScheduleRun]:
        """Returns a page of a schedule's runs, newest first, of one outcome where it is given; raises UnknownSchedule."""
        row = await self._row(project_id, schedule_id)
        statement = select(ScheduleRunRow).where(ScheduleRunRow.schedule_id == row.id)
        if outcome is not None:
            statement = statement.where(ScheduleRunRow.outcome == outcome)
        return await load_page(self._session, statement, ScheduleRunRow.id, lambda found: _run(found[0]), after=after, limit=limit)

    async def forget_runs(self, older_than: timedelta) -> int:
        """Returns how many old runs were deleted, at most MAX_FORGOTTEN. The last run of a schedule and held ones stay."""
        moment = (await self._session.scalars(select(func.now()))).one() - older_than
        # Ids begin with their time, so the primary key finds the oldest.
        oldest = f"{IdPrefix.SCHEDULE_RUN}_{uuid7(int(moment.timestamp() * 1000)).hex}"
        newer = aliased(ScheduleRunRow)
        old = (
            select(ScheduleRunRow.id)
            .where(
                ScheduleRunRow.id < oldest,
                ScheduleRunRow.outcome != RunOutcome.HELD,
                exists().where(newer.schedule_id == ScheduleRunRow.schedule_id, newer.id > ScheduleRunRow.id),
            )
            .order_by(ScheduleRunRow.id)
            .limit(MAX_FORGOTTEN)
            .with_for_update(skip_locked=True)
        )
        deleted = await self._session.scalars(
            delete(ScheduleRunRow).where(ScheduleRunRow.id.in_(old)).returning(ScheduleRunRow.id),
            execution_options={"synchronize_session": False},
        )
        return len(deleted.all())

    async def _row(self, project_id: str, schedule_id: str) -> ScheduleRow:
        statement = _in_project(project_id, schedule_id)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _unknown(schedule_id)
        return row

    async def _last_runs(self, schedule_ids: Sequence[str]) -> dict[str, ScheduleRun]:
        latest = (
            select(func.max(ScheduleRunRow.id)).where(ScheduleRunRow.schedule_id == ScheduleRow.id).correlate(ScheduleRow).scalar_subquery()
        )
        ids = select(latest).select_from(ScheduleRow).where(ScheduleRow.id.in_(schedule_ids))
        rows = await self._session.scalars(select(ScheduleRunRow).where(ScheduleRunRow.id.in_(ids)))
        return {row.schedule_id: _run(row) for row in rows}


def _in_project(project_id: str, schedule_id: str) -> Select[ScheduleRow]:
    return select(ScheduleRow).where(ScheduleRow.id == schedule_id, ScheduleRow.project_id == project_id)


def _unknown(schedule_id: str) -> UnknownSchedule:
    return UnknownSchedule(f"there is no schedule {schedule_id!r}")


def _open_jobs(schedule_id: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Conditions of a schedule's unfinished jobs, those of its pipelines included. As the index ix_jobs_schedule_open has them."""
    return JobRow.schedule_id == schedule_id, JobRow.status.in_(OPEN_STATUSES)


def _record(row: ScheduleRow) -> ScheduleRecord:
    return ScheduleRecord(
        id=row.id,
        name=row.name,
        cron=Cron(row.cron, row.time_zone),
        template=row.template,
        overlap=row.overlap,
        missed=row.missed,
        is_paused=row.is_paused,
        next_run_at=row.next_run_at,
        identity=Identity(key_id=row.created_by_key_id, project_id=row.project_id, role=row.created_by_role),
        created_at=row.created_at,
    )


def _schedule(row: ScheduleRow, last_run: ScheduleRun | None) -> Schedule:
    next_run_at = None if row.is_paused else row.next_run_at
    return Schedule(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        cron=row.cron,
        time_zone=row.time_zone,
        template=row.template,
        overlap=row.overlap,
        missed=row.missed,
        is_paused=row.is_paused,
        next_run_at=next_run_at,
        next_runs=[] if next_run_at is None else _next_runs(row, next_run_at),
        last_run=last_run,
        created_at=row.created_at,
    )


def _next_runs(row: ScheduleRow, first: datetime) -> list[datetime]:
    try:
        cron = parse_cron(row.cron, row.time_zone, now=first)
    except InvalidInput:
        # This release, or this machine's time zones, cannot read what another one wrote; the schedule must be seen all the same.
        return [first]
    return [cron.in_zone(moment) for moment in (first, *cron.first(NUM_NEXT_RUNS - 1, first))]


def _run(row: ScheduleRunRow) -> ScheduleRun:
    return ScheduleRun(
        id=row.id,
        schedule_id=row.schedule_id,
        due_at=row.due_at,
        fired_at=row.fired_at,
        outcome=row.outcome,
        is_manual=row.is_manual,
        job_id=row.job_id,
        pipeline_id=row.pipeline_id,
        message=row.message,
    )
