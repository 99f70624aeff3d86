"""Uploads: good texts get a number, bad ones leave nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from factories.registry import Registry
from quantry_core.keys import Role
from quantry_core.versions import blob_key


async def put(registry: Registry, name: str, content: bytes | AsyncIterator[bytes], role: Role = Role.OPERATOR) -> httpx.Response:
    async with registry.client(role) as client:
        return await client.put(f"/api/v1/datasets/{name}", content=content)


def vault_keys(registry: Registry) -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.vault.bucket, ""))


async def test_a_text_becomes_a_dataset(registry: Registry) -> None:
    text = "Shall I compare thee to a summer's day?\nÜber allen Gipfeln\n".encode()
    answer = await put(registry, "sonnets", text)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], made["number"], made["size_bytes"]) == ("sonnets", 1, len(text))
    assert made["sha256"] == hashlib.sha256(text).hexdigest()
    assert vault_keys(registry) == [blob_key(made["sha256"])]
    async with registry.client(Role.VIEWER) as client:
        for ref in ("sonnets", "sonnets@1", made["id"]):
            assert (await client.get(f"/api/v1/datasets/{ref}")).json() == made
        assert (await client.get(answer.headers["Location"])).json() == made
        assert (await client.get("/api/v1/datasets")).json()["data"] == [made]


async def test_texts_under_one_name_are_numbered_and_equal_ones_are_the_same(registry: Registry) -> None:
    first = await put(registry, "words", b"one")
    second = await put(registry, "words", b"two")
    again = await put(registry, "words", b"one")
    other = await put(registry, "phrases", b"one")
    assert [answer.status_code for answer in (first, second, again, other)] == [201, 201, 200, 201]
    assert [answer.json()["number"] for answer in (first, second, again, other)] == [1, 2, 1, 1]
    assert again.json() == first.json()
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/datasets/words")).json() == second.json()
    assert len(vault_keys(registry)) == 2


NO_TEXTS = [
    (b"", "the text is empty"),
    (b" \n", "nothing but white space"),
    (b"good\nb\xffad", "byte 6 (line 2)"),
    (b"good\nb\0ad", "NUL at byte 6 (line 2)"),
    (b"x" * 9_000_000 + b"\n\xe2\x82", "byte 9000001 (line 2)"),
]


async def test_what_is_no_text_leaves_nothing(registry: Registry) -> None:
    for content, words in NO_TEXTS:
        answer = await put(registry, "words", content)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:invalid-input"), answer.text
        assert words in answer.json()["detail"]
    assert vault_keys(registry) == []
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/datasets")).json()["data"] == []


async def in_pieces(num_bytes: int) -> AsyncIterator[bytes]:
    for _ in range(num_bytes // 100_000):
        yield b"word " * 20_000


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_text_that_is_too_long_leaves_nothing(registry: Registry, is_declared: bool) -> None:
    limit = registry.parts.settings.max_dataset_bytes
    answer = await put(registry, "words", b"x" * (limit + 1) if is_declared else in_pieces(2 * limit))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:quantry:problem:too-large"), answer.text
    assert str(limit) in answer.json()["detail"]
    assert vault_keys(registry) == []


async def test_the_longest_text_is_taken(registry: Registry) -> None:
    limit = registry.parts.settings.max_dataset_bytes
    answer = await put(registry, "words", b"x" * limit)
    assert (answer.status_code, answer.json()["size_bytes"]) == (201, limit)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(registry: Registry) -> None:
    host, _, port = registry.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    secret = registry.secrets[Role.OPERATOR]
    lines = ["PUT /api/v1/datasets/words HTTP/1.1", "Host: x", f"Authorization: Bearer {secret}", "Content-Length: 1000", "", "some words"]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/datasets")).json()["data"] == []
    assert vault_keys(registry) == []


async def test_the_same_text_at_once_is_one_dataset(registry: Registry) -> None:
    answers = await asyncio.gather(*(put(registry, "words", b"some words") for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}


async def test_what_is_no_name_is_refused(registry: Registry) -> None:
    for name in ["Words", "a%2Fb", "a..b", "a%00b", "-a", "a" * 65, "a" * 300, "%F0%9F%98%80"]:
        answer = await put(registry, name, b"some words")
        assert answer.status_code in {404, 422}, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert vault_keys(registry) == []


async def test_what_is_not_there(registry: Registry) -> None:
    async with registry.client(Role.VIEWER) as client:
        for ref, status, slug in [
            ("words", 404, "unknown-dataset"),
            ("words@production", 404, "unknown-dataset"),
            ("WORDS", 422, "invalid-name"),
            ("dat_" + "0" * 32, 404, "unknown-dataset"),
        ]:
            answer = await client.get(f"/api/v1/datasets/{ref}")
            assert (answer.status_code, answer.json()["type"]) == (status, f"urn:quantry:problem:{slug}"), answer.text


@pytest.mark.parametrize("role", [Role.VIEWER, Role.WORKER])
async def test_only_operators_upload(registry: Registry, role: Role) -> None:
    assert (await put(registry, "words", b"some words", role)).status_code == 403
    assert vault_keys(registry) == []
