"""What lists and charts of models ask for: sizes, figures, modules, what was made with a dataset; and versions that are put aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.registry import Registry
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_core.keys import Role
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, Version, VersionKind

WEIGHT = "model.layers.0.mlp.up_proj.weight"
MASTER = master_contents(model__safetensors=safetensors_bytes({WEIGHT: ("F16", (16, 8)), "model.norm.weight": ("F16", (8,))}))
QUANTIZED = master_contents(
    model__safetensors=safetensors_bytes({f"{WEIGHT}_packed": ("I32", (16, 1)), f"{WEIGHT}_scale": ("F16", (16, 1))}),
    config__json=json.dumps(CONFIG | {"quantization_config": {}}).encode(),
)


async def a_family(registry: Registry, folder: Path) -> tuple[Version, Version]:
    """Returns a master and what was quantized from it."""
    master = await registry.import_master(folder, MASTER)
    async with registry.client(Role.OPERATOR) as client:
        await client.put("/api/v1/datasets/words", content=b"some words " * 200)
    job = await registry.claim(QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["words"]), quality=None))
    files = registry.stage(job, QUANTIZED, folder)
    assert (await registry.seal(job, files)).status_code == 200
    return master, await registry.finish(job, files, VersionKind.QUANTIZED)


async def note(registry: Registry, version: Version, kind: EvidenceKind, name: str, **metrics: Any) -> None:
    async with registry.database.begin() as uow:
        await uow.evidence.note(version, EvidenceDraft(kind=kind, name=name, verdict=Verdict.PASS, metrics=metrics))


async def test_sizes_figures_and_modules_of_a_model_are_told(registry: Registry, tmp_path: Path) -> None:
    master, quantized = await a_family(registry, tmp_path)
    of_gate, evaluation = EvidenceKind.GATE, EvidenceKind.EVALUATION
    await note(registry, quantized, of_gate, "precision", bits_per_weight=5.0, bits_per_parameter=6.5, problems=[])
    await note(registry, quantized, of_gate, "quality", corpora={"kjv@1": {"perplexity_ratio": 1.01, "num_tokens": 9}})
    against = {"against": "bard@1", "against_version_id": master.id}
    await note(registry, quantized, evaluation, "plays@1", **against, kl_mean_nats=0.02, perplexity_ratio=None)
    await note(registry, quantized, evaluation, "recalibration:plays@1", **against, kl_mean_nats=0.5)
    await note(registry, quantized, evaluation, "speed", memory_peak_bytes=12345, levels=[{"concurrency": 1}])
    async with registry.client(Role.OPERATOR) as client:
        await client.put("/api/v1/models/bard/aliases/production", json={"version_id": quantized.id})
        [model] = (await client.get("/api/v1/models", params={"text": "AR"})).json()["data"]
        assert (await client.get("/api/v1/models", params={"text": "b%d"})).json()["data"] == []
        figures = (await client.get("/api/v1/models/bard/figures")).json()
        assert (await client.get("/api/v1/models/bart/figures")).status_code == 404
        modules = [(await client.get(f"/api/v1/versions/bard@{number}/modules")).json() for number in (1, 2)]
    assert (model["num_versions"], model["latest_number"], model["num_quarantined"]) == (2, 2, 0)
    assert model["size_bytes"] == master.size_bytes + quantized.size_bytes
    assert model["aliases"] == [{"alias": "production", "number": 2}]
    newest, oldest = figures["data"]
    assert (newest["number"], newest["bits_per_weight"], newest["bits_per_parameter"]) == (2, 5.0, 6.5)
    assert newest["memory_peak_bytes"] == 12345
    told = [(one["corpus"], one["against"], one["kind"], one["perplexity_ratio"], one["kl_mean_nats"]) for one in newest["quality"]]
    assert told == [("kjv@1", "bard@1", "gate", 1.01, None), ("plays@1", "bard@1", "evaluation", None, 0.02)]
    assert (oldest["id"], oldest["weights_bytes"], oldest["quality"], figures["has_more"]) == (master.id, master.weights_bytes, [], False)
    name = WEIGHT.removesuffix(".weight")
    assert modules[0]["data"] == [{"name": name, "bits_per_weight": 16.0, "stored_as": "F16", "size_bytes": 256}]
    assert modules[1]["data"] == [{"name": name, "bits_per_weight": 6.0, "stored_as": "I32 and F16", "size_bytes": 96}]


async def test_datasets_and_what_was_made_with_one_are_found(registry: Registry, tmp_path: Path) -> None:
    _, quantized = await a_family(registry, tmp_path)
    async with registry.client(Role.OPERATOR) as client:
        rows = b'{"text": "some words that are long enough to be a row of this dataset, and a few more"}\n'
        await client.put("/api/v1/datasets/rows.of-mine", content=rows, headers={"content-type": "application/jsonl"})
        words, mine = [(await client.get(f"/api/v1/datasets/{name}")).json() for name in ("words", "rows.of-mine")]
        searches: list[tuple[dict[str, str], list[str]]] = [
            ({}, ["rows.of-mine", "words"]),
            ({"kind": "rows"}, ["rows.of-mine"]),
            ({"origin": "uploaded", "text": "WORD"}, ["words"]),
            ({"origin": "captured"}, []),
            ({"text": "_"}, []),
        ]
        for params, names in searches:
            found = (await client.get("/api/v1/datasets", params=params)).json()["data"]
            assert [one["name"] for one in found] == names, params
        assert (await client.get("/api/v1/datasets", params={"kind": "pictures"})).status_code == 422
        made = [
            [version["id"] for version in (await client.get("/api/v1/versions", params={"dataset_id": one["id"]})).json()["data"]]
            for one in (words, mine)
        ]
        assert (await client.get("/api/v1/versions", params={"dataset_id": "words"})).status_code == 422
        async with registry.database.begin() as uow:
            given = [await uow.jobs.list(quantized.project_id, uses=one["id"]) for one in (words, mine)]
    assert made == [[quantized.id], []]
    assert [[job.id for job in page.data] for page in given] == [[quantized.job_id], []]


async def test_a_version_is_put_aside_and_taken_back(registry: Registry, tmp_path: Path) -> None:
    master, quantized = await a_family(registry, tmp_path)
    url = f"/api/v1/versions/{quantized.id}"
    async with registry.client(Role.VIEWER) as viewer:
        assert (await viewer.post(f"{url}/archive")).status_code == 403
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.post(f"/api/v1/versions/{master.id}/archive")).status_code == 409
        assert (await client.post(f"{url}/unarchive")).status_code == 409
        await client.put("/api/v1/models/bard/aliases/production", json={"version_id": quantized.id})
        refused = await client.post(f"{url}/archive")
        assert (refused.status_code, "alias 'production'" in refused.json()["detail"]) == (409, True)
        await client.delete("/api/v1/models/bard/aliases/production")
        for _again in range(2):
            assert (await client.post(f"{url}/archive")).json()["state"] == "archived"
        moved = await client.put("/api/v1/models/bard/aliases/production", json={"version_id": quantized.id})
        assert moved.status_code == 409
        assert (await client.post(f"{url}/unarchive")).json()["state"] == "ready"
        async with registry.database.begin() as uow:
            await uow.versions.quarantine(quantized.id)
        for action in ("archive", "unarchive"):
            # What did not pass its gate must not become ready by being put aside and taken back.
            assert (await client.post(f"{url}/{action}")).status_code == 409
        await client.delete(url)
        assert (await client.post(f"{url}/archive")).status_code == 409
    async with registry.database.begin() as uow:
        entries = await uow.audit.list(registry.identities[Role.ADMIN].project_id)
    actions = [entry.action for entry in entries.data if entry.action.startswith("version.")]
    assert actions == ["version.delete", "version.unarchive", "version.archive"]
