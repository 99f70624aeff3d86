"""API keys, by their hashes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import text
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
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    old_key_hash: Mapped[str | None] = mapped_column(unique=True)
    old_secret_until: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
