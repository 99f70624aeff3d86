"""Verification finds what was damaged; the collection removes what nothing needs, and nothing else, whatever goes on beside it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.typing import EventDict

from factories.checkpoints import master_contents
from factories.registry import Registry
from factories.statements import statements_of
from quantry_core.errors import InvalidInput
from quantry_core.keys import Role
from quantry_core.vault import CollectRequest, VaultRunKind
from quantry_core.versions import blob_key, manifest_digest, staging_key
from quantry_registry.settings import RegistrySettings
from quantry_registry.vault.service import ask_collect, ask_when_due, play_next
from quantry_store.repositories.blobs import Blob
from quantry_store.repositories.vault_runs import MAX_OPEN_RUNS
from quantry_store.transactions.artifacts import record_artifacts

CONTENTS = master_contents() | {"README.md": b"0123456789"}
README_SHA256 = hashlib.sha256(b"0123456789").hexdigest()
DAY_S = 86400.0


async def run(registry: Registry, kind: VaultRunKind, **request: Any) -> dict[str, Any]:
    """Asks for a run over HTTP, plays it, and returns it as it is shown then."""
    async with registry.client(Role.ADMIN) as client:
        asked = await client.post(f"/api/v1/vault/{kind}", json=request)
        assert asked.status_code == 202, asked.text
        assert asked.json()["status"] == "queued"
        assert await play_next(registry.database, registry.parts) is not None
        shown = await client.get(f"/api/v1/vault/runs/{asked.json()['id']}")
        document: dict[str, Any] = shown.json()
    return document


def sql(registry: Registry, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Runs a statement that no guard sees: the way to make things older than they are."""
    url = registry.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def age_blobs(registry: Registry, days: float = 2) -> None:
    sql(registry, "update blobs set sealed_at = sealed_at - make_interval(secs => %s)", days * DAY_S)


def put(registry: Registry, key: str, content: bytes) -> None:
    registry.parts.store.put_stream(registry.parts.vault.bucket, key, io.BytesIO(content))


def flip_a_byte(registry: Registry, sha256: str) -> bytes:
    """Damages a blob as a disk does: the same size, other bytes. Returns what lies there now."""
    store, bucket = registry.parts.store, registry.parts.vault.bucket
    content = bytearray(store.read(bucket, blob_key(sha256), 0, 10**6))
    content[0] ^= 1
    store.delete(bucket, blob_key(sha256))
    put(registry, blob_key(sha256), bytes(content))
    return bytes(content)


def keys(registry: Registry, prefix: str = "") -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.vault.bucket, prefix))


async def test_what_is_as_it_was_sealed_is_noted_as_verified(registry: Registry, tmp_path: Path) -> None:
    version = await registry.import_master(tmp_path, CONTENTS)
    done = await run(registry, VaultRunKind.VERIFY)
    assert done["status"] == "succeeded", done
    assert (done["report"]["num_blobs"], done["report"]["num_bytes"]) == (4, sum(map(len, CONTENTS.values())))
    assert sql(registry, "select count(*) from blobs where verified_at is null") == [(0,)]
    # Nothing is left that was not looked at within the hour; and a version can be asked for alone.
    assert (await run(registry, VaultRunKind.VERIFY, older_than_s=3600))["report"]["num_blobs"] == 0
    assert (await run(registry, VaultRunKind.VERIFY, version=version.ref))["report"]["num_blobs"] == 4


async def test_a_flipped_byte_of_a_master_is_found_and_served_to_nobody(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path, CONTENTS)
    damaged = flip_a_byte(registry, README_SHA256)
    done = await run(registry, VaultRunKind.VERIFY)
    assert done["status"] == "failed"
    assert "MASTERS ARE DAMAGED: bard@1" in done["message"]
    [found] = done["report"]["damaged"]
    assert (found["sha256"], found["versions"]) == (README_SHA256, ["bard@1 (master)"])
    assert hashlib.sha256(damaged).hexdigest() in found["found"]
    async with registry.client(Role.VIEWER) as client:
        detail = (await client.get(f"/api/v1/versions/{master.id}")).json()
        assert detail["state"] == "ready"
        assert [(item["name"], item["verdict"], item["metrics"]["files"]) for item in detail["evidence"]] == [
            ("integrity", "fail", ["README.md"])
        ]
        assert (await client.get("/api/v1/versions/bard@1/files/README.md")).status_code == 500
    # What was read is kept for whoever wants to look at it; its key is free for the right bytes.
    [kept] = keys(registry, "damaged/")
    assert registry.parts.store.read(registry.parts.vault.bucket, kept, 0, 100) == damaged
    put(registry, blob_key(README_SHA256), b"0123456789")
    assert (await run(registry, VaultRunKind.VERIFY))["status"] == "succeeded"


