"""Rows that are kept for a time and then deleted as they are: one table says which, and three statements do it for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from quantry_core.retention import Over, Removed, RetentionKind
from quantry_core.schedules import RunOutcome
from quantry_store.tables import (
    Base,
    CapturedPromptRow,
    IdempotencyKeyRow,
    RetentionRunRow,
    RolloutRow,
    ScheduleRunRow,
    TrafficWindowRow,
    WebhookDeliveryRow,
    WorkerRow,
)
from quantry_store.tables.base import stored_size
from quantry_store.tables.deployments import WATCHED


@dataclass(frozen=True)
class RetainedRows:
    """Which rows of a table may go, and from when their time counts."""

    row: type[Base]
    key: tuple[InstrumentedAttribute[Any], ...]
    dated_by: InstrumentedAttribute[Any]
    """A row without this moment stays; an index leads with it."""
    unless: tuple[ColumnElement[bool], ...] = ()
    """What keeps a row though its time is over."""
    shown_by: InstrumentedAttribute[Any] | None = None
    """The moment that tells how old a row is, where that is not the one its time counts from."""


def _needed_by_rollout() -> ColumnElement[bool]:
    """A window that a rollout which is not over is judged by, of either of its releases."""
    in_use = or_(RolloutRow.finished_at.is_(None), text(WATCHED))
    of_release = or_(RolloutRow.to_release_id == TrafficWindowRow.release_id, RolloutRow.from_release_id == TrafficWindowRow.release_id)
    return select(RolloutRow.id).where(in_use, of_release, RolloutRow.created_at <= TrafficWindowRow.ended_at).exists()


def _newest_of_schedule() -> ColumnElement[bool]:
    later = aliased(ScheduleRunRow)
    return ~exists().where(later.schedule_id == ScheduleRunRow.schedule_id, later.id > ScheduleRunRow.id)


RETAINED_ROWS: Final[Mapping[RetentionKind, RetainedRows]] = {
    RetentionKind.IDEMPOTENCY_KEYS: RetainedRows(
        IdempotencyKeyRow, (IdempotencyKeyRow.project_id, IdempotencyKeyRow.key), IdempotencyKeyRow.created_at
    ),
    RetentionKind.WEBHOOK_DELIVERIES: RetainedRows(WebhookDeliveryRow, (WebhookDeliveryRow.id,), WebhookDeliveryRow.finished_at),
    RetentionKind.TRAFFIC_WINDOWS: RetainedRows(
        TrafficWindowRow, (TrafficWindowRow.id,), TrafficWindowRow.ended_at, unless=(_needed_by_rollout(),)
    ),
    RetentionKind.CAPTURED_PROMPTS: RetainedRows(
        CapturedPromptRow, (CapturedPromptRow.id,), CapturedPromptRow.expires_at, shown_by=CapturedPromptRow.captured_at
    ),
    RetentionKind.SCHEDULE_RUNS: RetainedRows(
        ScheduleRunRow,
        (ScheduleRunRow.id,),
        ScheduleRunRow.fired_at,
        unless=(ScheduleRunRow.outcome == RunOutcome.HELD, _newest_of_schedule()),
    ),
    RetentionKind.WORKERS: RetainedRows(WorkerRow, (WorkerRow.id,), WorkerRow.last_seen_at),
    RetentionKind.RETENTION_RUNS: RetainedRows(RetentionRunRow, (RetentionRunRow.id,), RetentionRunRow.finished_at),
}


class RetainedRowRepository:
    """Deletes by the table. What somebody has locked is left for the next step: no writer waits for this, and this for none."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def delete(self, rows: RetainedRows, keep_s: float, *, limit: int) -> Removed:
        """Deletes at most ``limit`` rows whose time of ``keep_s`` seconds is over; returns how many, and their size as stored."""
        old = select(*rows.key).where(*_is_over(rows, keep_s)).limit(limit).with_for_update(skip_locked=True, of=rows.row)
        gone = delete(rows.row).where(tuple_(*rows.key).in_(old)).returning(stored_size(rows.row))
        sizes = (await self._session.scalars(gone.execution_options(synchronize_session=False))).all()
        return Removed(len(sizes), sum(sizes), has_more=len(sizes) > 0)

    async def over(self, rows: RetainedRows, keep_s: float) -> Over:
        """Returns how many rows ``delete`` would delete, step by step, and their size."""
        counted = select(func.count(), func.coalesce(func.sum(stored_size(rows.row)), 0)).select_from(rows.row)
        num, size_bytes = (await self._session.execute(counted.where(*_is_over(rows, keep_s)))).one()
        return Over(num, int(size_bytes))

    async def oldest_at(self, rows: RetainedRows) -> datetime | None:
        """Returns the moment of the oldest row; None where there is none."""
        oldest: datetime | None = await self._session.scalar(select(func.min(rows.shown_by or rows.dated_by)))
        return oldest


def _is_over(rows: RetainedRows, keep_s: float) -> list[ColumnElement[bool]]:
    return [rows.dated_by < func.now() - timedelta(seconds=keep_s), *(~one for one in rows.unless)]
