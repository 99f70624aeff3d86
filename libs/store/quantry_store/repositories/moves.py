"""The one statement that moves a job: its status, what goes with that, and the state event that tells of it, at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Select, func, insert, literal, select, update
from sqlalchemy.orm import aliased

from quantry_core.execution import EventDraft
from quantry_core.jobs import FINAL_STATUSES, EventKind, JobReason, JobStatus, check_transition
from quantry_store.tables import JobEventRow, JobRow


class Move(NamedTuple):
    """Where a job goes, why, and the columns that change with it."""

    status: JobStatus
    reason: JobReason | None
    message: str | None
    also: Mapping[str, Any]


def moving(chosen: Select[str], move: Move) -> Select[JobRow]:
    """Returns the statement that moves the job whose id ``chosen`` selects and yields its row; none where ``chosen`` finds none.

    Callers have checked that the table of moves has this one.
    """
    values = {**_values(move), **move.also}
    picked = chosen.cte("picked")
    moved = (
        update(JobRow)
        .where(JobRow.id == picked.c.id)
        .values(**values, last_seq=JobRow.last_seq + 1)
        .returning(*JobRow.__table__.columns)
        .cte("moved")
    )
    event = state_event(move.status, move.reason, move.message)
    columns = {
        JobEventRow.job_id: moved.c.id,
        JobEventRow.seq: moved.c.last_seq,
        JobEventRow.project_id: moved.c.project_id,
        JobEventRow.attempt: moved.c.attempt,
        JobEventRow.kind: literal(event.kind, JobEventRow.kind.type),
        JobEventRow.data: literal(event.data, JobEventRow.data.type),
    }
    told = insert(JobEventRow).from_select([column.key for column in columns], select(*columns.values())).cte("told")
    return select(aliased(JobRow, moved)).add_cte(told)


def starting(chosen: Select[str], **also: Any) -> Select[JobRow]:
    """Returns the statement that has the queued job whose id ``chosen`` selects and locks running in a new attempt."""
    check_transition(JobStatus.QUEUED, JobStatus.RUNNING)
    return moving(chosen, Move(JobStatus.RUNNING, None, None, also | {"attempt": JobRow.attempt + 1}))


def state_event(status: JobStatus, reason: JobReason | None, message: str | None) -> EventDraft:
    """Returns the event that tells where a job went."""
    return EventDraft(kind=EventKind.STATE, data={"status": status, "reason": reason, "message": message})


def _values(move: Move) -> dict[str, Any]:
    values: dict[str, Any] = {"status": move.status, "reason": move.reason, "message": move.message, "waiting_on": None}
    if move.status is JobStatus.RUNNING:
        return values | {"started_at": func.now(), "progress": None}
    values |= {"lease_expires_at": None, "worker_id": None}
    if move.status in FINAL_STATUSES:
        return values | {"finished_at": func.now()}
    return values | {"progress": None}
