"""The end of an attempt: everything is written once, or nothing is."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from factories.store import (
    GATE_FAILED,
    GATE_PASSED,
    TOOLCHAIN,
    Platform,
    blob,
    import_spec,
    manifest,
    master_draft,
    quantize_spec,
    quantized_draft,
    succeeded,
)
from quantry_core.errors import InvalidInput, NotFound, QuantryError, SealRefused, StaleAttempt
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.fingerprints import fingerprint
from quantry_core.jobs import Estimate, EstimateFigures, EvaluateSpec, Job, JobReason, JobStatus
from quantry_core.methods import Format
from quantry_core.versions import (
    EdgeRole,
    EvidenceDraft,
    EvidenceKind,
    LineageEdge,
    ManifestFile,
    SealRequest,
    Verdict,
    VersionDraft,
    VersionKind,
    VersionState,
    manifest_digest,
)
from quantry_store.transactions import cancel_job, finish_attempt, record_artifact_seal

PERPLEXITY = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="tales", verdict=Verdict.PASS, metrics={"perplexity": 9.5})


async def test_import_makes_a_master(platform: Platform) -> None:
    job = await platform.running(import_spec())
    draft = master_draft()
    done = await platform.finish(job, **succeeded(draft, evidence=GATE_PASSED[:1], seconds=2.5, peak_memory_bytes=7, metrics={"files": 2}))
    assert (done.status, done.reason, done.num_lost_attempts) == (JobStatus.SUCCEEDED, JobReason.COMPLETED, 0)
    assert done.finished_at is not None
    assert done.result is not None
    assert (done.result.seconds, done.result.peak_memory_bytes, done.result.metrics) == (2.5, 7, {"files": 2})
    async with platform.database.begin() as uow:
        version = await uow.versions.detail(platform.project_id, done.result.version_id or "")
        model = await uow.models.get(platform.project_id, "bard")
    assert (version.ref, version.kind, version.state) == ("bard@1", VersionKind.MASTER, VersionState.READY)
    assert (version.job_id, version.attempt) == (job.id, 1)
    assert (version.size_bytes, version.weights_bytes) == (8, 6)
    assert version.manifest_digest == manifest_digest(draft.files)
    assert (version.files, version.edges) == (draft.files, [])
    assert [(item.kind, item.name, item.verdict, item.metrics, item.job_id) for item in version.evidence] == [
        (EvidenceKind.GATE, "files", Verdict.PASS, {"files": 2}, job.id)
    ]
    assert (model.num_versions, model.latest_version_id) == (1, version.id)


async def test_quantize_gets_its_lineage_from_the_job(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    job = await platform.running(quantize_spec("bard", "tales", "tales@1"))
    edges = [
        LineageEdge(role=EdgeRole.BASE, parent_version_id=master.id),
        LineageEdge(role=EdgeRole.CALIBRATION, parent_dataset_id=tales.id),
    ]
    done = await platform.finish(job, **succeeded(quantized_draft(edges=edges[:1]), evidence=GATE_PASSED))
    assert done.result is not None
    async with platform.database.begin() as uow:
        version = await uow.versions.detail(platform.project_id, done.result.version_id or "")
    assert (version.ref, version.edges, version.recipe) == ("bard@2", edges, {"method": "gptq"})


async def test_version_has_the_fingerprint_of_its_recipe_and_of_the_toolchain_that_ran_it(platform: Platform) -> None:
    master, _ = await platform.master(), await platform.dataset()
    await platform.submit(quantize_spec("bard", "tales"))
    ((recipe,),) = await platform.sql(
        "update jobs set recipe_digest = coalesce(recipe_digest, 'r') where type = 'quantize' returning recipe_digest"
    )
    version = await platform.made(await platform.claim(), quantized_draft())
    async with platform.database.begin() as uow:
        found = await uow.versions.with_fingerprint(platform.project_id, {fingerprint(recipe, TOOLCHAIN)})
        assert found == version
        assert await uow.versions.with_fingerprint(platform.project_id, {fingerprint(recipe, "b" * 64)}) is None
    assert await platform.sql("select fingerprint from versions where id = %s", master.id) == [(None,)], "an import has no recipe"


async def test_result_tells_how_good_the_estimate_was(platform: Platform) -> None:
    job = await platform.submit(import_spec())
    figures = {"result_bytes": 12, "peak_ram_bytes": 1000, "minutes": 2.0}
    estimate = Estimate(key="import/none/cpu", uncorrected=EstimateFigures(**figures), **figures)
    await platform.sql("update jobs set estimate = %s", Jsonb(estimate.model_dump(mode="json")))
    job = await platform.claim()
    done = await platform.finish(job, **succeeded(master_draft()), seconds=60.0, peak_memory_bytes=1500, peak_vram_bytes=7)
    assert done.result is not None
    assert (done.result.seconds, done.result.peak_memory_bytes, done.result.peak_vram_bytes) == (60.0, 1500, 7)
    # The weights of the master are the six bytes of "master".
    assert done.result.estimate_errors == {"result_bytes": 0.5, "peak_ram_bytes": 1.5, "minutes": 0.5}
    assert done.estimate == estimate


async def test_second_finish_is_refused_and_there_is_one_version(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await platform.finish(job, **succeeded(master_draft()))
    with pytest.raises(StaleAttempt):
        await platform.finish(job, **succeeded(master_draft(content="another")))
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def test_database_itself_refuses_a_second_version_of_a_job(platform: Platform) -> None:
    master = await platform.master()
    with pytest.raises(psycopg.errors.UniqueViolation, match="uq_versions_job_id"):
        await platform.sql(
            'insert into versions select (jsonb_populate_record(versions, \'{"id": "ver_2", "number": 2}\')).* from versions where id = %s',
            master.id,
        )


async def test_zombie_of_a_retried_job_leaves_one_version(platform: Platform) -> None:
    zombie = await platform.running(import_spec(), lease_s=0.001)
    await asyncio.sleep(0.01)
    await platform.sweep()
    current = await platform.claim()
    version = await platform.made(current, master_draft())
    with pytest.raises(StaleAttempt):
        await platform.finish(zombie, **succeeded(master_draft(content="from the dead")))
    assert version.attempt == 2
    assert await platform.sql("select id from versions") == [(version.id,)]


async def test_numbers_of_one_model_never_collide(platform: Platform) -> None:
    jobs = [await platform.running(import_spec()) for _ in range(5)]
    versions = await asyncio.gather(*(platform.made(job, master_draft(content=f"master {n}")) for n, job in enumerate(jobs)))
    assert sorted(version.number for version in versions) == [1, 2, 3, 4, 5]


async def test_gate_failure_keeps_a_quarantined_version(platform: Platform) -> None:
    await platform.master()
    await platform.dataset()
    job = await platform.running(quantize_spec("bard", "tales"))
    done = await platform.finish(
        job,
        outcome=Outcome.FAILED,
        reason=JobReason.GATE_FAILED,
        message="a scale is not finite",
        version=quantized_draft(state=VersionState.QUARANTINED),
        evidence=[GATE_FAILED],
    )
    assert (done.status, done.reason, done.message) == (JobStatus.FAILED, JobReason.GATE_FAILED, "a scale is not finite")
    assert done.result is not None
    async with platform.database.begin() as uow:
        version = await uow.versions.detail(platform.project_id, done.result.version_id or "")
        latest = await uow.versions.resolve(platform.project_id, "bard")
    assert (version.state, [item.verdict for item in version.evidence]) == (VersionState.QUARANTINED, [Verdict.FAIL])
    assert latest.ref == "bard@1", "a quarantined version is never what a name alone means"


async def test_evaluation_is_evidence_of_its_subject(platform: Platform) -> None:
    master = await platform.master()
    await platform.dataset()
    job = await platform.running(EvaluateSpec(version="bard", corpora=["tales"]))
    drafts = [PERPLEXITY, PERPLEXITY.model_copy(update={"name": "plays", "metrics": {"perplexity": float("nan")}})]
    done = await platform.finish(job, **succeeded(evidence=drafts))
    assert done.status is JobStatus.SUCCEEDED
    async with platform.database.begin() as uow:
        evidence = (await uow.versions.detail(platform.project_id, master.id)).evidence
    assert [(item.name, item.metrics, item.job_id) for item in evidence] == [
        ("tales", {"perplexity": 9.5}, job.id),
        ("plays", {"perplexity": None}, job.id),
    ]
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def finish_as_it_is(platform: Platform, job: Job, **request: object) -> Job:
    """Finishes without a seal of its own."""
    async with platform.database.begin() as uow:
        return await finish_attempt(uow, job.id, FinishRequest.model_validate({"attempt": job.attempt, **request}))


async def test_attempt_finishes_with_what_it_sealed_and_nothing_else(platform: Platform) -> None:
    tales = await platform.dataset()
    sealed_before = await platform.running(import_spec())
    await platform.seal(sealed_before, master_draft().files)
    await platform.finish(sealed_before, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST)
    job = await platform.claim()
    assert (job.id, job.attempt) == (sealed_before.id, 2)
    with pytest.raises(SealRefused, match="attempt 2 has sealed no files"):
        await finish_as_it_is(platform, job, **succeeded(master_draft()))
    await platform.seal(job, manifest("another"))
    await platform.seal(job, master_draft().files)
    known = ManifestFile(path="notes.txt", size_bytes=tales.size_bytes, sha256=tales.sha256)
    for files in ([*master_draft().files, known], master_draft().files[1:], manifest("another")):
        with pytest.raises(SealRefused, match="not the ones that attempt 2 sealed last"):
            await finish_as_it_is(platform, job, **succeeded(master_draft(files=files)))
    with pytest.raises(SealRefused, match="the sealed weights are float16, not bfloat16"):
        await finish_as_it_is(platform, job, **succeeded(master_draft(dtype="bfloat16")))
    await nothing_is_written(platform, job)
    done = await finish_as_it_is(platform, job, **succeeded(master_draft(files=master_draft().files[::-1])))
    assert done.status is JobStatus.SUCCEEDED
    assert await platform.sql("select attempt, dtype, project_id from seals order by attempt") == [
        (1, "float16", platform.project_id),
        (2, "float16", platform.project_id),
    ]


async def test_seal_of_another_job_is_no_seal(platform: Platform) -> None:
    await platform.submit(import_spec())
    await platform.submit(import_spec())
    one, other = await platform.claim(), await platform.claim()
    await platform.seal(one, master_draft().files)
    with pytest.raises(SealRefused, match="has sealed no files"):
        await finish_as_it_is(platform, other, **succeeded(master_draft()))


async def seal_artifacts(platform: Platform, job: Job, files: list[ManifestFile]) -> None:
    async with platform.database.begin() as uow:
        await record_artifact_seal(uow, SealRequest(job_id=job.id, attempt=job.attempt, files=files))


def artifact(path: str = "results.json", content: str = "[1]") -> ManifestFile:
    return ManifestFile(path=path, size_bytes=blob(content).size_bytes, sha256=blob(content).sha256)


async def test_attempt_leaves_the_artifacts_it_sealed_and_no_others(platform: Platform, stranger: Platform) -> None:
    theirs = await stranger.dataset("secret", "of another project")
    await platform.submit(import_spec())
    await platform.submit(import_spec())
    one, job = await platform.claim(), await platform.claim()
    await seal_artifacts(platform, one, [artifact()])
    await platform.seal(job, master_draft().files)
    with pytest.raises(SealRefused, match="attempt 1 has sealed no artifacts"):
        await finish_as_it_is(platform, job, **succeeded(master_draft(), artifacts=[artifact()]))
    await seal_artifacts(platform, job, [artifact(content="[0]")])
    await seal_artifacts(platform, job, [artifact()])
    stolen = ManifestFile(path="results.json", size_bytes=theirs.size_bytes, sha256=theirs.sha256)
    wrong = ([stolen], [artifact("results.exe")], [artifact(), artifact("more.json")], [artifact(content="[0]")])
    for files in wrong:
        with pytest.raises(SealRefused, match="not the ones that attempt 1 sealed last"):
            await finish_as_it_is(platform, job, **succeeded(master_draft(), artifacts=files))
    with pytest.raises(InvalidInput, match=r"results\.json is named 2 times"):
        await finish_as_it_is(platform, job, **succeeded(master_draft(), artifacts=[artifact(), artifact()]))
    await nothing_is_written(platform, job)
    await finish_as_it_is(platform, job, **succeeded(master_draft(), artifacts=[artifact()]))
    async with platform.database.begin() as uow:
        assert await uow.artifacts.list(platform.project_id, job.id) == [artifact()]
        assert await uow.artifacts.file(platform.project_id, job.id, "results.json") == artifact()
        for project_id, path in ((platform.project_id, "other.json"), (stranger.project_id, "results.json")):
            with pytest.raises(NotFound):
                await uow.artifacts.file(project_id, job.id, path)


async def test_vault_knows_one_size_of_a_digest(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await platform.seal(job, master_draft().files)
    with pytest.raises(SealRefused, match=r"model\.safetensors has 6 bytes in the vault, 99 were declared"):
        await platform.seal(job, [ManifestFile(path="model.safetensors", size_bytes=99, sha256=blob("master").sha256)])


async def test_quantized_version_without_a_passed_gate_is_no_success(platform: Platform) -> None:
    await platform.master()
    await platform.dataset()
    job = await platform.running(quantize_spec("bard", "tales"))
    for evidence in ([], [PERPLEXITY], [GATE_FAILED], [*GATE_PASSED, GATE_FAILED]):
        with pytest.raises(InvalidInput, match="gate"):
            await platform.finish(job, **succeeded(quantized_draft(), evidence=evidence))
    assert await platform.sql("select count(*) from versions") == [(1,)]
    assert (await platform.job(job.id)).status is JobStatus.RUNNING


async def test_gate_failure_of_a_job_that_was_to_be_cancelled_is_kept_as_a_failure(platform: Platform) -> None:
    await platform.master()
    await platform.dataset()
    job = await platform.running(quantize_spec("bard", "tales"))
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    draft = quantized_draft(state=VersionState.QUARANTINED)
    done = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.GATE_FAILED, version=draft, evidence=[GATE_FAILED])
    assert (done.status, done.reason) == (JobStatus.FAILED, JobReason.GATE_FAILED)
    assert done.result is not None
    assert done.result.version_id is not None


async def nothing_is_written(platform: Platform, job: Job) -> None:
    assert (await platform.job(job.id)).status is JobStatus.RUNNING
    for table in ("versions", "models", "evidence"):
        assert await platform.sql(SQL("select count(*) from {}").format(Identifier(table))) == [(0,)]


async def test_master_that_does_not_fit_its_job_is_refused(platform: Platform) -> None:
    job = await platform.running(import_spec())
    cases: list[tuple[VersionDraft, str]] = [
        (master_draft(model="other"), "makes a version of model 'bard', not 'other'"),
        (master_draft(kind=VersionKind.QUANTIZED), "makes a version of kind master, not quantized"),
        (master_draft(dtype="float32"), "float16 or bfloat16"),
        (master_draft(scheme="W4A16"), "without a scheme"),
        (master_draft(format=Format.COMPRESSED_TENSORS), "plain safetensors"),
        (master_draft(state=VersionState.QUARANTINED), "did not succeed"),
        (master_draft(files=[*master_draft().files, master_draft().files[0]]), "names a file twice"),
        (master_draft(edges=[LineageEdge(role=EdgeRole.BASE, parent_version_id="ver_x")]), "not an input of its job"),
    ]
    for draft, words in cases:
        with pytest.raises(InvalidInput, match=words):
            await platform.finish(job, **succeeded(draft))
    await nothing_is_written(platform, job)


async def test_quantized_version_that_does_not_fit_its_job_is_refused(platform: Platform) -> None:
    await platform.master()
    await platform.dataset()
    job = await platform.running(quantize_spec("bard", "tales"))
    cases: list[tuple[VersionDraft, type[QuantryError], str]] = [
        (quantized_draft(model="other"), InvalidInput, "the job makes a version of model 'bard', not 'other'"),
        (quantized_draft(scheme="W8A16"), InvalidInput, "makes W4A16"),
        (quantized_draft(format=Format.SAFETENSORS), InvalidInput, "in format compressed-tensors"),
        (quantized_draft(kind=VersionKind.MASTER), InvalidInput, "not master"),
        (
            quantized_draft(files=[ManifestFile(path="config.json", size_bytes=3, sha256=master_draft().files[0].sha256)]),
            SealRefused,
            "2 bytes in the vault, 3 were declared",
        ),
    ]
    for draft, error, words in cases:
        with pytest.raises(error, match=words):
            await platform.finish(job, **succeeded(draft, evidence=GATE_PASSED))
    assert await platform.sql("select count(*) from versions") == [(1,)]
    assert (await platform.job(job.id)).status is JobStatus.RUNNING


async def test_released_attempt_costs_nothing(platform: Platform) -> None:
    job = await platform.running(import_spec())
    released = await platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST, message="shutting down")
    assert (released.status, released.reason, released.num_lost_attempts, released.result) == (JobStatus.QUEUED, None, 0, None)
    again = await platform.claim()
    assert (again.id, again.attempt) == (job.id, 2)


async def test_lost_child_is_a_lost_attempt(platform: Platform) -> None:
    job = await platform.running(import_spec())
    for attempt, status in ((1, JobStatus.QUEUED), (2, JobStatus.QUEUED), (3, JobStatus.FAILED)):
        lost = await platform.finish(job, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST, message="the child was killed")
        assert (lost.status, lost.num_lost_attempts) == (status, attempt)
        if status is JobStatus.QUEUED:
            assert (lost.reason, lost.message) == (JobReason.WORKER_LOST, "the child was killed")
            job = await platform.claim()
    assert (lost.reason, lost.finished_at is not None) == (JobReason.POISON, True)
    assert "3 attempts were lost" in (lost.message or "")
    assert "the child was killed" in (lost.message or "")


@pytest.mark.parametrize(
    ("outcome", "reason", "status"),
    [
        (Outcome.CANCELLED, JobReason.CANCELLED, JobStatus.CANCELLED),
        (Outcome.FAILED, JobReason.INTERNAL, JobStatus.CANCELLED),
        (Outcome.LOST, JobReason.WORKER_LOST, JobStatus.CANCELLED),
        (Outcome.RELEASED, JobReason.CANCELLED, JobStatus.CANCELLED),
        (Outcome.SUCCEEDED, JobReason.COMPLETED, JobStatus.SUCCEEDED),
    ],
)
async def test_end_of_a_job_that_was_to_be_cancelled(platform: Platform, outcome: Outcome, reason: JobReason, status: JobStatus) -> None:
    job = await platform.running(import_spec())
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    version = master_draft() if outcome is Outcome.SUCCEEDED else None
    done = await platform.finish(job, outcome=outcome, reason=reason, version=version)
    assert (done.status, done.reason) == (status, JobReason.COMPLETED if version else JobReason.CANCELLED)
