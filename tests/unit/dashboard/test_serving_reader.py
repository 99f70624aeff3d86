"""What a page reads of a rollout: the figures never hold up the rest."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from pydantic import SecretStr

from factories.client import FakeServer, answer, problem
from factories.serving import ROLLOUT_ID, a_rollout, spans, traffic
from quantry_core.keys import Identity, Role
from quantry_core.rollouts import RolloutState
from quantry_dashboard.asking import SignedOut
from quantry_dashboard.serving_reader import ServingReader
from quantry_dashboard.sessions import Session

PATH = f"/api/v1/rollouts/{ROLLOUT_ID}/traffic"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(server: FakeServer, clock: Clock) -> ServingReader:
    identity = Identity(key_id="key", project_id="prj", role=Role.OPERATOR)
    return ServingReader(Session("http://api", SecretStr("qtr_key"), identity, server.client(), 1.0, clock, 0.0), "chat")


def taking(clock: Clock, seconds: float) -> Callable[[httpx.Request], httpx.Response]:
    """Returns an answer that comes after a while."""

    def wait(request: httpx.Request) -> httpx.Response:
        clock.now_s += seconds
        return answer(traffic())(request)

    return wait


async def test_figures_that_do_not_come_are_those_from_before(server: FakeServer, reader: ServingReader) -> None:
    server.on("GET", PATH, problem(503, "unavailable", "the database was busy for too long"))
    assert await reader.traffic(a_rollout()) is None
    server.on("GET", PATH, answer(traffic()))
    assert await reader.traffic(a_rollout()) == traffic()
    server.on("GET", PATH, problem(503, "unavailable", "the database was busy for too long"))
    assert await reader.traffic(a_rollout()) == traffic()
    assert await reader.traffic(a_rollout(id=ROLLOUT_ID[:-1] + "2")) is None
    assert await reader.traffic(a_rollout(exposed_at=None)) is None


async def test_figures_that_take_long_are_asked_for_less_often(server: FakeServer, reader: ServingReader, clock: Clock) -> None:
    server.on("GET", PATH, taking(clock, 2.0))
    for now_s, num_asked in ((0.0, 1), (19.0, 1), (20.5, 2), (25.0, 2)):
        clock.now_s = max(now_s, clock.now_s)
        assert await reader.traffic(a_rollout()) == traffic()
        assert (now_s, len(server.requests)) == (now_s, num_asked)
    await reader.traffic(a_rollout(RolloutState.PROMOTED))
    assert len(server.requests) == 3, "the last figures are of its end"


async def test_figures_that_come_at_once_are_asked_for_each_time(server: FakeServer, reader: ServingReader) -> None:
    server.on("GET", PATH, answer(traffic()))
    for _ in range(3):
        await reader.traffic(a_rollout())
    assert len(server.requests) == 3


async def test_a_key_that_was_revoked_is_still_noticed(server: FakeServer, reader: ServingReader) -> None:
    server.on("GET", PATH, problem(401, "unauthorized", "this API key is unknown or was revoked"))
    with pytest.raises(SignedOut):
        await reader.traffic(a_rollout())


async def test_spans_are_asked_for_no_more_often_than_they_are_long(server: FakeServer, reader: ServingReader, clock: Clock) -> None:
    server.on("GET", f"{PATH}/spans", answer(spans()))
    for now_s, num_asked in ((0.0, 1), (4.9, 1), (5.0, 2)):
        clock.now_s = now_s
        assert await reader.spans(a_rollout()) == spans()
        assert (now_s, len(server.requests)) == (now_s, num_asked)
