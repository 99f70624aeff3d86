"""Asking the API under a session whose key may change or end."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from quantry import Client
from quantry_core.keys import Identity, Role
from quantry_dashboard.asking import NotDone, SignedOut, ask
from quantry_dashboard.sessions import Session, Sessions

OLD, NEW = "qtr_old", "qtr_new"
URL = "http://127.0.0.1:1"
IDENTITY = Identity(key_id="key_1", project_id="prj_1", role=Role.ADMIN)


class Api:
    """Takes one key, and says who has it."""

    def __init__(self) -> None:
        self.taken = OLD
        self.status = 401

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] == f"Bearer {self.taken}":
            return httpx.Response(200, json=IDENTITY.model_dump(mode="json"))
        problem = {"type": "unauthorized", "title": "Unauthorized", "status": self.status, "detail": "no such key"}
        return httpx.Response(self.status, json=problem, headers={"content-type": "application/problem+json"})

    def client(self, key: str) -> Client:
        """Returns a client without a network."""
        return Client(URL, key, transport=httpx.MockTransport(self))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    monkeypatch.setattr("quantry_dashboard.sessions.Client", lambda _url, key, _timeout_s: api.client(key))
    return api


@pytest.fixture
def session(api: Api) -> Iterator[Session]:
    sessions = Sessions(SecretStr("a secret of the tests"), max_idle_s=100, max_sessions=3, clock_s=lambda: 0.0)
    session = sessions.find(sessions.begin(URL, OLD, IDENTITY, api.client(OLD), timeout_s=1))
    assert session is not None
    yield session
    sessions.end_all()


async def test_a_session_goes_on_with_the_new_secret_of_its_key(api: Api, session: Session) -> None:
    api.taken = NEW
    session.change_key(NEW)
    assert await ask(session, lambda client: client.whoami()) == IDENTITY
    assert session.api_key.get_secret_value() == NEW


async def test_a_question_under_way_while_the_secret_changes_is_asked_again(api: Api, session: Session) -> None:
    asked: list[Client] = []

    def late(client: Client) -> Identity:
        asked.append(client)
        if len(asked) == 1:
            api.taken = NEW
            session.change_key(NEW)
        return client.whoami()

    assert await ask(session, late) == IDENTITY
    assert len(asked) == 2


async def test_a_key_that_is_refused_ends_it(api: Api, session: Session) -> None:
    api.taken = "another"
    with pytest.raises(SignedOut):
        await ask(session, lambda client: client.whoami())


async def test_what_the_api_answered_is_known(api: Api, session: Session) -> None:
    api.taken, api.status = "another", 404
    with pytest.raises(NotDone) as missing:
        await ask(session, lambda client: client.whoami())
    assert (missing.value.status, missing.value.is_missing) == (404, True)


async def test_a_session_that_is_over_asks_nothing(session: Session) -> None:
    session.close()
    with pytest.raises(SignedOut):
        await ask(session, lambda client: client.whoami())
