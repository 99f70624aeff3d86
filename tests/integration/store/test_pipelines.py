"""Pipelines: made whole or not at all, walked through to their end, cancelled and tried again."""

from __future__ import annotations

import asyncio

import pytest

from factories.releases import bard_pipeline, pipeline_of, release, retry, say_hello, step, submit_steps
from factories.store import GATE_PASSED, Platform, blob, import_spec, master_draft, quantize_spec, quantized_draft, succeeded
from quantry_core.errors import Conflict, InvalidInput, SourceRefused, UnknownDataset, UnknownPipeline
from quantry_core.execution import Outcome
from quantry_core.jobs import DeploySpec, EvaluateSpec, ImportSpec, Job, JobReason, JobStatus, WaitingOn, parse_selector
from quantry_core.pipelines import PipelineDetail, PipelineSubmission
from quantry_core.uploads import Upload
from quantry_core.versions import EvidenceDraft, EvidenceKind, ManifestFile, Verdict
from quantry_store.transactions import cancel_pipeline, retry_pipeline

MEASURED = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="tales", verdict=Verdict.PASS, metrics={"perplexity": 7.0})

WHOLE_WAY = {
    "fetch": step(import_spec()),
    "gentle": step(quantize_spec("output:fetch", "tales")),
    "rough": step(quantize_spec("output:fetch", "tales", options={"damping": 0.05})),
    "measure": step(EvaluateSpec(version="output:gentle", against="output:fetch", corpora=["tales"])),
    "serve": step(DeploySpec(deployment="chat", version="output:gentle"), "measure"),
}


def job_of(pipeline: PipelineDetail, name: str) -> Job:
    return next(job for job in pipeline.jobs if job.step == name)


async def claim(platform: Platform, pipeline: PipelineDetail, name: str) -> Job:
    """Returns the step's job, claimed; it must be the next in the queue."""
    job = await platform.claim()
    assert job.step == name
    return job


async def cancel(platform: Platform, pipeline: PipelineDetail) -> PipelineDetail:
    async with platform.database.begin() as uow:
        return await cancel_pipeline(uow, platform.admin, pipeline.id)


async def again(platform: Platform, pipeline: PipelineDetail) -> PipelineDetail:
    async with platform.database.begin() as uow:
        return await retry_pipeline(uow, platform.admin, pipeline.id)


async def fail(platform: Platform, job: Job) -> None:
    await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.DIVERGED)


async def make_quantized(platform: Platform, job: Job, content: str = "quantized") -> None:
    await platform.finish(job, **succeeded(quantized_draft(content=content), evidence=GATE_PASSED))


async def test_a_pipeline_goes_all_the_way(platform: Platform) -> None:
    await platform.dataset()
    pipeline = await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": WHOLE_WAY}))
    assert (pipeline.status, pipeline.num_jobs) == (JobStatus.QUEUED, {JobStatus.QUEUED: 1, JobStatus.WAITING: 4})
    steps = [job.step for job in pipeline.jobs]
    assert (steps[0], set(steps)) == ("fetch", set(WHOLE_WAY))
    assert steps.index("measure") < steps.index("serve")
    assert job_of(pipeline, "serve").needs == [job_of(pipeline, "measure").id, job_of(pipeline, "gentle").id]
    await platform.made(await claim(platform, pipeline, "fetch"), master_draft())
    assert (await pipeline_of(platform, pipeline.id)).status is JobStatus.RUNNING
    await release(platform)
    for _ in range(2):
        job = await platform.claim()
        await make_quantized(platform, job, content=job.step or "")
    await release(platform)
    await platform.finish(await claim(platform, pipeline, "measure"), **succeeded(evidence=[MEASURED]))
    assert [job.step for job in await release(platform)] == ["serve"]
    pipeline = await pipeline_of(platform, pipeline.id)
    rollout = (await platform.deployment()).active_rollout
    assert rollout is not None
    assert rollout.job_id == job_of(pipeline, "serve").id
    gentle = job_of(pipeline, "gentle").result
    assert gentle is not None
    assert job_of(pipeline, "serve").inputs[0].version_id == gentle.version_id
    assert pipeline.num_jobs == {JobStatus.SUCCEEDED: 4, JobStatus.QUEUED: 1}


async def test_a_pipeline_with_a_bad_step_leaves_nothing(platform: Platform) -> None:
    await platform.dataset()
    actions = await platform.actions()
    steps = {"fetch": step(import_spec()), "shrink": step(quantize_spec("output:fetch", "fables"))}
    with pytest.raises(UnknownDataset, match="step 'shrink': there is no dataset 'fables'"):
        await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps}))
    steps = {"fetch": step(import_spec()), "once": step(quantize_spec("output:fetch", "tales"))}
    steps["twice"] = step(quantize_spec("output:once", "tales"))
    with pytest.raises(InvalidInput, match=r"step 'twice'.*makes a quantized version") as caught:
        await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps}))
    assert [problem.field for problem in caught.value.errors] == ["steps.twice.spec.base"]
    for table in ("jobs", "pipelines"):
        rows = await platform.sql("select count(*) from jobs" if table == "jobs" else "select count(*) from pipelines")
        assert rows == [(0,)]
    assert await platform.actions() == actions


