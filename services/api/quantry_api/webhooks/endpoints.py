"""/api/v1/webhooks"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from quantry_api.state import State
from quantry_core.errors import Conflict, NotFound, UnknownWebhook
from quantry_core.ids import IdPrefix, is_id
from quantry_core.outbound import OutboundRules
from quantry_core.pages import Page
from quantry_core.webhooks import (
    DeliveryState,
    NewWebhook,
    SecretRotation,
    Webhook,
    WebhookChange,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookRequest,
)
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions
from quantry_store.webhook_cipher import KEYS_VARIABLE, WebhookCipher

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])


async def webhook_id_in_path(webhook_id: str) -> str:
    """Returns the id in the address; raises UnknownWebhook if it has not even the form of one."""
    if not is_id(webhook_id, IdPrefix.WEBHOOK):
        raise UnknownWebhook(f"there is no webhook {webhook_id!r}")
    return webhook_id


async def delivery_id_in_path(delivery_id: str) -> str:
    """Returns the id in the address; raises NotFound if it has not even the form of one."""
    if not is_id(delivery_id, IdPrefix.DELIVERY):
        raise NotFound(f"there is no delivery {delivery_id!r}")
    return delivery_id


async def cipher_of(state: State) -> WebhookCipher:
    """Returns what webhooks' secrets are kept with; raises Conflict where an installation has no key for it."""
    if state.webhook_cipher is None:
        raise Conflict(f"this installation keeps no secrets of webhooks, and so has none: {KEYS_VARIABLE} is not set")
    return state.webhook_cipher


async def rules_of(state: State) -> OutboundRules:
    """Returns where messages may be sent."""
    return state.outbound_rules


WebhookId = Annotated[str, Depends(webhook_id_in_path)]
DeliveryId = Annotated[str, Depends(delivery_id_in_path)]
Cipher = Annotated[WebhookCipher, Depends(cipher_of)]
Rules = Annotated[OutboundRules, Depends(rules_of)]


@router.post("", status_code=201, responses=problem_responses(409, 413))
async def create_webhook(request: WebhookRequest, caller: Caller, db: Db, cipher: Cipher, rules: Rules) -> NewWebhook:
    """Makes a webhook and shows its secret this once. Where its host leads is looked up each time that something is sent."""
    rules.check_url(request.url)
    async with db.begin() as uow:
        return await transactions.create_webhook(uow, caller, request, cipher)


@router.get("")
async def list_webhooks(caller: Caller, db: Db, page: PageParams) -> Page[Webhook]:
    """Lists webhooks, newest first."""
    async with db.begin() as uow:
        return await uow.webhooks.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{webhook_id}", responses=problem_responses(404))
async def show_webhook(webhook_id: WebhookId, caller: Caller, db: Db) -> Webhook:
    """Shows a webhook, and whether its deliveries fail."""
    async with db.begin() as uow:
        return await uow.webhooks.get(caller.project_id, webhook_id)


@router.patch("/{webhook_id}", responses=problem_responses(404, 409, 413))
async def change_webhook(*, webhook_id: WebhookId, change: WebhookChange, caller: Caller, db: Db, cipher: Cipher, rules: Rules) -> Webhook:
    """Changes what is given. Made active again, a webhook that was disabled gets what waited for it and is not too old."""
    if change.url is not None:
        rules.check_url(change.url)
    async with db.begin() as uow:
        return await transactions.change_webhook(uow, caller, webhook_id, change, cipher)


@router.delete("/{webhook_id}", status_code=204, responses=problem_responses(404))
async def delete_webhook(webhook_id: WebhookId, caller: Caller, db: Db) -> None:
    """Deletes a webhook with its secrets. What was not delivered is not sent any more."""
    async with db.begin() as uow:
        await transactions.delete_webhook(uow, caller, webhook_id)


@router.post("/{webhook_id}/rotate-secret", responses=problem_responses(404, 409, 413))
async def rotate_webhook_secret(webhook_id: WebhookId, rotation: SecretRotation, caller: Caller, db: Db, cipher: Cipher) -> NewWebhook:
    """Gives a webhook a new secret and shows it this once. For overlap_s seconds messages carry a signature by the old one too."""
    async with db.begin() as uow:
        return await transactions.rotate_webhook_secret(uow, caller, webhook_id, rotation, cipher)


@router.post("/{webhook_id}/test", status_code=201, responses=problem_responses(404, 409))
async def ping_webhook(webhook_id: WebhookId, caller: Caller, db: Db, _sending: Cipher) -> WebhookDeliveryDetail:
    """Sends a message of type ping, whether the webhook is active or not. What came of it is seen by asking for the delivery."""
    async with db.begin() as uow:
        return await transactions.ping_webhook(uow, caller, webhook_id)


@router.get("/{webhook_id}/deliveries", responses=problem_responses(404))
async def list_deliveries(
    webhook_id: WebhookId,
    caller: Caller,
    db: Db,
    page: PageParams,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
) -> Page[WebhookDelivery]:
    """Lists the messages to a webhook, newest first."""
    async with db.begin() as uow:
        await uow.webhooks.get(caller.project_id, webhook_id)
        return await uow.deliveries.list(caller.project_id, webhook_id, state=state, after=page.after, limit=page.limit)


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=problem_responses(404))
async def show_delivery(webhook_id: WebhookId, delivery_id: DeliveryId, caller: Caller, db: Db) -> WebhookDeliveryDetail:
    """Shows a message, and each attempt to send it with the beginning of the answer."""
    async with db.begin() as uow:
        return await uow.deliveries.get(caller.project_id, webhook_id, delivery_id)


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver", responses=problem_responses(404, 409))
async def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, caller: Caller, db: Db) -> WebhookDelivery:
    """Sends a message again that was delivered or given up. It keeps its webhook-id."""
    async with db.begin() as uow:
        return await transactions.redeliver_webhook(uow, caller, webhook_id, delivery_id)
