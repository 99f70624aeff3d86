"""Pipelines. Where one is follows from its jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class PipelineRow(Base):
    __tablename__ = "pipelines"
    __table_args__ = (Index(None, "project_id", "id"), Index(None, "schedule_id", "id"))

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    labels: Mapped[dict[str, str]]
    # Base has an attribute of that name already.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    schedule_id: Mapped[str | None] = mapped_column(ForeignKey("schedules.id", ondelete="SET NULL"))
    created_by_key_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]
