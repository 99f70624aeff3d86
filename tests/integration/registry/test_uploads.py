"""Uploads: streamed into the vault, imported once, kept while they are needed, gone when they expire."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from factories.checkpoints import master_contents
from factories.registry import Registry
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec, InputRole, Job, JobSubmission
from quantry_core.keys import Role
from quantry_core.uploads import Upload
from quantry_registry.sweeps import sweep_uploads
from quantry_store.repositories.uploads import RESERVED_S
from quantry_store.transactions import cancel_job, retry_job, submit_job

CONTENT = b"0123456789" * 300_000


async def new_upload(registry: Registry, contents: dict[str, bytes]) -> Upload:
    async with registry.client(Role.OPERATOR) as client:
        made = await client.post("/api/v1/uploads")
        assert made.status_code == 201, made.text
        upload_id = made.json()["id"]
        for path, content in contents.items():
            sent = await client.put(f"/api/v1/uploads/{upload_id}/files/{path}", content=content)
            assert sent.status_code == 200, sent.text
        return Upload.model_validate((await client.get(f"/api/v1/uploads/{upload_id}")).json())


def expire(database_url: str, upload: Upload) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("update uploads set expires_at = now() - interval '1 second' where id = %s", [upload.id])


async def submit(registry: Registry, upload: Upload) -> Job:
    async with registry.database.begin() as uow:
        submission = JobSubmission(spec=ImportSpec(model="sent", source=upload.source))
        return await submit_job(uow, registry.identities[Role.OPERATOR], submission)


def digest_header(content: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_files_are_streamed_and_hashed(registry: Registry) -> None:
    upload = await new_upload(registry, {})
    url = f"/api/v1/uploads/{upload.id}/files/weights/model.safetensors"
    async with registry.client(Role.OPERATOR) as client:
        sent = await client.put(url, content=pieces(CONTENT), headers=digest_header(CONTENT))
        assert sent.json() == {
            "path": "weights/model.safetensors",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
        }
        again = await client.put(url, content=b"other bytes")
        assert again.status_code == 200
        files = (await client.get(f"/api/v1/uploads/{upload.id}")).json()["files"]
    assert files == [again.json()]
    assert registry.parts.vault.contains(sent.json()["sha256"], len(CONTENT))


async def test_bytes_that_are_not_the_promised_ones_are_not_kept(registry: Registry) -> None:
    upload = await new_upload(registry, {})
    url = f"/api/v1/uploads/{upload.id}/files/config.json"
    async with registry.client(Role.OPERATOR) as client:
        refused = await client.put(url, content=b"{}", headers=digest_header(b"[]"))
        assert (refused.status_code, "Content-Digest promised" in refused.text) == (422, True), refused.text
        unreadable = await client.put(url, content=b"{}", headers={"Content-Digest": "sha-512=:abc=:"})
        assert unreadable.status_code == 422
        assert (await client.get(f"/api/v1/uploads/{upload.id}")).json()["files"] == []
    assert not registry.parts.vault.contains(hashlib.sha256(b"{}").hexdigest(), 2)


@pytest.mark.parametrize("path", ["pytorch_model.bin", "modeling.py", "a/b/c.json", "..%2Fa.json", ".hidden.json", "weights.tar"])
async def test_what_no_checkpoint_may_have_is_refused_before_it_is_read(registry: Registry, path: str) -> None:
    upload = await new_upload(registry, {})
    async with registry.client(Role.OPERATOR) as client:
        refused = await client.put(f"/api/v1/uploads/{upload.id}/files/{path}", content=b"x")
        assert refused.status_code == 422, refused.text


async def test_a_file_longer_than_allowed_is_refused(registry: Registry) -> None:
    upload = await new_upload(registry, {})
    limit = registry.parts.settings.max_upload_file_bytes
    async with registry.client(Role.OPERATOR) as client:
        url = f"/api/v1/uploads/{upload.id}/files/config.json"
        too_long = await client.put(url, content=pieces(b"x" * (limit + 1), 1024**2))
        assert too_long.status_code == 413
        assert (await client.get(f"/api/v1/uploads/{upload.id}")).json()["files"] == []


async def test_a_client_that_leaves_leaves_nothing(registry: Registry) -> None:
    upload = await new_upload(registry, {})

    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ConnectionError

    async with registry.client(Role.OPERATOR) as client:
        with pytest.raises(ConnectionError):
            await client.put(f"/api/v1/uploads/{upload.id}/files/config.json", content=broken())
    async with registry.client(Role.OPERATOR) as client:
        for _ in range(50):
            left = list(registry.parts.store.list(registry.parts.vault.bucket, ""))
            if not left:
                break
            await asyncio.sleep(0.1)
        assert left == []
        assert (await client.get(f"/api/v1/uploads/{upload.id}")).json()["files"] == []


async def test_an_upload_is_what_the_worker_is_given(registry: Registry) -> None:
    upload = await new_upload(registry, master_contents())
    job = await registry.claim(ImportSpec(model="sent", source=upload.source))
    async with registry.database.begin() as uow:
        (given,) = await uow.leased_inputs.of(job)
    assert (given.role, given.id, given.ref) == (InputRole.SOURCE, upload.id, upload.source)
    assert given.files == upload.files


async def test_an_upload_that_cannot_be_imported_is_refused_at_submission(registry: Registry, database_url: str) -> None:
    empty = await new_upload(registry, {})
    gone = await new_upload(registry, {"config.json": b"{}"})
    expire(database_url, gone)
    async with registry.database.begin() as uow:
        _, secret = await uow.keys.create(await uow.projects.get_or_create("other"), "stranger", Role.OPERATOR)
    async with httpx.AsyncClient(base_url=registry.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        foreign = Upload.model_validate((await client.post("/api/v1/uploads")).json())
        await client.put(f"/api/v1/uploads/{foreign.id}/files/config.json", content=b"{}")
    cases = [(empty, "nothing was uploaded"), (gone, "may have expired"), (foreign, "there is no upload")]
    for upload, words in cases:
        with pytest.raises(SourceRefused, match=words):
            await submit(registry, upload)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.get(f"/api/v1/uploads/{foreign.id}")).status_code == 404
        assert (await client.put(f"/api/v1/uploads/{foreign.id}/files/a.json", content=b"{}")).status_code == 404
        assert {item["id"] for item in (await client.get("/api/v1/uploads")).json()["data"]} == {empty.id}


async def test_an_upload_lives_until_its_import_is_over(registry: Registry, database_url: str) -> None:
    upload = await new_upload(registry, master_contents())
    job = await submit(registry, upload)
    expire(database_url, upload)
    assert await sweep_uploads(registry.database) == 0
    async with registry.database.begin() as uow:
        await cancel_job(uow, registry.identities[Role.OPERATOR], job.id)
    assert await sweep_uploads(registry.database) == 1
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.get(f"/api/v1/uploads/{upload.id}")).status_code == 404


def seconds_left(database_url: str, upload: Upload) -> float:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute("select extract(epoch from expires_at - now()) from uploads where id = %s", [upload.id]).fetchone()
    assert row is not None
    return float(row[0])


def leave(database_url: str, upload: Upload, seconds: float) -> None:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("update uploads set expires_at = now() + make_interval(secs => %s) where id = %s", [seconds, upload.id])


async def test_each_file_that_arrives_keeps_the_upload_for_the_next_one(registry: Registry, database_url: str) -> None:
    upload = await new_upload(registry, {})
    leave(database_url, upload, 60)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.put(f"/api/v1/uploads/{upload.id}/files/config.json", content=b"{}")).status_code == 200
    lifetime_s = registry.parts.settings.upload_lifetime_s
    assert lifetime_s - 60 < seconds_left(database_url, upload) <= lifetime_s


async def test_an_import_that_is_tried_again_keeps_its_upload(registry: Registry, database_url: str) -> None:
    upload = await new_upload(registry, master_contents())
    operator = registry.identities[Role.OPERATOR]
    job = await submit(registry, upload)
    async with registry.database.begin() as uow:
        await cancel_job(uow, operator, job.id)
    leave(database_url, upload, 60)
    async with registry.database.begin() as uow:
        again = await retry_job(uow, operator, job.id)
    assert RESERVED_S - 60 < seconds_left(database_url, upload) <= RESERVED_S
    async with registry.database.begin() as uow:
        await cancel_job(uow, operator, again.id)
    expire(database_url, upload)
    with pytest.raises(SourceRefused, match="may have expired"):
        async with registry.database.begin() as uow:
            await retry_job(uow, operator, again.id)


async def test_while_an_import_needs_it_nothing_of_an_upload_changes(registry: Registry) -> None:
    upload = await new_upload(registry, master_contents())
    job = await submit(registry, upload)
    async with registry.client(Role.OPERATOR) as client:
        changed = await client.put(f"/api/v1/uploads/{upload.id}/files/config.json", content=b"{}")
        assert (changed.status_code, "unfinished job" in changed.text) == (409, True)
        assert (await client.delete(f"/api/v1/uploads/{upload.id}")).status_code == 409
        async with registry.database.begin() as uow:
            await cancel_job(uow, registry.identities[Role.OPERATOR], job.id)
        assert (await client.delete(f"/api/v1/uploads/{upload.id}")).status_code == 204


async def test_a_viewer_sends_nothing(registry: Registry) -> None:
    async with registry.client(Role.VIEWER) as client:
        assert (await client.post("/api/v1/uploads")).status_code == 403