async def test_labels_of_the_pipeline_are_added_to_its_steps(platform: Platform) -> None:
    steps = {"one": step(import_spec(), labels={"team": "ads"}), "two": step(import_spec("other"))}
    labels = {"team": "search", "nightly": ""}
    pipeline = await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps, "labels": labels}))
    assert job_of(pipeline, "one").labels == {"team": "ads", "nightly": ""}
    assert job_of(pipeline, "two").labels == labels
    full = {f"k{number}": "" for number in range(32)}
    with pytest.raises(InvalidInput, match="step 'one': together with those of the pipeline"):
        await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps, "labels": full}))


async def test_pipelines_are_listed_with_where_they_are(platform: Platform, stranger: Platform) -> None:
    await platform.dataset()
    first = await submit_steps(platform, bard_pipeline(labels={"team": "search"}))
    second = await submit_steps(platform, bard_pipeline())
    await cancel(platform, first)
    async with platform.database.begin() as uow:
        page = await uow.pipelines.list(platform.project_id, limit=1)
        rest = await uow.pipelines.list(platform.project_id, after=page.last_id)
        labelled = await uow.pipelines.list(platform.project_id, labels=parse_selector("team=search"))
        assert (await uow.pipelines.list(platform.project_id, schedule_id="sch_x")).data == []
        assert (await uow.pipelines.list(stranger.project_id)).data == []
        with pytest.raises(UnknownPipeline):
            await uow.pipelines.get(stranger.project_id, first.id)
        jobs = (await uow.jobs.list(platform.project_id, pipeline_id=second.id)).data
    assert [(item.id, item.status, item.num_jobs) for item in page.data] == [
        (second.id, JobStatus.QUEUED, {JobStatus.QUEUED: 1, JobStatus.WAITING: 1})
    ]
    assert [(item.id, item.status, item.num_jobs) for item in rest.data] == [(first.id, JobStatus.CANCELLED, {JobStatus.CANCELLED: 2})]
    assert [item.id for item in labelled.data] == [first.id]
    assert {job.id for job in jobs} == {job.id for job in second.jobs}


async def test_cancel_ends_what_waits_and_flags_what_runs(platform: Platform) -> None:
    await platform.dataset()
    pipeline = await submit_steps(platform, bard_pipeline())
    running = await claim(platform, pipeline, "fetch")
    cancelled = await cancel(platform, pipeline)
    assert [(job.step, job.status, job.cancel_requested) for job in cancelled.jobs] == [
        ("fetch", JobStatus.RUNNING, True),
        ("shrink", JobStatus.CANCELLED, True),
    ]
    actions = await platform.actions()
    assert sorted(actions[-3:]) == ["job.cancel", "job.cancel", "pipeline.cancel"]
    await platform.finish(running, outcome=Outcome.CANCELLED, reason=JobReason.CANCELLED)
    over = await pipeline_of(platform, pipeline.id)
    assert over.status is JobStatus.CANCELLED
    assert await cancel(platform, over) == over
    assert await platform.actions() == actions


async def test_a_retry_begins_again_where_it_broke(platform: Platform) -> None:
    await platform.dataset()
    steps = {**WHOLE_WAY, "serve": step(DeploySpec(deployment="chat", version="output:gentle"), "measure", "rough")}
    pipeline = await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps}))
    master = await platform.made(await claim(platform, pipeline, "fetch"), master_draft())
    await release(platform)
    first, second = [await platform.claim() for _ in range(2)]
    gentle, rough = (first, second) if first.step == "gentle" else (second, first)
    await fail(platform, gentle)
    await make_quantized(platform, rough)
    await release(platform)
    broken = await pipeline_of(platform, pipeline.id)
    assert (broken.status, broken.num_jobs) == (JobStatus.FAILED, {JobStatus.SUCCEEDED: 2, JobStatus.FAILED: 3})
    retried = await again(platform, broken)
    kept = {"fetch", "rough"}
    assert {job.step for job in retried.jobs if job.id == job_of(broken, job.step or "").id} == kept
    new = job_of(retried, "gentle")
    assert (new.status, new.retry_of, new.inputs[0].version_id) == (JobStatus.QUEUED, gentle.id, master.id)
    measure = job_of(retried, "measure")
    assert (measure.status, measure.waiting_on, measure.needs) == (JobStatus.WAITING, WaitingOn.NEEDS, [new.id, job_of(broken, "fetch").id])
    assert [item.job_id for item in measure.inputs] == [new.id, job_of(broken, "fetch").id, None]
    assert measure.spec.model_dump()["version"] == f"output:{new.id}"
    assert job_of(retried, "serve").needs == [measure.id, rough.id, new.id]
    assert retried.status is JobStatus.RUNNING
    await make_quantized(platform, await claim(platform, pipeline, "gentle"), content="better")
    assert [job.step for job in await release(platform)] == ["measure"]
    assert sorted((await platform.actions())[-4:]) == ["job.retry", "job.retry", "job.retry", "pipeline.retry"]


