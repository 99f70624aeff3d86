"""Datasets that are deleted, come back, or let go of their bytes, and what keeps them from it."""

from __future__ import annotations

import asyncio

import pytest

from factories.schedules import job_template, wind_up
from factories.store import UPLOADED, Platform, blob, quantize_spec
from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin, DatasetRecipe, DatasetStatistics, Derivation, DerivedFrom, Parent
from quantry_core.errors import Conflict, DatasetProtected, UnknownDataset
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, JobType
from quantry_core.pipelines import PipelineStep, PipelineSubmission
from quantry_core.schedules import PipelineTemplate
from quantry_store.repositories.datasets import DatasetDraft
from quantry_store.transactions import cancel_job, delete_dataset, delete_schedule, remove_dataset, restore_dataset, retry_job

DAY_S = 86400.0


async def delete(platform: Platform, dataset: Dataset) -> Dataset:
    async with platform.database.begin() as uow:
        return await delete_dataset(uow, dataset.id, who=platform.admin)


async def restore(platform: Platform, dataset: Dataset) -> Dataset:
    async with platform.database.begin() as uow:
        return await restore_dataset(uow, dataset.id, who=platform.admin)


async def remove(platform: Platform, dataset: Dataset) -> bool:
    async with platform.database.begin() as uow:
        return await remove_dataset(uow, dataset, 30 * DAY_S)


async def derived(platform: Platform, parent: Dataset) -> Dataset:
    derivation = Derivation(
        parents=[DerivedFrom(id=parent.id, ref=parent.ref, sha256=parent.sha256)], recipe=DatasetRecipe(parents=[Parent(ref=parent.ref)])
    )
    draft = DatasetDraft(DatasetKind.TEXT, DatasetOrigin.DERIVED, DatasetStatistics(), derivation.model_dump(mode="json"))
    async with platform.database.begin() as uow:
        return (await uow.datasets.add(platform.project_id, "few", blob("few"), draft))[0]


async def test_a_deleted_dataset_is_found_by_its_id_alone_and_comes_back(platform: Platform) -> None:
    first, second = await platform.dataset("tales", "one"), await platform.dataset("tales", "two")
    deleted = await delete(platform, second)
    assert deleted.deleted_at is not None
    assert await delete(platform, second) == deleted
    async with platform.database.begin() as uow:
        assert await uow.datasets.resolve(platform.project_id, "tales") == first
        assert await uow.datasets.get(platform.project_id, second.id) == deleted
        assert second.id not in {dataset.id for dataset in (await uow.datasets.list(platform.project_id)).data}
        for ref, words in (("tales@2", "has no number 2"), (second.id, "is deleted; restore it")):
            with pytest.raises(UnknownDataset, match=words):
                await uow.datasets.resolve(platform.project_id, ref)
        with pytest.raises(Conflict, match="tales@2 is deleted; restore it"):
            await uow.datasets.add(platform.project_id, "tales", blob("two"), UPLOADED)
    assert await restore(platform, second) == second
    with pytest.raises(Conflict, match="is not deleted"):
        await restore(platform, second)
    assert [action for action in await platform.actions() if action.startswith("dataset.")] == ["dataset.delete", "dataset.restore"]


