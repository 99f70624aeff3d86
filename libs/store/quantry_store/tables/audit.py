"""The audit log, and the revision of the routes that gateways follow."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.keys import Role
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId

ROUTE_REVISION_ID = 1


class AuditRow(Base):
    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    key_id: Mapped[str | None]
    role: Mapped[Role | None]
    action: Mapped[str]
    noun: Mapped[str]
    noun_id: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]


class RouteRevisionRow(Base):
    """One row. Its lock serialises every change that gateways must learn of."""

    __tablename__ = "route_revision"
    __table_args__ = (CheckConstraint(f"id = {ROUTE_REVISION_ID}", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
