"""Workers as they last said they are, the hosts that were enrolled, and the tokens by which they were."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class WorkerRow(Base):
    """A worker process. ``project_id`` is that of its key; it serves the jobs of every project."""

    __tablename__ = "workers"
    __table_args__ = (Index(None, "last_seen_at"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    key_id: Mapped[str | None] = mapped_column(index=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    queues: Mapped[list[str]]
    num_slots: Mapped[int]
    environments: Mapped[dict[str, str]]
    devices: Mapped[list[dict[str, Any]]]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[CreatedAt]
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EnrolmentRow(Base):
    """A one-time token of the platform project, by its hash."""

    __tablename__ = "worker_enrolments"

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_by_key_id: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    host_id: Mapped[str | None]
    revoked_at: Mapped[datetime | None]


class WorkerHostRow(Base):
    """A machine with a worker's key of its own, which is a key of the platform project."""

    __tablename__ = "worker_hosts"

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    hostname: Mapped[str]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), unique=True)
    enrolled_at: Mapped[CreatedAt]
