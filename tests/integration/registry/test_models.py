"""Models, versions, lineage, aliases, and what may not be deleted."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.registry import Registry
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_core.keys import Role
from quantry_core.versions import Version, VersionKind, blob_key
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_store.database import Database

QUANTIZED = master_contents(
    model__safetensors=safetensors_bytes({"a.weight_packed": ("I32", (4, 1))}),
    config__json=json.dumps(CONFIG | {"quantization_config": {}}).encode(),
)


async def quantize(registry: Registry, folder: Path) -> Version:
    async with registry.client(Role.OPERATOR) as client:
        await client.put("/api/v1/datasets/words", content=b"some words " * 200)
    job = await registry.claim(QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["words"]), quality=None))
    files = registry.stage(job, QUANTIZED, folder)
    assert (await registry.seal(job, files)).status_code == 200
    return await registry.finish(job, files, VersionKind.QUANTIZED)


async def test_models_and_versions_are_listed(registry: Registry, tmp_path: Path) -> None:
    first = await registry.import_master(tmp_path)
    second = await registry.import_master(tmp_path, master_contents() | {"README.md": b"another"})
    async with registry.client(Role.VIEWER) as client:
        model = (await client.get("/api/v1/models/bard")).json()
        assert (model["num_versions"], model["latest_version_id"]) == (2, second.id)
        [listed] = (await client.get("/api/v1/models")).json()["data"]
        assert {name: listed[name] for name in model} == model
        page = (await client.get("/api/v1/versions", params={"model": "bard", "limit": 1})).json()
        assert ([item["id"] for item in page["data"]], page["has_more"]) == ([second.id], True)
        rest = (await client.get("/api/v1/versions", params={"after": page["last_id"]})).json()
        assert ([item["id"] for item in rest["data"]], rest["has_more"]) == ([first.id], False)
        detail = (await client.get("/api/v1/versions/bard@1")).json()
        assert [file["path"] for file in detail["files"]] == sorted(master_contents())
        assert (detail["kind"], detail["edges"], detail["evidence"]) == ("master", [], [])


async def test_lineage_reaches_the_master_and_the_text(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.VIEWER) as client:
        lineage = (await client.get("/api/v1/versions/bard@2/lineage")).json()
    assert {node["label"] for node in lineage["nodes"]} == {"bard@1", "bard@2", "words@1"}
    assert {(link["child_id"], link["role"]) for link in lineage["links"]} == {(quantized.id, "base"), (quantized.id, "calibration")}
    assert master.id in {link["parent_id"] for link in lineage["links"]}


async def test_what_was_made_with_a_deleted_text_still_names_it(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        words = (await client.get("/api/v1/datasets/words")).json()
        assert (await client.delete(f"/api/v1/datasets/{words['id']}")).status_code == 204
        assert (await client.get("/api/v1/versions/bard@2/card")).status_code == 200
        nodes = (await client.get(f"/api/v1/versions/{quantized.id}/lineage")).json()["nodes"]
        assert (await client.get(f"/api/v1/datasets/{words['id']}")).json()["sha256"] == words["sha256"]
    assert [(node["label"], node["state"]) for node in nodes if node["noun"] == "dataset"] == [("words@1", "deleted")]


async def test_what_has_descendants_is_not_deleted_and_what_is_deleted_comes_back(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        refused = await client.delete(f"/api/v1/versions/{master.id}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:quantry:problem:version-protected"), refused.text
        assert (await client.delete(f"/api/v1/versions/{quantized.id}")).status_code == 204
        assert (await client.delete(f"/api/v1/versions/{quantized.id}")).status_code == 204
        assert (await client.get("/api/v1/versions/bard@2")).status_code == 404
        assert [item["id"] for item in (await client.get("/api/v1/versions")).json()["data"]] == [master.id]
        assert (await client.get(f"/api/v1/versions/{quantized.id}")).json()["deleted_at"] is not None
        # Without living descendants the master may be hidden too; then its child cannot come back alone.
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 204
        again = await client.post(f"/api/v1/versions/{quantized.id}/restore")
        assert (again.status_code, again.json()["type"]) == (409, "urn:quantry:problem:version-protected"), again.text
        for version in (master, quantized):
            assert (await client.post(f"/api/v1/versions/{version.id}/restore")).json()["deleted_at"] is None
        assert (await client.post(f"/api/v1/versions/{master.id}/restore")).status_code == 409
        assert (await client.get("/api/v1/versions/bard@2")).status_code == 200


async def test_a_version_whose_bytes_are_lost_is_not_restored(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 204
        [sha256] = [
            file["sha256"] for file in (await client.get(f"/api/v1/versions/{master.id}")).json()["files"] if file["path"] == "config.json"
        ]
        registry.parts.store.delete(registry.parts.vault.bucket, blob_key(sha256))
        answer = await client.post(f"/api/v1/versions/{master.id}/restore")
        assert (answer.status_code, "config.json" in answer.json()["detail"]) == (409, True)


async def test_a_version_is_deleted_by_its_id_alone(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        for ref in ["bard", "bard@1", "ver_0", "job_00000000000000000000000000000000"]:
            assert (await client.delete(f"/api/v1/versions/{ref}")).status_code == 422


async def test_an_alias_moves_and_remembers(registry: Registry, tmp_path: Path) -> None:
    first = await registry.import_master(tmp_path)
    second = await registry.import_master(tmp_path, master_contents() | {"README.md": b"another"})
    url = "/api/v1/models/bard/aliases/production"
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.get(url)).status_code == 404
        for version in (first, second):
            moved = await client.put(url, json={"version_id": version.id})
            assert (moved.status_code, moved.json()["version_id"]) == (200, version.id)
        assert (await client.get(url)).json() == moved.json()
        assert (await client.get("/api/v1/models/bard/aliases")).json() == {"data": [moved.json()]}
        assert (await client.get("/api/v1/versions/bard@production")).json()["id"] == second.id
        history = (await client.get(f"{url}/history")).json()["data"]
    assert [(change["version_id"], change["previous_version_id"]) for change in history] == [(second.id, first.id), (first.id, None)]
    assert {change["key_id"] for change in history} == {registry.identities[Role.OPERATOR].key_id}


async def test_a_deleted_alias_lets_its_version_be_deleted_and_is_remembered(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    url = "/api/v1/models/bard/aliases/production"
    async with registry.client(Role.OPERATOR) as client:
        moved = (await client.put(url, json={"version_id": master.id})).json()
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 409
        async with registry.client(Role.VIEWER) as viewer:
            assert (await viewer.delete(url)).status_code == 403
        assert (await client.delete(url)).status_code == 204
        for method in ("GET", "DELETE"):
            assert (await client.request(method, url)).status_code == 404
        assert (await client.get(url, params={"at": moved["updated_at"]})).json() == moved
        deletion, _ = (await client.get(f"{url}/history")).json()["data"]
        assert (deletion["version_id"], deletion["previous_version_id"]) == (None, master.id)
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 204


BAD_ALIASES: list[tuple[str, dict[str, str], int]] = [
    ("bard/aliases/production", {"version_id": "ver_" + "0" * 32}, 404),
    ("bard/aliases/production", {"version_id": "bard@1"}, 422),
    ("bard/aliases/production", {}, 422),
    ("other/aliases/production", {"version_id": "ver_" + "0" * 32}, 404),
    ("bard/aliases/7", {"version_id": "ver_" + "0" * 32}, 422),
    ("bard/aliases/a..b", {"version_id": "ver_" + "0" * 32}, 422),
    ("bard/aliases/a%00b", {"version_id": "ver_" + "0" * 32}, 422),
]


async def test_an_alias_is_checked(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        for path, body, status in BAD_ALIASES:
            answer = await client.put(f"/api/v1/models/{path}", json=body)
            assert answer.status_code == status, answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_viewer_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    async with registry.client(Role.VIEWER) as client:
        assert (await client.put("/api/v1/models/bard/aliases/production", json={"version_id": master.id})).status_code == 403
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 403


async def test_another_project_sees_nothing(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        dataset = (await client.put("/api/v1/datasets/words", content=b"some words " * 200)).json()
    async with registry.database.begin() as uow:
        _, secret = await uow.keys.create(await uow.projects.get_or_create("other"), "stranger", Role.ADMIN)
    async with httpx.AsyncClient(base_url=registry.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        for path in ("models", "versions", "datasets"):
            assert (await client.get(f"/api/v1/{path}")).json()["data"] == []
        for path in (
            "models/bard",
            "versions/bard@1",
            f"versions/{master.id}",
            f"versions/{master.id}/lineage",
            f"versions/{master.id}/files/config.json",
            f"datasets/{dataset['id']}",
            "models/bard/aliases",
        ):
            assert (await client.get(f"/api/v1/{path}")).status_code == 404, path
        assert (await client.delete(f"/api/v1/versions/{master.id}")).status_code == 404


async def test_the_document_and_health_need_no_key(registry: Registry) -> None:
    async with httpx.AsyncClient(base_url=registry.url) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        document = (await client.get("/api/v1/registry/openapi.json")).json()
    some = {"/api/v1/models", "/api/v1/versions/{ref}", "/v1/files", "/mlflow/api/2.0/mlflow/registered-models/get"}
    assert document["paths"].keys() > some


async def test_health_tells_that_the_object_store_is_away(registry: Registry, blob_settings: BlobSettings, database_url: str) -> None:
    away = MinioStore(blob_settings.model_copy(update={"endpoint": "127.0.0.1:9", "num_retries": 0}))
    app = make_app(Database(database_url), make_parts(registry.parts.settings, blob_settings, away))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "object store" in answer.json()["detail"]


async def test_health_never_makes_a_missing_vault(registry: Registry, blob_settings: BlobSettings, database_url: str) -> None:
    lost = blob_settings.model_copy(update={"vault_bucket": "a-vault-that-is-lost"})
    store = MinioStore(lost)
    app = make_app(Database(database_url), make_parts(registry.parts.settings, lost, store))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as client:
        for _ in range(2):
            answer = await client.get("/healthz")
            assert answer.status_code == 503
            assert "object store" in answer.json()["detail"]
    store.close()
