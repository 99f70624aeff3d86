"""What gateways tell: how requests to releases went, and the prompts that are kept of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId


class TrafficWindowRow(Base):
    """One release's tally over a span of one gateway's time. Ids are given in the order in which windows are committed."""

    __tablename__ = "traffic_windows"
    __table_args__ = (
        UniqueConstraint("gateway_id", "sequence", "release_id"),
        # Whoever reads on goes by id; whoever begins to read skips what was measured before, which may be weeks of a release.
        Index(None, "release_id", "id"),
        Index(None, "release_id", "began_at"),
        Index(None, "ended_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    project_id: Mapped[ProjectId]
    release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    gateway_id: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    tally: Mapped[dict[str, Any]]


class CapturedPromptRow(Base):
    """A prompt, encrypted. Its id was made by the gateway."""

    __tablename__ = "captured_prompts"
    __table_args__ = (Index(None, "deployment_id", "captured_at"), Index(None, "expires_at"))

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"))
    release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    path: Mapped[str]
    ciphertext: Mapped[bytes]
    captured_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]
