"""Submission: what a job becomes, what it is refused for, and that a refusal leaves nothing behind."""

from __future__ import annotations

import pytest

from factories.store import Platform, import_spec, quantize_spec
from quantry_core.errors import (
    Conflict,
    InvalidInput,
    InvalidName,
    QuantryError,
    RolloutInProgress,
    UnknownDataset,
    UnknownMethod,
    UnknownModel,
    UnknownScheme,
    UnknownVersion,
)
from quantry_core.jobs import DeploySpec, EvaluateSpec, EventKind, InputRole, JobSpec, JobStatus, JobType, Queue
from quantry_core.rollouts import RolloutState
from quantry_store.transactions import stop_deployment


async def test_import_is_queued_with_event_and_audit_row(platform: Platform) -> None:
    job = await platform.submit(import_spec(), priority=2)
    assert (job.status, job.queue, job.priority, job.attempt, job.inputs) == (JobStatus.QUEUED, Queue.CPU, 2, 0, [])
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
    job = await platform.submit(quantize_spec("bard", "tales"))
    await platform.dataset("tales", "two")
    assert [(item.role, item.ref, item.version_id, item.dataset_id) for item in (await platform.job(job.id)).inputs] == [
        (InputRole.BASE, "bard", master.id, None),
        (InputRole.CALIBRATION, "tales", None, first.id),
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
        (quantize_spec("bard", "fables"), UnknownDataset, "no dataset 'fables'; datasets here: tales"),
        (quantize_spec("bard", "tales@4"), UnknownDataset, "has no number 4; numbers here: 1"),
        (quantize_spec("bard", "tales@best"), UnknownDataset, "datasets have no aliases"),
        (quantize_spec("bard", "tales", method="magic"), UnknownMethod, "known: gptq"),
        (quantize_spec("bard", "tales", scheme="W1A1"), UnknownScheme, "known: W4A16"),
        (quantize_spec("bard", "tales", group_size=7), InvalidInput, "32, 64, 128"),
        (quantize_spec(quantized.ref, "tales"), InvalidInput, "bard@2 is a quantized version; a master version is needed"),
        (EvaluateSpec(version="bard@1", against=broken.ref, corpora=["tales"]), InvalidInput, "bard@3 is quarantined"),
        (EvaluateSpec(version="bard@1", corpora=["fables"]), UnknownDataset, "fables"),
        (DeploySpec(deployment="chat", version=broken.ref), InvalidInput, "only a ready version"),
        (DeploySpec(deployment="chat", version="bart"), UnknownModel, "bart"),
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
        release = await uow.deployments.release(rollout.to_release_id)
    assert (release.number, release.version_id, release.version_ref, release.num_replicas) == (1, master.id, "bard@1", 2)


async def test_deploy_is_refused_while_another_is_active_or_stopped(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master)
    with pytest.raises(RolloutInProgress, match=rollout.job_id):
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