async def test_a_wrong_reading_that_is_not_repeated_is_no_damage(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    read, seen = registry.parts.store.sha256, set[str]()

    def flicker(bucket: str, key: str) -> Any:
        stored = read(bucket, key)
        is_first = key not in seen
        seen.add(key)
        return type(stored)(stored.size_bytes, "0" * 64) if is_first else stored

    monkeypatch.setattr(registry.parts.store, "sha256", flicker)
    assert (await run(registry, VaultRunKind.VERIFY))["status"] == "succeeded"
    assert keys(registry, "damaged/") == []


async def test_a_run_whose_registry_died_goes_on_where_it_was(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    async with registry.client(Role.ADMIN) as client:
        run_id = (await client.post("/api/v1/vault/verify", json={})).json()["id"]
    async with registry.database.begin() as uow:
        dead = await uow.vault_runs.claim(hold_s=-1)
        assert dead is not None
    cursor = sorted(row[0] for row in sql(registry, "select sha256 from blobs"))[1]
    async with registry.database.begin() as uow:
        dead = await uow.vault_runs.renew(dead, {"num_blobs": 2, "num_bytes": 20, "cursor": cursor}, hold_s=-1)
        assert dead is not None
    assert await play_next(registry.database, registry.parts) is not None
    assert sql(registry, "select status, (report->>'num_blobs')::int from vault_runs where id = %s", run_id) == [("succeeded", 4)]
    async with registry.database.begin() as uow:
        # The first holder wakes up and writes nothing.
        assert await uow.vault_runs.renew(dead, {}, hold_s=60) is None


async def test_the_collection_takes_what_nothing_refers_to_and_is_old(
    registry: Registry, tmp_path: Path, kept_logs: list[EventDict]
) -> None:
    await registry.import_master(tmp_path, CONTENTS)
    job = await registry.claim()
    forgotten = registry.stage(job, {"config.json": b'{"model_type": "gpt2"}'}, tmp_path)
    await registry.seal(job, forgotten)
    registry.parts.vault.seal(registry.parts.staging.bucket, staging_key(job.id, job.attempt, "config.json"), forgotten[0])
    async with registry.database.begin() as uow:
        await uow.blobs.add({forgotten[0].sha256: forgotten[0].size_bytes})
    before = keys(registry)
    # Too young.
    assert (await run(registry, VaultRunKind.COLLECT, dry_run=False))["report"]["num_blobs"] == 0
    age_blobs(registry)
    # Only counted.
    counted = await run(registry, VaultRunKind.COLLECT)
    assert counted["report"]["num_blobs"] == 1
    # What nothing refers to may have been any project's: it is named in the registry's log alone.
    assert forgotten[0].sha256 not in json.dumps(counted)
    assert [line["digests"] for line in kept_logs if line["event"] == "collected" and line["digests"]] == [[forgotten[0].sha256]]
    assert keys(registry) == before
    taken = await run(registry, VaultRunKind.COLLECT, dry_run=False)
    assert (taken["report"]["num_blobs"], taken["report"]["num_bytes"]) == (1, forgotten[0].size_bytes)
    assert keys(registry) == sorted(set(before) - {blob_key(forgotten[0].sha256)})
    assert sql(registry, "select count(*) from blobs") == [(4,)]
    assert (await run(registry, VaultRunKind.VERIFY))["status"] == "succeeded"


async def test_an_object_that_no_row_knows_goes_by_its_own_age(registry: Registry) -> None:
    content = b"written, and then the registry died"
    put(registry, blob_key(hashlib.sha256(content).hexdigest()), content)
    assert (await run(registry, VaultRunKind.COLLECT, dry_run=False, age_s=3600))["report"]["num_orphans"] == 0
    await asyncio.sleep(1.1)
    done = await run(registry, VaultRunKind.COLLECT, dry_run=False, age_s=0.001)
    assert (done["report"]["num_orphans"], done["report"]["num_bytes"]) == (1, len(content))
    assert keys(registry) == []


async def test_a_seal_that_takes_up_bytes_while_they_are_collected_keeps_them(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst order: the row is gone, the seal has seen the object, and only then is the object removed."""
    job = await registry.claim()
    files = registry.stage(job, CONTENTS, tmp_path)
    for file in files:
        registry.parts.vault.seal(registry.parts.staging.bucket, staging_key(job.id, job.attempt, file.path), file)
    vault, remove = registry.parts.vault, registry.parts.vault.remove
    removing, may_remove = threading.Event(), threading.Event()

    def remove_late(sha256: str, begin_by_s: float) -> bool:
        removing.set()
        assert may_remove.wait(20)
        return remove(sha256, begin_by_s)

    monkeypatch.setattr(vault, "remove", remove_late)
    await asyncio.sleep(1.1)
    collecting = asyncio.create_task(run(registry, VaultRunKind.COLLECT, dry_run=False, age_s=0.001))
    await asyncio.to_thread(removing.wait, 20)
    sealing = asyncio.create_task(registry.seal(job, files))
    await asyncio.sleep(0.5)
    # It found every object there, and waits for the collection to let go of the row that it wants to write.
    assert not sealing.done()
    may_remove.set()
    assert (await sealing).status_code == 200
    await collecting
    version = await registry.finish(job, files)
    async with registry.client(Role.VIEWER) as client:
        for path, content in CONTENTS.items():
            assert (await client.get(f"/api/v1/versions/{version.id}/files/{path}")).content == content
    assert (await run(registry, VaultRunKind.VERIFY))["status"] == "succeeded"


async def test_a_row_that_is_younger_again_is_not_forgotten(registry: Registry) -> None:
    blob = Blob("a" * 64, 1)
    async with registry.database.begin() as uow:
        await uow.blobs.add({blob.sha256: blob.size_bytes})
    age_blobs(registry)
    async with registry.database.begin() as uow:
        assert await uow.blobs.unreferenced(DAY_S, after="", limit=10) == [blob]
    async with registry.database.begin() as uow:
        await uow.blobs.add({blob.sha256: blob.size_bytes})
    async with registry.database.begin() as uow:
        assert await uow.blobs.forget([blob.sha256], DAY_S) == []


async def test_what_may_be_in_use_is_not_asked_for(registry: Registry) -> None:
    usual = RegistrySettings(registry_port=1)
    with pytest.raises(InvalidInput, match="may still be in use"):
        await ask_collect(registry.database, usual, registry.identities[Role.ADMIN], CollectRequest(dry_run=False, age_s=60))
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.post("/api/v1/vault/collect", json={})).status_code == 403


async def test_nobody_fills_the_line_that_everybody_waits_in(registry: Registry) -> None:
    async with registry.client(Role.ADMIN) as client:
        asked = [await client.post("/api/v1/vault/verify", json={}) for _ in range(MAX_OPEN_RUNS + 1)]
    assert [answer.status_code for answer in asked] == [202] * MAX_OPEN_RUNS + [409]
    async with registry.database.begin() as uow:
        await uow.vault_runs.add(registry.identities[Role.ADMIN].project_id, VaultRunKind.VERIFY, {}, who=None)


async def test_a_collection_comes_by_the_clock_where_it_is_set(registry: Registry) -> None:
    async def runs() -> list[dict[str, Any]]:
        async with registry.client(Role.ADMIN) as client:
            found: list[dict[str, Any]] = (await client.get("/api/v1/vault/runs")).json()["data"]
        return found

    await ask_when_due(registry.database, RegistrySettings(registry_port=1))
    assert await runs() == []
    hourly = RegistrySettings(registry_port=1, collect_interval_s=3600)
    for _ in range(2):
        await ask_when_due(registry.database, hourly)
    [first] = await runs()
    assert (first["kind"], first["request"]) == ("collect", {"dry_run": False, "age_s": hourly.collect_age_s})
    assert await play_next(registry.database, registry.parts) is not None
    await ask_when_due(registry.database, hourly)
    assert len(await runs()) == 1
    sql(registry, "update vault_runs set created_at = created_at - interval '1 hour', finished_at = finished_at - interval '1 hour'")
    await ask_when_due(registry.database, hourly)
    assert [run["status"] for run in await runs()] == ["queued", "succeeded"]


async def test_what_the_bucket_does_is_told(registry: Registry) -> None:
    async with registry.client(Role.VIEWER) as client:
        told = (await client.get("/api/v1/vault/store")).json()
    # The embedded server's buckets keep nothing.
    assert told == {"keeps_versions": False, "locks_objects": False, "retention_s": None}


async def test_artifacts_of_a_job_are_sealed_apart_and_served(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    (tmp_path / "results").write_bytes(b'[{"x": 1}]')
    kept = registry.parts.staging.put_artifact(job.id, job.attempt, "results.json", tmp_path / "results")
    body = {"job_id": job.id, "attempt": job.attempt, "files": [kept.model_dump()]}
    async with registry.client(Role.WORKER) as client:
        assert (await client.post("/api/v1/seals/artifacts", json=body)).status_code == 200
        bad = [kept.model_dump() | {"path": "results.pkl"}], [kept.model_dump() | {"path": f"{number}.json"} for number in range(65)]
        for files in bad:
            answer = await client.post("/api/v1/seals/artifacts", json=body | {"files": files})
            assert answer.json()["type"] == "urn:quantry:problem:seal-refused"
    sealed = sql(registry, "select attempt, manifest_digest from artifact_seals where job_id = %s", job.id)
    assert sealed == [(job.attempt, manifest_digest([kept]))]
    async with registry.database.begin() as uow:
        await record_artifacts(uow, job, [kept])
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get(f"/api/v1/jobs/{job.id}/artifacts")).json()["data"] == [kept.model_dump()]
        assert (await client.get(f"/api/v1/jobs/{job.id}/artifacts/results.json")).content == b'[{"x": 1}]'
        assert (await client.get(f"/api/v1/jobs/{job.id}/artifacts/other.json")).status_code == 404
    age_blobs(registry)
    assert (await run(registry, VaultRunKind.COLLECT, dry_run=False))["report"]["num_blobs"] == 0


async def test_deleted_versions_leave_after_their_time_and_a_master_no_sooner_than_a_week(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path, CONTENTS)
    other = await registry.import_master(tmp_path, CONTENTS | {"README.md": b"another"})
    async with registry.client(Role.OPERATOR) as client:
        for version in (master, other):
            assert (await client.delete(f"/api/v1/versions/{version.id}")).status_code == 204
    age_blobs(registry, days=60)
    collect = partial(run, registry, VaultRunKind.COLLECT, dry_run=False)
    sql(registry, "update versions set deleted_at = now() - interval '29 days'")
    assert (await collect())["report"]["num_versions"] == 0
    sql(registry, "update versions set deleted_at = now() - interval '31 days' where id = %s", master.id)
    done = (await collect())["report"]
    # What the other one has too stays: it can still be restored.
    assert (done["num_versions"], done["versions"], done["num_blobs"]) == (1, ["bard@1"], 1)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.get(f"/api/v1/versions/{master.id}")).status_code == 404
        assert (await client.post(f"/api/v1/versions/{other.id}/restore")).status_code == 200
    assert (await run(registry, VaultRunKind.VERIFY))["report"]["num_blobs"] == 4


@pytest.mark.parametrize("dry_run", [True, False])
async def test_many_versions_are_removed_in_batches_that_each_hold_the_run_on(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    monkeypatch.setattr("quantry_registry.vault.collect.BATCH", 2)
    masters = [await registry.import_master(tmp_path, CONTENTS | {"README.md": str(number).encode()}) for number in range(5)]
    # The newest was made from the oldest, which leaves after it.
    insert = "insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id) values (%s, 0, %s, 'base', %s)"
    sql(registry, insert, masters[4].id, masters[0].project_id, masters[0].id)
    sql(registry, "update versions set deleted_at = now() - interval '31 days'")
    with statements_of(registry.database) as sent:
        done = (await run(registry, VaultRunKind.COLLECT, dry_run=dry_run))["report"]
    expected = [2, 3, 4, 5] if dry_run else [2, 3, 4, 5, 1]
    assert (done["num_versions"], done["versions"]) == (len(expected), [f"bard@{number}" for number in expected])
    assert sql(registry, "select count(*) from versions") == [(5 if dry_run else 0,)]
    looked = [statement for statement in sent if "versions.deleted_at <" in statement and "LIMIT" in statement]
    # Two full batches and an empty one; what they left, and an empty one; and nothing more is left.
    assert len(looked) == (3 if dry_run else 6)
    renewed = [statement for statement in sent if statement.startswith("UPDATE vault_runs SET") and "report=" in statement]
    assert len(renewed) >= (2 if dry_run else 3)
