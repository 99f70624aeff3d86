"""The seal: what a worker staged is in the vault, or the vault is as it was."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.gguf_files import gguf_bytes
from factories.registry import Registry
from quantry_core.errors import SealRefused
from quantry_core.jobs import CalibrationSpec, EvaluateSpec, Job, QuantizeSpec
from quantry_core.keys import Role
from quantry_core.versions import ManifestFile, VersionKind, blob_key, manifest_digest
from quantry_registry.sweeps import sweep_incoming, sweep_staging


def vault_keys(registry: Registry) -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.vault.bucket, ""))


async def is_noted(registry: Registry, files: list[ManifestFile]) -> bool:
    """Tells whether any of the files could be part of a version."""
    for file in files:
        async with registry.database.begin() as uow:
            with suppress(SealRefused):
                await uow.blobs.check_sealed([file])
                return True
    return False


async def test_staged_files_become_a_version(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    files = registry.stage(job, master_contents(), tmp_path)
    answer = await registry.seal(job, files)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"manifest_digest": manifest_digest(files), "num_sealed": 3, "num_reused": 0}
    assert vault_keys(registry) == sorted(blob_key(file.sha256) for file in files)
    version = await registry.finish(job, files)
    assert version.ref == "bard@1"
    assert version.manifest_digest == manifest_digest(files)


async def test_a_version_is_what_its_attempt_sealed_last(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    job = await registry.claim()
    weights = safetensors_bytes({"a.weight": ("BF16", (4, 4))})
    first = registry.stage(job, master_contents() | {"README.md": b"first"}, tmp_path)
    assert (await registry.seal(job, first)).status_code == 200
    last = registry.stage(job, master_contents(model__safetensors=weights), tmp_path)
    assert (await registry.seal(job, last)).status_code == 200
    for files, dtype, words in [
        (first, "float16", "sealed last"),
        ([*last, next(file for file in first if file.path == "README.md")], "bfloat16", "sealed last"),
        (last, "float16", "are bfloat16, not float16"),
    ]:
        with pytest.raises(SealRefused, match=words):
            await registry.finish(job, files, dtype=dtype)
    version = await registry.finish(job, last, dtype="bfloat16")
    assert (version.ref, version.dtype) == ("bard@2", "bfloat16")


async def test_a_seal_may_be_repeated(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    files = registry.stage(job, master_contents(), tmp_path)
    await registry.seal(job, files)
    again = await registry.seal(job, files)
    assert again.json() == {"manifest_digest": manifest_digest(files), "num_sealed": 0, "num_reused": 3}


async def test_equal_bytes_under_two_paths_are_kept_once(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    contents = master_contents() | {"tokenizer_config.json": b"{}"}
    files = registry.stage(job, contents, tmp_path)
    answer = await registry.seal(job, files)
    assert answer.status_code == 200, answer.text
    assert len(vault_keys(registry)) == 3
    assert (await registry.finish(job, files)).size_bytes == sum(map(len, contents.values()))


def lie_about_the_digest(files: list[ManifestFile]) -> list[ManifestFile]:
    return [files[0].model_copy(update={"sha256": "0" * 64}), *files[1:]]


def lie_about_the_size(files: list[ManifestFile]) -> list[ManifestFile]:
    return [files[0].model_copy(update={"size_bytes": 7}), *files[1:]]


def name_a_file_that_is_not_staged(files: list[ManifestFile]) -> list[ManifestFile]:
    return [*files, ManifestFile(path="more.json", size_bytes=1, sha256="1" * 64)]


def name_a_file_twice(files: list[ManifestFile]) -> list[ManifestFile]:
    return [*files, files[0]]


@pytest.mark.parametrize("lie", [lie_about_the_digest, lie_about_the_size, name_a_file_that_is_not_staged, name_a_file_twice])
async def test_a_lie_is_refused(registry: Registry, tmp_path: Path, lie: Callable[[list[ManifestFile]], list[ManifestFile]]) -> None:
    job = await registry.claim()
    files = lie(registry.stage(job, master_contents(), tmp_path))
    answer = await registry.seal(job, files)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:quantry:problem:seal-refused"), answer.text
    assert not await is_noted(registry, files)


BAD_MASTERS: dict[str, tuple[Mapping[str, bytes], str]] = {
    "no config": (master_contents(config__json=None), "no config.json"),
    "remote code": (master_contents(config__json=json.dumps(CONFIG | {"auto_map": {}}).encode()), "auto_map"),
    "pickle": (master_contents() | {"pytorch_model.bin": b"\x80"}, "pickled weights"),
    "code": (master_contents() | {"modeling.py": b"import os"}, "code inside a checkpoint"),
    "cut short": (master_contents(model__safetensors=master_contents()["model.safetensors"][:-1]), "model.safetensors"),
    "8-bit": (master_contents(model__safetensors=safetensors_bytes({"a.weight": ("I8", (4, 4))})), "16-bit"),
    "quantized": (master_contents(config__json=json.dumps(CONFIG | {"quantization_config": {}}).encode()), "quantized already"),
}


@pytest.mark.parametrize("name", BAD_MASTERS)
async def test_the_import_rules_are_applied_in_the_vault(registry: Registry, tmp_path: Path, name: str) -> None:
    contents, words = BAD_MASTERS[name]
    job = await registry.claim()
    files = registry.stage(job, contents, tmp_path)
    answer = await registry.seal(job, files)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:quantry:problem:source-refused"), answer.text
    assert words in answer.json()["detail"]
    with pytest.raises(SealRefused, match="sealed no files"):
        await registry.finish(job, files)


async def quantize_job(registry: Registry, folder: Path) -> Job:
    await registry.import_master(folder)
    async with registry.client(Role.OPERATOR) as client:
        assert (await client.put("/api/v1/datasets/words", content=b"some words " * 200)).status_code == 201
    return await registry.claim(QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["words"]), quality=None))


async def test_a_quantized_checkpoint_need_not_be_16_bit(registry: Registry, tmp_path: Path) -> None:
    job = await quantize_job(registry, tmp_path)
    weights = safetensors_bytes({"a.weight_packed": ("I32", (4, 1)), "a.weight_scale": ("F16", (4, 1))})
    config = json.dumps(CONFIG | {"quantization_config": {"quant_method": "compressed-tensors"}}).encode()
    files = registry.stage(job, master_contents(model__safetensors=weights, config__json=config), tmp_path)
    answer = await registry.seal(job, files)
    assert answer.status_code == 200, answer.text
    assert answer.json()["num_reused"] == 1, "the tokenizer is the master's"
    assert (await registry.finish(job, files, VersionKind.QUANTIZED)).ref == "bard@2"


async def test_a_quantized_checkpoint_must_be_inert(registry: Registry, tmp_path: Path) -> None:
    job = await quantize_job(registry, tmp_path)
    files = registry.stage(job, master_contents() | {"run.py": b""}, tmp_path)
    assert (await registry.seal(job, files)).json()["type"] == "urn:quantry:problem:source-refused"


async def test_a_gguf_job_seals_one_gguf_file(registry: Registry, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    job = await registry.claim(QuantizeSpec(base="bard", method="gguf", scheme="Q8_0", quality=None))
    refused = await registry.seal(job, registry.stage(job, master_contents(), tmp_path))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:quantry:problem:source-refused")
    files = registry.stage(job, {"model.gguf": gguf_bytes()}, tmp_path)
    answer = await registry.seal(job, files)
    assert (answer.status_code, answer.json()["num_sealed"]) == (200, 1), answer.text
    assert await is_noted(registry, files)


async def test_a_job_that_makes_no_files_seals_none(registry: Registry, tmp_path: Path) -> None:
    await quantize_job(registry, tmp_path)
    job = await registry.claim(EvaluateSpec(version="bard", corpora=["words"]))
    files = registry.stage(job, master_contents(), tmp_path)
    answer = await registry.seal(job, files)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:quantry:problem:seal-refused")


async def test_an_attempt_that_holds_no_job_seals_nothing(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    body = {"job_id": job.id, "attempt": 1, "files": [file.model_dump() for file in registry.stage(job, master_contents(), tmp_path)]}
    changes: list[dict[str, Any]] = [{"attempt": number} for number in (2, 0, -1, 2**40)]
    changes += [{"job_id": job_id} for job_id in ("job_" + "0" * 32, "../x", "")]
    async with registry.client(Role.WORKER) as client:
        for change in changes:
            answer = await client.post("/api/v1/seals", json=body | change)
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:quantry:problem:stale-attempt"), answer.text
        assert (await client.post("/api/v1/seals", json=body | {"job_id": "a\0b"})).status_code < 500
    assert vault_keys(registry) == []


async def test_an_attempt_that_loses_its_job_while_it_seals_is_noted_nowhere(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await registry.claim(lease_s=1.0)
    files = registry.stage(job, master_contents(), tmp_path)
    seal = registry.parts.vault.seal

    def slow_seal(bucket: str, key: str, declared: ManifestFile) -> bool:
        time.sleep(1.1)
        return seal(bucket, key, declared)

    monkeypatch.setattr(registry.parts.vault, "seal", slow_seal)
    answer = await registry.seal(job, files)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:quantry:problem:stale-attempt"), answer.text
    assert not await is_noted(registry, files)


async def test_only_workers_seal(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    files = registry.stage(job, master_contents(), tmp_path)
    body = {"job_id": job.id, "attempt": 1, "files": [file.model_dump() for file in files]}
    for role in (Role.VIEWER, Role.OPERATOR):
        async with registry.client(role) as client:
            assert (await client.post("/api/v1/seals", json=body)).status_code == 403


async def test_seals_of_one_attempt_at_once(registry: Registry, tmp_path: Path) -> None:
    job = await registry.claim()
    files = registry.stage(job, master_contents(), tmp_path)
    answers = await asyncio.gather(*(registry.seal(job, files) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len(vault_keys(registry)) == 3


async def test_the_sweep_removes_what_ended_attempts_staged(registry: Registry, tmp_path: Path) -> None:
    ended = await registry.claim()
    files = registry.stage(ended, master_contents(), tmp_path)
    await registry.seal(ended, files)
    await registry.finish(ended, files)
    lost = await registry.claim(lease_s=0.2)
    registry.stage(lost, {"config.json": b"{}"}, tmp_path)
    await asyncio.sleep(0.3)
    running = await registry.claim()
    registry.stage(running, {"config.json": b"{}"}, tmp_path)
    unknown = running.model_copy(update={"id": "job_" + "0" * 32})
    registry.stage(unknown, {"config.json": b"{}"}, tmp_path)
    zombie = running.model_copy(update={"attempt": running.attempt + 1})
    registry.stage(zombie, {"config.json": b"{}"}, tmp_path)

    assert await sweep_staging(registry.database, registry.parts.staging) == 4
    assert registry.parts.staging.attempts() == {(running.id, running.attempt)}
    assert len(vault_keys(registry)) == 3, "the vault is left alone"


async def test_the_sweep_keeps_what_a_running_attempt_staged_though_its_keys_are_revoked(registry: Registry, tmp_path: Path) -> None:
    running = await registry.claim()
    registry.stage(running, {"config.json": b"{}"}, tmp_path)
    async with registry.database.begin() as uow:
        for identity in registry.identities.values():
            await uow.keys.revoke(identity.project_id, identity.key_id, who=identity)
    assert await sweep_staging(registry.database, registry.parts.staging) == 0
    assert registry.parts.staging.attempts() == {(running.id, running.attempt)}


async def test_the_sweep_removes_what_a_dead_registry_left(registry: Registry) -> None:
    old = "incoming/018bcfe5680070008000000000000000"
    registry.parts.store.put_stream(registry.parts.vault.bucket, old, io.BytesIO(b"of 2023"))
    assert await sweep_incoming(registry.parts.vault, 7200) == 0
    await asyncio.sleep(1.1)
    assert await sweep_incoming(registry.parts.vault, 0.1) == 1
    assert vault_keys(registry) == []
