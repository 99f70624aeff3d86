"""Deployments, their releases, rollouts, replicas and attached adapters, and what served when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.rollouts import PeriodCause, ReplicaState, RolloutCause, RolloutReason, RolloutState
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId

WATCHED = "watch_until IS NOT NULL AND watch_ended_at IS NULL"
"""What is true of a promoted rollout while its watch lasts."""


class DeploymentRow(Base):
    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    current_release_id: Mapped[str | None] = mapped_column(ForeignKey("releases.id", use_alter=True))
    last_release_number: Mapped[int] = mapped_column(default=0)
    is_stopped: Mapped[bool] = mapped_column(default=False)
    num_wanted: Mapped[int | None]
    demanded_at: Mapped[datetime | None]
    requested_at: Mapped[datetime | None]
    capture: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]


class ReleaseRow(Base):
    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("deployment_id", "number"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    number: Mapped[int]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"), index=True)
    version_ref: Mapped[str]
    num_replicas: Mapped[int]
    engine: Mapped[dict[str, Any]]
    scaling: Mapped[dict[str, Any] | None]
    servers: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    created_at: Mapped[CreatedAt]


class RolloutRow(Base):
    __tablename__ = "rollouts"
    __table_args__ = (
        # The database itself refuses a second active rollout of one deployment.
        Index("uq_rollouts_active", "deployment_id", unique=True, postgresql_where=text("finished_at IS NULL")),
        # And a second watch: the release before is kept warm for one promotion only.
        Index("uq_rollouts_watched", "deployment_id", unique=True, postgresql_where=text(WATCHED)),
        Index(None, "deployment_id", "id"),
        Index(None, "project_id", "id"),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    from_release_id: Mapped[str | None] = mapped_column(ForeignKey("releases.id"))
    to_release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    cause: Mapped[RolloutCause] = mapped_column(server_default=RolloutCause.DEPLOY)
    state: Mapped[RolloutState]
    strategy: Mapped[dict[str, Any]] = mapped_column(server_default=text("""'{"name": "immediate"}'"""))
    reason: Mapped[RolloutReason | None]
    message: Mapped[str | None]
    note: Mapped[str | None]
    key_id: Mapped[str | None]
    stage: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    percent: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    mirror_percent: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    staged_at: Mapped[datetime | None]
    exposed_at: Mapped[datetime | None]
    is_resumed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    promote_requested: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    judgement: Mapped[dict[str, Any] | None]
    ready_timeout_s: Mapped[float] = mapped_column(server_default=text("600"))
    ready_deadline_at: Mapped[datetime]
    watch_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    watch_until: Mapped[datetime | None]
    watch_ended_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class ReplicaRow(Base):
    __tablename__ = "replicas"

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"), index=True)
    ordinal: Mapped[int]
    state: Mapped[ReplicaState]
    url: Mapped[str | None]
    pid: Mapped[int | None] = mapped_column(BigInteger)
    pid_started_at: Mapped[float | None]
    num_restarts: Mapped[int]
    message: Mapped[str | None]
    log_path: Mapped[str | None]
    adapter_ids: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    updated_at: Mapped[CreatedAt]


class DeploymentAdapterRow(Base):
    __tablename__ = "deployment_adapters"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    name: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"), index=True)
    version_ref: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    message: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class ServingPeriodRow(Base):
    """What a deployment serves from a moment on, until the next row. Written with the deployment's row locked, and never changed."""

    __tablename__ = "serving_periods"
    __table_args__ = (Index(None, "deployment_id", "began_at"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    began_at: Mapped[datetime]
    shares: Mapped[list[dict[str, Any]]]
    cause: Mapped[PeriodCause]
    reason: Mapped[RolloutReason | None]
    message: Mapped[str | None]
    rollout_id: Mapped[str | None] = mapped_column(ForeignKey("rollouts.id"))
    key_id: Mapped[str | None]
    note: Mapped[str | None]
