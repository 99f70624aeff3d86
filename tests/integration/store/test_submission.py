"""Submission: what a job becomes, what it is refused for, and that a refusal leaves nothing behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from factories.releases import bound_queue, say_hello, submit
from factories.store import Platform, import_spec, master_draft, quantize_spec
from quantry_core.errors import (
    Conflict,
    InvalidInput,
    InvalidName,
    QuantryError,
    RolloutInProgress,
    UnknownDataset,
    UnknownJob,
    UnknownMethod,
    UnknownModel,
    UnknownScheme,
    UnknownVersion,
)
from quantry_core.execution import Outcome
from quantry_core.jobs import (
    BUILT_IN_QUALITY_CORPUS,
    CPU_QUEUE,
    DeploySpec,
    EngineConfig,
    EngineKind,
    Estimate,
    EstimateFigures,
    EvaluateSpec,
    EventKind,
    InputRole,
    JobReason,
    JobSpec,
    JobStatus,
    JobSubmission,
    JobType,
    WaitingOn,
    parse_selector,
)
from quantry_core.rollouts import RolloutState
from quantry_store.transactions import Placement, stop_deployment, submit_job


async def test_import_is_queued_with_event_and_audit_row(platform: Platform) -> None:
    job = await platform.submit(import_spec(), priority=2)
    assert (job.status, job.queue, job.priority, job.attempt, job.inputs) == (JobStatus.QUEUED, CPU_QUEUE, 2, 0, [])
    assert await platform.job(job.id) == job
    (event,) = await platform.events(job)
    assert (event.seq, event.kind, event.data) == (1, EventKind.STATE, {"status": "queued", "reason": None, "message": None})
    async with platform.database.begin() as uow:
        entry = (await uow.audit.list(platform.project_id, limit=1)).data[0]
    assert (entry.action, entry.noun_id, entry.key_id, entry.role) == ("job.submit", job.id, platform.admin.key_id, platform.admin.role)
    assert entry.data["spec"]["source"] == "/models/bard"


async def test_references_are_resolved_once(platform: Platform) -> None:
    master = await platform.master()
    first = await platform.dataset("tales", "one")
    async with platform.database.begin() as uow:
        measured_on = await uow.datasets.resolve(platform.project_id, BUILT_IN_QUALITY_CORPUS)
    job = await platform.submit(quantize_spec("bard", "tales"))
    await platform.dataset("tales", "two")
    assert [(item.role, item.ref, item.version_id, item.dataset_id) for item in (await platform.job(job.id)).inputs] == [
        (InputRole.BASE, "bard", master.id, None),
        (InputRole.CALIBRATION, "tales", None, first.id),
        (InputRole.CORPUS, BUILT_IN_QUALITY_CORPUS, None, measured_on.id),
    ]


async def test_evaluation_takes_quarantined_subjects(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    broken = await platform.quarantined(master, tales)
    job = await platform.submit(EvaluateSpec(version=broken.ref, against="bard@1", corpora=["tales@1"]))
    assert [(item.role, item.version_id or item.dataset_id) for item in job.inputs] == [
        (InputRole.SUBJECT, broken.id),
        (InputRole.REFERENCE, master.id),
        (InputRole.CORPUS, tales.id),
    ]


async def test_what_is_refused_says_why_and_leaves_nothing(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    broken = await platform.quarantined(master, tales)
    jobs_before, actions_before = await platform.sql("select count(*) from jobs"), await platform.actions()
    nowhere = "ver_" + "0" * 32
    cases: list[tuple[JobSpec, type[QuantryError], str]] = [
        (quantize_spec("bart", "tales"), UnknownModel, "no model 'bart'; models here: bard"),
        (quantize_spec("bard@9", "tales"), UnknownVersion, "model 'bard' has no version 9; versions here: 3, 2, 1"),
        (quantize_spec("bard@production", "tales"), UnknownVersion, "no alias 'production'; there are no aliases yet"),
        (quantize_spec(nowhere, "tales"), UnknownVersion, nowhere),
        (quantize_spec("../bard", "tales"), InvalidName, ".."),
        (quantize_spec("bard\x00", "tales"), InvalidName, "lower-case"),
        (quantize_spec("bard@99999999999", "tales"), UnknownVersion, "no alias '99999999999'"),
        (quantize_spec("bard", "fables"), UnknownDataset, "no dataset 'fables'; datasets here: builtin.prose.test, tales"),
        (quantize_spec("bard", "tales@4"), UnknownDataset, "has no number 4; numbers here: 1"),
        (quantize_spec("bard", "tales@best"), UnknownDataset, "datasets have no aliases"),
        (quantize_spec("bard", "tales", method="magic"), UnknownMethod, "known: rtn, gptq"),
        (quantize_spec("bard", "tales", scheme="W1A1"), UnknownScheme, "known: W4A16"),
        (quantize_spec("bard", "tales", group_size=7), InvalidInput, "32, 64, 128"),
        (quantize_spec(quantized.ref, "tales"), InvalidInput, "bard@2 is a quantized version; a master or merged version is needed"),
        (EvaluateSpec(version="bard@1", against=broken.ref, corpora=["tales"]), InvalidInput, "bard@3 is quarantined"),
        (EvaluateSpec(version="bard@1", corpora=["fables"]), UnknownDataset, "fables"),
        (DeploySpec(deployment="chat", version=broken.ref), InvalidInput, "only a ready version"),
        (DeploySpec(deployment="chat", version="bart"), UnknownModel, "bart"),
        (
            DeploySpec(deployment="chat", version="bard@1", engine=EngineConfig(engine=EngineKind.LLAMA_CPP, max_adapters=1)),
            InvalidInput,
            "llama.cpp loads no adapters while it runs",
        ),
        (
            DeploySpec(deployment="chat", version="bard@1", servers=["http://10.0.0.1:8000"], engine=EngineConfig(max_adapters=1)),
            InvalidInput,
            "adapters are loaded only into engines that the platform starts",
        ),
    ]
    for spec, error, words in cases:
        with pytest.raises(error) as caught:
            await platform.submit(spec)
        assert words in caught.value.detail, caught.value.detail
        assert 400 <= caught.value.status < 500
    assert await platform.sql("select count(*) from jobs") == jobs_before
    assert await platform.sql("select count(*) from deployments") == [(0,)]
    assert await platform.actions() == actions_before


async def test_refused_field_is_named(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    with pytest.raises(InvalidInput) as caught:
        await platform.submit(quantize_spec(quantized.id, "tales"))
    assert [problem.field for problem in caught.value.errors] == ["spec.base"]


async def test_no_ready_version_to_take(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        await uow.models.get_or_create(platform.project_id, "empty")
    await platform.dataset()
    with pytest.raises(UnknownVersion, match="model 'empty' has no ready version of kind master"):
        await platform.submit(quantize_spec("empty", "tales"))


async def test_deploy_makes_deployment_release_and_rollout(platform: Platform) -> None:
    master = await platform.master()
    job = await platform.submit(DeploySpec(deployment="chat", version="bard", replicas=2, ready_timeout_s=90))
    assert (job.status, job.queue, job.type) == (JobStatus.QUEUED, None, JobType.DEPLOY)
    deployment = await platform.deployment()
    rollout = deployment.active_rollout
    assert deployment.current_release is None
    assert rollout is not None
    assert (rollout.state, rollout.job_id, rollout.from_release_id) == (RolloutState.PENDING, job.id, None)
    assert (rollout.ready_deadline_at - rollout.created_at).total_seconds() == 90
    async with platform.database.begin() as uow:
        release = await uow.releases.get(rollout.to_release_id)
    assert (release.number, release.version_id, release.version_ref, release.num_replicas) == (1, master.id, "bard@1", 2)


async def test_deploy_is_refused_while_another_is_active_or_stopped(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master)
    with pytest.raises(RolloutInProgress, match=str(rollout.job_id)):
        await platform.submit(DeploySpec(deployment="chat", version="bard"))
    await platform.submit(DeploySpec(deployment="other", version="bard"))
    async with platform.database.begin() as uow:
        await stop_deployment(uow, platform.admin, "other")
    with pytest.raises(Conflict, match="start it before"):
        await platform.submit(DeploySpec(deployment="other", version="bard"))
    assert await platform.sql("select count(*) from releases") == [(2,)]


async def test_jobs_are_listed_newest_first_in_pages(platform: Platform) -> None:
    jobs = [await platform.submit(import_spec()) for _ in range(3)]
    await platform.claim()
    async with platform.database.begin() as uow:
        first = await uow.jobs.list(platform.project_id, limit=2)
        rest = await uow.jobs.list(platform.project_id, limit=2, after=first.last_id)
        running = await uow.jobs.list(platform.project_id, status=JobStatus.RUNNING)
        deploys = await uow.jobs.list(platform.project_id, type=JobType.DEPLOY)
    assert [job.id for job in [*first.data, *rest.data]] == sorted((job.id for job in jobs), reverse=True)
    assert (first.has_more, rest.has_more, first.first_id, first.last_id) == (True, False, first.data[0].id, first.data[1].id)
    assert [job.id for job in running.data] == [jobs[0].id]
    assert (deploys.data, deploys.has_more, deploys.last_id) == ([], False, None)


async def test_jobs_are_narrowed_by_labels_queue_pipeline_and_schedule(platform: Platform) -> None:
    search = await submit(platform, import_spec(), labels={"team": "search", "nightly": ""})
    ads = await submit(platform, import_spec(), labels={"team": "ads"})
    bare = await submit(platform, import_spec(), queue="gpu-80g")
    cases = [
        ("team=search", {search.id}),
        ("team", {search.id, ads.id}),
        ("team!=search", {ads.id, bare.id}),
        ("!team", {bare.id}),
        ("nightly=,team=search", {search.id}),
        ("team=search,team=ads", set()),
    ]
    async with platform.database.begin() as uow:
        for text, expected in cases:
            found = await uow.jobs.list(platform.project_id, labels=parse_selector(text))
            assert ({job.id for job in found.data}, text) == (expected, text)
        assert [job.id for job in (await uow.jobs.list(platform.project_id, queue="gpu-80g")).data] == [bare.id]
        assert (await uow.jobs.list(platform.project_id, pipeline_id="pip_x")).data == []
        assert (await uow.jobs.list(platform.project_id, schedule_id="sch_x")).data == []


async def test_options_are_kept_with_the_job(platform: Platform) -> None:
    estimate = Estimate(key="import/cpu", queue="cpu-large", minutes=2.5, uncorrected=EstimateFigures(minutes=5.0))
    submission = JobSubmission.model_validate(
        {
            "spec": import_spec(),
            "labels": {"team": "search"},
            "metadata": {"ticket": [1, {"deep": None}]},
            "limits": {"time_s": 60, "memory_bytes": 2**30},
            "force": True,
        }
    )
    async with platform.database.begin() as uow:
        job = await submit_job(uow, platform.admin, submission, Placement("cpu-large", estimate))
    assert (job.queue, job.estimate, job.limits, job.force) == ("cpu-large", estimate, submission.limits, True)
    assert (job.labels, job.metadata) == (submission.labels, submission.metadata)
    assert await platform.job(job.id) == job


async def test_a_start_in_the_past_is_none_and_one_beyond_a_year_a_mistake(platform: Platform) -> None:
    now = datetime.now(UTC)
    past = await submit(platform, import_spec(), not_before=now - timedelta(days=1))
    assert (past.status, past.not_before) == (JobStatus.QUEUED, None)
    later = await submit(platform, import_spec(), not_before=now + timedelta(days=365))
    assert (later.status, later.waiting_on) == (JobStatus.WAITING, WaitingOn.TIME)
    with pytest.raises(InvalidInput, match="more than 366 days ahead") as caught:
        await submit(platform, import_spec(), not_before=now + timedelta(days=367))
    assert [problem.field for problem in caught.value.errors] == ["not_before"]


async def test_needs_must_be_jobs_of_the_project_that_can_still_succeed(platform: Platform, stranger: Platform) -> None:
    failed = await platform.running(import_spec())
    await platform.finish(failed, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT)
    foreign = await stranger.submit(import_spec())
    words = []
    for missing in (foreign.id, "job_" + "0" * 32):
        with pytest.raises(UnknownJob) as caught:
            await submit(platform, import_spec(), needs=[missing])
        words.append(caught.value.detail.replace(missing, "it"))
        with pytest.raises(UnknownJob):
            await submit(platform, quantize_spec(f"output:{missing}", "tales"))
    assert words[0] == words[1], "another project's job is told apart from none at all"
    with pytest.raises(InvalidInput, match=f"job {failed.id} is failed") as refused:
        await submit(platform, import_spec(), needs=[failed.id])
    assert [problem.field for problem in refused.value.errors] == ["needs"]


async def test_an_output_must_be_of_a_kind_that_fits_its_field(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    fetch = await platform.submit(import_spec())
    shrink = await platform.submit(quantize_spec(master.id, tales.id))
    measure = await platform.submit(EvaluateSpec(version=master.id, corpora=["tales"]))
    cases: list[tuple[JobSpec, str, str]] = [
        (quantize_spec(f"output:{shrink.id}", "tales"), "spec.base", "makes a quantized version; a master or merged version is needed"),
        (EvaluateSpec(version=f"output:{measure.id}", corpora=["tales"]), "spec.version", "makes no version"),
        (DeploySpec(deployment="chat", version="output:fetch"), "spec.version", "write output:job_"),
    ]
    for spec, field, words in cases:
        with pytest.raises(InvalidInput) as caught:
            await submit(platform, spec)
        assert ([problem.field for problem in caught.value.errors], words in caught.value.detail) == ([field], True), caught.value.detail
    job = await submit(platform, EvaluateSpec(version=f"output:{shrink.id}", against=f"output:{fetch.id}", corpora=["tales"]))
    assert (job.status, job.waiting_on, job.needs) == (JobStatus.WAITING, WaitingOn.NEEDS, [shrink.id, fetch.id])
    assert [(item.job_id, item.version_id) for item in job.inputs] == [(shrink.id, None), (fetch.id, None), (None, None)]


async def test_needs_that_are_met_hold_nothing_back(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    master = await platform.made(fetch, master_draft())
    await platform.dataset()
    job = await submit(platform, quantize_spec(f"output:{fetch.id}", "tales"), needs=[fetch.id])
    assert (job.status, job.needs) == (JobStatus.QUEUED, [fetch.id])
    assert (job.inputs[0].job_id, job.inputs[0].version_id) == (fetch.id, master.id)
    assert await platform.sql("select count(*) from job_needs where not is_settled") == [(0,)]


async def test_identical_quantize_takes_the_version_there_is(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    assert (await platform.submit(quantize_spec("bard@1", "tales"))).status is JobStatus.QUEUED, "no worker is known"
    await say_hello(platform)
    job = await submit(platform, quantize_spec("bard@1", "tales"))
    assert (job.status, job.reason, job.waiting_on) == (JobStatus.SUCCEEDED, JobReason.COMPLETED, None)
    assert job.result is not None
    assert (job.result.version_id, job.result.reused, job.attempt) == (quantized.id, True, 0)
    assert job.finished_at is not None
    assert quantized.job_id in (job.message or "")
    (event,) = await platform.events(job)
    assert event.data["status"] == "succeeded"


async def test_what_differs_is_made_anew(platform: Platform, stranger: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    quantized = await platform.quantized(master, tales)
    await say_hello(platform)
    fables = await platform.dataset("fables", "another text")
    for spec, options in (
        (quantize_spec(master.id, tales.id), {"force": True}),
        (quantize_spec(master.id, tales.id), {"queue": "gpu"}),
        (quantize_spec(master.id, tales.id, options={"damping": 0.02}), {}),
        (quantize_spec(master.id, fables.id), {}),
    ):
        assert (await submit(platform, spec, **options)).status is JobStatus.QUEUED
    await say_hello(platform, toolchain="b" * 64)
    assert (await submit(platform, quantize_spec(master.id, tales.id))).status is JobStatus.QUEUED, "the toolchain is another now"
    await say_hello(platform, worker_id="wrk_" + "1" * 32)
    await platform.sql("update versions set state = 'archived' where id = %s", quantized.id)
    assert (await submit(platform, quantize_spec(master.id, tales.id))).status is JobStatus.QUEUED, "only a ready one will do"


async def test_a_full_queue_makes_new_jobs_wait_in_line(platform: Platform) -> None:
    await bound_queue(platform, 1)
    first, second = [await platform.submit(import_spec()) for _ in range(2)]
    assert (first.status, second.status, second.waiting_on) == (JobStatus.QUEUED, JobStatus.WAITING, WaitingOn.LIMIT)
    await platform.claim()
    third = await platform.submit(import_spec())
    assert third.waiting_on is WaitingOn.LIMIT, "the place that is free now is the second one's"
    urgent = await platform.submit(import_spec(), priority=0)
    assert urgent.status is JobStatus.QUEUED


async def test_a_bound_holds_against_submissions_at_once(platform: Platform, stranger: Platform) -> None:
    await bound_queue(platform, 3)
    jobs = await asyncio.gather(*(platform.submit(import_spec(), priority=9 - number) for number in range(9)))
    assert sum(job.status is JobStatus.QUEUED for job in jobs) <= 3
    assert await platform.sql("select count(*) from jobs where status = 'queued'") <= [(3,)]
    assert (await stranger.submit(import_spec())).status is JobStatus.QUEUED
