"""/admin/webhooks: what the project has told to its own services; new ones show their secret this once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request

from quantry_core.webhooks import SUBSCRIBABLE, Webhook, WebhookFormat
from quantry_dashboard import facts, words
from quantry_dashboard.administration import WEBHOOKS, used_text
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.admin_parts import add_admin_head
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, FieldKind, PageDialog, Shown
from quantry_dashboard.pages.listing import Listing, address_of, after_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.sessions import Session
from quantry_dashboard.webhook_facts import TYPES, asked_for_text, webhook_address, webhook_state

REFRESH_S = 5.0
ROWS = 25
COLUMNS = ("Webhook", "State", "Address", "Told", "Format", "Last delivered", "Made")
SECRET_ONCE = "The receiver checks signatures with this secret. Copy it now: nobody can show it again; rotating gives another."


def show(session: Session, request: Request) -> None:
    """Builds the page of webhooks that follow the one the address names."""
    WebhooksPage(session, after_of(request.query_params)).build()


class WebhooksPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after

    def build(self) -> None:
        """Builds the page; its webhooks come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Webhooks", address=address_of(WEBHOOKS, after=self._after))
        hindrance = facts.hindrance(self._session.identity)
        with self._frame.content:
            actions = add_admin_head(self._session, "Webhooks", WEBHOOKS)
            self._dialog = PageDialog(self._frame)
            with actions:
                create = plain_button("New webhook", "primary", hindrance=hindrance)
            if hindrance is None:
                create.on("click", self._ask_create)
            self._listing = Listing[Webhook](
                "Webhooks",
                COLUMNS,
                key=lambda webhook: webhook.id,
                make_row=_Row,
                address=lambda after: address_of(WEBHOOKS, after=after),
                after=self._after,
                empty=_empty,
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.webhooks.list(after=self._after, limit=ROWS)))

    def _ask_create(self) -> None:
        fields = (
            AskedField("name", "Name"),
            AskedField("url", "Address", hint="https, on a public host or one that an administrator has named"),
            AskedField("events", "Told of", kind=FieldKind.FLAGS, choices=SUBSCRIBABLE, chosen=("job.failed", "job.gate_failed")),
            AskedField("types", "Only of jobs of these types", kind=FieldKind.FLAGS, choices=TYPES, hint="none: of all"),
            AskedField("labels", "Only of jobs with these labels", hint="team=search,!draft; empty: of all"),
            AskedField(
                "format",
                "Format",
                WebhookFormat.JSON,
                "json is signed as Standard Webhooks; slack is a sentence for chat servers",
                FieldKind.CHOICE,
                tuple(WebhookFormat),
            ),
        )
        self._dialog.ask(Question("New webhook", "", confirm="Make it", keep="Cancel"), self._create, fields)

    async def _create(self, answers: Answers) -> Shown:
        name, url, labels = answers.text("name"), answers.text("url"), answers.text("labels") or None
        events, types, format = answers.chosen("events"), answers.chosen("types"), answers.text("format")
        made = await ask(self._session, lambda client: client.webhooks.create(name, url, events, labels=labels, types=types, format=format))
        await self._frame.look(self._refresh)
        return Shown(f"Webhook {made.webhook.name} is made", SECRET_ONCE, {"Secret": made.secret})


class _Row:
    """One webhook."""

    def __init__(self, webhook: Webhook) -> None:
        with Node("tr", role="row") as self.root:
            with cell("Webhook"):
                self._name = link(webhook.name, webhook_address(webhook.id), classes="name", title=webhook.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            with cell("Address", classes="about"):
                self._url = Node("span", classes="cut")
            with cell("Told", classes="about"):
                self._told = Node("span", classes="cut")
            self._format = cell("Format")
            self._delivered = cell("Last delivered")
            with cell("Made"):
                self._made = Node("time", datetime=webhook.created_at.isoformat(), title=words.moment_text(webhook.created_at))

    def show(self, webhook: Webhook, now: datetime) -> None:
        """Shows a webhook as it is now."""
        state = webhook_state(webhook)
        self._name.say(webhook.name)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._state.attribute("title", webhook.disabled_reason)
        for node, text in ((self._url, webhook.url), (self._told, asked_for_text(webhook))):
            node.say(text)
            node.attribute("title", text)
        self._format.say(webhook.format)
        self._delivered.say(used_text(webhook.last_delivered_at, now))
        self._made.say(words.ago_text(webhook.created_at, now))


def _empty() -> AbstractContextManager[object]:
    return empty_state(
        "There are no webhooks yet",
        "Have your own services told when a job ends, a gate fails or a rollout is judged:",
        "quantry webhooks create --name on-call --url https://example.org/hook --event job.failed",
    )
