"""OpenAI's files API through the gateway, called by the real client and by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from factories.gateway import gateway_settings, refusing_url, running_gateway
from factories.registry import Registry
from quantry_core.keys import Role

from .conftest import MAX_DATASET_BYTES

ROWS = [
    {"messages": [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": f"Answer {number}."}]}
    for number in range(8)
]


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


CHATS = lines(*ROWS)
PROMPT = lines({"messages": [{"role": "user", "content": "Who speaks in the tempest, and of what, and to whom, and why at all?"}]})


@pytest.fixture
async def url(registry: Registry, tmp_path: Path) -> AsyncIterator[str]:
    """A gateway before the registry; nothing answers for the api."""
    async with running_gateway(gateway_settings(tmp_path, refusing_url(), registry_url=registry.url)) as gateway_url:
        yield gateway_url


@pytest.fixture
async def files(registry: Registry, url: str) -> AsyncIterator[openai.resources.AsyncFiles]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=registry.secrets[Role.OPERATOR], max_retries=0) as client:
        yield client.files


@pytest.fixture
async def operator(registry: Registry, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client with an operator's key."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {registry.secrets[Role.OPERATOR]}"}) as client:
        yield client


async def test_the_openai_client_uploads_finds_reads_and_deletes_a_file(registry: Registry, files: openai.resources.AsyncFiles) -> None:
    made = await files.create(file=("Ask and Answer.jsonl", CHATS), purpose="fine-tune")
    assert made.id.startswith("dat_")
    assert (made.object, made.bytes, made.filename) == ("file", len(CHATS), "ask-and-answer.jsonl")
    assert (made.purpose, made.status) == ("fine-tune", "processed")
    assert await files.retrieve(made.id) == made
    assert (await files.content(made.id)).content == CHATS
    assert (await files.wait_for_processing(made.id)).id == made.id
    async with registry.client(Role.VIEWER) as client:
        dataset = (await client.get(f"/api/v1/datasets/{made.id}")).json()
    assert (dataset["name"], dataset["number"], dataset["kind"], dataset["purpose"]) == ("ask-and-answer", 1, "chat", "fine-tune")
    assert dataset["statistics"]["num_messages"] == {"assistant": 8, "user": 8}

    again = await files.create(file=("ask-and-answer.jsonl", CHATS), purpose="fine-tune")
    assert again == made
    other = await files.create(file=("ask-and-answer.jsonl", CHATS + PROMPT), purpose="user_data")
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get(f"/api/v1/datasets/{other.id}")).json()["number"] == 2
    assert [one.id async for one in files.list()] == [other.id, made.id]
    assert [one.id async for one in files.list(limit=1)] == [other.id, made.id]
    assert [one.id async for one in files.list(purpose="fine-tune")] == [made.id]
    assert [one.id async for one in files.list(purpose="user_data")] == [other.id]

    deleted = await files.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
    for call in (files.retrieve, files.content, files.delete):
        with pytest.raises(openai.NotFoundError) as missing:
            await call(made.id)
        assert missing.value.code == "unknown_dataset"
    assert [one.id async for one in files.list()] == [other.id]
    assert (await files.create(file=("ask-and-answer.jsonl", CHATS), purpose="user_data")).purpose == "user_data"
    assert (await files.retrieve(made.id)).filename == made.filename


async def test_a_dataset_is_a_file_for_any_use(registry: Registry, files: openai.resources.AsyncFiles) -> None:
    async with registry.client(Role.OPERATOR) as client:
        dataset = (await client.put("/api/v1/datasets/sonnets", content=b"Shall I compare thee to a summer's day? " * 3)).json()
    file = await files.retrieve(dataset["id"])
    assert (file.filename, file.purpose, file.bytes) == ("sonnets.txt", "user_data", dataset["size_bytes"])


async def test_rows_that_cannot_be_trained_on_are_refused_with_their_lines(files: openai.resources.AsyncFiles) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await files.create(file=("chats.jsonl", CHATS + PROMPT + lines({"text": "x"})), purpose="fine-tune")
    error = refused.value
    assert isinstance(error.body, dict)
    assert (error.type, error.code, error.param) == ("invalid_request_error", "invalid_input", "line 9")
    assert "line 9 has no assistant turn: there is no answer to learn; there are 2 problems in all" in error.body["message"]
    assert [one["field"] for one in error.body["errors"]] == ["line 9", "line 10"]
    assert (await files.create(file=("chats.jsonl", CHATS + PROMPT), purpose="user_data")).bytes == len(CHATS + PROMPT)


BAD_FORMS: list[tuple[dict[str, str], dict[str, tuple[str, bytes]], str | None, str]] = [
    ({"purpose": "assistants"}, {"file": ("a.jsonl", CHATS)}, "purpose", "'assistants' is not known here; take fine-tune or user_data"),
    ({}, {"file": ("a.jsonl", CHATS)}, "purpose", "a purpose is needed: fine-tune or user_data"),
    ({"purpose": "fine-tune"}, {"other": ("a.jsonl", CHATS)}, "file", "a form with a file in the field 'file' is needed"),
    ({"purpose": "fine-tune"}, {"file": ("???.jsonl", CHATS)}, "file", "'???.jsonl' cannot be made the name of a dataset"),
    ({"purpose": "fine-tune"}, {"file": ("x" * 65 + ".jsonl", CHATS)}, "file", "a name has at most 64 characters"),
    ({"purpose": "fine-tune"}, {"file": ("builtin.chat.jsonl", CHATS)}, None, "names that begin with builtin. are the platform's own"),
    ({"purpose": "fine-tune"}, {"file": ("a.jsonl", b"")}, None, "the file is empty"),
    (
        {"purpose": "fine-tune", "expires_after[anchor]": "created_at"},
        {"file": ("a.jsonl", CHATS)},
        "expires_after",
        "files here do not expire",
    ),
]
"""Fields, file, the field that is bad, and words of what is said."""


async def test_bad_forms_are_told(operator: httpx.AsyncClient) -> None:
    for fields, files_sent, param, words in BAD_FORMS:
        answer = await operator.post("/v1/files", data=fields, files=files_sent)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json"), words
        error = answer.json()["error"]
        assert words in error["message"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
    listed = (await operator.get("/v1/files")).json()
    assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_bodies_that_are_no_form_or_too_long_are_told(operator: httpx.AsyncClient) -> None:
    no_form = await operator.post("/v1/files", json={"purpose": "fine-tune"})
    no_boundary = await operator.post("/v1/files", content=CHATS, headers={"Content-Type": "multipart/form-data"})
    long = await operator.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.txt", b"x" * (MAX_DATASET_BYTES + 70_000))})
    assert (no_form.status_code, no_form.json()["error"]["code"]) == (400, "invalid_input")
    assert "multipart/form-data" in no_form.json()["error"]["message"]
    assert (no_boundary.status_code, no_boundary.json()["error"]["code"]) == (400, "invalid_input")
    assert "boundary" in no_boundary.json()["error"]["message"]
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")


async def test_a_long_file_goes_through(files: openai.resources.AsyncFiles) -> None:
    content = lines(*({"prompt": f"Count to {number}.", "completion": "One, two, three. " * 60} for number in range(9000)))
    assert 9 * 1024**2 < len(content) < MAX_DATASET_BYTES
    made = await files.create(file=("counts.jsonl", content), purpose="fine-tune")
    assert (await files.content(made.id)).content == content


async def test_keys_and_lists_are_checked_in_openai_s_words(registry: Registry, url: str) -> None:
    async with httpx.AsyncClient() as client:
        nobody = await client.get(f"{url}/v1/files")
        viewer = {"Authorization": f"Bearer {registry.secrets[Role.VIEWER]}"}
        reader = await client.post(f"{url}/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", CHATS)}, headers=viewer)
        asked = [
            await client.get(f"{url}/v1/files{path}", headers=viewer)
            for path in ("?order=asc", "?limit=0", "?after=x", "/file-abc", "/x/y")
        ]
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (reader.status_code, reader.json()["error"]["code"]) == (403, "forbidden")
    assert [answer.status_code for answer in asked] == [400, 400, 400, 404, 404]
    assert all(set(answer.json()["error"]) == {"message", "type", "param", "code", "errors"} for answer in asked)


async def test_a_service_that_is_away_answers_in_openai_s_words(url: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/v1/fine_tuning/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "unavailable", None)
    assert "api" in error["message"]


async def test_the_document_has_openai_s_errors(registry: Registry) -> None:
    async with registry.client(Role.VIEWER) as client:
        document = (await client.get("/api/v1/registry/openapi.json")).json()
    for path in ("/v1/files", "/v1/files/{file_id}", "/v1/files/{file_id}/content"):
        for operation in document["paths"][path].values():
            refusals = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert {"400", "401", "403", "503"} <= set(refusals)
            assert "422" not in refusals
            schemas = [answer["content"]["application/json"]["schema"]["$ref"] for answer in refusals.values()]
            assert set(schemas) == {"#/components/schemas/OpenAIErrorBody"}
    assert set(document["components"]["schemas"]["OpenAIErrorDetail"]["properties"]) == {"message", "type", "param", "code", "errors"}
