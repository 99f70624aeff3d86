"""Jobs, what they need, and their event streams."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.jobs import EventKind, JobReason, JobStatus, JobType, WaitingOn
from quantry_core.methods import Environment
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "project_id", "status", "id"),
        # Partial indexes: what has ended, nearly everything after a while, is in none of those that claim and sweep read.
        Index("ix_jobs_claim", "queue", "project_id", "priority", "created_at", "id", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_running", "project_id", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_lease", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_waiting", "waiting_on", "project_id", "priority", "created_at", "id", postgresql_where=text("status = 'waiting'")),
        Index("ix_jobs_due", "not_before", postgresql_where=text("status = 'waiting' and waiting_on = 'time'")),
        Index("ix_jobs_estimate_key", "estimate_key", "finished_at", postgresql_where=text("status = 'succeeded'")),
        Index("ix_jobs_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
        Index(None, "pipeline_id"),
        Index(None, "schedule_id", "id"),
        Index("ix_jobs_schedule_open", "schedule_id", "id", postgresql_where=text("status in ('waiting', 'queued', 'running')")),
        Index("ix_jobs_log_kept", "finished_at", postgresql_where=text("finished_at is not null and log_deleted_at is null")),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    type: Mapped[JobType]
    status: Mapped[JobStatus]
    reason: Mapped[JobReason | None]
    waiting_on: Mapped[WaitingOn | None]
    message: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    inputs: Mapped[list[dict[str, Any]]]
    queue: Mapped[str | None]
    environment: Mapped[Environment | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    time_limit_s: Mapped[int | None]
    memory_limit_bytes: Mapped[int | None] = mapped_column(BigInteger)
    not_before: Mapped[datetime | None]
    needs: Mapped[list[str]]
    """In the order they were given, to be shown; the rows of job_needs are what is worked with."""
    labels: Mapped[dict[str, str]]
    # Base has an attribute of that name already.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    force: Mapped[bool] = mapped_column(default=False)
    pipeline_id: Mapped[str | None] = mapped_column(ForeignKey("pipelines.id"))
    step: Mapped[str | None]
    schedule_id: Mapped[str | None] = mapped_column(ForeignKey("schedules.id", ondelete="SET NULL"))
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    estimate: Mapped[dict[str, Any] | None]
    estimate_key: Mapped[str | None]
    recipe_digest: Mapped[str | None]
    """What the job makes, but for the toolchain: see quantry_core.fingerprints."""
    toolchain_digest: Mapped[str | None]
    """Of the worker that claimed it last."""
    attempt: Mapped[int] = mapped_column(default=0)
    num_attempt_events: Mapped[int] = mapped_column(default=0)
    """How many events of this attempt are stored, so that those sent twice are stored once."""
    num_lost_attempts: Mapped[int] = mapped_column(default=0)
    retries: Mapped[dict[str, Any]]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    worker_id: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    last_seq: Mapped[int] = mapped_column(default=0)
    created_by_key_id: Mapped[str | None]
    traceparent: Mapped[str | None]
    """The span that submitted it, as W3C's header says it; None where traces are off."""
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    log_deleted_at: Mapped[datetime | None]
    """When the events that only tell how it went were deleted, so that clean-ups do not look at it again."""


class JobNeedRow(Base):
    """An edge from a job to one that must succeed first; settled once that one has, and the edge says nothing any more."""

    __tablename__ = "job_needs"
    __table_args__ = (Index("ix_job_needs_open", "needed_job_id", postgresql_where=text("not is_settled")),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    needed_job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    project_id: Mapped[ProjectId]
    is_settled: Mapped[bool] = mapped_column(default=False)


class JobEventRow(Base):
    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    attempt: Mapped[int]
    kind: Mapped[EventKind]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
