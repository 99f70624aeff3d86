"""Schedules and what became of each of their due times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.keys import Role
from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class ScheduleRow(Base):
    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_schedules_due", "next_run_at", postgresql_where=text("not is_paused")),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    cron: Mapped[str]
    time_zone: Mapped[str]
    template: Mapped[dict[str, Any]]
    overlap: Mapped[OverlapPolicy]
    missed: Mapped[MissedPolicy]
    is_paused: Mapped[bool] = mapped_column(default=False)
    next_run_at: Mapped[datetime | None]
    """The first due time that was not dealt with yet; kept while paused, so that what was missed is known."""
    created_by_key_id: Mapped[str]
    created_by_role: Mapped[Role]
    """Runs are submitted in the name of who made or last changed the schedule."""
    created_at: Mapped[CreatedAt]


class ScheduleRunRow(Base):
    __tablename__ = "schedule_runs"
    __table_args__ = (
        # Unique: whatever else goes wrong, one due time can never fire twice.
        Index("uq_schedule_runs_due", "schedule_id", "due_at", unique=True, postgresql_where=text("not is_manual")),
        Index(None, "schedule_id", "id"),
        Index(None, "fired_at"),
        Index("ix_schedule_runs_held", "schedule_id", "due_at", postgresql_where=text("outcome = 'held'")),
    )

    id: Mapped[Id]
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    project_id: Mapped[ProjectId]
    due_at: Mapped[datetime]
    fired_at: Mapped[CreatedAt]
    outcome: Mapped[RunOutcome]
    is_manual: Mapped[bool] = mapped_column(default=False)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    pipeline_id: Mapped[str | None] = mapped_column(ForeignKey("pipelines.id"))
    message: Mapped[str | None]
