"""Models, versions, files, lineage, evidence and aliases. Triggers of the migrations guard versions and whatever refers to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.methods import Format
from quantry_core.versions import EdgeRole, EvidenceKind, Verdict, VersionKind, VersionState
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    last_number: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[CreatedAt]


class VersionRow(Base):
    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "fingerprint"),
        Index(
            "ix_versions_quarantined",
            "quarantined_at",
            postgresql_where=text("quarantined_at is not null and bytes_released_at is null"),
        ),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int]
    kind: Mapped[VersionKind]
    state: Mapped[VersionState]
    format: Mapped[Format]
    scheme: Mapped[str | None]
    dtype: Mapped[str | None]
    manifest_digest: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    weights_bytes: Mapped[int] = mapped_column(BigInteger)
    # Unique: whatever else goes wrong, one job can never yield two versions.
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    attempt: Mapped[int]
    recipe: Mapped[dict[str, Any]]
    toolchain: Mapped[dict[str, str]]
    fingerprint: Mapped[str | None]
    """Of all it was made from: see quantry_core.fingerprints."""
    card: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]
    """Set while it can still be restored."""
    quarantined_at: Mapped[datetime | None]
    """Since when it is quarantined; a trigger writes it."""
    bytes_released_at: Mapped[datetime | None]
    """When its files let go of their bytes for good. Its row, manifest, edges and evidence stay."""


class VersionNotesRow(Base):
    """What people write about a version. The version itself never changes."""

    __tablename__ = "version_notes"
    __table_args__ = (Index("ix_version_notes_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),)

    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[ProjectId]
    tags: Mapped[dict[str, str]]
    texts: Mapped[dict[str, str]]
    """Tags that no selector could write: see quantry_core.tags. No key is in both."""
    notes: Mapped[str]
    updated_at: Mapped[CreatedAt]


class ModelNotesRow(Base):
    """What people write about a model."""

    __tablename__ = "model_notes"
    __table_args__ = (Index("ix_model_notes_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),)

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[ProjectId]
    tags: Mapped[dict[str, str]]
    notes: Mapped[str]
    updated_at: Mapped[CreatedAt]


class VersionFileRow(Base):
    __tablename__ = "version_files"
    __table_args__ = (Index("ix_version_files_released", "sha256", postgresql_where=text("released_at is not null")),)

    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    sha256: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    released_at: Mapped[datetime | None]
    kept_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("blobs.sha256"), Computed("CASE WHEN (released_at IS NULL) THEN sha256 ELSE NULL::text END"), index=True
    )
    """The blob that it keeps from being collected; None once its bytes were released."""


class LineageEdgeRow(Base):
    __tablename__ = "lineage_edges"
    __table_args__ = (CheckConstraint("num_nonnulls(parent_version_id, parent_dataset_id) = 1", name="one_parent"),)

    child_version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    role: Mapped[EdgeRole]
    parent_version_id: Mapped[str | None] = mapped_column(ForeignKey("versions.id"), index=True)
    parent_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)


class EvidenceRow(Base):
    __tablename__ = "evidence"

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    position: Mapped[int]
    kind: Mapped[EvidenceKind]
    name: Mapped[str]
    verdict: Mapped[Verdict]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]


class AliasRow(Base):
    __tablename__ = "aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"), index=True)
    updated_at: Mapped[CreatedAt]


class AliasChangeRow(Base):
    """History outlives what it tells of, so version ids are no foreign keys here."""

    __tablename__ = "alias_history"
    __table_args__ = (Index(None, "model_id", "alias"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    project_id: Mapped[ProjectId]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    alias: Mapped[str]
    version_id: Mapped[str | None]
    """None where the alias was deleted."""
    previous_version_id: Mapped[str | None]
    key_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]
