"""Artifacts of jobs, uploads that are still to be imported, and runs over the whole vault."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.vault import VaultRunKind, VaultRunStatus
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class JobArtifactRow(Base):
    """A file that a job left beside versions and evidence: raw results."""

    __tablename__ = "job_artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]


class UploadRow(Base):
    """Files that a client sent, kept until they are imported or have expired."""

    __tablename__ = "uploads"

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    created_by_key_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadFileRow(Base):
    __tablename__ = "upload_files"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class VaultRunRow(Base):
    """A verification or a garbage collection, claimed by a registry for a while and then reported."""

    __tablename__ = "vault_runs"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index("ix_vault_runs_open", "created_at", postgresql_where=text("finished_at is null")),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    kind: Mapped[VaultRunKind]
    status: Mapped[VaultRunStatus]
    request: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    message: Mapped[str | None]
    created_by_key_id: Mapped[str | None]
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
