"""Webhooks as people make and change them, and the messages as the sender claims and settles them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from quantry_core.errors import Conflict
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.webhook_retries import GONE
from quantry_core.webhook_signatures import new_secret
from quantry_core.webhooks import (
    NewWebhook,
    SecretRotation,
    Webhook,
    WebhookAttempt,
    WebhookChange,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookEvent,
    WebhookFormat,
    WebhookRequest,
    shown_url,
)
from quantry_store.repositories.webhooks import to_webhook
from quantry_store.tables import WebhookDeliveryRow, WebhookRow
from quantry_store.unit_of_work import UnitOfWork
from quantry_store.webhook_cipher import WebhookCipher


@dataclass(frozen=True)
class ClaimedDelivery:
    """A message that one attempt holds, with all that is needed to send it."""

    row: WebhookDeliveryRow
    webhook: WebhookRow

    @property
    def number(self) -> int:
        """Of the attempt."""
        return self.row.num_attempts

    @property
    def num_since_asked(self) -> int:
        """Attempts since the message was written, or asked for again; 1 is the first."""
        return self.row.num_attempts - self.row.num_attempts_before


async def create_webhook(uow: UnitOfWork, identity: Identity, request: WebhookRequest, cipher: WebhookCipher) -> NewWebhook:
    """Returns a new webhook with its secret; the address has been checked. Raises Conflict."""
    webhook_id, secret = new_id(IdPrefix.WEBHOOK), new_secret()
    webhook = await uow.webhooks.add(
        id=webhook_id,
        project_id=identity.project_id,
        name=request.name,
        url=cipher.encrypt(webhook_id, request.url),
        shown_url=shown_url(request.url, request.format),
        events=list(request.events),
        labels=request.labels,
        types=list(request.types),
        format=request.format,
        is_active=request.is_active,
        secret=cipher.encrypt(webhook_id, secret),
    )
    facts = webhook.model_dump(mode="json", include={"name", "url", "events", "labels", "types", "format", "is_active"})
    await uow.audit.record(identity, "webhook.create", "webhook", webhook.id, facts)
    return NewWebhook(webhook=webhook, secret=secret)


async def change_webhook(uow: UnitOfWork, identity: Identity, webhook_id: str, change: WebhookChange, cipher: WebhookCipher) -> Webhook:
    """Returns the webhook as changed; another address has been checked. Raises UnknownWebhook, Conflict where another has the name.

    Pending messages of one that is made inactive wait; active again, they are sent, as far as their time is not over.
    """
    row = await uow.webhooks.lock(identity.project_id, webhook_id)
    given = change.model_dump(exclude_unset=True)
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None or name == "labels"}
    facts = change.model_dump(mode="json", exclude_unset=True, exclude={"url"})
    format = values.get("format", row.format)
    # An address that was a secret as a whole stays one until it is given again: going back to json must not show its path.
    if "url" in values or (format is WebhookFormat.SLACK and row.format is not format):
        url = values.get("url") or cipher.decrypt(row.id, row.url)
        if url is None:
            raise Conflict("the webhook's address cannot be decrypted any more; give it again")
        values |= {"url": cipher.encrypt(row.id, url), "shown_url": shown_url(url, format)}
        facts["url"] = values["shown_url"]
    for name in ("events", "types"):
        if name in values:
            values[name] = [str(item) for item in values[name]]
    if values.get("is_active") is True:
        values |= {"disabled_reason": None, "failing_since": None}
        await uow.deliveries.resume(row.id)
    elif values.get("is_active") is False:
        await uow.deliveries.rest(row.id)
    webhook = await uow.webhooks.change(row, **values)
    await uow.audit.record(identity, "webhook.change", "webhook", webhook.id, facts)
    return webhook


async def rotate_webhook_secret(
    uow: UnitOfWork, identity: Identity, webhook_id: str, rotation: SecretRotation, cipher: WebhookCipher
) -> NewWebhook:
    """Returns the webhook with a new secret. For ``overlap_s`` messages carry a signature by each; a secret before those is gone at
    once. Raises UnknownWebhook."""
    row = await uow.webhooks.lock(identity.project_id, webhook_id)
    secret = new_secret()
    until = await uow.now() + timedelta(seconds=rotation.overlap_s) if rotation.overlap_s else None
    webhook = await uow.webhooks.change(
        row, secret=cipher.encrypt(row.id, secret), old_secret=row.secret if until else None, old_secret_until=until
    )
    await uow.audit.record(identity, "webhook.rotate_secret", "webhook", webhook.id, rotation.model_dump(mode="json"))
    return NewWebhook(webhook=webhook, secret=secret)


async def delete_webhook(uow: UnitOfWork, identity: Identity, webhook_id: str) -> None:
    """Deletes a webhook with its secrets and its address; what was not delivered is not sent any more. Raises UnknownWebhook."""
    row = await uow.webhooks.lock(identity.project_id, webhook_id)
    name = row.name
    await uow.deliveries.drop(row.id)
    await uow.webhooks.change(row, deleted_at=await uow.now(), is_active=False, url=b"", secret=b"", old_secret=None, old_secret_until=None)
    await uow.audit.record(identity, "webhook.delete", "webhook", webhook_id, {"name": name})


async def ping_webhook(uow: UnitOfWork, identity: Identity, webhook_id: str) -> WebhookDeliveryDetail:
    """Returns a test message, which the sender sends next, whether the webhook is active or not. Raises UnknownWebhook."""
    row = await uow.webhooks.lock(identity.project_id, webhook_id)
    data = {"webhook_id": row.id, "name": row.name, "path": f"/api/v1/webhooks/{row.id}"}
    delivery_id = await uow.outbox.ping(row, data)
    await uow.audit.record(identity, "webhook.test", "webhook", row.id, {"delivery_id": delivery_id})
    return await uow.deliveries.get(identity.project_id, row.id, delivery_id)


async def redeliver_webhook(uow: UnitOfWork, identity: Identity, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Returns a message that was over, to be sent again. Raises UnknownWebhook, NotFound, Conflict while it is under way."""
    await uow.webhooks.get(identity.project_id, webhook_id)
    delivery = await uow.deliveries.redeliver(identity.project_id, webhook_id, delivery_id)
    await uow.audit.record(identity, "webhook.redeliver", "webhook", webhook_id, {"delivery_id": delivery_id})
    return delivery


