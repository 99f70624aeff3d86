"""Merge jobs in the store: what their inputs are, what is made of them, and what follows."""

from __future__ import annotations

import pytest

from factories.made import edges, ids, quantized, release
from factories.store import (
    GATE_PASSED,
    Platform,
    adapter_draft,
    finetune_spec,
    merge_spec,
    merged_draft,
    quantize_spec,
    quantized_draft,
    succeeded,
)
from quantry_core.datasets import Dataset, DatasetKind
from quantry_core.errors import DatasetProtected, InvalidInput, UnknownDataset, VersionProtected
from quantry_core.execution import Outcome
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    DeploySpec,
    EvaluateSpec,
    InputRole,
    JobReason,
    JobStatus,
    MergeSpec,
    QuantizationRecipe,
    QuantizeSpec,
)
from quantry_core.versions import EdgeRole, EvidenceDraft, EvidenceKind, Verdict, VersionState
from quantry_store.transactions import delete_dataset, retry_job


async def test_a_merge_finds_base_recipe_and_text_of_the_quantized_version(platform: Platform) -> None:
    master = await platform.master()
    packed = await quantized(platform, master)
    adapter = await platform.adapter(packed)
    tales = await platform.dataset()
    await platform.dataset("tales", "newer, which the base was not made with")
    exam, plays = await platform.dataset("exam", "exam"), await platform.dataset("plays", "plays")
    job = await platform.running(merge_spec(adapter.ref, measure=True, validation_file="exam", corpora=["plays"]))
    assert [(item.role, item.version_id or item.dataset_id) for item in job.inputs] == [
        (InputRole.ADAPTER, adapter.id),
        (InputRole.ADAPTER_BASE, packed.id),
        (InputRole.BASE, master.id),
        (InputRole.VALIDATION, exam.id),
        (InputRole.CORPUS, plays.id),
        (InputRole.CALIBRATION, tales.id),
    ]
    assert isinstance(job.spec, MergeSpec)
    recipe = job.spec.quantize
    assert isinstance(recipe, QuantizationRecipe)
    assert (recipe.method, recipe.scheme, recipe.group_size) == ("gptq", "W4A16", 64)
    assert recipe.calibration is not None
    assert recipe.calibration.datasets == [tales.id]


async def test_a_merged_version_is_quantized_next(platform: Platform) -> None:
    master = await platform.master()
    packed = await quantized(platform, master)
    adapter = await platform.adapter(packed)
    job = await platform.running(merge_spec(adapter.ref, suffix="jargon"))
    done = await platform.finish(job, **succeeded(merged_draft("bard-jargon")))
    assert done.result is not None
    follow_up = await platform.job(done.result.metrics["quantize_job_id"])
    assert isinstance(follow_up.spec, QuantizeSpec)
    assert (follow_up.spec.base, follow_up.spec.method, follow_up.spec.group_size) == (done.result.version_id, "gptq", 64)
    assert follow_up.status is JobStatus.QUEUED
    assert follow_up.queue == job.queue
    async with platform.database.begin() as uow:
        merged = await uow.versions.get(platform.project_id, done.result.version_id or "")
    assert merged.ref == "bard-jargon@1"
    assert await edges(platform, merged) == [(EdgeRole.ADAPTER, adapter.id), (EdgeRole.BASE, master.id)]
    made = await platform.made(await platform.claim(), quantized_draft("bard-jargon", "merged and quantized"))
    assert made.ref == "bard-jargon@2"


async def test_what_was_merged_into_the_dequantized_base_has_that_as_its_base(platform: Platform) -> None:
    packed = await quantized(platform, await platform.master())
    adapter = await platform.adapter(packed)
    await platform.dataset("exam", "exam")
    job = await platform.running(merge_spec(adapter.ref, measure=True, validation_file="exam"))
    for target in ({}, {"merged_into": "somewhere"}, {"merged_into": "unmerged"}):
        with pytest.raises(InvalidInput, match="what it was merged into"):
            await platform.finish(job, **succeeded(merged_draft(recipe=target)))
    merged = await platform.made(job, merged_draft(recipe={"merged_into": "dequantized-base"}))
    assert await edges(platform, merged) == [(EdgeRole.ADAPTER, adapter.id), (EdgeRole.BASE, packed.id)]


