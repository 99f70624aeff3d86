"""What attempts sealed."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, ProjectId


class SealRow(Base):
    """The last seal of an attempt: the only files, and for a master the only dtype, that its finish may name."""

    __tablename__ = "seals"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    manifest_digest: Mapped[str]
    dtype: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class ArtifactSealRow(Base):
    """The last seal of an attempt's artifacts: the only ones that its finish may name."""

    __tablename__ = "artifact_seals"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    manifest_digest: Mapped[str]
    created_at: Mapped[CreatedAt]
