"""Tenants."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id


class ProjectRow(Base):
    __tablename__ = "projects"
    # One project looks after the installation, and no second.
    __table_args__ = (Index("uq_projects_is_platform", "is_platform", unique=True, postgresql_where=text("is_platform")),)

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    share: Mapped[float] = mapped_column(default=1.0)
    max_queued: Mapped[int | None]
    max_running: Mapped[int | None]
    is_platform: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[CreatedAt]
    archived_at: Mapped[datetime | None]
