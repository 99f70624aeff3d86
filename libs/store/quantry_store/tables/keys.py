"""API keys, by their hashes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.keys import Role
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class KeyRow(Base):
    __tablename__ = "api_keys"

    id: Mapped[Id]
    project_id: Mapped[ProjectId] = mapped_column(index=True)
    name: Mapped[str]
    role: Mapped[Role]
    prefix: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
