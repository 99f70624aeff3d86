"""The seal of what fine-tune and merge jobs make: an adapter of the version its job trained on, or 16-bit weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from factories.adapters import TENSORS, adapter_contents
from factories.checkpoints import master_contents, safetensors_bytes
from factories.registry import Registry
from factories.store import BUILT_IN, adapter_draft, blob, finetune_spec, merge_spec, merged_draft
from quantry_core.errors import SealRefused
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import Job, JobReason
from quantry_core.versions import ManifestFile, Version, VersionDraft, VersionKind
from quantry_store.transactions.finish import finish_attempt

OF_BARD: dict[str, Any] = {"base_model_name_or_path": "bard@1"}


MERGED = {"merged_into": "master", "adapters": [{"adapter": "bard@3", "weight": 1.0}]}


async def training(registry: Registry, folder: Path, **changes: Any) -> Job:
    """Returns a claimed fine-tune job of a master bard@1."""
    master = await registry.import_master(folder)
    async with registry.database.begin() as uow:
        await uow.datasets.add(master.project_id, "lessons", blob("lessons"), BUILT_IN)
    return await registry.claim(finetune_spec("bard@1", **changes))


async def finish(registry: Registry, job: Job, draft: VersionDraft) -> Version:
    request = FinishRequest(attempt=job.attempt, outcome=Outcome.SUCCEEDED, reason=JobReason.COMPLETED, version=draft)
    async with registry.database.begin() as uow:
        done = await finish_attempt(uow, job.id, request)
        assert done.result is not None
        return await uow.versions.get(job.project_id, done.result.version_id or "")


async def sealed(registry: Registry, job: Job, contents: Mapping[str, bytes], folder: Path) -> list[ManifestFile]:
    files = registry.stage(job, contents, folder)
    answer = await registry.seal(job, files)
    assert answer.status_code == 200, answer.text
    return files


async def test_an_adapter_is_sealed_and_becomes_a_version(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    files = await sealed(registry, job, adapter_contents(**OF_BARD), tmp_path)
    version = await finish(registry, job, adapter_draft(files=files))
    assert (version.ref, version.kind, version.dtype) == ("bard@2", VersionKind.ADAPTER, None)


async def test_the_dtype_of_a_16_bit_adapter_is_found_in_it(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    weights = safetensors_bytes({name: ("BF16", shape) for name, (_, shape) in TENSORS.items()})
    files = await sealed(registry, job, adapter_contents(weights, **OF_BARD), tmp_path)
    with pytest.raises(SealRefused, match="are bfloat16, not float16"):
        await finish(registry, job, adapter_draft(files=files, dtype="float16"))
    assert (await finish(registry, job, adapter_draft(files=files, dtype="bfloat16"))).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (adapter_contents(base_model_name_or_path="bard@7"), "it was trained on bard@7, and its job trained on bard@1"),
        (adapter_contents(base_model_name_or_path="/models/bard"), "not a version"),
        (adapter_contents(**OF_BARD) | {"adapter_model.bin": b"\x80\x04"}, "can run code when loaded"),
        (adapter_contents(safetensors_bytes({"a.weight": ("F32", (4, 4))}), **OF_BARD), "not a part of a LoRA"),
        (master_contents(), "not part of an adapter"),
    ],
)
async def test_what_is_no_adapter_of_its_base_is_refused(
    registry: Registry, tmp_path: Path, contents: dict[str, bytes], words: str
) -> None:
    job = await training(registry, tmp_path)
    answer = await registry.seal(job, registry.stage(job, contents, tmp_path))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:source-refused"), answer.text
    assert words in answer.json()["detail"]


async def test_trained_and_merged_weights_are_16_bit_checkpoints(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path, adapter=None)
    for contents, words in [
        (adapter_contents(**OF_BARD), "there is no config.json"),
        (master_contents(model__safetensors=safetensors_bytes({"a.weight": ("F32", (4, 4))})), "these weights are F32"),
    ]:
        answer = await registry.seal(job, registry.stage(job, contents, tmp_path))
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:source-refused"), answer.text
        assert words in answer.json()["detail"]
    files = await sealed(registry, job, master_contents(), tmp_path)
    with pytest.raises(SealRefused, match="are float16, not bfloat16"):
        await finish(registry, job, merged_draft(files=files, dtype="bfloat16"))
    trained = await finish(registry, job, merged_draft(files=files))
    job = await registry.claim(finetune_spec(trained.id))
    adapter = await finish(
        registry, job, adapter_draft(files=await sealed(registry, job, adapter_contents(base_model_name_or_path="bard@2"), tmp_path))
    )
    job = await registry.claim(merge_spec(adapter.ref))
    merged = await finish(registry, job, merged_draft(files=await sealed(registry, job, master_contents(), tmp_path), recipe=MERGED))
    assert (merged.ref, merged.kind, merged.dtype) == ("bard@4", VersionKind.MERGED, "float16")
    async with registry.client(next(iter(registry.secrets))) as client:
        card = (await client.get(f"/api/v1/versions/{adapter.ref}/card")).text
        told = (await client.get("/api/v1/versions/compare", params={"left": adapter.ref, "right": merged.ref})).json()
        merged_card = (await client.get(f"/api/v1/versions/{merged.ref}/card")).text
    assert "An adapter (lora, rank 16, alpha 32.0) of `bard@2`, trained by supervised fine-tuning." in card
    assert told["relation"] == "ancestor"
    assert f"merged in: `{adapter.ref}` (weight 1.0)." in merged_card
