"""/admin/keys: the project's API keys: made, rotated and revoked; a secret is shown this once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request

from quantry_core.keys import ApiKey, KeyLimits, NewKey, Role
from quantry_dashboard import words
from quantry_dashboard.administration import (
    KEYS,
    admins_only,
    entered_duration_s,
    expiry_text,
    key_state,
    limits_text,
    moment,
    used_text,
    whole_number,
)
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.admin_parts import add_admin_head, refuse
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, FieldKind, PageDialog, Shown
from quantry_dashboard.pages.listing import Listing, address_of, after_of, cell
from quantry_dashboard.pages.parts import copyable, empty_state
from quantry_dashboard.sessions import Session

REFRESH_S = 5.0
ROWS = 25
COLUMNS = ("Name", "Role", "Key", "State", "Expires", "Limits", "Last used", "Made", "")
PEOPLES_ROLES = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
ONCE = "Copy it now: only its hash is stored, and nobody can show it again."


def show(session: Session, request: Request) -> None:
    """Builds the page of keys that follow the one the address names."""
    KeysPage(session, after_of(request.query_params)).build()


class KeysPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after

    def build(self) -> None:
        """Builds the page; its keys come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Keys", address=address_of(KEYS, after=self._after))
        hindrance = admins_only(self._session.identity)
        with self._frame.content:
            actions = add_admin_head(self._session, "Keys", KEYS)
            if hindrance is not None:
                refuse(hindrance)
                return
            self._dialog = PageDialog(self._frame)
            with actions:
                plain_button("New key", "primary").on("click", self._ask_create)
            self._listing = Listing[ApiKey](
                "Keys",
                COLUMNS,
                key=lambda key: key.id,
                make_row=lambda key: _Row(key, self),
                address=lambda after: address_of(KEYS, after=after),
                after=self._after,
                empty=_empty,
                classes="keys",
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.keys.list(after=self._after, limit=ROWS)))

    def _ask_create(self) -> None:
        fields = (
            AskedField("name", "Name", hint="what it is for: laptop-of-ada, nightly-runs, …"),
            AskedField(
                "role",
                "Role",
                Role.OPERATOR,
                "viewer looks, operator submits and deploys, admin makes keys too",
                FieldKind.CHOICE,
                PEOPLES_ROLES,
            ),
            AskedField("expires", "Expires", hint="in UTC; empty: it does not", kind=FieldKind.MOMENT),
            AskedField("requests", "Requests per minute", hint="that gateways let through for it; empty: any number"),
            AskedField("tokens", "Tokens per minute", hint="prompt and completion together; empty: any number"),
        )
        self._dialog.ask(Question("New key", "", confirm="Make it", keep="Cancel"), self._create, fields)

    async def _create(self, answers: Answers) -> Shown:
        limits = KeyLimits(
            requests_per_minute=whole_number(answers.text("requests"), "Requests per minute"),
            tokens_per_minute=whole_number(answers.text("tokens"), "Tokens per minute"),
        )
        expires_at = moment(answers.text("expires"), "Expires")
        name, role = answers.text("name"), Role(answers.text("role"))
        made = await ask(self._session, lambda client: client.keys.create(name, role, limits, expires_at))
        await self._frame.look(self._refresh)
        return _secret_of(made, "The new key")

    def ask_rotate(self, key: ApiKey) -> None:
        """Asks whether a key is to get a new secret."""
        question = Question(
            f"Rotate key {key.name}?",
            "It gets a new secret, and keeps its name, role and history. The old one is refused at once, unless you let it overlap."
            + (" You are signed in with this very key: here you stay so." if key.id == self._session.identity.key_id else ""),
            confirm="Rotate it",
        )
        fields = (
            AskedField("overlap", "The old secret works for", "0", "90s, 30m, 12h, 7d at most; 0: not at all"),
            AskedField("expires", "New expiry", hint="in UTC; empty: as it is", kind=FieldKind.MOMENT),
        )

        async def rotate(answers: Answers) -> Shown:
            overlap_s = entered_duration_s(answers.text("overlap"), "The overlap")
            expires_at = moment(answers.text("expires"), "New expiry")
            made = await ask(self._session, lambda client: client.keys.rotate(key.id, overlap_s=overlap_s, expires_at=expires_at))
            if key.id == self._session.identity.key_id:
                # The new secret must be seen, and this page asks with the old one, which may be refused from now on.
                self._session.change_key(made.secret)
            await self._frame.look(self._refresh)
            return _secret_of(made, "The new secret")

        self._dialog.ask(question, rotate, fields)

    def ask_revoke(self, key: ApiKey) -> None:
        """Asks whether a key is to be worthless."""
        is_own = key.id == self._session.identity.key_id
        question = Question(
            f"Revoke key {key.name}?",
            "It is refused at once, here and by the gateways within a second. This cannot be taken back."
            + (" You are signed in with this very key: you will be signed out." if is_own else ""),
            confirm="Revoke it",
            is_dangerous=True,
        )
        self._dialog.ask_to(question, self._session, lambda client: client.keys.revoke(key.id), self._refresh)


class _Row:
    """One key."""

    def __init__(self, key: ApiKey, page: KeysPage) -> None:
        self._key = key
        with Node("tr", role="row") as self.root:
            with cell("Name"):
                Node("span", key.name, classes="name")
            cell("Role", key.role)
            with cell("Key"):
                self._prefix = Node("span", classes="mono", title=key.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            self._expires = cell("Expires")
            cell("Limits", limits_text(key.limits))
            with cell("Last used"):
                self._used = link("", address_of("/admin/audit", key_id=key.id), title="What it did: the audit log")
            with cell("Made"):
                self._made = Node("time", datetime=key.created_at.isoformat(), title=words.moment_text(key.created_at))
            with cell("", classes="row-actions"):
                self._rotate = plain_button("Rotate", label=f"Rotate key {key.name}")
                self._revoke = plain_button("Revoke", "danger", label=f"Revoke key {key.name}")
        self._rotate.on("click", lambda: page.ask_rotate(self._key))
        self._revoke.on("click", lambda: page.ask_revoke(self._key))

    def show(self, key: ApiKey, now: datetime) -> None:
        """Shows a key as it is now."""
        self._key = key
        state = key_state(key, now)
        self._prefix.say(f"{key.prefix}…")
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._expires.say(expiry_text(key, now))
        self._expires.attribute("title", None if key.expires_at is None else words.moment_text(key.expires_at))
        self._used.say(used_text(key.last_used_at, now))
        self._made.say(words.ago_text(key.created_at, now))
        self._rotate.show_if(key.revoked_at is None)
        self._revoke.show_if(key.revoked_at is None)


def _secret_of(made: NewKey, heading: str) -> Shown:
    return Shown(heading, ONCE, {f"{made.key.name} ({made.key.role})": made.secret})


def _empty() -> AbstractContextManager[object]:
    with empty_state("There are no keys here", "Keys are listed newest first.") as whole:
        copyable("quantry keys create --name laptop --role operator")
    return whole
