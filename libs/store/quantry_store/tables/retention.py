"""Reports of what retention removed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.retention import RetentionKind, RetentionPart
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class RetentionRunRow(Base):
    """A run over the whole installation, noted in the platform's project; claimed by an api for a while and then reported."""

    __tablename__ = "retention_runs"
    __table_args__ = (
        Index("ix_retention_runs_open", "created_at", postgresql_where=text("finished_at is null")),
        Index(None, "finished_at"),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    part: Mapped[RetentionPart]
    dry_run: Mapped[bool]
    created_by_key_id: Mapped[str | None]
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RetentionCountRow(Base):
    """What a run removed of one kind, written in the transactions that removed it."""

    __tablename__ = "retention_counts"

    run_id: Mapped[str] = mapped_column(ForeignKey("retention_runs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[RetentionKind] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    num_removed: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    oldest_kept_at: Mapped[datetime | None]
    error: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    """When there was nothing left of this kind to remove; None while it goes on."""
