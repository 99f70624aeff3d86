"""Webhooks, the messages that are to reach them, and each sending of one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from quantry_core.webhooks import DeliveryState, WebhookEvent, WebhookFormat
from quantry_store.tables.base import Base, CreatedAt, Id, ProjectId

NOT_DELETED = "deleted_at IS NULL"


class WebhookRow(Base):
    """Deleted ones stay for their deliveries' sake, without secrets."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("uq_webhooks_name", "project_id", "name", unique=True, postgresql_where=text(NOT_DELETED)),)

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    name: Mapped[str]
    url: Mapped[bytes]
    """Encrypted: the addresses of chat servers are secrets."""
    shown_url: Mapped[str]
    events: Mapped[list[str]]
    labels: Mapped[str | None]
    types: Mapped[list[str]]
    format: Mapped[WebhookFormat]
    is_active: Mapped[bool]
    secret: Mapped[bytes]
    """Encrypted."""
    old_secret: Mapped[bytes | None]
    old_secret_until: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    last_delivered_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]


class WebhookDeliveryRow(Base):
    """A message to one webhook, written in the transaction that it tells of.

    ``next_attempt_at`` is when it may be claimed: while an attempt is under way, when that counts as lost. None while its webhook
    is not active, and once it is over. The attempt that holds it is number ``num_attempts``.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),
        Index("ix_webhook_deliveries_pending", "expires_at", postgresql_where=text("state = 'pending'")),
        Index(None, "webhook_id", "id"),
        Index(None, "finished_at"),
    )

    id: Mapped[Id]
    project_id: Mapped[ProjectId]
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    event: Mapped[WebhookEvent]
    subject_id: Mapped[str]
    message: Mapped[dict[str, Any]]
    state: Mapped[DeliveryState]
    num_attempts: Mapped[int] = mapped_column(default=0)
    num_attempts_before: Mapped[int] = mapped_column(default=0)
    """Of them, those before it was asked for again by hand: its pauses begin anew."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    next_attempt_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class WebhookAttemptRow(Base):
    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[ProjectId]
    sent_at: Mapped[datetime]
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[str]