async def test_a_pipeline_that_did_not_break_is_not_tried_again(platform: Platform) -> None:
    await platform.dataset()
    pipeline = await submit_steps(platform, bard_pipeline())
    with pytest.raises(Conflict, match="nothing to try again"):
        await again(platform, pipeline)
    with pytest.raises(UnknownPipeline):
        async with platform.database.begin() as uow:
            await retry_pipeline(uow, platform.admin, "pip_" + "0" * 32)


async def test_two_retries_at_once_begin_each_step_once(platform: Platform) -> None:
    await platform.dataset()
    pipeline = await cancel(platform, await submit_steps(platform, bard_pipeline()))
    answers = await asyncio.gather(again(platform, pipeline), again(platform, pipeline), return_exceptions=True)
    assert sorted(isinstance(answer, Conflict) for answer in answers) == [False, True]
    assert await platform.sql("select count(*) from jobs") == [(4,)]


async def test_one_step_is_tried_again_and_then_those_after_it(platform: Platform) -> None:
    await platform.dataset()
    pipeline = await submit_steps(platform, bard_pipeline())
    fetch, shrink = job_of(pipeline, "fetch"), job_of(pipeline, "shrink")
    await fail(platform, await claim(platform, pipeline, "fetch"))
    await release(platform)
    with pytest.raises(Conflict, match="or the whole pipeline"):
        await retry(platform, shrink)
    fetched = await retry(platform, fetch)
    assert (fetched.pipeline_id, fetched.step) == (pipeline.id, "fetch")
    with pytest.raises(Conflict, match=f"tried again already, by job {fetched.id}"):
        await retry(platform, fetch)
    master = await platform.made(await claim(platform, pipeline, "fetch"), master_draft())
    shrunk = await retry(platform, shrink)
    assert (shrunk.status, shrunk.needs, shrunk.inputs[0].version_id) == (JobStatus.QUEUED, [fetched.id], master.id)
    view = await pipeline_of(platform, pipeline.id)
    assert [job.id for job in view.jobs] == [fetched.id, shrunk.id]
    assert view.status is JobStatus.RUNNING


async def test_steps_whose_work_was_done_before_succeed_at_once(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await say_hello(platform)
    quantized = await platform.quantized(master, tales)
    steps = {
        "shrink": step(quantize_spec(master.id, tales.id)),
        "serve": step(DeploySpec(deployment="chat", version="output:shrink")),
    }
    pipeline = await submit_steps(platform, PipelineSubmission.model_validate({"name": "nightly", "steps": steps}))
    shrink, serve = pipeline.jobs
    assert (shrink.status, serve.status, serve.waiting_on) == (JobStatus.SUCCEEDED, JobStatus.WAITING, WaitingOn.ROLLOUT)
    assert serve.inputs[0].version_id == quantized.id
    assert [(job.id, job.status) for job in await release(platform)] == [(serve.id, JobStatus.QUEUED)]


async def upload_of(platform: Platform) -> Upload:
    file = ManifestFile(path="config.json", sha256=blob("{}").sha256, size_bytes=2)
    async with platform.database.begin() as uow:
        upload = await uow.uploads.create(platform.admin, lifetime_s=60)
        await uow.uploads.put(upload, file, lifetime_s=60)
    return upload


async def test_pipelines_that_import_the_same_uploads_never_wait_for_each_other_crosswise(platform: Platform) -> None:
    one, two = await upload_of(platform), await upload_of(platform)

    def importing(*uploads: Upload) -> PipelineSubmission:
        steps = {f"step-{number}": step(ImportSpec(model="bard", source=upload.source)) for number, upload in enumerate(uploads)}
        return PipelineSubmission.model_validate({"name": "both", "steps": steps})

    for _ in range(8):
        both = await asyncio.gather(submit_steps(platform, importing(one, two)), submit_steps(platform, importing(two, one)))
        await asyncio.gather(*(cancel(platform, pipeline) for pipeline in both))
        retried = await asyncio.gather(*(again(platform, pipeline) for pipeline in both))
        await asyncio.gather(*(cancel(platform, pipeline) for pipeline in retried))


async def test_a_step_whose_upload_is_gone_is_named(platform: Platform) -> None:
    upload = await upload_of(platform)
    steps = {"fetch": step(import_spec()), "sent": step(ImportSpec(model="sent", source=upload.source))}
    submission = PipelineSubmission.model_validate({"name": "both", "steps": steps})
    pipeline = await cancel(platform, await submit_steps(platform, submission))
    await platform.sql("delete from uploads")
    with pytest.raises(SourceRefused, match="step 'sent': there is no upload"):
        await submit_steps(platform, submission)
    with pytest.raises(SourceRefused, match="step 'sent': there is no upload"):
        await again(platform, pipeline)
