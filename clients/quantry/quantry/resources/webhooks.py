# Made from quantry/aio/resources/webhooks.py by make_sync.py: change that file, and run this again.
"""Webhooks: what a project has told to its own services. An operator makes them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.jobs import JobType
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.webhooks import (
    DEFAULT_OVERLAP_S,
    DeliveryState,
    NewWebhook,
    SecretRotation,
    Webhook,
    WebhookChange,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookEvent,
    WebhookFormat,
    WebhookRequest,
)

_PATH = "/api/v1/webhooks"


class Webhooks:
    """``client.webhooks``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        url: str,
        events: Sequence[WebhookEvent | str],
        *,
        labels: str | None = None,
        types: Sequence[JobType | str] = (),
        format: WebhookFormat | str = WebhookFormat.JSON,
        is_active: bool = True,
    ) -> NewWebhook:
        """Makes a webhook and returns it with its secret, which is never shown again.

        ``labels`` and ``types`` narrow it to jobs that have them. Raises pydantic.ValidationError for what cannot be.
        """
        request = WebhookRequest.model_validate(
            {
                "name": name,
                "url": url,
                "events": list(events),
                "labels": labels,
                "types": list(types),
                "format": format,
                "is_active": is_active,
            }
        )
        return self._transport.post(NewWebhook, _PATH, request)

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Webhook]:
        """Returns one page of webhooks, newest first."""
        return self._transport.get(Page[Webhook], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[Webhook, None, None]:
        """Yields every webhook, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def get(self, webhook_id: str) -> Webhook:
        """Returns a webhook, and whether its deliveries fail."""
        return self._transport.get(Webhook, self._at(webhook_id))

    def change(self, webhook_id: str, **changes: Any) -> Webhook:
        """Returns the webhook after changing what is given: name, url, events, labels, types, format, is_active.

        Raises pydantic.ValidationError for a field or value that cannot be.
        """
        return self._transport.patch(Webhook, self._at(webhook_id), WebhookChange(**changes))

    def pause(self, webhook_id: str) -> Webhook:
        """Returns the webhook, which is told nothing until it is resumed."""
        return self.change(webhook_id, is_active=False)

    def resume(self, webhook_id: str) -> Webhook:
        """Returns the webhook, which gets what waited for it and is not too old; one that was disabled too."""
        return self.change(webhook_id, is_active=True)

    def delete(self, webhook_id: str) -> None:
        """Deletes a webhook; what was not delivered is not sent any more."""
        self._transport.delete(self._at(webhook_id))

    def rotate_secret(self, webhook_id: str, *, overlap_s: int = DEFAULT_OVERLAP_S) -> NewWebhook:
        """Returns the webhook with a new secret; for ``overlap_s`` seconds messages carry a signature by the old one too."""
        return self._transport.post(NewWebhook, f"{self._at(webhook_id)}/rotate-secret", SecretRotation(overlap_s=overlap_s))

    def test(self, webhook_id: str) -> WebhookDeliveryDetail:
        """Sends a test message and returns it; ask for it again to see what came of it."""
        return self._transport.post(WebhookDeliveryDetail, f"{self._at(webhook_id)}/test")

    def deliveries(
        self, webhook_id: str, *, state: DeliveryState | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[WebhookDelivery]:
        """Returns one page of the messages to a webhook, newest first."""
        parameters = {"state": state, "after": after, "limit": limit}
        return self._transport.get(Page[WebhookDelivery], f"{self._at(webhook_id)}/deliveries", parameters)

    def iterate_deliveries(
        self, webhook_id: str, *, state: DeliveryState | None = None, max_items: int | None = None
    ) -> Generator[WebhookDelivery, None, None]:
        """Yields every message to a webhook, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.deliveries(webhook_id, state=state, after=after, limit=limit), max_items)

    def delivery(self, webhook_id: str, delivery_id: str) -> WebhookDeliveryDetail:
        """Returns a message with each attempt to send it."""
        return self._transport.get(WebhookDeliveryDetail, self._delivery_at(webhook_id, delivery_id))

    def redeliver(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Returns a message that is sent again, under the same id."""
        return self._transport.post(WebhookDelivery, f"{self._delivery_at(webhook_id, delivery_id)}/redeliver")

    def _at(self, webhook_id: str) -> str:
        return f"{_PATH}/{path_part(webhook_id)}"

    def _delivery_at(self, webhook_id: str, delivery_id: str) -> str:
        return f"{self._at(webhook_id)}/deliveries/{path_part(delivery_id)}"
