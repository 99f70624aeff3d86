"""Which requests may act, and where somebody is sent after signing in."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from quantry_dashboard.guard import CONTENT_POLICY, is_from_here, may_act
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
