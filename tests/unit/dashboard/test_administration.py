"""What the pages of administration say of keys and projects, and how they read what people enter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quantry_core.keys import ApiKey, Identity, KeyLimits, Role
from quantry_dashboard.administration import (
    admin_tabs,
    admins_only,
    ahead_text,
    entered_duration_s,
    expiry_text,
    key_state,
    limits_text,
    moment,
    number,
    platform_admins_only,
    whole_number,
)
from quantry_dashboard.asking import NotDone

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_key(**changes: Any) -> ApiKey:
    fields = {"id": "key_1", "project_id": "prj_1", "name": "ci", "role": "viewer", "prefix": "qtr_abcd", "created_at": NOW}
    return ApiKey.model_validate({**fields, **changes})


def someone(role: Role, *, is_platform: bool = False) -> Identity:
    return Identity(key_id="key_1", project_id="prj_1", role=role, is_platform=is_platform)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "works"),
        ({"expires_at": NOW + timedelta(seconds=1)}, "works"),
        ({"expires_at": NOW}, "expired"),
        ({"old_secret_until": NOW + timedelta(hours=1)}, "rotated, both secrets work"),
        ({"old_secret_until": NOW}, "works"),
        ({"expires_at": NOW, "revoked_at": NOW}, "revoked"),
    ],
)
def test_whether_a_key_works(changed: dict[str, Any], text: str) -> None:
    assert key_state(a_key(**changed), NOW).text == text


def test_when_a_key_expires_and_what_it_may_ask() -> None:
    assert expiry_text(a_key(), NOW) == "never"
    assert expiry_text(a_key(expires_at=NOW + timedelta(days=3, hours=4)), NOW) == "in 3 d 4 h"
    assert ahead_text(NOW - timedelta(minutes=2), NOW) == "2 min ago"
    assert limits_text(KeyLimits()) == "none"
    assert limits_text(KeyLimits(requests_per_minute=1200)) == "1,200 requests/min"


def test_who_sees_which_page() -> None:
    assert [tab.name for tab in admin_tabs(someone(Role.VIEWER))] == ["Webhooks"]
    assert [tab.name for tab in admin_tabs(someone(Role.ADMIN))] == ["Keys", "Audit log", "Webhooks"]
    assert [tab.name for tab in admin_tabs(someone(Role.ADMIN, is_platform=True))][-1] == "Projects"
    assert admins_only(someone(Role.ADMIN)) is None
    assert "operator" in (admins_only(someone(Role.OPERATOR)) or "")
    assert platform_admins_only(someone(Role.ADMIN)) is not None
    assert platform_admins_only(someone(Role.OPERATOR, is_platform=True)) is not None
    assert platform_admins_only(someone(Role.ADMIN, is_platform=True)) is None


def test_what_people_enter_is_read() -> None:
    assert [entered_duration_s(text, "It") for text in ("", "0", "90", "90s", "30m", "12h", " 7D ")] == [0, 0, 90, 90, 1800, 43200, 604800]
    assert whole_number("", "It") is None
    assert whole_number("100", "It") == 100
    assert number("0.5", "It") == 0.5
    assert moment("", "It") is None
    assert moment("2026-11-23T12:00", "It") == NOW
    assert moment("2026-11-23T13:00+01:00", "It") == NOW


@pytest.mark.parametrize("text", ["x", "1.5h", "-1", "h", "١h", "9" * 20])
def test_what_is_no_time_is_said_so(text: str) -> None:
    with pytest.raises(NotDone, match="It is a time"):
        entered_duration_s(text, "It")


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "١", "9" * 13])
def test_what_is_no_count_is_said_so(text: str) -> None:
    with pytest.raises(NotDone, match="It is a whole number"):
        whole_number(text, "It")


def test_what_is_no_moment_or_number_is_said_so() -> None:
    with pytest.raises(NotDone, match="is a date"):
        moment("tomorrow", "It")
    with pytest.raises(NotDone, match="is a number"):
        number("much", "It")