async def test_adapters_that_are_best_unmerged_leave_no_version(platform: Platform) -> None:
    adapter = await platform.adapter(await quantized(platform, await platform.master()))
    await platform.dataset("exam", "exam")
    job = await platform.running(merge_spec(adapter.ref, measure=True, validation_file="exam"))
    waiting = await platform.submit(EvaluateSpec(version=OUTPUT_PREFIX + job.id, extremes=True))
    evidence = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="merge", verdict=Verdict.PASS, metrics={"log_loss": 1.0})
    done = await platform.finish(job, **succeeded(evidence=[evidence], metrics={"merge_target": "unmerged"}))
    assert done.status is JobStatus.SUCCEEDED
    assert done.result is not None
    assert done.result.version_id is None
    assert "quantize_job_id" not in done.result.metrics
    async with platform.database.begin() as uow:
        assert [one.name for one in await uow.evidence.list(adapter.id)] == ["merge"]
    await release(platform)
    failed = await platform.job(waiting.id)
    assert (failed.status, failed.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert "succeeded without a version" in (failed.message or "")


async def test_a_merge_that_measured_nothing_makes_a_version(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    job = await platform.running(merge_spec(adapter.ref))
    with pytest.raises(InvalidInput, match="has made a version"):
        await platform.finish(job, **succeeded())


async def test_a_merge_of_16_bit_adapters_is_quantized_only_by_a_recipe_of_its_own(platform: Platform) -> None:
    master = await platform.master()
    adapter = await platform.adapter(master)
    tales = await platform.dataset()
    job = await platform.running(merge_spec(adapter.ref))
    assert isinstance(job.spec, MergeSpec)
    assert job.spec.quantize is None
    assert ids(job, InputRole.BASE) == ids(job, InputRole.ADAPTER_BASE) == [master.id]
    done = await platform.finish(job, **succeeded(merged_draft()))
    assert done.result is not None
    assert not {"quantize_job_id", "quantize_refused"} & done.result.metrics.keys()
    recipe = {"method": "gptq", "calibration": {"datasets": ["tales"]}}
    job = await platform.running(merge_spec(adapter.ref, quantize=recipe))
    assert isinstance(job.spec, MergeSpec)
    assert isinstance(job.spec.quantize, QuantizationRecipe)
    assert job.spec.quantize.calibration is not None
    assert job.spec.quantize.calibration.datasets == [tales.id]
    assert job.spec.quantize.quality is not None
    assert job.spec.quantize.quality.corpora[0].startswith("dat_")


@pytest.mark.parametrize("own", [True, False])
async def test_the_datasets_of_a_merges_recipe_are_kept_until_they_are_used(platform: Platform, own: bool) -> None:
    master = await platform.master()
    plays = await platform.dataset("plays", "plays")
    measured = {"corpora": [plays.id]}
    base = master if own else await quantized(platform, master)
    adapter = await platform.adapter(base)
    tales = await platform.dataset()
    recipe = {"method": "gptq", "calibration": {"datasets": [tales.id]}, "quality": measured}
    job = await platform.running(merge_spec(adapter.ref, **({"quantize": recipe} if own else {})))
    assert all(item.dataset_id is None for item in job.inputs)

    async def delete(dataset: Dataset) -> None:
        async with platform.database.begin() as uow:
            await delete_dataset(uow, dataset.id, who=platform.admin)

    needed = [tales, plays] if own else [tales]
    for dataset in needed:
        with pytest.raises(DatasetProtected, match=f"job {job.id} still uses {dataset.ref}"):
            await delete(dataset)
    failed = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT, message="it cannot be merged")
    await delete(tales)
    with pytest.raises(UnknownDataset, match="is deleted"):
        async with platform.database.begin() as uow:
            await retry_job(uow, platform.admin, failed.id)


async def test_a_follow_up_that_is_refused_undoes_nothing(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    tales = await platform.dataset()
    job = await platform.running(merge_spec(adapter.ref, quantize={"method": "gptq", "calibration": {"datasets": ["tales"]}}))
    await platform.sql("update datasets set deleted_at = now() where id = %s", tales.id)
    done = await platform.finish(job, **succeeded(merged_draft()))
    assert done.status is JobStatus.SUCCEEDED
    assert done.result is not None
    assert done.result.version_id is not None
    assert "is deleted" in done.result.metrics["quantize_refused"]


async def test_a_merge_that_failed_its_check_is_kept_and_not_quantized(platform: Platform) -> None:
    adapter = await platform.adapter(await quantized(platform, await platform.master()))
    job = await platform.running(merge_spec(adapter.ref))
    failed = GATE_PASSED[0].model_copy(update={"name": "merge", "verdict": Verdict.FAIL})
    draft = merged_draft(state=VersionState.QUARANTINED)
    done = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.GATE_FAILED, version=draft, evidence=[failed])
    assert done.result is not None
    assert done.result.version_id is not None
    assert "quantize_job_id" not in done.result.metrics


async def test_only_adapters_of_one_version_merge(platform: Platform) -> None:
    master = await platform.master()
    one = await platform.adapter(master)
    other = await platform.adapter(await quantized(platform, master), "other")
    with pytest.raises(InvalidInput, match=f"{other.ref} was trained on bard@3 and {one.ref} on bard@1") as refused:
        await platform.submit(merge_spec(one.ref, other.ref))
    assert refused.value.errors[0].field == "spec.adapters.1"
    with pytest.raises(InvalidInput, match=f"{one.ref} is named twice"):
        await platform.submit(merge_spec(one.ref, one.id))
    with pytest.raises(InvalidInput, match="is a master version") as refused:
        await platform.submit(merge_spec(one.ref, master.ref))
    assert refused.value.errors[0].field == "spec.adapters"


async def test_a_measurement_needs_something_to_compare(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    await platform.dataset("exam", "exam")
    with pytest.raises(InvalidInput, match="trained on bard@1, which is 16-bit: give a recipe"):
        await platform.submit(merge_spec(adapter.ref, measure=True, validation_file="exam"))
    recipe = {"method": "gptqmodel", "calibration": {"datasets": ["exam"]}}
    with pytest.raises(InvalidInput, match="leave measure out"):
        await platform.submit(merge_spec(adapter.ref, measure=True, validation_file="exam", quantize=recipe))
    await platform.dataset("pairs", "pairs", kind=DatasetKind.PREFERENCES)
    with pytest.raises(InvalidInput, match="log-loss is of answers or text"):
        await platform.submit(merge_spec(adapter.ref, measure=True, validation_file="pairs", quantize=recipe | {"method": "gptq"}))


async def test_a_recipe_that_cannot_be_repeated_is_told(platform: Platform) -> None:
    master = await platform.master()
    odd = await platform.made(
        await platform.running(quantize_spec(master.id, (await platform.dataset()).ref)), quantized_draft(recipe={"method": "abacus"})
    )
    adapter = await platform.adapter(odd)
    with pytest.raises(InvalidInput, match=f"the recipe of {odd.ref} is not one that this release can repeat"):
        await platform.submit(merge_spec(adapter.ref))
    gone = await quantized(platform, master)
    adapter = await platform.adapter(gone, "second")
    await platform.sql("update datasets set deleted_at = now() where name = 'tales'")
    with pytest.raises(UnknownDataset, match="is deleted"):
        await platform.submit(merge_spec(adapter.ref))


async def test_finetune_merge_and_evaluation_in_one_chain_wait_for_each_other(platform: Platform) -> None:
    master = await platform.master()
    packed = await quantized(platform, master)
    await platform.dataset("lessons")
    training = await platform.running(finetune_spec(packed.ref))
    merging = await platform.submit(merge_spec(OUTPUT_PREFIX + training.id))
    measuring = await platform.submit(EvaluateSpec(version=OUTPUT_PREFIX + training.id, extremes=True))
    assert (merging.status, ids(merging, InputRole.ADAPTER_BASE)) == (JobStatus.WAITING, [])
    with pytest.raises(InvalidInput, match="makes an adapter version"):
        await platform.submit(DeploySpec(deployment="chat", version=OUTPUT_PREFIX + training.id))
    adapter = await platform.made(training, adapter_draft())
    await release(platform)
    merging, measuring = await platform.job(merging.id), await platform.job(measuring.id)
    assert (merging.status, measuring.status) == (JobStatus.QUEUED, JobStatus.QUEUED)
    assert ids(merging, InputRole.ADAPTER) == ids(measuring, InputRole.SUBJECT) == [adapter.id]
    assert ids(merging, InputRole.ADAPTER_BASE) == ids(measuring, InputRole.ADAPTER_BASE) == [packed.id]
    assert ids(merging, InputRole.BASE) == [master.id]
    assert isinstance(merging.spec, MergeSpec)
    assert isinstance(merging.spec.quantize, QuantizationRecipe)
    # What it merged into and what the recipe says stay what they were, whatever is tried again.
    await platform.sql("update jobs set status = 'failed', reason = 'internal', finished_at = now() where id = %s", merging.id)
    async with platform.database.begin() as uow:
        again = await retry_job(uow, platform.admin, merging.id)
    assert again.inputs == merging.inputs
    assert again.spec == merging.spec


async def test_an_open_merge_keeps_the_adapter_and_what_it_was_trained_on(platform: Platform) -> None:
    packed = await quantized(platform, await platform.master())
    adapter = await platform.adapter(packed)
    job = await platform.submit(merge_spec(adapter.ref))
    async with platform.database.begin() as uow:
        for version in (adapter, packed):
            with pytest.raises(VersionProtected, match=f"{job.id} still uses {version.ref}"):
                await uow.deletions.check_unused(version)
