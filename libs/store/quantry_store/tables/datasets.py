"""Blobs of the vault, and the datasets made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Computed, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.datasets import DatasetKind, DatasetOrigin, FilePurpose
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class BlobRow(Base):
    """Bytes that the vault holds under their digest. They belong to no project: equal bytes are kept once."""

    __tablename__ = "blobs"
    __table_args__ = (Index("ix_blobs_only_checkpoints", "sha256", postgresql_where=text("only_checkpoints")),)

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sealed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    verified_at: Mapped[datetime | None]
    """When its bytes were last hashed again and were right."""
    only_checkpoints: Mapped[bool] = mapped_column(server_default=text("false"))
    """They were never taken in but for checkpoints of training jobs. Once no job goes on from them they are removed by themselves."""


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("project_id", "name", "number"),
        Index("uq_datasets_kept", "project_id", "name", "sha256", unique=True, postgresql_where=text("removed_at is null")),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    number: Mapped[int]
    kind: Mapped[DatasetKind]
    origin: Mapped[DatasetOrigin]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    num_rows: Mapped[int | None] = mapped_column(BigInteger)
    statistics: Mapped[dict[str, Any]]
    derivation: Mapped[dict[str, Any] | None]
    purpose: Mapped[FilePurpose | None]
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]
    """Set while it can still be restored, and after that."""
    removed_at: Mapped[datetime | None]
    """When it let go of its bytes for good. The row stays: versions that were made with it name it and its digest."""
    kept_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("blobs.sha256"), Computed("CASE WHEN (removed_at IS NULL) THEN sha256 ELSE NULL::text END"), index=True
    )
    """The blob that it keeps from being collected; None once it was removed."""
