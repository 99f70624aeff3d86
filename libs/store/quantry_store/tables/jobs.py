"""Jobs and their event streams."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.jobs import EventKind, JobReason, JobStatus, JobType, Queue
from quantry_core.methods import Environment
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index("ix_jobs_claim", "queue", "priority", "created_at", "id", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_lease", "lease_expires_at", postgresql_where=text("status = 'running'")),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    type: Mapped[JobType]
    status: Mapped[JobStatus]
    reason: Mapped[JobReason | None]
    message: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    inputs: Mapped[list[dict[str, Any]]]
    queue: Mapped[Queue | None]
    environment: Mapped[Environment | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    attempt: Mapped[int] = mapped_column(default=0)
    num_lost_attempts: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    worker_id: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    last_seq: Mapped[int] = mapped_column(default=0)
    created_by_key_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobEventRow(Base):
    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    attempt: Mapped[int]
    kind: Mapped[EventKind]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
