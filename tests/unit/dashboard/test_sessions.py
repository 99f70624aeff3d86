"""Sessions: forged cookies, idle ones, too many, and where the key is."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from quantry import Client
from quantry_core.keys import Identity, Role
from quantry_dashboard.sessions import Sessions

IDENTITY = Identity(key_id="key", project_id="prj", role=Role.OPERATOR)
URL = "http://127.0.0.1:1"
KEY = "qtr_the-key"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(SecretStr("a secret of the tests"), max_idle_s=100, max_sessions=3, clock_s=clock)


def begin(sessions: Sessions) -> str:
    return sessions.begin(URL, KEY, IDENTITY, Client(URL, KEY), timeout_s=1)


def test_a_cookie_finds_its_session_and_holds_no_key(sessions: Sessions) -> None:
    first, second = begin(sessions), begin(sessions)
    assert first != second
    session = sessions.find(first)
    assert session is not None
    assert session.identity is IDENTITY
    assert KEY not in first
    assert KEY not in repr(session)


@pytest.mark.parametrize("cookie", [None, "", ".", "x", "x.y", "é.ü"])
def test_what_is_no_cookie_finds_nothing(sessions: Sessions, cookie: str | None) -> None:
    begin(sessions)
    assert sessions.find(cookie) is None


def test_a_cookie_with_another_secret_is_forged(sessions: Sessions) -> None:
    session_id, _, signature = begin(sessions).rpartition(".")
    assert sessions.find(f"{session_id}.{'0' * len(signature)}") is None
    assert sessions.find(f"{session_id}x.{signature}") is None


def test_a_session_ends_when_it_is_idle_for_too_long_and_not_before(sessions: Sessions, clock: Clock) -> None:
    cookie = begin(sessions)
    clock.now_s = 90
    session = sessions.find(cookie)
    assert session is not None
    clock.now_s = 180
    assert sessions.find(cookie) is session
    clock.now_s = 281
    assert sessions.find(cookie) is None
    assert session.is_over


def test_beyond_the_limit_the_one_unused_for_longest_ends(sessions: Sessions, clock: Clock) -> None:
    cookies = []
    for number in range(3):
        clock.now_s = float(number)
        cookies.append(begin(sessions))
    clock.now_s = 10
    assert sessions.find(cookies[0]) is not None
    cookies.append(begin(sessions))
    assert [sessions.find(cookie) is not None for cookie in cookies] == [True, False, True, True]


def test_an_ended_session_is_forgotten(sessions: Sessions) -> None:
    cookie = begin(sessions)
    session = sessions.find(cookie)
    assert session is not None
    sessions.end(session)
    assert session.is_over
    assert sessions.find(cookie) is None


def test_at_the_end_all_end(sessions: Sessions) -> None:
    cookies = [begin(sessions) for _ in range(3)]
    sessions.end_all()
    assert [sessions.find(cookie) for cookie in cookies] == [None, None, None]