async def claim_deliveries(
    uow: UnitOfWork, *, lease_s: float, limit: int, limit_each: int, limit_project: int, busy: list[str]
) -> list[ClaimedDelivery]:
    """Returns messages to send now, each held by one attempt; those of webhooks that are not active any more are held back."""
    rows = await uow.deliveries.claim(lease_s=lease_s, limit=limit, limit_each=limit_each, limit_project=limit_project, busy=busy)
    webhooks = await uow.webhooks.rows(sorted({row.webhook_id for row in rows}))
    claimed = []
    for row in rows:
        webhook = webhooks.get(row.webhook_id)
        if webhook is not None and (webhook.is_active or row.event is WebhookEvent.PING):
            claimed.append(ClaimedDelivery(row, webhook))
        else:
            await uow.deliveries.hold_back(row.id, row.num_attempts)
    return claimed


async def settle_delivery(
    uow: UnitOfWork, claimed: ClaimedDelivery, attempt: WebhookAttempt, *, pause_s: float, disable_after_s: float
) -> Webhook | None:
    """Writes down what became of an attempt, and returns the webhook where this disabled it.

    One is disabled that said 410 Gone, and one of which no delivery succeeded for ``disable_after_s`` seconds. A test by hand
    says nothing about that. An attempt that does not hold its message any more writes nothing but its line in the log.
    """
    row, is_taken = claimed.row, attempt.error is None
    is_test = row.event is WebhookEvent.PING
    webhook = None if is_taken or is_test else await uow.webhooks.lock_any(row.webhook_id)
    await uow.deliveries.log(row, attempt)
    state = await uow.deliveries.settle(
        row.id, attempt.number, is_taken=is_taken, pause_s=pause_s, status=attempt.status, error=attempt.error
    )
    if state is None:
        return None
    if is_taken:
        await uow.webhooks.note_delivered(row.webhook_id)
        return None
    if webhook is None:
        return None
    return await _note_failure(uow, webhook, attempt, disable_after_s)


async def give_up_deliveries(uow: UnitOfWork, *, limit: int) -> int:
    """Returns how many messages were given up whose time is over, in a bounded batch: call it again until it is 0."""
    return await uow.deliveries.expire(limit=limit)


async def _note_failure(uow: UnitOfWork, webhook: WebhookRow, attempt: WebhookAttempt, disable_after_s: float) -> Webhook | None:
    now = await uow.now()
    since = webhook.failing_since or now
    is_gone = attempt.status == GONE
    if not webhook.is_active or not (is_gone or (now - since).total_seconds() >= disable_after_s):
        if webhook.failing_since is None:
            await uow.webhooks.change(webhook, failing_since=since)
        return None
    reason = (
        f"it answered {GONE}: it wants no more"
        if is_gone
        else f"no delivery has succeeded since {since:%Y-%m-%d %H:%M} UTC; the last: {attempt.error}"
    )
    await uow.webhooks.change(webhook, is_active=False, disabled_reason=reason, failing_since=since)
    await uow.deliveries.rest(webhook.id)
    facts = {"name": webhook.name, "reason": reason}
    await uow.audit.record(None, "webhook.disable", "webhook", webhook.id, facts, project_id=webhook.project_id)
    return to_webhook(webhook)
