"""Captured prompts become a dataset: opened, scrubbed, and checked like every other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from factories.registry import Registry
from factories.store import Platform
from quantry_core.captures import CaptureSettings
from quantry_core.errors import Conflict
from quantry_core.keys import Role
from quantry_core.rollouts import Rollout
from quantry_registry.captures.service import dataset_of_captures
from quantry_store.capture_cipher import CaptureCipher
from quantry_store.repositories.captures import EncryptedPrompt
from quantry_store.transactions import record_captures, set_capture

from .conftest import CAPTURE_KEY

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
BEGAN = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def rollout(registry: Registry) -> Rollout:
    """A deployment ``chat`` that keeps prompts."""
    admin = registry.identities[Role.ADMIN]
    platform = Platform(url="", database=registry.database, admin=admin, worker=registry.identities[Role.WORKER])
    promoted = await platform.promoted(await platform.master())
    async with registry.database.begin() as uow:
        await set_capture(uow, admin, "chat", CaptureSettings(percent=100))
    return promoted


async def keep(registry: Registry, rollout: Rollout, *prompts: tuple[str, Any], key: str = CAPTURE_KEY, start: int = 0) -> None:
    cipher = CaptureCipher.of(SecretStr(key))
    told = [
        EncryptedPrompt(
            id=f"cap_{number:04d}",
            deployment_id=rollout.deployment_id,
            release_id=rollout.to_release_id,
            path=path,
            ciphertext=cipher.encrypt(json.dumps(prompt)),
            captured_at=BEGAN + timedelta(seconds=number),
        )
        for number, (path, prompt) in enumerate(prompts, start)
    ]
    async with registry.database.begin() as uow:
        assert await record_captures(uow, told) == len(told)


async def make(registry: Registry, name: str = "asked", deployment: str = "chat", role: Role = Role.OPERATOR) -> httpx.Response:
    async with registry.client(role) as client:
        return await client.post(f"/api/v1/deployments/{deployment}/capture/dataset", json={"name": name})


async def content(registry: Registry, ref: str) -> str:
    async with registry.client(Role.VIEWER) as client:
        return (await client.get(f"/api/v1/datasets/{ref}/content")).text


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def test_chats_become_scrubbed_rows(registry: Registry, rollout: Rollout) -> None:
    chat = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "I am ada@example.org,"}, {"type": "text", "text": "call +49 30 90182017."}]},
    ]
    prompts = [
        (CHAT, chat),
        (CHAT, asked("What is the capital of France, if I may ask you that today?")),
        (CHAT, [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]),
        (CHAT, [{"role": "tool", "content": "42"}]),
        (CHAT, "not messages"),
        (TEXT, "once upon a time"),
    ]
    await keep(registry, rollout, *prompts)
    answer = await make(registry)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/api/v1/datasets/{made['id']}"
    assert (made["name"], made["number"], made["kind"], made["origin"]) == ("asked", 1, "chat", "captured")
    captured = made["statistics"]["captured"]
    assert (captured["deployment"], captured["num_prompts"], captured["num_left_out"], captured["num_unreadable"]) == ("chat", 2, 4, 0)
    assert captured["num_scrubbed"] == {"email": 1, "phone": 1}
    assert [datetime.fromisoformat(captured[side]) for side in ("oldest_at", "newest_at")] == [BEGAN, BEGAN + timedelta(seconds=1)]
    first, second = [json.loads(line) for line in (await content(registry, "asked")).splitlines()]
    assert first["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "I am <email>,\ncall <phone>."},
    ]
    assert second["messages"][0]["content"].startswith("What is the capital")
    again = await make(registry)
    assert (again.status_code, again.json()["id"]) == (200, made["id"])


async def test_texts_of_completions_become_rows(registry: Registry, rollout: Rollout) -> None:
    long = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals."
    await keep(registry, rollout, (TEXT, long), (TEXT, ["one after", "the other"]), (TEXT, [1, 2, 3]), (CHAT, asked("hello")))
    made = (await make(registry)).json()
    assert (made["kind"], made["statistics"]["captured"]["num_prompts"], made["statistics"]["captured"]["num_left_out"]) == ("rows", 2, 2)
    rows = [json.loads(line)["text"] for line in (await content(registry, "asked")).splitlines()]
    assert rows == [long, "one after", "the other"]


async def test_many_prompts_are_read_look_by_look(registry: Registry, rollout: Rollout) -> None:
    await keep(registry, rollout, *[(TEXT, f"prompt number {number} of many") for number in range(450)])
    made = (await make(registry)).json()
    assert made["statistics"]["captured"]["num_prompts"] == 450
    assert (await content(registry, "asked")).count("\n") == 450


async def test_prompts_of_a_lost_key_are_counted_and_left(registry: Registry, rollout: Rollout) -> None:
    lost = Fernet.generate_key().decode()
    await keep(registry, rollout, (CHAT, asked("sealed for ever")), key=lost)
    refused = await make(registry)
    assert (refused.status_code, "QUANTRY_CAPTURE_KEYS lacks their key" in refused.json()["detail"]) == (409, True)
    await keep(registry, rollout, (CHAT, asked("What is the capital of France, and of which others was it the capital?")), start=1)
    assert (await make(registry)).json()["statistics"]["captured"]["num_unreadable"] == 1


async def test_what_cannot_be_a_dataset_is_refused(registry: Registry, rollout: Rollout) -> None:
    nothing = await make(registry)
    assert (nothing.status_code, "has captured no prompt yet" in nothing.json()["detail"]) == (409, True)
    await keep(registry, rollout, (TEXT, "too short"))
    for name, deployment, role, status in (
        ("asked", "chat", Role.OPERATOR, 422),
        ("asked", "nothing", Role.OPERATOR, 404),
        ("builtin.asked", "chat", Role.OPERATOR, 422),
        ("Bad Name", "chat", Role.OPERATOR, 422),
        ("asked", "chat", Role.VIEWER, 403),
    ):
        answer = await make(registry, name, deployment, role)
        assert (name, deployment, role, answer.status_code) == (name, deployment, role, status)


async def test_without_a_key_nothing_is_opened(registry: Registry, rollout: Rollout) -> None:
    parts = replace(registry.parts, capture_cipher=None)
    with pytest.raises(Conflict, match="there is no key here"):
        await dataset_of_captures(registry.database, parts, registry.identities[Role.OPERATOR], "chat", "asked")
