"""Checkpoints of training jobs: sealed apart, served while they are kept, collected when they are not, and verified."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from factories.registry import Registry
from factories.store import UPLOADED, blob
from quantry_blobs.errors import StoreUnavailable
from quantry_blobs.stores import Stored
from quantry_core.errors import StaleAttempt
from quantry_core.execution import CheckpointReport, FinishRequest, Outcome
from quantry_core.jobs import FinetuneSpec, Job, JobReason
from quantry_core.keys import Role
from quantry_core.vault import VaultRunKind
from quantry_core.versions import ManifestFile, blob_key
from quantry_registry.sweeps import sweep_checkpoints, sweep_staging
from quantry_registry.vault.service import play_next
from quantry_store.transactions import finish_attempt, note_blobs, record_checkpoint

STATE = {"optimizer.pt": b"\x80\x04moments", "trainer_state.json": b'{"global_step": 20}', "rank0/rng.pt": b"\x80\x04seeds"}


async def training(registry: Registry, folder: Path) -> Job:
    """Returns a training job that is held by its first attempt."""
    master = await registry.import_master(folder)
    async with registry.database.begin() as uow:
        dataset, _ = await uow.datasets.add(master.project_id, "rows", blob("rows"), UPLOADED)
    return await registry.claim(FinetuneSpec(model=master.id, training_file=dataset.id))


def stage(registry: Registry, job: Job, step: int, folder: Path, contents: Mapping[str, bytes] = STATE) -> list[ManifestFile]:
    """Uploads a checkpoint as a worker does."""
    files = []
    for path, content in contents.items():
        (folder / "staged").write_bytes(content)
        files.append(registry.parts.staging.put_checkpoint(job.id, job.attempt, step, path, folder / "staged"))
    return files


async def seal(registry: Registry, job: Job, step: int, files: list[ManifestFile]) -> dict[str, Any]:
    """Asks for the seal over HTTP; returns what was answered."""
    body = {"job_id": job.id, "attempt": job.attempt, "step": step, "files": [file.model_dump() for file in files]}
    async with registry.client(Role.WORKER) as client:
        document: dict[str, Any] = (await client.post("/api/v1/seals/checkpoints", json=body)).json()
    return document


async def reach(registry: Registry, job: Job, step: int, folder: Path, contents: Mapping[str, bytes] = STATE) -> list[ManifestFile]:
    files = stage(registry, job, step, folder, contents)
    assert "manifest_digest" in await seal(registry, job, step, files)
    async with registry.database.begin() as uow:
        await record_checkpoint(uow, job.id, CheckpointReport(attempt=job.attempt, step=step, files=files))
    return files


async def run(registry: Registry, kind: VaultRunKind, **request: Any) -> dict[str, Any]:
    """Returns the report of a run over the vault."""
    async with registry.client(Role.ADMIN) as client:
        asked = await client.post(f"/api/v1/vault/{kind}", json=request)
        assert await play_next(registry.database, registry.parts) is not None
        report: dict[str, Any] = (await client.get(f"/api/v1/vault/runs/{asked.json()['id']}")).json()["report"]
    return report


def url_of(registry: Registry) -> str:
    return registry.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def age_blobs(registry: Registry) -> None:
    with psycopg.connect(url_of(registry), autocommit=True) as connection:
        connection.execute("update blobs set sealed_at = sealed_at - interval '2 days'")


def staged(registry: Registry) -> list[str]:
    return sorted(registry.parts.store.list(registry.parts.staging.bucket, ""))


async def test_a_checkpoint_is_sealed_recorded_and_served(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    num_before = len(staged(registry))
    files = await reach(registry, job, 20, tmp_path)
    assert len(staged(registry)) == num_before, "a long run must not fill the staging bucket"
    of_step = f"/api/v1/jobs/{job.id}/checkpoints/20/files"
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get(of_step)).json()["data"] == [file.model_dump() for file in sorted(files, key=lambda file: file.path)]
        for path, content in STATE.items():
            assert (await client.get(f"{of_step}/{path}")).content == content
        for path in (f"{of_step}/other.pt", f"/api/v1/jobs/{job.id}/checkpoints/21/files", f"{of_step.replace(job.id, 'job_' + '0' * 32)}"):
            assert (await client.get(path)).status_code == 404


async def test_a_seal_may_be_repeated_after_its_answer_was_lost(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    files = stage(registry, job, 20, tmp_path)
    assert (await seal(registry, job, 20, files))["num_sealed"] == len(files)
    assert (await seal(registry, job, 20, files))["num_reused"] == len(files)


async def test_what_may_not_be_sealed_as_a_checkpoint(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    files = stage(registry, job, 20, tmp_path)
    lies = [
        [files[0].model_copy(update={"sha256": "0" * 64}), *files[1:]],
        [*files, files[0]],
        [ManifestFile(path=f"{number}.pt", size_bytes=1, sha256="1" * 64) for number in range(257)],
        [files[0].model_copy(update={"size_bytes": 2**50})],
    ]
    for lie in lies:
        assert (await seal(registry, job, 20, lie))["type"] == "urn:quantry:problem:seal-refused"
    other = await registry.claim()
    assert "has no checkpoints" in (await seal(registry, other, 20, stage(registry, other, 20, tmp_path)))["detail"]


async def test_a_zombie_attempt_neither_seals_nor_records(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    files = stage(registry, job, 20, tmp_path)
    lost = FinishRequest(attempt=job.attempt, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST)
    async with registry.database.begin() as uow:
        await finish_attempt(uow, job.id, lost)
    assert (await seal(registry, job, 20, files))["type"] == "urn:quantry:problem:stale-attempt"
    with pytest.raises(StaleAttempt):
        async with registry.database.begin() as uow:
            await record_checkpoint(uow, job.id, CheckpointReport(attempt=job.attempt, step=20, files=files))


async def test_a_kill_between_the_seal_and_the_report_leaves_nothing_behind(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    kept = await reach(registry, job, 20, tmp_path)
    forgotten = stage(registry, job, 40, tmp_path, {"optimizer.pt": b"\x80\x04newer"})
    await seal(registry, job, 40, forgotten)
    # Uploaded and not sealed: the worker was killed a moment earlier here.
    stage(registry, job, 60, tmp_path, {"optimizer.pt": b"\x80\x04newest"})
    async with registry.database.begin() as uow:
        await finish_attempt(uow, job.id, FinishRequest(attempt=job.attempt, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST))
    await sweep_staging(registry.database, registry.parts.staging)
    assert [key for key in staged(registry) if key.startswith(job.id)] == []
    age_blobs(registry)
    report = await run(registry, VaultRunKind.COLLECT, dry_run=False)
    assert (report["num_blobs"], report["num_bytes"]) == (1, forgotten[0].size_bytes)
    vault = registry.parts.vault
    assert not vault.contains(forgotten[0].sha256, forgotten[0].size_bytes)
    assert all(vault.contains(file.sha256, file.size_bytes) for file in kept)


async def test_files_that_are_let_go_of_are_collected(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    for step in (20, 40, 60):
        await reach(registry, job, step, tmp_path, {"optimizer.pt": b"\x80\x04%d" % step, "config.json": b"{}"})
    age_blobs(registry)
    assert (await run(registry, VaultRunKind.COLLECT, dry_run=False))["num_blobs"] == 1, "of step 20 what it alone has"


async def test_files_that_are_let_go_of_leave_with_the_sweep(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    # What another thing has too stays: here the text of a dataset.
    shared = {"config.json": b'{"of": "this training"}', "rows.txt": b"these are the rows"}
    gone, *kept = [await reach(registry, job, step, tmp_path, {"optimizer.pt": b"\x80\x04%d" % step} | shared) for step in (20, 40, 60)]
    rows = next(file for file in gone if file.path == "rows.txt")
    async with registry.database.begin() as uow:
        await uow.datasets.add(job.project_id, "shared", Stored(rows.size_bytes, rows.sha256), UPLOADED)
    forgotten = stage(registry, job, 80, tmp_path, {"optimizer.pt": b"\x80\x04never reported"})
    await seal(registry, job, 80, forgotten)
    vault = registry.parts.vault
    assert await sweep_checkpoints(registry.database, vault, 900.0) == 0, "what was just sealed may not be reported yet"
    age_blobs(registry)
    assert await sweep_checkpoints(registry.database, vault, 900.0) == 2
    removed = {file.sha256 for file in (*gone, *forgotten) if not vault.contains(file.sha256, file.size_bytes)}
    assert removed == {file.sha256 for file in (*gone, *forgotten) if file.path == "optimizer.pt"}
    assert all(vault.contains(file.sha256, file.size_bytes) for files in kept for file in files)

    async with registry.database.begin() as uow:
        await uow.checkpoints.drop(job.id)
    assert await sweep_checkpoints(registry.database, vault, 900.0) == 3
    assert vault.contains(rows.sha256, rows.size_bytes)


async def test_what_was_more_than_a_checkpoint_is_left_to_a_collection(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    (file,) = stage(registry, job, 20, tmp_path, {"adapter_model.safetensors": b"the best weights"})
    await seal(registry, job, 20, [file])
    async with registry.database.begin() as uow:
        await note_blobs(uow, [file])
    await seal(registry, job, 20, [file])
    age_blobs(registry)
    assert await sweep_checkpoints(registry.database, registry.parts.vault, 900.0) == 0
    assert registry.parts.vault.contains(file.sha256, file.size_bytes)


async def checkpointed(registry: Registry, content: bytes, folder: Path) -> ManifestFile:
    """Returns a file that was sealed as a checkpoint's alone, long ago, and that nothing refers to."""
    job = await training(registry, folder)
    (file,) = stage(registry, job, 20, folder, {"optimizer.pt": content})
    await seal(registry, job, 20, [file])
    age_blobs(registry)
    return file


