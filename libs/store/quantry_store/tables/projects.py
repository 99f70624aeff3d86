"""Tenants."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id


class ProjectRow(Base):
    __tablename__ = "projects"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    share: Mapped[float] = mapped_column(default=1.0)
    max_queued: Mapped[int | None]
    max_running: Mapped[int | None]
    created_at: Mapped[CreatedAt]
