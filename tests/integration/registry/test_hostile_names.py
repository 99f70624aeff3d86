"""Names that try to lead elsewhere, at every address of the registry that takes one: none gets in, and none gets anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import pytest

from factories.hostile_names import HOSTILE_NAMES
from factories.registry import Registry
from quantry_core.keys import Role

CANARY = b"the canary that nobody may read"
PLACES: Mapping[str, tuple[str, str]] = {
    "a dataset to make": ("PUT", "/api/v1/datasets/{}"),
    "a dataset to read": ("GET", "/api/v1/datasets/{}/content"),
    "a file of an upload": ("PUT", "/api/v1/uploads/{upload}/files/{}"),
    "a file of a version": ("GET", "/api/v1/versions/{version}/files/{}"),
    "a job's artifact": ("GET", "/api/v1/jobs/{job}/artifacts/{}"),
    "a checkpoint's file": ("GET", "/api/v1/jobs/{job}/checkpoints/1/files/{}"),
    "a model": ("GET", "/api/v1/models/{}"),
    "an alias to set": ("PUT", "/api/v1/models/bard/aliases/{}"),
    "a version": ("GET", "/api/v1/versions/{}"),
    "a card": ("GET", "/api/v1/versions/{}/card"),
}
FINE = {
    "a dataset to make": {"con", "nul", "aux.txt", "lpt1"},
    "a file of an upload": {"con", "nul", "aux.txt", "lpt1", "config.json", "A", "a" * 65},
}
"""Plain names after all: on no system that this runs on do they mean anything else."""


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE_NAMES) >= 200


@pytest.mark.parametrize("place", PLACES)
async def test_no_name_leads_elsewhere(registry: Registry, place: str) -> None:
    async with registry.client(Role.OPERATOR) as client:
        upload = (await client.post("/api/v1/uploads", json={})).json()["id"]
    job = await registry.claim()
    method, template = PLACES[place]
    filled = template.replace("{upload}", upload).replace("{job}", job.id).replace("{version}", f"ver_{'0' * 32}")
    before = set(registry.parts.store.list(registry.parts.vault.bucket, "")) | set(
        registry.parts.store.list(registry.parts.staging.bucket, "")
    )
    names = [name for name in HOSTILE_NAMES if name not in FINE.get(place, ())]
    # By turns with all of it encoded and as it is: what a client library would tidy up is not tidied up here.
    turn = list(PLACES).index(place)
    spellings = [quote(name, safe="" if (number + turn) % 2 else "/%.;~") for number, name in enumerate(names)]
    answers = [(spelt, *await _ask(registry, method, filled.replace("{}", spelt))) for spelt in spellings]
    assert [(spelt, status) for spelt, status, _ in answers if status < 400 or status >= 500] == []
    assert [spelt for spelt, _, body in answers if b"root:" in body or CANARY in body] == []
    after = set(registry.parts.store.list(registry.parts.vault.bucket, "")) | set(
        registry.parts.store.list(registry.parts.staging.bucket, "")
    )
    assert after == before


async def _ask(registry: Registry, method: str, target: str) -> tuple[int, bytes]:
    """Returns status and body of a request whose target is sent exactly as it is written."""
    address = urlsplit(registry.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {registry.secrets[Role.OPERATOR]}\r\n"
        body = CANARY if method == "PUT" else b""
        writer.write(f"{head}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
