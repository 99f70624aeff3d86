"""The questions a started engine must answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from quantry_deploy.drivers.probes import EngineProbe

URL = "http://127.0.0.1:8001"


def engine(
    *, health: int = 200, names: tuple[str, ...] = ("chat", "rep_1"), completion: tuple[int, Any] = (200, {"choices": [{"text": ""}]})
) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/health":
                return httpx.Response(health)
            case "/v1/models":
                return httpx.Response(200, json={"data": [{"id": name} for name in names]})
            case _:
                assert json.loads(request.content)["max_tokens"] == 1
                return httpx.Response(completion[0], json=completion[1])

    return httpx.MockTransport(answer)


async def doubt(transport: httpx.MockTransport) -> str:
    probe = EngineProbe(transport)
    try:
        return await probe.doubt(URL, "chat", "rep_1")
    finally:
        await probe.close()


async def test_one_token_of_the_right_model_dispels_every_doubt() -> None:
    assert await doubt(engine()) == ""


async def test_another_replica_on_the_port_is_noticed() -> None:
    assert "it serves chat, rep_2" in await doubt(engine(names=("chat", "rep_2")))


async def test_a_server_of_something_else_is_noticed() -> None:
    assert "it serves nothing" in await doubt(engine(names=()))


@pytest.mark.parametrize("completion", [(500, {"error": "kernel"}), (200, {"choices": []}), (200, {}), (200, [])])
async def test_a_completion_that_is_none_is_noticed(completion: tuple[int, Any]) -> None:
    assert "a completion of one token" in await doubt(engine(completion=completion))


@pytest.mark.parametrize(("status", "answers"), [(200, True), (503, False), (404, False)])
async def test_health_is_200_and_nothing_else(status: int, answers: bool) -> None:
    probe = EngineProbe(engine(health=status))
    assert await probe.answers(URL) is answers
    await probe.close()


async def test_no_answer_is_no_health() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    probe = EngineProbe(httpx.MockTransport(refuse))
    assert await probe.answers(URL) is False
    assert "ConnectError" in await probe.doubt(URL, "chat", "rep_1")
    await probe.close()
