"""Datasets over HTTP: deleted, restored, and their bytes freed by the collection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from factories.checkpoints import master_contents
from factories.registry import Registry
from quantry_core.jobs import EvaluateSpec
from quantry_core.keys import Role
from quantry_core.vault import VaultRunKind
from quantry_core.versions import blob_key
from quantry_registry.datasets.built_in import BUILT_INS, seed_built_ins
from quantry_registry.vault.service import play_next

WORDS = b"some private words " * 8


async def put(client: httpx.AsyncClient, name: str = "words", content: bytes = WORDS) -> dict[str, Any]:
    answer = await client.put(f"/api/v1/datasets/{name}", content=content)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def collect(registry: Registry, **request: Any) -> dict[str, Any]:
    async with registry.client(Role.ADMIN) as client:
        asked = await client.post(f"/api/v1/vault/{VaultRunKind.COLLECT}", json=request)
        assert await play_next(registry.database, registry.parts) is not None
        report: dict[str, Any] = (await client.get(f"/api/v1/vault/runs/{asked.json()['id']}")).json()["report"]
    return report


def sql(registry: Registry, statement: str) -> None:
    url = registry.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


async def test_a_deleted_dataset_is_given_to_nobody_and_comes_back(registry: Registry) -> None:
    async with registry.client(Role.OPERATOR) as client:
        made = await put(client)
        url = f"/api/v1/datasets/{made['id']}"
        for _ in range(2):
            assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).json()["deleted_at"] is not None
        assert (await client.get("/api/v1/datasets")).json()["data"] == []
        for path in ("words", "words@1", f"{made['id']}/preview", f"{made['id']}/content"):
            assert (await client.get(f"/api/v1/datasets/{path}")).status_code == 404
        again = await client.put("/api/v1/datasets/words", content=WORDS)
        assert (again.status_code, "restore it" in again.json()["detail"]) == (409, True)
        assert (await client.post(f"{url}/restore")).json() == made
        assert (await client.post(f"{url}/restore")).status_code == 409
        assert (await client.get("/api/v1/datasets/words/content")).content == WORDS


async def test_what_is_needed_or_built_in_is_refused_with_the_reason(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path, master_contents())
    await seed_built_ins(registry.database, registry.parts.vault, BUILT_INS[:1])
    async with registry.client(Role.OPERATOR) as client:
        words, parent = await put(client), await put(client, "parent", b"one line of a text\n" * 40)
        job = await registry.claim(EvaluateSpec(version="bard", corpora=["words"]))
        derived = await client.post("/api/v1/datasets/child/derive", json={"parents": [{"ref": "parent"}]})
        assert derived.status_code == 201, derived.text
        built_in = (await client.get(f"/api/v1/datasets/{BUILT_INS[0].name}")).json()
        for dataset, reason in ((words, job.id), (parent, "child@1 was derived from parent@1"), (built_in, "the platform's own")):
            answer = await client.delete(f"/api/v1/datasets/{dataset['id']}")
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:quantry:problem:dataset-protected"), answer.text
            assert reason in answer.json()["detail"]
        for ref in ("words", "words@1", "ver_" + "0" * 32):
            assert (await client.delete(f"/api/v1/datasets/{ref}")).status_code == 422
        assert (await client.delete("/api/v1/datasets/dat_" + "0" * 32)).status_code == 404
    async with registry.client(Role.VIEWER) as client:
        assert (await client.delete(f"/api/v1/datasets/{words['id']}")).status_code == 403


async def test_the_collection_frees_the_bytes_after_the_time_of_deleted_versions(registry: Registry) -> None:
    store, bucket = registry.parts.store, registry.parts.vault.bucket
    async with registry.client(Role.OPERATOR) as client:
        made, other = await put(client), await put(client, "others", b"other words that stay " * 8)
        assert (await client.delete(f"/api/v1/datasets/{made['id']}")).status_code == 204
        sql(registry, "update blobs set sealed_at = now() - interval '60 days'")
        really = partial(collect, registry, dry_run=False)
        sql(registry, "update datasets set deleted_at = now() - interval '29 days' where deleted_at is not null")
        early = await really()
        assert (early["num_datasets"], early["num_blobs"]) == (0, 0)
        sql(registry, "update datasets set deleted_at = now() - interval '31 days' where deleted_at is not null")
        counted = await collect(registry)
        assert (counted["num_datasets"], counted["datasets"], counted["num_blobs"]) == (1, ["words@1"], 0)
        done = await really()
        assert (done["num_datasets"], done["datasets"], done["num_blobs"]) == (1, ["words@1"], 1)
        assert sorted(store.list(bucket, "sha256/")) == [blob_key(other["sha256"])]
        kept = (await client.get(f"/api/v1/datasets/{made['id']}")).json()
        assert (kept["sha256"], kept["removed_at"] is not None) == (made["sha256"], True)
        assert (await client.post(f"/api/v1/datasets/{made['id']}/restore")).status_code == 409
        assert (await put(client))["number"] == 2


async def test_a_dataset_whose_bytes_are_lost_is_not_restored(registry: Registry) -> None:
    async with registry.client(Role.OPERATOR) as client:
        made = await put(client)
        assert (await client.delete(f"/api/v1/datasets/{made['id']}")).status_code == 204
        registry.parts.store.delete(registry.parts.vault.bucket, blob_key(made["sha256"]))
        answer = await client.post(f"/api/v1/datasets/{made['id']}/restore")
        assert (answer.status_code, made["sha256"] in answer.json()["detail"]) == (409, True)
