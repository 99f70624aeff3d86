"""Idempotency keys: which submission a key stands for."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, ProjectId


class IdempotencyKeyRow(Base):
    """Written in the transaction of what it stands for, so it is there exactly if that is."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    project_id: Mapped[ProjectId] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    """Of method, path and body as received."""
    noun_id: Mapped[str]
    """The job, pipeline or schedule that was made."""
    created_at: Mapped[CreatedAt]