async def test_what_needs_a_dataset_keeps_it_with_the_reason(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    job = await platform.submit(quantize_spec(master.id, tales.id))
    child = await derived(platform, await platform.dataset("plays", "enter a ghost"))
    async with platform.database.begin() as uow:
        builtin = await uow.datasets.resolve(platform.project_id, BUILT_IN_QUALITY_CORPUS)
        plays = await uow.datasets.resolve(platform.project_id, "plays")
    for dataset, words in (
        (tales, f"job {job.id} still uses tales@1"),
        (plays, "few@1 was derived from plays@1"),
        (builtin, "is the platform's own"),
    ):
        with pytest.raises(DatasetProtected, match=words):
            await delete(platform, dataset)
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    assert (await delete(platform, tales)).deleted_at is not None
    for dataset in (child, plays):
        await delete(platform, dataset)
    with pytest.raises(DatasetProtected, match=r"few@1 was derived from what is deleted: dataset plays@1 is deleted"):
        await restore(platform, child)
    for dataset in (plays, child):
        assert (await restore(platform, dataset)).deleted_at is None


async def test_a_schedule_keeps_what_it_names(platform: Platform) -> None:
    master = await platform.master()
    numbers = [await platform.dataset("tales", f"text {number}") for number in range(3)]
    spec = quantize_spec(master.id, "tales@1")
    pinned = await wind_up(platform, job_template(spec=spec), name="pinned", is_paused=True)
    steps = {"make": PipelineStep(spec=quantize_spec(master.id, "tales"))}
    await wind_up(platform, PipelineTemplate(submission=PipelineSubmission(name="latest", steps=steps)), name="latest")
    with pytest.raises(DatasetProtected, match=r"schedule 'pinned' needs tales@1 as 'tales@1'"):
        await delete(platform, numbers[0])
    for dataset in numbers[1:]:
        await delete(platform, dataset)
    async with platform.database.begin() as uow:
        await delete_schedule(uow, platform.admin, pinned.schedule.id)
    with pytest.raises(DatasetProtected, match=r"schedule 'latest' needs tales@1 as 'tales'"):
        await delete(platform, numbers[0])


async def test_a_removed_dataset_lets_go_of_its_bytes_and_its_versions_still_name_it(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    await delete(platform, tales)
    assert not await remove(platform, tales), "its time is not over"
    await platform.sql("update datasets set deleted_at = now() - interval '31 days' where id = %s", tales.id)
    async with platform.database.begin() as uow:
        assert [dataset.id for dataset in await uow.dataset_deletions.expired(30 * DAY_S, after="", limit=5)] == [tales.id]
        await platform.sql("update blobs set sealed_at = now() - interval '31 days'")
        assert tales.sha256 not in {blob.sha256 for blob in await uow.blobs.unreferenced(DAY_S, after="", limit=100)}
    assert await remove(platform, tales)
    assert not await remove(platform, tales)
    async with platform.database.begin() as uow:
        assert [gone.sha256 for gone in await uow.blobs.forget([tales.sha256, quantized.manifest_digest], DAY_S)] == [tales.sha256]
        kept = await uow.datasets.get(platform.project_id, tales.id)
        lineage = await uow.versions.lineage(platform.project_id, quantized.id)
    assert (kept.ref, kept.sha256, kept.removed_at is not None) == (tales.ref, tales.sha256, True)
    assert ("tales@1", "deleted") in [(node.label, node.state) for node in lineage.nodes]
    with pytest.raises(Conflict, match="was removed at"):
        await restore(platform, tales)
    assert (await platform.dataset()).ref == "tales@2"


async def test_a_job_that_named_a_deleted_dataset_is_not_tried_again(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    job = await platform.submit(quantize_spec(master.id, tales.id))
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    await delete(platform, tales)
    with pytest.raises(UnknownDataset, match="is deleted; restore it"):
        async with platform.database.begin() as uow:
            await retry_job(uow, platform.admin, job.id)
    await restore(platform, tales)
    async with platform.database.begin() as uow:
        assert (await retry_job(uow, platform.admin, job.id)).type is JobType.QUANTIZE


async def test_submission_and_deletion_at_once_agree(platform: Platform) -> None:
    master = await platform.master()
    for round_ in range(6):
        dataset = await platform.dataset("tales", f"round {round_}")
        submitted, deleted = await asyncio.gather(
            platform.submit(quantize_spec(master.id, dataset.id)), delete(platform, dataset), return_exceptions=True
        )
        if isinstance(submitted, BaseException):
            assert isinstance(submitted, UnknownDataset)
            assert not isinstance(deleted, BaseException)
        else:
            assert isinstance(deleted, DatasetProtected)


async def test_what_was_submitted_holds_its_datasets_until_it_is_written(platform: Platform) -> None:
    tales = await platform.dataset()
    async with platform.database.begin() as uow:
        await uow.datasets.hold(tales.id)
        deletion = asyncio.create_task(delete(platform, tales))
        await asyncio.sleep(0.3)
        assert not deletion.done()
    assert (await deletion).deleted_at is not None
    with pytest.raises(UnknownDataset, match="is deleted"):
        async with platform.database.begin() as uow:
            await uow.datasets.hold(tales.id)


async def test_another_projects_dataset_is_not_there(platform: Platform, stranger: Platform) -> None:
    tales = await platform.dataset()
    for attempt in (delete, restore):
        with pytest.raises(UnknownDataset):
            await attempt(stranger, tales)
