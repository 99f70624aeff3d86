"""Checkpoints of training jobs, and what attempts sealed of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, ProjectId


class JobCheckpointRow(Base):
    """A step that a job got to. Its files are kept for a while, the row for good."""

    __tablename__ = "job_checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    attempt: Mapped[int]
    """The attempt that got there; 0 for one that a job took over from the job it is a retry of."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]


class JobCheckpointFileRow(Base):
    """A file that it takes to go on from a checkpoint. There are rows only while the files are kept."""

    __tablename__ = "job_checkpoint_files"
    __table_args__ = (ForeignKeyConstraint(["job_id", "step"], ["job_checkpoints.job_id", "job_checkpoints.step"]),)

    job_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[ProjectId]
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class CheckpointSealRow(Base):
    """The last checkpoint that an attempt sealed: the only one that it may report."""

    __tablename__ = "checkpoint_seals"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    step: Mapped[int]
    manifest_digest: Mapped[str]
    created_at: Mapped[CreatedAt]
