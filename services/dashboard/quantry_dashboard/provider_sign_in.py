"""The two addresses of signing in by a provider: the way there, and the way back."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from quantry import Client
from quantry.errors import ApiError, ClientError
from quantry_core.oidc import NewSession
from quantry_dashboard import sign_in
from quantry_dashboard.pending_sign_ins import PENDING_S
from quantry_dashboard.provider import Finished, Provider, SignInRefused
from quantry_dashboard.settings import CALLBACK, DashboardSettings

BEGIN = "/sign-in/provider"
FAILURES = frozenset({"provider", "unmapped"})
"""Words of those answers of which somebody could send many: each costs the provider or the API a question."""
NO_KEY = "none-yet"
"""Stands where a client has its key: at the door of sessions none is looked at."""


def routes(door: sign_in.Door, provider: Provider, settings: DashboardSettings) -> APIRouter:
    """Returns the two addresses."""
    router = APIRouter(include_in_schema=False)
    cookie = f"quantry_dashboard_{settings.dashboard_port}_signing_in"

    @router.get(BEGIN)
    async def begin(request: Request, next: str = sign_in.HOME) -> Response:
        target = sign_in.local_target(next)
        try:
            begun = await provider.begin(target, request.cookies.get(cookie))
        except SignInRefused as refused:
            return sign_in.to_form(refused.word, refused.target)
        answer = RedirectResponse(begun.address, 303, headers={"cache-control": "no-store"})
        # What is under way is kept by this browser alone: nobody can be signed in as somebody else by a link that they are sent.
        answer.set_cookie(
            cookie,
            begun.cookie,
            max_age=int(PENDING_S),
            httponly=True,
            samesite="lax",
            secure=settings.dashboard_secure_cookie,
            path="/sign-in",
        )
        return answer

    @router.get(CALLBACK)
    async def back(request: Request) -> Response:
        address = sign_in.address_of(request)
        if door.failures.are_too_many(address):
            return sign_in.to_form("too-many", sign_in.HOME)
        try:
            finished = await provider.finish(request.query_params, request.cookies.get(cookie))
            made = await asyncio.to_thread(_session_for, settings, finished)
        except SignInRefused as refused:
            if refused.word in FAILURES:
                door.failures.note(address)
            return sign_in.to_form(refused.word, refused.target)
        answer = await door.enter(request, made.secret, finished.target, person=made.person)
        answer.headers["cache-control"] = "no-store"
        return answer

    return router


def _session_for(settings: DashboardSettings, finished: Finished) -> NewSession:
    """Returns the key that the API makes for a token; raises SignInRefused."""
    try:
        with Client(settings.control_url, NO_KEY, settings.dashboard_timeout_s) as client:
            return client.sessions.create(finished.id_token, finished.nonce)
    except ApiError as error:
        word = {401: "provider", 403: "unmapped", 404: "no-provider", 429: "too-many"}.get(error.status, "away")
        raise SignInRefused(word, finished.target) from None
    except ClientError:
        raise SignInRefused("away", finished.target) from None
