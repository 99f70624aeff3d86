"""/admin/webhooks/<id>: one webhook: whether it works, every message to it with each attempt, and what can be done with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from fastapi import Request
from nicegui import ui

from quantry import Client
from quantry_core.pages import Page
from quantry_core.webhooks import DEFAULT_OVERLAP_S, DeliveryState, Webhook, WebhookDelivery, WebhookDeliveryDetail
from quantry_dashboard import facts, words
from quantry_dashboard.administration import WEBHOOKS, entered_duration_s
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.admin_webhooks import SECRET_ONCE
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.delivery_details import DeliveryDetails
from quantry_dashboard.pages.dialogs import Answers, AskedField, PageDialog, Shown
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, address_of, cell
from quantry_dashboard.pages.parts import add_crumbs, empty_state, trouble
from quantry_dashboard.pages.rollout_panels import FactList
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_filters import choice_of
from quantry_dashboard.webhook_facts import (
    DELIVERY_CLASSES,
    outcome_text,
    subject_address,
    webhook_address,
    webhook_facts,
    webhook_state,
)

REFRESH_S, SENDING_S = 3.0, 0.5
"""While the first attempt of a message is due, it is looked for more often."""
ROWS = 25
COLUMNS = ("Message", "Event", "About", "State", "Attempts", "Outcome", "Made", "")


def show(session: Session, request: Request) -> None:
    """Builds the page of the webhook that the address names."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    problems: list[str] = []
    state = choice_of(DeliveryState, "state", given, problems)
    WebhookPage(session, request.path_params["webhook_id"], _View(state, given.get("after"), given.get("message")), problems).build()


class _View(NamedTuple):
    """What the address says: which messages, and which one is open."""

    state: DeliveryState | None
    after: str | None
    message: str | None


