"""What a verification does about damage: never to good bytes, told once, told to whom it concerns, and over when the bytes are back."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.registry import Registry
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_core.keys import Role
from quantry_core.versions import Version, VersionKind, blob_key
from quantry_registry.vault.service import play_next

README = b"0123456789"
README_SHA256 = hashlib.sha256(README).hexdigest()
CONTENTS = master_contents() | {"README.md": README}
QUANTIZED = {
    **master_contents(
        model__safetensors=safetensors_bytes({"a.weight_packed": ("I32", (4, 1))}),
        config__json=json.dumps(CONFIG | {"quantization_config": {}}).encode(),
    ),
    "README.md": README,
    "generation_config.json": b"{}",
}
WRONG = b"1123456789"


def put(registry: Registry, content: bytes, sha256: str = README_SHA256) -> None:
    store, bucket = registry.parts.store, registry.parts.vault.bucket
    store.delete(bucket, blob_key(sha256))
    store.put_stream(bucket, blob_key(sha256), io.BytesIO(content))


def lose(registry: Registry, sha256: str = README_SHA256) -> None:
    registry.parts.store.delete(registry.parts.vault.bucket, blob_key(sha256))


def keys(registry: Registry, prefix: str) -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.vault.bucket, prefix))


def sql(registry: Registry, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    url = registry.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


async def verify(registry: Registry, secret: str | None = None, **request: Any) -> dict[str, Any]:
    """Asks for a verification over HTTP, plays it, and returns the run as it is shown then."""
    headers = {"Authorization": f"Bearer {secret or registry.secrets[Role.ADMIN]}"}
    async with httpx.AsyncClient(base_url=registry.url, headers=headers) as client:
        asked = await client.post("/api/v1/vault/verify", json=request)
        assert asked.status_code == 202, asked.text
        assert await play_next(registry.database, registry.parts) is not None
        shown: dict[str, Any] = (await client.get(f"/api/v1/vault/runs/{asked.json()['id']}")).json()
        listed = (await client.get("/api/v1/vault/runs")).json()["data"]
    assert listed[0] == shown
    assert "cursor" not in shown["report"]
    return shown


async def quantize(registry: Registry, folder: Path) -> Version:
    async with registry.client(Role.OPERATOR) as client:
        await client.put("/api/v1/datasets/words", content=b"some words " * 200)
    job = await registry.claim(QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["words"]), quality=None))
    files = registry.stage(job, QUANTIZED, folder)
    assert (await registry.seal(job, files)).status_code == 200
    return await registry.finish(job, files, VersionKind.QUANTIZED)


async def told_of(registry: Registry, version: Version) -> tuple[str, list[tuple[str, str | None]]]:
    """Returns a version's state, and what verifications said of it."""
    async with registry.client(Role.VIEWER) as client:
        detail = (await client.get(f"/api/v1/versions/{version.id}")).json()
    evidence = [item for item in detail["evidence"] if item["name"] == "integrity"]
    return detail["state"], [(item["verdict"], item["metrics"].get("found")) for item in evidence]