def noted_as(registry: Registry, file: ManifestFile) -> list[bool]:
    """Returns what a file's row says about checkpoints, if it has one."""
    with psycopg.connect(url_of(registry)) as connection:
        rows = connection.execute("select only_checkpoints from blobs where sha256 = %s", (file.sha256,)).fetchall()
    return [only_checkpoints for (only_checkpoints,) in rows]


async def test_what_a_version_sealed_after_a_look_is_not_forgotten(registry: Registry, tmp_path: Path) -> None:
    file = await checkpointed(registry, b"\x80\x04taken up", tmp_path)
    async with registry.database.begin() as uow:
        assert [found.sha256 for found in await uow.blobs.let_go(0.0, after="", limit=10)] == [file.sha256]
    async with registry.database.begin() as uow:
        await note_blobs(uow, [file])
    async with registry.database.begin() as uow:
        assert await uow.blobs.forget_let_go([file.sha256], 0.0) == []
    assert noted_as(registry, file) == [False]


async def test_what_could_not_be_removed_is_tried_again(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, vault = await checkpointed(registry, b"\x80\x04in use", tmp_path), registry.parts.vault
    with vault._keys.hold(file.sha256):
        assert await sweep_checkpoints(registry.database, vault, 900.0) == 0
    assert noted_as(registry, file) == [True]
    age_blobs(registry)

    def away(bucket: str, key: str) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(registry.parts.store, "delete_once", away)
        with pytest.raises(StoreUnavailable):
            await sweep_checkpoints(registry.database, vault, 900.0)
    assert noted_as(registry, file) == [True]
    age_blobs(registry)
    assert await sweep_checkpoints(registry.database, vault, 900.0) == 1
    assert (noted_as(registry, file), vault.contains(file.sha256, file.size_bytes)) == ([], False)


async def test_what_is_gone_unanswered_or_taken_up_meanwhile_is_not_noted_as_left(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, vault = await checkpointed(registry, b"\x80\x04in use", tmp_path), registry.parts.vault
    contains, delete_once = vault.contains, registry.parts.store.delete_once

    def taken_up(sha256: str, size_bytes: int) -> bool:
        with psycopg.connect(url_of(registry), autocommit=True) as connection:
            connection.execute("insert into blobs (sha256, size_bytes) values (%s, %s)", (sha256, size_bytes))
        return contains(sha256, size_bytes)

    with monkeypatch.context() as raced, vault._keys.hold(file.sha256):
        raced.setattr(vault, "contains", taken_up)
        assert await sweep_checkpoints(registry.database, vault, 900.0) == 0
    assert noted_as(registry, file) == [False]

    with psycopg.connect(url_of(registry), autocommit=True) as connection:
        connection.execute("update blobs set only_checkpoints = true where sha256 = %s", (file.sha256,))
    age_blobs(registry)

    def unanswered(bucket: str, key: str) -> None:
        delete_once(bucket, key)
        raise StoreUnavailable("away")

    monkeypatch.setattr(registry.parts.store, "delete_once", unanswered)
    with pytest.raises(StoreUnavailable):
        await sweep_checkpoints(registry.database, vault, 900.0)
    assert noted_as(registry, file) == []


async def test_a_damaged_checkpoint_is_found_and_nobody_goes_on_from_it(registry: Registry, tmp_path: Path) -> None:
    job = await training(registry, tmp_path)
    await reach(registry, job, 20, tmp_path)
    (newer,) = await reach(registry, job, 40, tmp_path, {"optimizer.pt": b"\x80\x04newer"})
    store, bucket = registry.parts.store, registry.parts.vault.bucket
    store.delete(bucket, blob_key(newer.sha256))
    store.put_stream(bucket, blob_key(newer.sha256), io.BytesIO(b"\x80\x04NEWER"))
    report = await run(registry, VaultRunKind.VERIFY)
    named = [damage["artifacts"] for damage in report["damaged"] if damage["sha256"] == newer.sha256]
    assert named == [[f"{job.id}/checkpoints/40/optimizer.pt"]]
    async with registry.database.begin() as uow:
        checkpoints = await uow.checkpoints.list(job.project_id, job.id)
    assert [(one.step, one.has_files) for one in checkpoints] == [(40, False), (20, True)]