class WebhookPage:
    """One open page."""

    def __init__(self, session: Session, webhook_id: str, view: _View, problems: list[str]) -> None:
        self._session = session
        self._id = webhook_id
        self._chosen, self._after, self._opened = view
        self._problems = problems
        self._path = webhook_address(webhook_id)
        self._webhook: Webhook | None = None
        self._hindrance = facts.hindrance(session.identity)

    def build(self) -> None:
        """Builds the page; the webhook comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Webhook", address=self._address())
        with self._frame.content:
            add_crumbs(("Webhooks", WEBHOOKS), here=self._id, is_id=True)
            for problem in self._problems:
                trouble(problem)
            self._arriving = Arriving(self._frame)
            self._dialog = PageDialog(self._frame)
            with self._arriving.add_body():
                self._build_head()
                self._details = DeliveryDetails(self._session, self._frame, self._id, self._opened, self._note_opened)
                with Node("section", aria_label="Messages"):
                    Node("h2", "Messages", classes="section-title")
                    self._build_log()
        self._timer = self._arriving.refresh_every(REFRESH_S, self._refresh)

    def _build_head(self) -> None:
        with Node("section", classes="panel header", aria_label="Webhook"):
            with Node("div", classes="heading"):
                self._name = Node("h1", "")
                self._state = Node("span", classes="status")
                with Node("div", classes="actions"):
                    for text, classes, action in (
                        ("Send a test", "", self._test),
                        ("Rotate secret", "", self._ask_rotate),
                        ("Pause", "", self._ask_pause),
                        ("Delete", "danger", self._ask_delete),
                    ):
                        button = plain_button(text, classes, hindrance=self._hindrance)
                        if self._hindrance is None:
                            button.on("click", action)
                        if text == "Pause":
                            self._pause = button
            if self._hindrance is not None:
                Node("p", self._hindrance, classes="dim hint")
            self._facts = FactList()

    def _build_log(self) -> None:
        if self._hindrance is not None:
            empty_state(
                "The messages are not for your key", "Only an operator sees them: they tell what jobs are called and why they failed."
            )
            return
        narrowed = self._path if self._chosen is not None else None
        with filters("Filter messages", lambda _name, value: address_of(self._path, state=value), narrowed) as fields:
            fields.add_choice("state", "State", DeliveryState, self._chosen)
        self._listing = Listing[WebhookDelivery](
            "Messages",
            COLUMNS,
            key=lambda delivery: delivery.id,
            make_row=lambda delivery: _Row(delivery, self),
            address=lambda after: address_of(self._path, state=self._chosen, after=after),
            after=self._after,
            empty=lambda: empty_state("Nothing was told yet", "Send a test to see whether the receiver answers."),
            none_such=(lambda: empty_state("No message is like that")) if self._chosen or self._after else None,
        )

    async def _refresh(self) -> None:
        webhook, page = await self._arriving.read(
            asyncio.gather(ask(self._session, lambda client: client.webhooks.get(self._id)), self._read_log())
        )
        now = datetime.now(UTC)
        self._show(webhook, now)
        if page is not None:
            self._listing.show(page, now)
            # Whoever has just sent something looks at what comes of it.
            is_sending = any(one.state is DeliveryState.PENDING and one.num_attempts == 0 for one in page.data)
            self._timer.interval = SENDING_S if is_sending else REFRESH_S
            await self._details.refresh()

    async def _read_log(self) -> Page[WebhookDelivery] | None:
        if self._hindrance is not None:
            return None
        return await ask(
            self._session, lambda client: client.webhooks.deliveries(self._id, state=self._chosen, after=self._after, limit=ROWS)
        )

    def _show(self, webhook: Webhook, now: datetime) -> None:
        self._webhook = webhook
        self._arriving.come()
        state = webhook_state(webhook)
        self._name.say(webhook.name)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._pause.say("Pause" if webhook.is_active else "Resume")
        self._facts.show(webhook_facts(webhook, now))

    async def open(self, delivery: WebhookDelivery) -> None:
        """Shows what a message says and what became of each attempt."""
        await self._details.open(delivery.id)

    async def redeliver(self, delivery: WebhookDelivery) -> None:
        """Has a message sent again."""
        await self._act(lambda client: client.webhooks.redeliver(self._id, delivery.id))

    async def _test(self) -> None:
        async def test() -> None:
            sent: WebhookDeliveryDetail = await ask(self._session, lambda client: client.webhooks.test(self._id))
            await self._details.open(sent.id)
            await self._frame.look(self._refresh)

        await self._frame.attempt(test)

    def _ask_rotate(self) -> None:
        question = Question(
            "Rotate the secret?",
            "Messages are signed with a new one from now on. For a while they carry a signature by the old one too, so that the receiver "
            "can change over.",
            confirm="Rotate it",
        )
        overlap = AskedField("overlap", "Both sign for", f"{DEFAULT_OVERLAP_S // 3600}h", "90s, 30m, 12h, 30d at most; 0: not at all")

        async def rotate(answers: Answers) -> Shown:
            overlap_s = entered_duration_s(answers.text("overlap"), "The overlap")
            made = await ask(self._session, lambda client: client.webhooks.rotate_secret(self._id, overlap_s=overlap_s))
            await self._frame.look(self._refresh)
            return Shown("The new secret", SECRET_ONCE, {"Secret": made.secret})

        self._dialog.ask(question, rotate, (overlap,))

    def _ask_pause(self) -> None:
        webhook = self._webhook
        if webhook is None:
            return
        if webhook.is_active:
            question = Question("Pause this webhook?", "It is told nothing until it is resumed.", confirm="Pause it")
        else:
            question = Question("Resume this webhook?", "What waited for it and is not too old is sent.", confirm="Resume it")
        to_active = not webhook.is_active
        self._dialog.ask_to(question, self._session, lambda client: client.webhooks.change(self._id, is_active=to_active), self._refresh)

    def _ask_delete(self) -> None:
        async def delete(_answers: Answers) -> None:
            await ask(self._session, lambda client: client.webhooks.delete(self._id))
            self._timer.deactivate()
            ui.navigate.to(WEBHOOKS)

        question = Question(
            "Delete this webhook?",
            "What was not delivered is not sent any more, and its messages cannot be looked at.",
            confirm="Delete it",
            is_dangerous=True,
        )
        self._dialog.ask(question, delete)

    async def _act(self, change: Callable[[Client], object]) -> None:
        async def act() -> None:
            await ask(self._session, change)
            await self._frame.look(self._refresh)

        await self._frame.attempt(act)

    def _note_opened(self, delivery_id: str | None) -> None:
        """Has the address name the message that is open, so that it can be sent to somebody."""
        self._opened = delivery_id
        ui.run_javascript(f"history.replaceState(history.state, '', {json.dumps(self._address())})")

    def _address(self) -> str:
        return address_of(self._path, state=self._chosen, after=self._after, message=self._opened)


class _Row:
    """One message."""

    def __init__(self, delivery: WebhookDelivery, page: WebhookPage) -> None:
        self._delivery = delivery
        short = words.short_id(delivery.id)
        with Node("tr", role="row") as self.root:
            with cell("Message"):
                opener = plain_button(short, "link mono", label=f"Message {delivery.id}")
            cell("Event", delivery.event)
            with cell("About"):
                address, about = subject_address(delivery), words.short_id(delivery.subject_id)
                if address is None:
                    Node("span", about, classes="mono", title=delivery.subject_id)
                else:
                    link(about, address, classes="mono", title=delivery.subject_id)
            with cell("State"):
                self._state = Node("span", classes="status")
            self._attempts = cell("Attempts", classes="number")
            with cell("Outcome", classes="about"):
                self._outcome = Node("span", classes="cut")
            with cell("Made"):
                self._made = Node("time", datetime=delivery.created_at.isoformat(), title=words.moment_text(delivery.created_at))
            with cell("", classes="row-actions"):
                self._again = plain_button("Redeliver", label=f"Redeliver message {short}")
        opener.on("click", lambda: page.open(self._delivery))
        self._again.on("click", lambda: page.redeliver(self._delivery))

    def show(self, delivery: WebhookDelivery, now: datetime) -> None:
        """Shows what became of a message."""
        self._delivery = delivery
        outcome = outcome_text(delivery, now)
        self._state.say(delivery.state)
        self._state.mark_as(DELIVERY_CLASSES[delivery.state])
        self._attempts.say(str(delivery.num_attempts))
        self._outcome.say(outcome)
        self._outcome.attribute("title", outcome or None)
        self._made.say(words.ago_text(delivery.created_at, now))
        self._again.show_if(delivery.state in {DeliveryState.DELIVERED, DeliveryState.FAILED})
