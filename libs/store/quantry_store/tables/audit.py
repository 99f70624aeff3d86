"""The audit log with its chains, and the revision of the routes that gateways follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.keys import Role
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId

ROUTE_REVISION_ID = 1


class AuditRow(Base):
    """One act. Triggers let nothing be changed, and nothing be deleted but what an anchor covers."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "project_id", "noun", "noun_id"),
        Index("uq_audit_log_project_id_seq", "project_id", "seq", unique=True),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    seq: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[str | None]
    role: Mapped[Role | None]
    action: Mapped[str]
    noun: Mapped[str]
    noun_id: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class AuditChainRow(Base):
    """The end of a project's chain. Its lock puts the acts of a project in one order."""

    __tablename__ = "audit_chains"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str]


class AuditAnchorRow(Base):
    """The last entry of a prefix that retention removed."""

    __tablename__ = "audit_anchors"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RouteRevisionRow(Base):
    """One row. Its lock serialises every change that gateways must learn of."""

    __tablename__ = "route_revision"
    __table_args__ = (CheckConstraint(f"id = {ROUTE_REVISION_ID}", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
