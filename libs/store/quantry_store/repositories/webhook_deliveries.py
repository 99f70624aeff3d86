"""Messages of webhooks on their way: claimed by attempt, settled by the attempt that holds them, listed, sent again, forgotten."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, NotFound
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.webhook_retries import GIVE_UP_AFTER_S
from quantry_core.webhooks import (
    MAX_ANSWER_CHARS,
    DeliveryState,
    WebhookAttempt,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookEvent,
)
from quantry_store.repositories.paging import load_page
from quantry_store.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookRow

MAX_ATTEMPTS_SHOWN = 50
MAX_LOOKED_AT = 500
"""Of what is due, in one claim: the oldest."""


class DeliveryRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claim(
        self, *, lease_s: float, limit: int, limit_each: int, limit_project: int, busy: Collection[str] = ()
    ) -> builtins.list[WebhookDeliveryRow]:
        """Returns messages that are due, each with one attempt more and nobody else's for ``lease_s`` seconds; for this package only.

        At most ``limit_each`` of one webhook and ``limit_project`` of one project, and none of the webhooks and projects in ``busy``:
        one that is slow holds up no other. An attempt that never ends, for its sender was killed, is followed by the next once its
        lease is over.
        """
        due = _is_due()
        row, not_now = WebhookDeliveryRow, list(busy)
        oldest = (
            select(row.id, row.webhook_id, row.project_id, row.next_attempt_at)
            .where(due, row.webhook_id.not_in(not_now), row.project_id.not_in(not_now))
            .order_by(row.next_attempt_at)
            .limit(MAX_LOOKED_AT)
            .subquery()
        )
        place = func.row_number().over(partition_by=oldest.c.webhook_id, order_by=oldest.c.next_attempt_at)
        placed = select(oldest.c.id, oldest.c.project_id, oldest.c.next_attempt_at, place.label("place")).subquery()
        place_in_project = func.row_number().over(partition_by=placed.c.project_id, order_by=placed.c.next_attempt_at).label("place")
        shared = select(placed.c.id, placed.c.next_attempt_at, place_in_project).where(placed.c.place <= limit_each).subquery()
        fair = select(shared.c.id).where(shared.c.place <= limit_project).order_by(shared.c.next_attempt_at).limit(limit)
        # Looked at again under the lock: another sender may have claimed it since.
        locked = select(WebhookDeliveryRow.id).where(WebhookDeliveryRow.id.in_(fair), due).with_for_update(skip_locked=True)
        claimed = await self._session.scalars(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id.in_(locked))
            .values(num_attempts=WebhookDeliveryRow.num_attempts + 1, next_attempt_at=func.now() + timedelta(seconds=lease_s))
            .returning(WebhookDeliveryRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        return sorted(claimed.all(), key=lambda row: row.id)

    async def settle(
        self, delivery_id: str, number: int, *, is_taken: bool, pause_s: float, status: int | None, error: str | None
    ) -> DeliveryState | None:
        """Returns where a message is after attempt ``number``; None where that does not hold it any more: nothing was written.

        Where it was not taken it is sent again after ``pause_s`` seconds, or is over where its time would be by then.
        """
        next_at = func.now() + timedelta(seconds=pause_s)
        is_over = next_at > WebhookDeliveryRow.expires_at
        if is_taken:
            values: dict[str, Any] = {"state": DeliveryState.DELIVERED, "next_attempt_at": None, "finished_at": func.now()}
        else:
            values = {
                "state": case((is_over, DeliveryState.FAILED), else_=DeliveryState.PENDING),
                "next_attempt_at": case((is_over, None), else_=next_at),
                "finished_at": case((is_over, func.now()), else_=None),
            }
        settled = await self._session.scalars(
            update(WebhookDeliveryRow)
            .where(_held(delivery_id, number))
            .values(**values, last_status=status, last_error=error)
            .returning(WebhookDeliveryRow.state)
            .execution_options(synchronize_session=False)
        )
        return settled.one_or_none()

    async def hold_back(self, delivery_id: str, number: int) -> None:
        """Takes an attempt back that was not made, for the webhook is not active: the message waits until it is."""
        await self._session.execute(
            update(WebhookDeliveryRow)
            .where(_held(delivery_id, number))
            .values(num_attempts=WebhookDeliveryRow.num_attempts - 1, next_attempt_at=None)
            .execution_options(synchronize_session=False)
        )

    async def log(self, delivery: WebhookDeliveryRow, attempt: WebhookAttempt) -> None:
        """Notes one attempt of a message."""
        values = attempt.model_dump() | {"delivery_id": delivery.id, "project_id": delivery.project_id}
        values["answer"] = attempt.answer[:MAX_ANSWER_CHARS]
        await self._session.execute(insert(WebhookAttemptRow).values(values).on_conflict_do_nothing())

    async def rest(self, webhook_id: str) -> None:
        """Has the pending messages of a webhook wait until it is active again; tests by hand are sent all the same."""
        await self._of_pending(webhook_id, WebhookDeliveryRow.event != WebhookEvent.PING, next_attempt_at=None)

    async def resume(self, webhook_id: str) -> None:
        """Has the pending messages of a webhook sent again, from now on."""
        await self._of_pending(webhook_id, WebhookDeliveryRow.next_attempt_at.is_(None), next_attempt_at=func.now())

    async def drop(self, webhook_id: str) -> None:
        """Ends the pending messages of a webhook that is deleted."""
        await self._of_pending(webhook_id, state=DeliveryState.DROPPED, next_attempt_at=None, finished_at=func.now())

    async def redeliver(self, project_id: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Returns a message that is to be sent again now, for as long as a new one; raises NotFound, Conflict while it is pending.

        It keeps its id, so that a receiver which has it knows it again.
        """
        moved = await self._session.scalars(
            update(WebhookDeliveryRow)
            .where(*_mine(project_id, webhook_id, delivery_id), WebhookDeliveryRow.state != DeliveryState.PENDING)
            .values(
                state=DeliveryState.PENDING,
                num_attempts_before=WebhookDeliveryRow.num_attempts,
                next_attempt_at=func.now(),
                expires_at=func.now() + timedelta(seconds=GIVE_UP_AFTER_S),
                finished_at=None,
            )
            .returning(WebhookDeliveryRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        row = moved.one_or_none()
        if row is None:
            await self.get(project_id, webhook_id, delivery_id)
            raise Conflict(f"delivery {delivery_id} is under way: it is sent again without being asked for")
        return _delivery(row)

    async def get(self, project_id: str, webhook_id: str, delivery_id: str) -> WebhookDeliveryDetail:
        """Returns a message with its last attempts; raises NotFound."""
        statement = select(WebhookDeliveryRow).where(*_mine(project_id, webhook_id, delivery_id))
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise NotFound(f"webhook {webhook_id} has no delivery {delivery_id!r}")
        attempts = await self._session.scalars(
            select(WebhookAttemptRow)
            .where(WebhookAttemptRow.delivery_id == delivery_id)
            .order_by(WebhookAttemptRow.number.desc())
            .limit(MAX_ATTEMPTS_SHOWN)
        )
        return WebhookDeliveryDetail(
            **_delivery(row).model_dump(), message=row.message, attempts=[_attempt(attempt) for attempt in attempts]
        )

    async def list(
        self, project_id: str, webhook_id: str, *, state: DeliveryState | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[WebhookDelivery]:
        """Returns a page of a webhook's messages, newest first, of one state where it is given."""
        statement = select(WebhookDeliveryRow).where(
            WebhookDeliveryRow.webhook_id == webhook_id, WebhookDeliveryRow.project_id == project_id
        )
        if state is not None:
            statement = statement.where(WebhookDeliveryRow.state == state)
        return await load_page(self._session, statement, WebhookDeliveryRow.id, lambda row: _delivery(row[0]), after=after, limit=limit)

    async def expire(self, *, limit: int) -> int:
        """Returns how many messages were given up whose time is over while nobody tried: their webhook is not active."""
        late = (
            select(WebhookDeliveryRow.id)
            .where(WebhookDeliveryRow.state == DeliveryState.PENDING, WebhookDeliveryRow.expires_at < func.now())
            .where(func.coalesce(WebhookDeliveryRow.next_attempt_at <= func.now(), True))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        given_up = await self._session.scalars(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.id.in_(late))
            .values(state=DeliveryState.FAILED, next_attempt_at=None, finished_at=func.now())
            .returning(WebhookDeliveryRow.id)
            .execution_options(synchronize_session=False)
        )
        return len(given_up.all())

    async def _of_pending(self, webhook_id: str, *which: ColumnElement[bool], **values: Any) -> None:
        await self._session.execute(
            update(WebhookDeliveryRow)
            .where(WebhookDeliveryRow.webhook_id == webhook_id, WebhookDeliveryRow.state == DeliveryState.PENDING, *which)
            .values(**values)
            .execution_options(synchronize_session=False)
        )


def _is_due() -> ColumnElement[bool]:
    return and_(
        WebhookDeliveryRow.state == DeliveryState.PENDING,
        WebhookDeliveryRow.next_attempt_at <= func.now(),
        WebhookDeliveryRow.expires_at > func.now(),
    )


def _held(delivery_id: str, number: int) -> ColumnElement[bool]:
    return and_(
        WebhookDeliveryRow.id == delivery_id,
        WebhookDeliveryRow.num_attempts == number,
        WebhookDeliveryRow.state == DeliveryState.PENDING,
    )


def _mine(project_id: str, webhook_id: str, delivery_id: str) -> tuple[ColumnElement[bool], ...]:
    living = select(WebhookRow.id).where(WebhookRow.id == webhook_id, WebhookRow.project_id == project_id, WebhookRow.deleted_at.is_(None))
    return (
        WebhookDeliveryRow.id == delivery_id,
        WebhookDeliveryRow.project_id == project_id,
        WebhookDeliveryRow.webhook_id.in_(living),
    )


def _delivery(row: WebhookDeliveryRow) -> WebhookDelivery:
    return WebhookDelivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event=row.event,
        subject_id=row.subject_id,
        state=row.state,
        num_attempts=row.num_attempts,
        last_status=row.last_status,
        last_error=row.last_error,
        next_attempt_at=row.next_attempt_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _attempt(row: WebhookAttemptRow) -> WebhookAttempt:
    return WebhookAttempt(
        number=row.number, sent_at=row.sent_at, duration_ms=row.duration_ms, status=row.status, error=row.error, answer=row.answer
    )
