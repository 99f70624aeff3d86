"""What is told of versions: found by filters, annotated, compared, drawn, described, and what they take in the vault."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import yaml

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.registry import Registry
from quantry_core.jobs import CalibrationSpec, ImportSpec, QuantizeSpec
from quantry_core.keys import Role
from quantry_core.versions import Version, VersionCard, VersionKind

QUANTIZED = master_contents(
    model__safetensors=safetensors_bytes({"a.weight_packed": ("I32", (4, 1))}),
    config__json=json.dumps(CONFIG | {"quantization_config": {}}).encode(),
)
ANOTHER = master_contents() | {"README.md": b"another"}


async def quantize(registry: Registry, folder: Path) -> Version:
    async with registry.client(Role.OPERATOR) as client:
        await client.put("/api/v1/datasets/words", content=b"some words that are enough for a dataset of text\n" * 20)
    job = await registry.claim(QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["words"]), quality=None))
    files = registry.stage(job, QUANTIZED, folder)
    assert (await registry.seal(job, files)).status_code == 200
    return await registry.finish(job, files, VersionKind.QUANTIZED)


async def found(registry: Registry, **params: str) -> list[int]:
    """Returns the numbers of the versions that a list with these filters has."""
    async with registry.client(Role.VIEWER) as client:
        answer = await client.get("/api/v1/versions", params=params)
        assert answer.status_code == 200, answer.text
        return [item["number"] for item in answer.json()["data"]]


async def test_versions_are_found_by_what_they_are_and_what_is_written_of_them(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        url = f"/api/v1/versions/{quantized.id}/notes"
        written = await client.patch(url, json={"tags": {"stage": "test", "golden": ""}, "notes": "100% of the Plan"})
        assert written.status_code == 200, written.text
        assert (await client.get(url)).json() == written.json()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    cases: list[tuple[dict[str, str], list[int]]] = [
        ({}, [2, 1]),
        ({"model": "bard", "kind": "master"}, [1]),
        ({"scheme": "W4A16"}, [2]),
        ({"format": "gguf"}, []),
        ({"state": "ready", "tags": "stage=test,golden"}, [2]),
        ({"tags": "stage!=test"}, [1]),
        ({"tags": "!golden"}, [1]),
        ({"text": "PLAN"}, [2]),
        ({"text": "100%"}, [2]),
        ({"text": "%of"}, []),
        ({"text": "BAR"}, [2, 1]),
        ({"created_before": later}, [2, 1]),
        ({"created_after": later}, []),
        ({"min_size_bytes": str(master.size_bytes), "max_size_bytes": str(master.size_bytes)}, [1]),
    ]
    for params, numbers in cases:
        assert await found(registry, **params) == numbers, params
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/versions", params={"tags": "a b"})).status_code == 422
        assert (await client.get("/api/v1/versions", params={"created_after": "2026-01-01T00:00:00"})).status_code == 422
        first = (await client.get("/api/v1/versions", params={"text": "bard", "limit": "1"})).json()
        rest = (await client.get("/api/v1/versions", params={"text": "bard", "limit": "1", "after": first["last_id"]})).json()
    assert [item["number"] for page in (first, rest) for item in page["data"]] == [2, 1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"][0]["tags"] == {"stage": "test", "golden": ""}


async def test_notes_are_changed_part_by_part(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        url = "/api/v1/versions/bard@1/notes"
        assert (await client.get(url)).json()["tags"] == {}
        await client.patch(url, json={"notes": "first", "set_tags": {"a": "1", "b": "2"}})
        # Two at once: neither is lost.
        await asyncio.gather(*(client.patch(url, json={"set_tags": {key: "x"}}) for key in "cdef"))
        changed = await client.patch(url, json={"set_tags": {"a": "3"}, "remove_tags": ["b"]})
        assert changed.json()["tags"] == {"a": "3", "c": "x", "d": "x", "e": "x", "f": "x"}
        assert changed.json()["notes"] == "first"
        for bad in ({"tags": {"a b": "c"}}, {"notes": "x" * 10_001}, {"set_tags": {f"k{n}": "" for n in range(33)}}, {"other": 1}):
            assert (await client.patch(url, json=bad)).status_code == 422, bad
        assert (await client.get(url)).json() == changed.json()
    async with registry.client(Role.VIEWER) as client:
        assert (await client.patch(url, json={"notes": ""})).status_code == 403


async def test_what_versions_share_is_stored_and_counted_once(registry: Registry, tmp_path: Path) -> None:
    first = await registry.import_master(tmp_path)
    second = await registry.import_master(tmp_path, ANOTHER)
    async with registry.client(Role.VIEWER) as client:
        usage = (await client.get("/api/v1/vault/usage")).json()
        listed = (await client.get("/api/v1/versions")).json()["data"]
    extra = len(ANOTHER["README.md"])
    assert usage["logical_bytes"] == first.size_bytes + second.size_bytes
    assert (usage["stored_bytes"], usage["saved_bytes"]) == (second.size_bytes, first.size_bytes)
    assert second.size_bytes - first.size_bytes == extra
    assert usage["models"] == [{"model_name": "bard", **{key: value for key, value in usage.items() if key != "models"}}]
    assert [item["shared_bytes"] for item in listed] == [first.size_bytes, first.size_bytes]
    in_vault = list(registry.parts.store.list(registry.parts.vault.bucket, "sha256/"))
    assert sum(registry.parts.store.stat(registry.parts.vault.bucket, key) or 0 for key in in_vault) == usage["stored_bytes"]


async def test_two_versions_are_compared(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.VIEWER) as client:
        told = (await client.get("/api/v1/versions/compare", params={"left": "bard@1", "right": "bard@2"})).json()
        assert (await client.get("/api/v1/versions/compare", params={"left": "bard@1"})).status_code == 422
        assert (await client.get("/api/v1/versions/compare", params={"left": "bard@1", "right": "bard@9"})).status_code == 404
    assert (told["left"]["id"], told["right"]["id"], told["relation"]) == (master.id, quantized.id, "ancestor")
    assert [change["left"]["path"] for change in told["changed"]] == ["config.json", "model.safetensors"]
    assert told["shared_bytes"] == len(master_contents()["tokenizer.json"])
    assert {item["key"] for item in told["facts"]} == {"kind", "format", "scheme", "dtype"}


async def test_what_a_list_or_a_comparison_does_not_take_is_refused(registry: Registry) -> None:
    async with registry.client(Role.OPERATOR) as client:
        number = await client.get("/api/v1/versions", params={"created_before": "0.5"})
        assert number.status_code == 422
        assert "created_before: '0.5' is no time with its zone" in number.json()["detail"]
        assert (await client.get("/api/v1/versions", params={"model": "nothing"})).status_code == 404
        # "compare" is no version that could be deleted.
        deleted = await client.delete("/api/v1/versions/compare", params={"left": "a@1", "right": "a@2"})
        assert (deleted.status_code, deleted.headers["Allow"]) == (405, "GET")


async def test_the_lineage_is_drawn_and_the_card_is_written(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.client(Role.VIEWER) as client:
        picture = await client.get("/api/v1/versions/bard@2/lineage.svg")
        text = await client.get("/api/v1/versions/bard@2/lineage.mmd")
        card = await client.get("/api/v1/versions/bard@2/card")
        assert (await client.get("/api/v1/versions/bard@9/card")).status_code == 404
    assert picture.headers["content-type"] == "image/svg+xml"
    titles = [title.text for title in ElementTree.fromstring(picture.text).iter("{http://www.w3.org/2000/svg}title")]  # noqa: S314
    assert titles[0] == "Lineage of bard@2"
    assert len(titles) == 4
    assert text.text.startswith("flowchart TD")
    assert card.headers["content-type"].startswith("text/markdown")
    fields = yaml.safe_load(card.text.split("---\n")[1])
    assert fields["base_model_relation"] == "quantized"
    assert quantized.manifest_digest in card.text


async def test_what_is_made_from_a_master_has_its_card(registry: Registry, tmp_path: Path) -> None:
    card = VersionCard(license="apache-2.0", base_model=["owner/bard"], languages=["en"], pipeline_tag="text-generation")
    await registry.import_master(tmp_path, card=card)
    quantized = await quantize(registry, tmp_path)
    assert quantized.card == card
    assert await found(registry, license="Apache-2.0") == [2, 1]
    assert await found(registry, license="mit") == []


async def test_what_an_alias_was_at_any_time(registry: Registry, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    first = await registry.import_master(tmp_path)
    second = await registry.import_master(tmp_path, ANOTHER)
    url = "/api/v1/models/bard/aliases/production"
    moves = []
    async with registry.client(Role.OPERATOR) as client:
        for version in (first, second, first):
            moves.append((await client.put(url, json={"version_id": version.id})).json())
        for move, version in zip(moves, (first, second, first), strict=True):
            then = (await client.get(url, params={"at": move["updated_at"]})).json()
            assert (then["version_id"], then["updated_at"]) == (version.id, move["updated_at"])
            just_before = datetime.fromisoformat(move["updated_at"]) - timedelta(microseconds=1)
            earlier = await client.get(url, params={"at": just_before.isoformat()})
            assert (earlier.json().get("version_id") == version.id) is False
        assert (await client.get(url, params={"at": "2999-01-01T00:00:00Z"})).json()["version_id"] == first.id
        never = await client.get(url, params={"at": before.isoformat()})
        assert (never.status_code, "first set at" in never.json()["detail"]) == (404, True)
        assert (await client.get(url, params={"at": "2026-01-01T00:00:00"})).status_code == 422
        assert (await client.get("/api/v1/models/bard/aliases/other", params={"at": moves[0]["updated_at"]})).status_code == 404


async def test_no_alias_points_at_a_quarantined_version(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.database.begin() as uow:
        await uow.versions.quarantine(quantized.id)
    async with registry.client(Role.OPERATOR) as client:
        refused = await client.put("/api/v1/models/bard/aliases/production", json={"version_id": quantized.id})
    assert (refused.status_code, "quarantined; an alias points at a ready version" in refused.text) == (409, True)


async def test_two_imports_of_one_name_at_once_both_become_versions(registry: Registry, tmp_path: Path) -> None:
    jobs = [await registry.claim(ImportSpec(model="bard", source=f"/models/bard-{number}")) for number in range(4)]
    manifests = []
    for number, job in enumerate(jobs):
        contents = master_contents() | {"README.md": f"copy {number % 3}".encode()}
        manifests.append(registry.stage(job, contents, tmp_path))
    sealed = await asyncio.gather(*(registry.seal(job, files) for job, files in zip(jobs, manifests, strict=True)))
    assert [answer.status_code for answer in sealed] == [200] * 4
    versions = await asyncio.gather(*(registry.finish(job, files) for job, files in zip(jobs, manifests, strict=True)))
    assert sorted(version.number for version in versions) == [1, 2, 3, 4]
    assert sorted(await found(registry, model="bard")) == [1, 2, 3, 4]
    async with registry.client(Role.VIEWER) as client:
        for version, files in zip(versions, manifests, strict=True):
            detail = (await client.get(f"/api/v1/versions/{version.id}")).json()
            assert {file["sha256"] for file in detail["files"]} == {file.sha256 for file in files}
