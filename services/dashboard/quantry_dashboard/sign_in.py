"""Signing in with an API key, and out. The key comes in a form's body, never in an address, and never goes back."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from quantry import Client
from quantry.errors import ApiError, ClientError
from quantry_core.keys import Identity, Role
from quantry_dashboard.failed_sign_ins import FailedSignIns
from quantry_dashboard.frame import head
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.sessions import Session, Sessions
from quantry_dashboard.settings import DashboardSettings

PEOPLE = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
HOME = "/"
MAX_TARGET = 2000
"""Characters of an address that somebody is sent to after signing in."""

SENTENCES = {
    "refused": "This key opens nothing here: it is mistyped, or it was revoked.",
    "machine": "This key is for a worker or a gateway. Sign in with a key of role viewer, operator or admin.",
    "away": "The API does not answer, so nobody can sign in now. Try again in a moment.",
    "over": "Your session has ended, or your key was revoked. Sign in again.",
    "out": "You are signed out.",
    "stale": "This sign-in was begun elsewhere or too long ago, or it was used already. Begin again.",
    "provider": "The provider did not vouch for you, or what it said was not taken. Begin again, or ask an admin.",
    "provider-away": "The provider does not answer, so nobody can sign in by it now. A key works all the same.",
    "no-provider": "The API takes no sign-ins by a provider: it is not set up for one. Sign in with a key.",
    "unmapped": "The provider knows you, but none of your groups has a role here. Ask an admin for one.",
    "too-many": "Too many people sign in at once. Try again in a minute.",
}
"""By the word that an address may say; no address can put a sentence of its own here."""


class Door:
    """Who may come in: sessions by their cookie."""

    def __init__(self, settings: DashboardSettings) -> None:
        self._settings = settings
        self.sessions = Sessions(
            settings.dashboard_secret, max_idle_s=settings.dashboard_session_s, max_sessions=settings.dashboard_max_sessions
        )
        self.failures = FailedSignIns()
        # Cookies know no ports: two dashboards on one host must not sign each other out.
        self._cookie = f"quantry_dashboard_{settings.dashboard_port}"

    def session_of(self, request: Request) -> Session | None:
        """Returns the session of a request, or None."""
        return self.sessions.find(request.cookies.get(self._cookie))

    async def enter(self, request: Request, api_key: str, target: str, *, person: str | None = None) -> Response:
        """Returns the way in for a good key, and the way back to the form with a word for any other. A session that was there ends.

        ``person``: who the provider says it is, where the key was made by a sign-in; it ends with the session then.
        """
        if not api_key:
            # The SDK would look for another key where it runs: in this service's environment, in client.json.
            return to_form("refused", target)
        address = address_of(request)
        if self.failures.are_too_many(address):
            return to_form("too-many", target)
        client: Client | None = None
        try:
            client = Client(self._settings.control_url, api_key, self._settings.dashboard_timeout_s)
            identity: Identity = await asyncio.to_thread(client.whoami)
        except ClientError as error:
            if client is not None:
                client.close()
            if isinstance(error, ApiError) and error.status == 401:
                self.failures.note(address)
            return to_form("refused" if client is None else word_of(error), target)
        if identity.role not in PEOPLE:
            client.close()
            return to_form("machine", target)
        former = self.session_of(request)
        if former is not None:
            self.sessions.end(former)
        cookie = self.sessions.begin(
            self._settings.control_url,
            api_key,
            identity,
            client,
            timeout_s=self._settings.dashboard_timeout_s,
            public_url=self._settings.public_url or "",
            person=person,
        )
        answer = RedirectResponse(target, 303)
        answer.set_cookie(self._cookie, cookie, httponly=True, samesite="lax", secure=self._settings.dashboard_secure_cookie, path="/")
        return answer

    def leave(self, request: Request) -> Response:
        """Ends the session of a request, with the key that a sign-in made for it, and returns the way to the form."""
        session = self.session_of(request)
        if session is not None:
            # Here and now, not when there is time: somebody who has signed out may rely on it.
            session.give_back_key()
            self.sessions.end(session)
        answer = RedirectResponse("/sign-in?said=out", 303)
        answer.delete_cookie(self._cookie, path="/", httponly=True, samesite="lax", secure=self._settings.dashboard_secure_cookie)
        return answer


def address_of(request: Request) -> str:
    """Returns the address that somebody comes from; behind a proxy, what a trusted one says."""
    return "" if request.client is None else request.client.host


def word_of(error: ClientError) -> str:
    """Returns the word for why the API took no key: it refused it, it has been asked too much, or it is away."""
    if not isinstance(error, ApiError) or error.status >= 500:
        return "away"
    return "too-many" if error.status == 429 else "refused"


def to_sign_in(request: Request, said: str | None = None) -> RedirectResponse:
    """Returns the way to the form for somebody who is not signed in, and from there to what they wanted. ``said``: a word of SENTENCES."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(form_address(said, target), 303)


def local_target(target: str) -> str:
    """Returns an address within the dashboard: the one given, or the first page for one that leads elsewhere."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() and len(target) <= MAX_TARGET
    return target if is_local else HOME


def routes(door: Door) -> APIRouter:
    """Returns what the two forms post to."""
    router = APIRouter(include_in_schema=False)

    @router.post("/sign-in")
    async def enter(request: Request, api_key: Annotated[str, Form()] = "", next: Annotated[str, Form()] = HOME) -> Response:
        return await door.enter(request, api_key.strip(), local_target(next))

    @router.post("/sign-out")
    def leave(request: Request) -> Response:
        return door.leave(request)

    return router


def show_form(said: str, target: str, provider: str | None = None) -> None:
    """Builds the form. ``said``: one of SENTENCES, or anything else for none; ``provider``: what people may sign in by beside a key."""
    head("Sign in")
    with Node("div", classes="sign-in", id="content"):
        Node("h1", "Quantry")
        sentence = SENTENCES.get(said)
        if sentence is not None:
            Node("p", sentence, classes="banner", role="alert")
        if provider is not None:
            query = urlencode({"next": target}) if target != HOME else ""
            link(f"Sign in with {provider}", f"/sign-in/provider?{query}".rstrip("?"), classes="button primary provider")
            Node("p", "or with a key", classes="dim or")
        with Node("form", method="post", action="/sign-in"):
            Node("label", "API key", for_="api_key")
            key = Node("input", id="api_key", name="api_key", type="password", autocomplete="current-password", required="required")
            key.attribute("autofocus", "autofocus")
            Node("input", type="hidden", name="next", value=target)
            Node("button", "Sign in", classes="primary", type="submit")
        Node(
            "p",
            "A key of role viewer may look; operator and admin may submit, cancel and retry jobs. `quantry keys create` makes one.",
            classes="dim",
        )


def form_address(said: str | None, target: str) -> str:
    """Returns the form's address, with the word it says and where to go afterwards."""
    query = {"said": said, "next": target if target != HOME else None}
    given = urlencode({name: value for name, value in query.items() if value})
    return f"/sign-in?{given}" if given else "/sign-in"


def to_form(said: str, target: str) -> Response:
    """Returns the way to the form, which says a word's sentence."""
    return RedirectResponse(form_address(said, target), 303)
