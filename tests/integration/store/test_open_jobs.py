"""Whoever asks for the jobs that use something reads those that are not over, however many were."""

from __future__ import annotations

import pytest

from factories.statements import num_read
from factories.store import Platform, blob, import_spec
from quantry_core.errors import Conflict
from quantry_core.jobs import FINAL_STATUSES, ImportSpec, JobStatus
from quantry_core.versions import ManifestFile
from quantry_store.repositories.open_jobs import OPEN_STATUSES

NUM_OVER = 3000
FILE = ManifestFile(path="config.json", sha256=blob("{}").sha256, size_bytes=2)


async def much_was_done(platform: Platform) -> None:
    """Fills the table with copies of an import that has succeeded."""
    job = await platform.submit(import_spec())
    await platform.sql("update jobs set status = 'succeeded' where id = %s", job.id)
    await platform.sql(
        "insert into jobs select (jsonb_populate_record(done, jsonb_build_object('id', 'job_' || n, 'created_at', now()))).*"
        " from jobs done, generate_series(1, %s) n where done.id = %s",
        NUM_OVER,
        job.id,
    )
    await platform.sql("analyze jobs")


def test_every_status_is_open_or_final() -> None:
    assert set(OPEN_STATUSES) | FINAL_STATUSES == set(JobStatus)
    # The guard of deletions names them in SQL.
    assert [status.value for status in OPEN_STATUSES] == ["waiting", "queued", "running"]


async def test_a_file_of_an_upload_and_the_sweep_read_no_job_that_is_over(platform: Platform) -> None:
    await much_was_done(platform)
    async with platform.database.begin() as uow:
        upload = await uow.uploads.create(platform.admin, lifetime_s=3600)
        before = await num_read(uow, "jobs")
        await uow.uploads.put(upload, FILE, lifetime_s=3600)
        assert await num_read(uow, "jobs") - before == 0
        await uow.uploads.delete(platform.project_id, (await uow.uploads.create(platform.admin, lifetime_s=3600)).id)
        expired = await uow.uploads.create(platform.admin, lifetime_s=-1)
        assert await uow.uploads.delete_expired() == {expired.id: platform.project_id}
        assert await num_read(uow, "jobs") - before == 0
    await platform.submit(ImportSpec(model="sent", source=upload.source))
    async with platform.database.begin() as uow:
        with pytest.raises(Conflict, match="unfinished job"):
            await uow.uploads.put(upload, FILE, lifetime_s=3600)


async def test_a_job_of_another_project_does_not_hold_an_upload(platform: Platform, stranger: Platform) -> None:
    async with platform.database.begin() as uow:
        upload = await uow.uploads.create(platform.admin, lifetime_s=3600)
        await uow.uploads.put(upload, FILE, lifetime_s=3600)
    job = await stranger.submit(import_spec())
    await platform.sql("update jobs set spec = jsonb_set(spec, '{source}', to_jsonb(%s::text)) where id = %s", upload.source, job.id)
    async with platform.database.begin() as uow:
        await uow.uploads.delete(platform.project_id, upload.id)


async def test_a_deletion_reads_no_job_that_is_over(platform: Platform) -> None:
    master = await platform.master()
    await much_was_done(platform)
    async with platform.database.begin() as uow:
        version = await uow.deletions.hold(platform.project_id, master.id)
        before = await num_read(uow, "jobs")
        await uow.deletions.check_unused(version)
        assert await num_read(uow, "jobs") - before == 0
        await uow.deletions.mark_deleted(version.id)
        assert await num_read(uow, "jobs") - before == 0
