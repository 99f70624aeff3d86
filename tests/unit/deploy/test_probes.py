"""The questions a started engine must answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from quantry_core.jobs import EngineKind
from quantry_deploy.drivers.gauges import Load
from quantry_deploy.drivers.probes import MAX_TOLD_CHARS, EngineProbe, Target

URL = "http://127.0.0.1:8001"
TARGET = Target(URL, "chat", mark="rep_1")


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


async def doubt(transport: httpx.MockTransport, target: Target = TARGET) -> str:
    probe = EngineProbe(transport)
    try:
        return await probe.doubt(target)
    finally:
        await probe.close()


async def test_one_token_of_the_right_model_dispels_every_doubt() -> None:
    assert await doubt(engine()) == ""


async def test_another_replica_on_the_port_is_noticed() -> None:
    assert "it serves chat, rep_2" in await doubt(engine(names=("chat", "rep_2")))


async def test_a_server_of_something_else_is_noticed() -> None:
    assert "it serves nothing" in await doubt(engine(names=()))


async def test_whatever_a_server_answers_can_be_recorded() -> None:
    listed = json.dumps({"data": [{"id": "a\x00b\ud800c"}, *({"id": f"model-{number}"} for number in range(1000))]})
    odd = await doubt(httpx.MockTransport(lambda _request: httpx.Response(200, text=listed)))
    assert "ab?c" in odd
    assert len(odd) <= MAX_TOLD_CHARS
    nothing = httpx.MockTransport(lambda _request: httpx.Response(200, json={"data": None}))
    assert "TypeError" in await doubt(nothing)
    probe = EngineProbe(nothing)
    assert await probe.adapters(URL) is None
    await probe.close()


async def test_llama_cpp_shows_the_replica_as_a_tag_of_its_model() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "chat", "aliases": ["chat"], "tags": ["rep_1"]}]})
        return httpx.Response(200, json={"choices": [{"text": ""}]})

    target = Target(URL, "chat", EngineKind.LLAMA_CPP, mark="rep_1")
    assert await doubt(httpx.MockTransport(answer), target) == ""
    assert "not chat as replica rep_2" in await doubt(httpx.MockTransport(answer), Target(URL, "chat", EngineKind.LLAMA_CPP, mark="rep_2"))


async def test_sglang_shows_the_replica_as_the_version_of_its_weights() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/v1/models":
                return httpx.Response(200, json={"data": [{"id": "chat", "root": "chat"}]})
            case "/model_info":
                return httpx.Response(200, json={"model_path": "/models/abc", "weight_version": "rep_1"})
            case _:
                return httpx.Response(200, json={"choices": [{"text": ""}]})

    assert await doubt(httpx.MockTransport(answer), Target(URL, "chat", EngineKind.SGLANG, mark="rep_1")) == ""
    other = await doubt(httpx.MockTransport(answer), Target(URL, "chat", EngineKind.SGLANG, mark="rep_2"))
    assert other == "it shows rep_1 as its weight_version, not replica rep_2"


@pytest.mark.parametrize("target", [Target(URL, "chat", EngineKind.LMDEPLOY, mark="rep_1"), Target(URL, "chat")])
async def test_where_nothing_shows_the_replica_its_model_must_do(target: Target) -> None:
    assert await doubt(engine(names=("chat",)), target) == ""
    assert "it serves other, not chat" in await doubt(engine(names=("other",)), target)


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"Location": "http://10.0.0.1/health"})

    probe = EngineProbe(httpx.MockTransport(elsewhere))
    assert await probe.answers(TARGET) is False
    assert asked == ["127.0.0.1"]
    await probe.close()


async def test_an_engine_says_how_busy_it_is_and_one_that_does_not_is_not_known() -> None:
    text = 'vllm:num_requests_waiting{engine="0",model_name="chat"} 3.0\nvllm:kv_cache_usage_perc{engine="0"} 0.25\n'
    answers = iter([httpx.Response(200, text=text), httpx.Response(404), httpx.Response(200, text="<html>")])
    probe = EngineProbe(httpx.MockTransport(lambda _request: next(answers)))
    assert await probe.load(TARGET) == Load(num_running=None, num_waiting=3.0, kv_use=0.25)
    assert [await probe.load(TARGET), await probe.load(TARGET)] == [Load(), Load()]
    await probe.close()


@pytest.mark.parametrize("completion", [(500, {"error": "kernel"}), (200, {"choices": []}), (200, {}), (200, [])])
async def test_a_completion_that_is_none_is_noticed(completion: tuple[int, Any]) -> None:
    assert "a completion of one token" in await doubt(engine(completion=completion))


@pytest.mark.parametrize(("status", "answers"), [(200, True), (503, False), (404, False)])
async def test_health_is_200_and_nothing_else(status: int, answers: bool) -> None:
    probe = EngineProbe(engine(health=status))
    assert await probe.answers(TARGET) is answers
    await probe.close()


async def test_no_answer_is_no_health() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    probe = EngineProbe(httpx.MockTransport(refuse))
    assert await probe.answers(TARGET) is False
    assert "ConnectError" in await probe.doubt(TARGET)
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
