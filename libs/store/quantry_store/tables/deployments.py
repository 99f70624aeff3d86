"""Deployments, their releases, rollouts, replicas and attached adapters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.rollouts import ReplicaState, RolloutState
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class DeploymentRow(Base):
    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    current_release_id: Mapped[str | None] = mapped_column(ForeignKey("releases.id", use_alter=True))
    last_release_number: Mapped[int] = mapped_column(default=0)
    is_stopped: Mapped[bool] = mapped_column(default=False)
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
    created_at: Mapped[CreatedAt]


class RolloutRow(Base):
    __tablename__ = "rollouts"
    __table_args__ = (
        # The database itself refuses a second active rollout of one deployment.
        Index("uq_rollouts_active", "deployment_id", unique=True, postgresql_where=text("finished_at IS NULL")),
        Index(None, "deployment_id", "id"),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    from_release_id: Mapped[str | None] = mapped_column(ForeignKey("releases.id"))
    to_release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    state: Mapped[RolloutState]
    message: Mapped[str | None]
    ready_deadline_at: Mapped[datetime]
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
