"""Webhooks: made, listed, changed, disabled, deleted. Addresses and secrets come and go encrypted."""

from __future__ import annotations

import builtins
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, UnknownWebhook
from quantry_core.jobs import JobType
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.webhooks import MAX_WEBHOOKS, SUBSCRIBABLE, Webhook, WebhookEvent
from quantry_store.repositories.paging import load_page
from quantry_store.tables import ProjectRow, WebhookRow

DELIVERED_STEP = timedelta(minutes=1)
"""How exactly it is kept when a webhook last got something: its row is not written for each of a thousand messages."""


class WebhookRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, **values: Any) -> Webhook:
        """Returns a new webhook of these columns; raises Conflict where the project has one of its name, or too many."""
        # Of two at once both would count one too few.
        await self._session.execute(select(ProjectRow.id).where(ProjectRow.id == values["project_id"]).with_for_update(key_share=True))
        mine = (WebhookRow.project_id == values["project_id"], WebhookRow.deleted_at.is_(None))
        num_webhooks = (await self._session.execute(select(func.count()).select_from(WebhookRow).where(*mine))).scalar_one()
        if num_webhooks >= MAX_WEBHOOKS:
            raise Conflict(f"a project has at most {MAX_WEBHOOKS} webhooks; delete one first")
        row = WebhookRow(**values)
        await self._flushed(row)
        await self._session.refresh(row)
        return to_webhook(row)

    async def get(self, project_id: str, webhook_id: str) -> Webhook:
        """Returns a webhook; raises UnknownWebhook."""
        return to_webhook(await self._row(_in_project(project_id, webhook_id), webhook_id))

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Webhook]:
        """Returns a page of a project's webhooks, newest first."""
        statement = select(WebhookRow).where(WebhookRow.project_id == project_id, WebhookRow.deleted_at.is_(None))
        return await load_page(self._session, statement, WebhookRow.id, lambda row: to_webhook(row[0]), after=after, limit=limit)

    async def lock(self, project_id: str, webhook_id: str) -> WebhookRow:
        """Returns a webhook's row, locked until the transaction ends; for this package only. Raises UnknownWebhook."""
        return await self._row(_in_project(project_id, webhook_id).with_for_update(key_share=True), webhook_id)

    async def lock_any(self, webhook_id: str) -> WebhookRow | None:
        """Returns a webhook's row of whichever project, locked; None if it was deleted. For this package only."""
        statement = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.deleted_at.is_(None)).with_for_update(key_share=True)
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()

    async def rows(self, webhook_ids: builtins.list[str]) -> dict[str, WebhookRow]:
        """Returns rows by id, deleted ones left out; for this package only."""
        statement = select(WebhookRow).where(WebhookRow.id.in_(webhook_ids), WebhookRow.deleted_at.is_(None))
        found = await self._session.scalars(statement, execution_options={"populate_existing": True})
        return {row.id: row for row in found}

    async def change(self, row: WebhookRow, **values: Any) -> Webhook:
        """Returns the locked webhook with columns changed; raises Conflict where another has the name."""
        for name, value in values.items():
            setattr(row, name, value)
        await self._flushed(row)
        await self._session.refresh(row)
        return to_webhook(row)

    async def note_delivered(self, webhook_id: str) -> None:
        """Notes that a message was taken just now: whatever failed before is over."""
        is_news = WebhookRow.failing_since.is_not(None) | func.coalesce(WebhookRow.last_delivered_at < func.now() - DELIVERED_STEP, True)
        await self._session.execute(
            update(WebhookRow)
            .where(WebhookRow.id == webhook_id, is_news)
            .values(failing_since=None, last_delivered_at=func.now())
            .execution_options(synchronize_session=False)
        )

    async def _flushed(self, row: WebhookRow) -> None:
        name = row.name
        self._session.add(row)
        try:
            await self._session.flush()
        except IntegrityError as error:
            if "uq_webhooks_name" not in str(error.orig):
                raise
            raise Conflict(f"there is a webhook {name!r} already") from error

    async def _row(self, statement: Select[WebhookRow], webhook_id: str) -> WebhookRow:
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise UnknownWebhook(f"there is no webhook {webhook_id!r}")
        return row


def _in_project(project_id: str, webhook_id: str) -> Select[WebhookRow]:
    return select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.project_id == project_id, WebhookRow.deleted_at.is_(None))


def events_of(row: WebhookRow) -> list[WebhookEvent]:
    """Returns what a webhook asked for, as far as this release knows it."""
    return [event for event in SUBSCRIBABLE if event in row.events]


def types_of(row: WebhookRow) -> list[JobType]:
    """Returns the types of jobs that a webhook asked for, as far as this release knows them."""
    return [type for type in JobType if type in row.types]


def to_webhook(row: WebhookRow) -> Webhook:
    """Returns the webhook a row holds, as anybody may see it who may list them."""
    return Webhook(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        url=row.shown_url,
        events=events_of(row),
        labels=row.labels,
        types=types_of(row),
        format=row.format,
        is_active=row.is_active,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        last_delivered_at=row.last_delivered_at,
        old_secret_until=row.old_secret_until,
        created_at=row.created_at,
    )
