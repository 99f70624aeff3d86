"""The questions a started engine must answer."""

from __future__ import annotations

import json
from pathlib import Path
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


async def test_adapters_are_listed_by_name_with_their_folder() -> None:
    bases = [{"id": "chat", "root": "/models/base", "parent": None}, {"id": "rep_1", "root": "/models/base", "parent": None}]
    models = [*bases, {"id": "pirate", "root": "/models/abc", "parent": "chat"}]
    answers = iter([httpx.Response(200, json={"data": models}), httpx.Response(503), httpx.Response(200, content=b"[]")])
    probe = EngineProbe(httpx.MockTransport(lambda _request: next(answers)))
    assert await probe.adapters(URL) == {"pirate": "/models/abc"}
    assert await probe.adapters(URL) is None
    assert await probe.adapters(URL) is None
    await probe.close()


async def test_an_adapter_is_loaded_and_unloaded_by_vllms_own_words() -> None:
    asked: list[tuple[str, Any]] = []
    answers = iter(
        [
            httpx.Response(200, text="Success"),
            httpx.Response(500, json={"error": {"message": "LoRA rank 64 is greater than max_lora_rank 16."}}),
            httpx.Response(502, text="Bad Gateway"),
            httpx.Response(404, json={"error": None}),
        ]
    )

    def engine_that_loads(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        return next(answers)

    probe = EngineProbe(httpx.MockTransport(engine_that_loads))
    folder = Path("/models/abc")
    assert await probe.load_adapter(URL, "pirate", folder) == ""
    assert await probe.load_adapter(URL, "pirate", folder) == "the engine answered 500: LoRA rank 64 is greater than max_lora_rank 16."
    assert await probe.load_adapter(URL, "pirate", folder) == "the engine answered 502: Bad Gateway"
    assert (await probe.unload_adapter(URL, "pirate")).startswith("the engine answered 404")
    assert asked[0] == ("/v1/load_lora_adapter", {"lora_name": "pirate", "lora_path": "/models/abc"})
    assert asked[-1] == ("/v1/unload_lora_adapter", {"lora_name": "pirate"})
    await probe.close()


async def test_an_engine_that_is_gone_loads_nothing() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    probe = EngineProbe(httpx.MockTransport(refuse))
    assert await probe.adapters(URL) is None
    assert (await probe.load_adapter(URL, "pirate", Path("/models/abc"))).startswith("the engine did not answer: ConnectError")
    await probe.close()
