"""The real OpenAI client against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest
from aiohttp import web
from openai.types.chat import ChatCompletionChunk

from factories.gateway import KEY, StartEngines, StartGateway, answer_normally, chat_event, cut, stream


@asynccontextmanager
async def client_of(url: str, key: str = KEY) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def collect(chunks: openai.AsyncStream[ChatCompletionChunk], seen: list[str | None]) -> None:
    async for chunk in chunks:
        seen.append(chunk.choices[0].delta.content)


async def test_models_are_the_deployments_of_the_project(start_gateway: StartGateway) -> None:
    url = await start_gateway()
    async with client_of(url) as client:
        models = await client.models.list()
        assert [(model.id, model.object, model.created) for model in models.data] == [("bard", "model", 1795348800)]
        assert (await client.models.retrieve("bard")).id == "bard"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("other")
    assert missing.value.code == "model_not_found"


async def test_completion_chat_and_stream(start_engines: StartEngines, start_gateway: StartGateway) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    async with client_of(url) as client:
        completion = await client.completions.create(model="bard", prompt="To be")
        assert completion.choices[0].text == " or not"
        chat = await client.chat.completions.create(model="bard", messages=[{"role": "user", "content": "Speak"}])
        assert chat.choices[0].message.content == "To be"
        chunks = await client.chat.completions.create(model="bard", messages=[{"role": "user", "content": "Speak"}], stream=True)
        assert [chunk.choices[0].delta.content async for chunk in chunks] == ["To", " be"]


async def test_a_cut_stream_ends_with_an_error(start_engines: StartEngines, start_gateway: StartGateway) -> None:
    async def cut_in_the_middle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        # Half an event at the end: it must not be glued to the error.
        await response.write(chat_event("To") + chat_event(" be")[:40])
        cut(request)
        return response

    [engine] = await start_engines(cut_in_the_middle)
    url = await start_gateway(engine.url)
    seen: list[str | None] = []
    async with client_of(url) as client:
        chunks = await client.chat.completions.create(model="bard", messages=[{"role": "user", "content": "Speak"}], stream=True)
        with pytest.raises(openai.APIError, match="broke off in the middle"):
            await collect(chunks, seen)
    assert seen == ["To"]


async def test_a_stream_without_its_end_mark_is_an_error_too(start_engines: StartEngines, start_gateway: StartGateway) -> None:
    async def end_too_early(request: web.Request) -> web.StreamResponse:
        return await stream(request, [chat_event("To")])

    [engine] = await start_engines(end_too_early)
    url = await start_gateway(engine.url)
    async with client_of(url) as client:
        chunks = await client.chat.completions.create(model="bard", messages=[{"role": "user", "content": "Speak"}], stream=True)
        with pytest.raises(openai.APIError, match="without finishing"):
            await collect(chunks, [])


async def test_a_wrong_key_and_an_unknown_model(start_gateway: StartGateway) -> None:
    url = await start_gateway()
    async with client_of(url, "qtr_nobody") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
    assert refused.value.code == "invalid_api_key"
    async with client_of(url) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.completions.create(model="nobody", prompt="x")
        assert missing.value.code == "model_not_found"
        assert missing.value.param == "model"
        with pytest.raises(openai.InternalServerError) as away:
            await client.completions.create(model="bard", prompt="x")
    assert away.value.status_code == 503
    assert away.value.response.headers["retry-after"] == "2"
