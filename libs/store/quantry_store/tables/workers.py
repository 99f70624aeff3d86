"""Workers as they last said they are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class WorkerRow(Base):
    """A worker process. ``project_id`` is that of its key; it serves the jobs of every project."""

    __tablename__ = "workers"
    __table_args__ = (Index(None, "last_seen_at"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
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
