"""What a browser gets where it asked for a file and there is none to give."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from starlette.responses import PlainTextResponse, Response

from quantry import Client
from quantry_dashboard import sign_in
from quantry_dashboard.asking import NotDone, SignedOut, T, ask

OWN_STATUSES = frozenset({403, 404, 422})
"""Of the API's answers, those that mean the same here; any other one means that the dashboard could not get the file."""


async def asked_for(door: sign_in.Door, request: Request, question: Callable[[Client], T]) -> T | Response:
    """Returns what a question gets under the key of whoever is signed in; where it gets nothing, a sentence or the way to the form."""
    session = door.session_of(request)
    if session is None:
        return sign_in.to_sign_in(request)
    try:
        return await ask(session, question)
    except SignedOut:
        door.sessions.end(session)
        return sign_in.to_sign_in(request, "over")
    except NotDone as trouble:
        return PlainTextResponse(f"{trouble}\n", trouble.status if trouble.status in OWN_STATUSES else 502)