def do_once_damage_is_seen(registry: Registry, monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Has something happen between the reading that finds a damage and what is done about it."""
    check, is_done = registry.parts.vault.check, list[bool]()

    def check_and_do(sha256: str, size_bytes: int) -> str | None:
        words = check(sha256, size_bytes)
        if words is not None and not is_done:
            is_done.append(True)
            what()
        return words

    monkeypatch.setattr(registry.parts.vault, "check", check_and_do)


@pytest.mark.parametrize("damage", [lose, lambda registry: put(registry, WRONG)], ids=["missing", "wrong"])
async def test_bytes_that_come_back_while_others_are_read_stay(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    master = await registry.import_master(tmp_path, CONTENTS)
    damage(registry)
    do_once_damage_is_seen(registry, monkeypatch, lambda: put(registry, README))
    done = await verify(registry)
    assert (done["status"], done["report"]["num_damaged"]) == ("succeeded", 0), done
    assert keys(registry, "damaged/") == []
    assert await told_of(registry, master) == ("ready", [])
    assert sql(registry, "select count(*) from blobs where verified_at is null") == [(0,)]


async def test_a_blob_that_is_collected_while_others_are_read_is_no_damage(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    async with registry.database.begin() as uow:
        await uow.blobs.add({README_SHA256: len(README)})
    do_once_damage_is_seen(registry, monkeypatch, lambda: sql(registry, "delete from blobs"))
    done = await verify(registry)
    assert (done["status"], done["report"]["num_damaged"]) == ("succeeded", 0), done


async def test_whoever_notes_bytes_waits_while_they_are_put_aside_and_then_finds_them_gone(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another registry takes a damaged object of the right size for the blob: its note is what tells it otherwise."""
    await registry.import_master(tmp_path, CONTENTS)
    put(registry, WRONG)
    set_aside, is_inside = registry.parts.vault.set_aside, threading.Event()

    def slowly(sha256: str, size_bytes: int) -> Any:
        is_inside.set()
        time.sleep(0.5)
        return set_aside(sha256, size_bytes)

    monkeypatch.setattr(registry.parts.vault, "set_aside", slowly)
    verifying = asyncio.create_task(verify(registry))
    assert await asyncio.to_thread(is_inside.wait, 20)
    async with registry.database.begin() as uow:
        await uow.blobs.add({README_SHA256: len(README)})
        assert not registry.parts.vault.contains(README_SHA256, len(README))
    assert (await verifying)["status"] == "failed"


async def test_the_run_is_held_on_while_a_large_blob_is_moved(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    put(registry, WRONG)
    set_aside, is_inside = registry.parts.vault.set_aside, threading.Event()

    def slowly(sha256: str, size_bytes: int) -> Any:
        is_inside.set()
        time.sleep(3.0)
        return set_aside(sha256, size_bytes)

    monkeypatch.setattr(registry.parts.vault, "set_aside", slowly)
    hasty = dataclasses.replace(registry.parts, settings=registry.parts.settings.model_copy(update={"vault_claim_s": 2.0}))
    async with registry.client(Role.ADMIN) as client:
        run_id = (await client.post("/api/v1/vault/verify", json={})).json()["id"]
    playing = asyncio.create_task(play_next(registry.database, hasty))
    assert await asyncio.to_thread(is_inside.wait, 20)
    while not playing.done():
        assert await play_next(registry.database, hasty) is None
        await asyncio.sleep(0.1)
    assert sql(registry, "select status from vault_runs where id = %s", run_id) == [("failed",)]


async def test_the_same_damage_is_told_once_and_where_the_object_lies(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path, CONTENTS)
    put(registry, WRONG)
    [first] = (await verify(registry))["report"]["damaged"]
    assert [first["kept_at"]] == keys(registry, "damaged/")
    for _ in range(2):
        [again] = (await verify(registry))["report"]["damaged"]
        assert (again["found"], again["kept_at"], again["versions"]) == ("missing", None, ["bard@1 (master)"])
    told = [("fail", first["found"]), ("fail", "missing")]
    assert await told_of(registry, master) == ("ready", told)
    assert sql(registry, "select count(*) from audit_log where action = 'version.damaged'") == [(2,)]
    # Once it was right again, the same is news.
    put(registry, README)
    assert (await verify(registry))["status"] == "succeeded"
    lose(registry)
    assert (await verify(registry))["status"] == "failed"
    assert await told_of(registry, master) == ("ready", [*told, ("pass", None), ("fail", "missing")])


async def last_found(registry: Registry) -> int | None:
    """Returns how many damaged blobs metrics and doctor are told of."""
    async with registry.database.begin() as uow:
        found = await uow.counts.last_verification()
    return None if found is None else found.num_damaged


async def test_a_version_is_ready_again_when_every_file_of_it_is_whole(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    quantized = await quantize(registry, tmp_path)
    config_sha256 = hashlib.sha256(b"{}").hexdigest()
    put(registry, WRONG)
    lose(registry, config_sha256)
    assert (await verify(registry))["report"]["num_damaged"] == 2
    assert await last_found(registry) == 2
    assert (await told_of(registry, quantized))[0] == "quarantined"
    put(registry, README)
    done = await verify(registry)
    assert (done["report"]["num_damaged"], done["report"]["ready_again"]) == (1, [])
    assert (await told_of(registry, quantized))[0] == "quarantined"
    put(registry, b"{}", config_sha256)
    done = await verify(registry, version=quantized.ref)
    assert (done["status"], done["report"]["ready_again"]) == ("succeeded", [quantized.ref])
    assert await last_found(registry) == 1, "that one version is right says nothing of the vault"
    await verify(registry)
    assert await last_found(registry) == 0
    state, told = await told_of(registry, quantized)
    assert (state, sorted(verdict for verdict, _ in told)) == ("ready", ["fail", "fail", "pass", "pass"])
    assert sql(registry, "select count(*) from audit_log where action = 'version.whole' and noun_id = %s", quantized.id) == [(2,)]


async def test_what_its_gate_quarantined_stays_so(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    quantized = await quantize(registry, tmp_path)
    async with registry.database.begin() as uow:
        await uow.versions.quarantine(quantized.id)
    put(registry, WRONG)
    await verify(registry)
    put(registry, README)
    assert (await verify(registry))["report"]["ready_again"] == []
    state, told = await told_of(registry, quantized)
    assert (state, [verdict for verdict, _ in told]) == ("quarantined", ["fail", "pass"])


async def test_an_administrator_is_told_of_other_projects_in_counts_alone(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path, CONTENTS)
    shared = b"a text that is long enough to be a dataset of two projects\n" * 4
    async with registry.database.begin() as uow:
        stranger_id = await uow.projects.get_or_create("other")
        _, secret = await uow.keys.create(stranger_id, "stranger", Role.ADMIN)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.put("/api/v1/datasets/ours", content=shared)).status_code == 201
    async with httpx.AsyncClient(base_url=registry.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        assert (await client.put("/api/v1/datasets/theirs", content=shared)).status_code == 201
    shared_sha256 = hashlib.sha256(shared).hexdigest()
    put(registry, WRONG)
    lose(registry, shared_sha256)

    done = await verify(registry, secret)
    [damage] = done["report"]["damaged"]
    assert (damage["sha256"], damage["datasets"], damage["num_elsewhere"]) == (shared_sha256, ["theirs@1"], 1)
    assert (done["report"]["num_damaged"], done["report"]["num_masters_elsewhere"]) == (2, 1)
    assert "2 of 5 blobs are damaged or missing; MASTERS OF OTHER PROJECTS ARE DAMAGED" in done["message"]
    for foreign in (README_SHA256, "bard", "ours", master.id, master.job_id, "damaged/"):
        assert foreign not in json.dumps(done)

    own = (await verify(registry))["report"]
    assert {blob["sha256"]: (blob["versions"], blob["datasets"], blob["num_elsewhere"]) for blob in own["damaged"]} == {
        README_SHA256: (["bard@1 (master)"], [], 0),
        shared_sha256: ([], ["ours@1"], 1),
    }
