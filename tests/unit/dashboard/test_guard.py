"""Which requests may act, and where somebody is sent after signing in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from quantry_dashboard.guard import CONTENT_POLICY, Guard, is_from_here, may_act
from quantry_dashboard.sign_in import HOME, form_address, local_target


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({}, True),
        ({"host": "127.0.0.1:80", "origin": "http://127.0.0.1:80"}, True),
        ({"host": "q.example", "origin": "https://q.example"}, True),
        ({"host": "127.0.0.1:80", "origin": "http://127.0.0.1:81"}, False),
        ({"host": "127.0.0.1:80", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:80", "origin": "null"}, False),
        ({"host": "127.0.0.1:80", "origin": "http://[127.0.0.1:80"}, False),
        ({"origin": "http://127.0.0.1:80"}, False),
        ({"host": "127.0.0.1:80", "sec-fetch-site": "same-origin"}, True),
        ({"host": "127.0.0.1:80", "sec-fetch-site": "none"}, True),
        ({"host": "127.0.0.1:80", "sec-fetch-site": "cross-site"}, False),
        ({"host": "127.0.0.1:80", "sec-fetch-site": "same-site"}, False),
    ],
)
def test_only_pages_of_this_origin_may_act(headers: dict[str, str], is_ours: bool) -> None:
    assert is_from_here(Headers(headers)) is is_ours


@pytest.mark.parametrize(
    ("scope", "acts"),
    [
        ({"type": "http", "method": "GET", "path": "/jobs"}, False),
        ({"type": "http", "method": "HEAD", "path": "/jobs"}, False),
        ({"type": "http", "method": "POST", "path": "/sign-out"}, True),
        ({"type": "http", "method": "GET", "path": "/_nicegui_ws/socket.io/"}, True),
        ({"type": "websocket", "path": "/_nicegui_ws/socket.io/"}, True),
    ],
)
def test_a_plain_read_changes_nothing(scope: dict[str, Any], acts: bool) -> None:
    assert may_act(scope) is acts


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/jobs/job_1", "/jobs/job_1"),
        ("/jobs?status=failed", "/jobs?status=failed"),
        ("//evil.example", HOME),
        ("/\\evil.example", HOME),
        ("https://evil.example", HOME),
        ("javascript:alert(1)", HOME),
        ("/a\r\nset-cookie: x", HOME),
        ("", HOME),
        ("/" + "x" * 5000, HOME),
    ],
)
def test_signing_in_leads_nowhere_else(target: str, goes_to: str) -> None:
    assert local_target(target) == goes_to


def test_the_forms_address_carries_only_what_is_needed() -> None:
    assert form_address(None, HOME) == "/sign-in"
    assert form_address("out", "/jobs?status=failed") == "/sign-in?said=out&next=%2Fjobs%3Fstatus%3Dfailed"


def test_the_policy_names_no_other_origin() -> None:
    sources = {source for part in CONTENT_POLICY.split("; ") for source in part.split()[1:]}
    assert sources == {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:"}


PLAIN: Scope = {"type": "http", "method": "GET", "path": "/jobs", "headers": []}


async def _silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Ends without an answer."""


async def _listening(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Ends without an answer once the browser has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _passing_on(request: Any, call_next: Callable[[Any], Any]) -> Any:
    return await call_next(request)


def _guarded(app: ASGIApp) -> Guard:
    return Guard(BaseHTTPMiddleware(app, _passing_on))


async def _ask(guard: Guard, *messages: str) -> None:
    """Sends a request of these messages, after which nothing comes."""
    left = list(messages)

    async def receive() -> MutableMapping[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": left.pop(0)}

    async def send(_message: MutableMapping[str, Any]) -> None:
        raise AssertionError("nobody is there")

    await guard(PLAIN, receive, send)


@pytest.mark.parametrize("app", [_silent, _listening])
async def test_a_browser_that_has_gone_needs_no_answer(app: ASGIApp) -> None:
    await _ask(_guarded(app), "http.request", "http.disconnect")


async def test_a_browser_that_waits_for_an_answer_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="No response returned"):
        await _ask(_guarded(_silent), "http.request")


async def test_other_errors_are_told_whoever_has_gone() -> None:
    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        await _ask(Guard(failing), "http.disconnect")
