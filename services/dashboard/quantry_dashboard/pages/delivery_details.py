"""One message to a webhook: what it says, and what became of each attempt to send it."""

from __future__ import annotations

import json
from collections.abc import Callable

from quantry_core.webhooks import DeliveryState, WebhookDeliveryDetail
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.confirmed import plain_button
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table
from quantry_dashboard.pages.parts import copyable
from quantry_dashboard.sessions import Session
from quantry_dashboard.webhook_facts import ATTEMPT_HEADINGS, DELIVERY_CLASSES, attempt_texts


class DeliveryDetails:
    """A panel that shows the message that was opened, and follows it while it is under way."""

    def __init__(
        self, session: Session, frame: Frame, webhook_id: str, opened: str | None, note_opened: Callable[[str | None], None]
    ) -> None:
        """``opened``: the message that is open at first; ``note_opened`` is told which one is."""
        self._session = session
        self._frame = frame
        self._webhook_id = webhook_id
        self._opened = opened
        self._note_opened = note_opened
        self._shown: WebhookDeliveryDetail | None = None
        self._root = Node("section", classes="panel", aria_label="Message", hidden="hidden", tabindex="-1")

    async def open(self, delivery_id: str) -> None:
        """Shows a message, and goes to it."""
        self._opened = delivery_id
        self._note_opened(delivery_id)
        await self._frame.attempt(self._read)
        self._root.client.run_javascript(f"setTimeout(() => getHtmlElement({self._root.id})?.focus(), 20)")

    async def refresh(self) -> None:
        """Reads the message that is open again, while something may still become of it."""
        if self._opened is not None and (self._shown is None or self._shown.state is DeliveryState.PENDING):
            await self._read()

    async def _read(self) -> None:
        delivery_id = self._opened
        if delivery_id is None:
            return
        detail = await ask(self._session, lambda client: client.webhooks.delivery(self._webhook_id, delivery_id))
        if delivery_id == self._opened and detail != self._shown:
            self._shown = detail
            self._draw(detail)

    def _draw(self, detail: WebhookDeliveryDetail) -> None:
        self._root.clear()
        self._root.show_if(True)
        with self._root:
            with Node("div", classes="heading"):
                Node("h2", f"Message of {detail.event}")
                Node("span", detail.state, classes=DELIVERY_CLASSES[detail.state])
                with Node("div", classes="actions"):
                    plain_button("Close", "quiet", label="Close this message").on("click", self._close)
            copyable(detail.id)
            if detail.attempts:
                rows = [attempt_texts(attempt) for attempt in detail.attempts]
                add_table("Attempts", ATTEMPT_HEADINGS, (TableRow(row[0], row[1:]) for row in rows), WORDS)
            else:
                Node("p", "It was not sent yet.", classes="dim")
            with Node("details"):
                Node("summary", "What it says")
                Node("pre", json.dumps(detail.message, indent=1, ensure_ascii=False), classes="command", tabindex="0")

    def _close(self) -> None:
        self._opened = self._shown = None
        self._root.show_if(False)
        self._note_opened(None)
