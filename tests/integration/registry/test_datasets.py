"""Uploads: good texts get a number, bad ones leave nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from factories.registry import Registry
from quantry_core.audit import AuditFilter
from quantry_core.datasets import DatasetOrigin
from quantry_core.keys import Role
from quantry_core.versions import blob_key
from quantry_registry.datasets.built_in import BUILT_INS, run_seeding, seed_built_ins

ONE, TWO = b"one word and another " * 4, b"two words and others " * 4
CHAT = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": f"Answer {number}."}]})
    + "\n"
    for number in range(40)
).encode()


async def put(
    registry: Registry,
    name: str,
    content: bytes | AsyncIterator[bytes],
    role: Role = Role.OPERATOR,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    async with registry.client(role) as client:
        return await client.put(f"/api/v1/datasets/{name}", content=content, headers=headers)


async def derive(registry: Registry, name: str, *parents: str, **recipe: Any) -> httpx.Response:
    async with registry.client(Role.OPERATOR) as client:
        return await client.post(f"/api/v1/datasets/{name}/derive", json={"parents": [{"ref": parent} for parent in parents], **recipe})


async def get(registry: Registry, path: str, **headers: str) -> httpx.Response:
    async with registry.client(Role.VIEWER) as client:
        return await client.get(f"/api/v1/datasets/{path}", headers=headers)


def vault_keys(registry: Registry) -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.vault.bucket, ""))


async def test_a_text_becomes_a_dataset(registry: Registry) -> None:
    text = "Shall I compare thee to a summer's day?\nÜber allen Gipfeln ist Ruh, in allen Wipfeln\n".encode()
    answer = await put(registry, "sonnets", text)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], made["number"], made["size_bytes"]) == ("sonnets", 1, len(text))
    assert made["sha256"] == hashlib.sha256(text).hexdigest()
    assert (made["kind"], made["origin"], made["derivation"]) == ("text", "uploaded", None)
    assert (made["statistics"]["num_characters"], made["statistics"]["num_lines"]) == (85, 2)
    assert vault_keys(registry) == [blob_key(made["sha256"])]
    async with registry.client(Role.VIEWER) as client:
        for ref in ("sonnets", "sonnets@1", made["id"]):
            assert (await client.get(f"/api/v1/datasets/{ref}")).json() == made
        assert (await client.get(answer.headers["Location"])).json() == made
        assert (await client.get("/api/v1/datasets")).json()["data"] == [made]


async def test_lists_leave_out_the_lines_that_cannot_be_learned(registry: Registry) -> None:
    question = json.dumps({"messages": [{"role": "user", "content": "And what of this one?"}]}) + "\n"
    made = (await put(registry, "talks", CHAT + question.encode(), headers={"content-type": "application/jsonl"})).json()
    assert [row["line"] for row in made["statistics"]["untrainable_rows"]] == [41]
    async with registry.client(Role.VIEWER) as client:
        (listed,) = (await client.get("/api/v1/datasets")).json()["data"]
    assert (listed["statistics"]["num_untrainable_rows"], listed["statistics"]["untrainable_rows"]) == (1, [])
    assert (await get(registry, "talks")).json() == made


async def test_texts_under_one_name_are_numbered_and_equal_ones_are_the_same(registry: Registry) -> None:
    first = await put(registry, "words", ONE)
    second = await put(registry, "words", TWO)
    again = await put(registry, "words", ONE)
    other = await put(registry, "phrases", ONE)
    assert [answer.status_code for answer in (first, second, again, other)] == [201, 201, 200, 201]
    assert [answer.json()["number"] for answer in (first, second, again, other)] == [1, 2, 1, 1]
    assert again.json() == first.json()
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/datasets/words")).json() == second.json()
    assert len(vault_keys(registry)) == 2


NO_TEXTS = [
    (b"", "the text is empty"),
    (b" \n", "nothing but white space"),
    (b"a few words", "has 11 characters of text; at least 64 are needed"),
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
    answers = await asyncio.gather(*(put(registry, "words", ONE) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}


async def test_what_is_no_name_is_refused(registry: Registry) -> None:
    for name in ["Words", "a%2Fb", "a..b", "a%00b", "-a", "a" * 65, "a" * 300, "%F0%9F%98%80"]:
        answer = await put(registry, name, ONE)
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
    assert (await put(registry, "words", ONE, role)).status_code == 403
    assert vault_keys(registry) == []


async def test_rows_are_told_by_their_first_line_and_counted(registry: Registry) -> None:
    for name, headers, path in (("chats", {}, ""), ("declared", {"Content-Type": "application/jsonl"}, ""), ("asked", {}, "?kind=chat")):
        answer = await put(registry, name + path, CHAT, headers=headers)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["kind"], made["statistics"]["num_rows"]) == ("chat", 40)
        assert made["statistics"]["num_messages"] == {"assistant": 40, "user": 40}
        assert (await get(registry, answer.headers["Location"].rpartition("/")[2])).json() == made
    as_text = await put(registry, "chats?kind=text", CHAT)
    assert (as_text.status_code, as_text.json()["type"]) == (409, "urn:quantry:problem:conflict")
    assert "as kind chat, not text" in as_text.json()["detail"]


async def test_bad_rows_are_told_by_their_lines_and_leave_nothing(registry: Registry) -> None:
    answer = await put(registry, "chats.jsonl", CHAT + b'nonsense\n{"text": "no chat"}\n' + CHAT)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:invalid-input")
    assert [problem["field"] for problem in answer.json()["errors"]] == ["line 41", "line 42"]
    assert "line 41 is not JSON" in answer.json()["detail"]
    assert vault_keys(registry) == []


async def test_a_preview_is_the_beginning(registry: Registry) -> None:
    await put(registry, "chats", CHAT)
    await put(registry, "prose", b"first line\n" + ONE)
    shown = (await get(registry, "chats/preview?limit=2")).json()
    assert (shown["ref"], shown["kind"], shown["has_more"]) == ("chats@1", "chat", True)
    assert shown["items"] == [json.loads(line) for line in CHAT.splitlines()[:2]]
    assert (await get(registry, "prose/preview")).json()["items"] == ["first line", ONE.decode()]
    assert (await get(registry, "prose/preview?limit=0")).status_code == 422
    assert (await get(registry, "nothing/preview")).status_code == 404


async def test_the_bytes_come_back_whole_and_in_ranges(registry: Registry) -> None:
    made = (await put(registry, "chats", CHAT)).json()
    whole = await get(registry, "chats@1/content")
    assert (whole.status_code, whole.content) == (200, CHAT)
    assert whole.headers["Content-Disposition"] == 'attachment; filename="chats-1.jsonl"'
    assert whole.headers["ETag"] == f'"{made["sha256"]}"'
    part = await get(registry, "chats/content", Range="bytes=10-19")
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, CHAT[10:20], f"bytes 10-19/{len(CHAT)}")
    assert (await get(registry, "chats/content", Range=f"bytes={len(CHAT)}-")).status_code == 416
    assert (await get(registry, "chats/content", **{"If-None-Match": whole.headers["ETag"]})).status_code == 304


async def test_a_derived_dataset_says_what_it_was_made_from(registry: Registry) -> None:
    parent = (await put(registry, "chats", CHAT)).json()
    recipe = {"num_items": 20, "shuffle": True, "seed": 5}
    made = await derive(registry, "few", "chats", **recipe)
    assert made.status_code == 201, made.text
    few = made.json()
    assert (few["name"], few["number"], few["kind"], few["origin"]) == ("few", 1, "chat", "derived")
    assert few["statistics"]["num_rows"] == 20
    assert few["derivation"]["parents"] == [{"id": parent["id"], "ref": "chats@1", "sha256": parent["sha256"]}]
    assert few["derivation"]["recipe"]["parents"] == [{"ref": "chats@1", "weight": None}]
    assert few["derivation"]["recipe"]["seed"] == 5
    lines = (await get(registry, "few/content")).content.splitlines()
    assert len(set(lines) & set(CHAT.splitlines())) == len(lines) == 20
    again = await derive(registry, "few", "chats@1", **recipe)
    assert (again.status_code, again.json()) == (200, few)
    assert (await derive(registry, "few", "chats", **(recipe | {"seed": 6}))).json()["number"] == 2
    async with registry.database.begin() as uow:
        entries = (await uow.audit.list(parent["project_id"], limit=10)).data
    assert [entry.data["parents"] for entry in entries if "parents" in entry.data] == [["chats@1"], ["chats@1"]]


async def test_what_cannot_be_derived_is_refused(registry: Registry) -> None:
    await put(registry, "chats", CHAT)
    await put(registry, "prose", ONE)
    for parents, recipe, status, words in (
        (["chats", "prose"], {}, 422, "of one kind, not from chats@1 (chat), prose@1 (text)"),
        (["chats"], {"num_items": 41}, 422, "41 items of chats@1 are asked for, but only 40 are left"),
        (["chats"], {"num_items": 2}, 422, "characters of text; at least 64 are needed"),
        (["chats"], {"max_characters": 1}, 422, "no item is left"),
        (["fables"], {}, 404, "no dataset 'fables'"),
        (["chats"], {"shuffel": True}, 422, "shuffel"),
    ):
        answer = await derive(registry, "made", *parents, **recipe)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert (await get(registry, "made")).status_code == 404


async def test_built_in_datasets_are_in_every_project_and_nobody_elses(registry: Registry) -> None:
    async with registry.database.begin() as uow:
        other = await uow.projects.get_or_create("other")
    vault = registry.parts.vault
    assert await seed_built_ins(registry.database, vault, BUILT_INS) == 2 * len(BUILT_INS)
    assert await seed_built_ins(registry.database, vault, BUILT_INS) == 0
    for built_in in BUILT_INS:
        shown = (await get(registry, built_in.name)).json()
        assert (shown["origin"], shown["kind"], shown["sha256"]) == (DatasetOrigin.BUILT_IN, built_in.kind, built_in.sha256)
        async with registry.database.begin() as uow:
            assert (await uow.datasets.resolve(other, built_in.name)).sha256 == built_in.sha256
    assert (await get(registry, "builtin.chat.calibration/content")).content == BUILT_INS[2].content
    for answer in (await put(registry, "builtin.prose.test", ONE), await derive(registry, "builtin.mine", "builtin.prose.test")):
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:invalid-name")
        assert "the platform's own" in answer.json()["detail"]
    async with registry.database.begin() as uow:
        entries = (await uow.audit.list(other, AuditFilter(noun="dataset"), limit=10)).data
    assert [(entry.action, entry.key_id) for entry in entries] == [("dataset.add", None)] * len(BUILT_INS)


async def test_a_new_project_soon_has_the_built_in_datasets(registry: Registry) -> None:
    settings = registry.parts.settings.model_copy(update={"registry_seed_interval_s": 0.05})
    seeding = asyncio.create_task(run_seeding(registry.database, dataclasses.replace(registry.parts, settings=settings), BUILT_INS[:1]))
    try:
        async with registry.database.begin() as uow:
            project_id = await uow.projects.get_or_create("late")
        async with asyncio.timeout(10):
            while True:
                async with registry.database.begin() as uow:
                    if (await uow.datasets.list(project_id)).data:
                        break
                await asyncio.sleep(0.05)
    finally:
        seeding.cancel()
    assert not seeding.done()
