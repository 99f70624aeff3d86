"""The outbox of webhooks: a message is a row of the transaction that it tells of, one for each webhook that asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import JobType
from quantry_core.webhook_retries import GIVE_UP_AFTER_S
from quantry_core.webhooks import DeliveryState, WebhookEvent, labels_match, told_as
from quantry_store.repositories.webhooks import events_of, types_of
from quantry_store.tables import DeploymentRow, WebhookDeliveryRow, WebhookRow


@dataclass(frozen=True)
class Telling:
    """Something that happened, before anybody looked who wants to know."""

    project_id: str
    event: WebhookEvent
    subject_id: str
    data: dict[str, Any]
    job_type: JobType | None = None
    """Of the job that it is about; None where it is about none."""
    labels: dict[str, str] = field(default_factory=dict)


class OutboxRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def tell(self, tellings: Sequence[Telling]) -> int:
        """Returns how many messages were written: for each active webhook of the project that asked for what happened.

        A webhook that is made, changed or deleted meanwhile is asked as it was; none is locked.
        """
        if not tellings:
            return 0
        projects = {telling.project_id for telling in tellings}
        statement = select(WebhookRow, func.now()).where(
            WebhookRow.project_id.in_(projects), WebhookRow.is_active, WebhookRow.deleted_at.is_(None)
        )
        rows = (await self._session.execute(statement.order_by(WebhookRow.id))).all()
        drafts = [draft for telling in tellings for row, now in rows if (draft := _draft(telling, row, now)) is not None]
        if drafts:
            await self._session.execute(insert(WebhookDeliveryRow), drafts)
        return len(drafts)

    async def listens(self, project_id: str) -> bool:
        """Tells whether a project has an active webhook, so that nobody gathers what none is told."""
        statement = select(WebhookRow.id).where(WebhookRow.project_id == project_id, WebhookRow.is_active, WebhookRow.deleted_at.is_(None))
        return (await self._session.scalars(statement.limit(1))).one_or_none() is not None

    async def deployment_name(self, deployment_id: str) -> str:
        """Returns the name of a deployment."""
        return (await self._session.scalars(select(DeploymentRow.name).where(DeploymentRow.id == deployment_id))).one()

    async def ping(self, row: WebhookRow, data: dict[str, Any]) -> str:
        """Returns the id of a test message to one webhook, active or not."""
        now = (await self._session.execute(select(func.now()))).scalar_one()
        draft = _values(row, WebhookEvent.PING, row.id, data, now)
        await self._session.execute(insert(WebhookDeliveryRow), [draft])
        return str(draft["id"])


def _draft(telling: Telling, row: WebhookRow, now: Any) -> dict[str, Any] | None:
    """Returns the columns of a message; None where the webhook did not ask for it."""
    event = told_as(telling.event, events_of(row))
    types = types_of(row)
    if row.project_id != telling.project_id or event is None:
        return None
    if row.types and telling.job_type not in types:
        return None
    if row.labels is not None and not labels_match(row.labels, telling.labels):
        return None
    return _values(row, event, telling.subject_id, telling.data, now)


def _values(row: WebhookRow, event: WebhookEvent, subject_id: str, data: dict[str, Any], now: Any) -> dict[str, Any]:
    told = {name: value for name, value in data.items() if value is not None}
    return {
        "id": new_id(IdPrefix.DELIVERY),
        "project_id": row.project_id,
        "webhook_id": row.id,
        "event": event,
        "subject_id": subject_id,
        "message": {"type": event, "timestamp": now.isoformat(), "data": told},
        "state": DeliveryState.PENDING,
        "num_attempts": 0,
        "num_attempts_before": 0,
        "next_attempt_at": now,
        "expires_at": now + timedelta(seconds=GIVE_UP_AFTER_S),
    }
