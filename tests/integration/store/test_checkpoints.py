"""Checkpoints of training jobs: who may record them, what goes on from them, and how long their files are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from factories.retention import removed
from factories.store import ALREADY_EXPIRED_S, Platform, import_spec, manifest, succeeded
from quantry_core.errors import InvalidInput, NotFound, SealRefused, StaleAttempt
from quantry_core.execution import CheckpointReport, EventDraft, EventsRequest, LeasedInput, Outcome
from quantry_core.jobs import MAX_LOST_ATTEMPTS, EventKind, FinetuneSpec, InputRole, Job, JobReason, JobStatus
from quantry_core.methods import Format
from quantry_core.retention import RetentionKind
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import EvidenceDraft, EvidenceKind, ManifestFile, Verdict, VersionDraft, VersionKind, VersionState
from quantry_store.transactions import (
    append_events,
    record_checkpoint,
    record_checkpoint_seal,
    record_damage,
    retry_job,
)

DAY_S = 24 * 3600.0
NUM_KILLS = 11


def files_of(step: int, of: str = "") -> list[ManifestFile]:
    """Returns the files of a checkpoint: the state of its step, and one file that all have in common."""
    return [
        ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content.encode()).hexdigest())
        for path, content in (("optimizer.pt", f"{of} step {step}"), ("trainer_state.json", "{}"))
    ]


async def training(platform: Platform) -> Job:
    """Returns a training job that is held by its first attempt."""
    master, rows = await platform.master(), await platform.dataset()
    return await platform.running(FinetuneSpec(model=master.id, training_file=rows.id))


async def seal(platform: Platform, job: Job, step: int, files: Sequence[ManifestFile] | None = None) -> None:
    request = CheckpointSeal(job_id=job.id, attempt=job.attempt, step=step, files=list(files or files_of(step)))
    async with platform.database.begin() as uow:
        await record_checkpoint_seal(uow, request)


async def report(platform: Platform, job: Job, step: int, files: Sequence[ManifestFile] | None = None) -> None:
    request = CheckpointReport(attempt=job.attempt, step=step, files=list(files or files_of(step)), metrics={"loss": 1.0})
    async with platform.database.begin() as uow:
        await record_checkpoint(uow, job.id, request)


async def reach(platform: Platform, job: Job, step: int) -> None:
    """Plays an attempt that got to a step and stored it."""
    await seal(platform, job, step)
    await report(platform, job, step)


async def kill(platform: Platform, job: Job) -> Job:
    return await platform.finish(job, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST, message="killed by SIGKILL")


async def fail(platform: Platform, job: Job) -> Job:
    return await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT, message="the loss became nan")


async def kept(platform: Platform, job: Job) -> list[tuple[int, int, bool]]:
    """Returns step, attempt and whether its files are kept of each checkpoint, newest first."""
    async with platform.database.begin() as uow:
        return [(one.step, one.attempt, one.has_files) for one in await uow.checkpoints.list(platform.project_id, job.id)]


async def leased_checkpoint(platform: Platform) -> tuple[Job, LeasedInput | None]:
    """Returns the next job in a new attempt, and the checkpoint that comes with it."""
    lease = await platform.lease()
    assert lease is not None
    assert all(leased.role is not InputRole.CHECKPOINT for leased in lease.inputs[:-1])
    last = lease.inputs[-1]
    return lease.job, last if last.role is InputRole.CHECKPOINT else None


async def sweep(platform: Platform) -> int:
    return await removed(platform.database, RetentionKind.CHECKPOINTS, 7)


async def test_the_next_attempt_gets_the_newest_checkpoint_as_its_last_input(platform: Platform, stranger: Platform) -> None:
    job = await training(platform)
    await reach(platform, job, 10)
    await reach(platform, job, 20)
    await kill(platform, job)
    again, checkpoint = await leased_checkpoint(platform)
    assert (again.id, again.attempt) == (job.id, 2)
    assert checkpoint == LeasedInput(role=InputRole.CHECKPOINT, id=job.id, ref="step 20", files=files_of(20))
    assert again.inputs == job.inputs, "it is no input of the job's own"
    async with platform.database.begin() as uow:
        assert await uow.checkpoints.list(stranger.project_id, job.id) == []
        assert await uow.checkpoints.files(platform.project_id, job.id, 20) == files_of(20)
        for project_id, step in ((stranger.project_id, 20), (platform.project_id, 30), (platform.project_id, 2**40)):
            with pytest.raises(NotFound):
                await uow.checkpoints.files(project_id, job.id, step)


async def test_pages_of_a_long_run_go_down_to_its_first_step(platform: Platform, stranger: Platform) -> None:
    job = await training(platform)
    columns = "job_id, step, project_id, attempt, size_bytes, metrics"
    rows = "select %s, step, %s, 1, 1, '{}' from generate_series(1, 1200) step"
    await platform.sql(f"insert into job_checkpoints ({columns}) {rows}", job.id, job.project_id)
    async with platform.database.begin() as uow:
        steps, below = list[int](), None
        while page := await uow.checkpoints.furthest(platform.project_id, job.id, 500, below=below):
            steps += [one.step for one in page]
            below = steps[-1]
        assert await uow.checkpoints.furthest(stranger.project_id, job.id, 500, below=None) == []
    assert steps == list(range(1200, 0, -1))


async def test_a_first_attempt_and_one_without_checkpoint_get_none(platform: Platform) -> None:
    job = await training(platform)
    await kill(platform, job)
    _, checkpoint = await leased_checkpoint(platform)
    assert checkpoint is None


async def test_an_attempt_that_lost_its_job_records_nothing(platform: Platform) -> None:
    job = await training(platform)
    await seal(platform, job, 10)
    await kill(platform, job)
    await platform.claim()
    with pytest.raises(StaleAttempt):
        await report(platform, job, 10)
    with pytest.raises(StaleAttempt):
        await seal(platform, job, 20)
    assert await kept(platform, job) == []


async def test_only_what_the_attempt_sealed_last_is_recorded(platform: Platform) -> None:
    job = await training(platform)
    with pytest.raises(SealRefused, match="has sealed no checkpoint"):
        await report(platform, job, 10)
    await seal(platform, job, 10)
    for step, files in ((11, files_of(10)), (10, files_of(11)), (10, files_of(10)[:1])):
        with pytest.raises(SealRefused, match="sealed last, which is of step 10"):
            await report(platform, job, step, files)
    await seal(platform, job, 20)
    with pytest.raises(SealRefused, match="of step 20"):
        await report(platform, job, 10)
    await report(platform, job, 20)
    await report(platform, job, 20)
    assert await kept(platform, job) == [(20, 1, True)], "a report that was sent again is recorded once"


async def test_a_job_that_trains_nothing_has_no_checkpoints(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await seal(platform, job, 10)
    with pytest.raises(InvalidInput, match="a job of type import has no checkpoints"):
        await report(platform, job, 10)


async def test_the_last_two_keep_their_files(platform: Platform) -> None:
    job = await training(platform)
    for step in (10, 20, 30):
        await reach(platform, job, step)
    assert await kept(platform, job) == [(30, 1, True), (20, 1, True), (10, 1, False)]
    assert await platform.sql("select count(*) from job_checkpoint_files") == [(4,)]


async def test_a_later_attempt_that_began_anew_counts_as_newer(platform: Platform) -> None:
    job = await training(platform)
    for step in (10, 20, 30):
        await reach(platform, job, step)
    await kill(platform, job)
    again = await platform.claim()
    await reach(platform, again, 10)
    assert await kept(platform, job) == [(10, 2, True), (30, 1, True), (20, 1, False)]
    await kill(platform, again)
    _, checkpoint = await leased_checkpoint(platform)
    assert checkpoint is not None
    assert checkpoint.ref == "step 10"


async def test_kills_with_progress_in_between_do_not_poison(platform: Platform) -> None:
    job = await training(platform)
    for number in range(NUM_KILLS):
        assert job.num_lost_attempts == (1 if number else 0), "what was lost before counts no more once the attempt got on"
        await reach(platform, job, 10 * (number + 1))
        assert (await platform.job(job.id)).num_lost_attempts == 0
        lost = await kill(platform, job)
        assert (lost.status, lost.num_lost_attempts) == (JobStatus.QUEUED, 1)
        job = await platform.claim()
    assert job.attempt == NUM_KILLS + 1


async def test_kills_without_progress_poison(platform: Platform) -> None:
    job = await training(platform)
    await reach(platform, job, 10)
    for number in range(MAX_LOST_ATTEMPTS):
        if number:
            # No further than before: that is no progress.
            await reach(platform, job, 10)
        lost = await kill(platform, job)
        job = await platform.claim() if lost.status is JobStatus.QUEUED else lost
    assert (job.status, job.reason) == (JobStatus.FAILED, JobReason.POISON)


async def test_an_expired_lease_counts_as_a_kill_does(platform: Platform) -> None:
    master, rows = await platform.master(), await platform.dataset()
    await platform.submit(FinetuneSpec(model=master.id, training_file=rows.id))
    for number in range(MAX_LOST_ATTEMPTS):
        job = await platform.claim()
        await platform.sql("update jobs set lease_expires_at = now() + %s * interval '1 second'", ALREADY_EXPIRED_S)
        [swept] = await platform.sweep()
        assert swept.num_lost_attempts == number + 1
    assert (await platform.job(job.id)).reason is JobReason.POISON


async def test_a_job_that_succeeded_keeps_no_files(platform: Platform) -> None:
    job = await training(platform)
    await reach(platform, job, 10)
    adapter = VersionDraft(
        model="bard",
        kind=VersionKind.ADAPTER,
        state=VersionState.READY,
        format=Format.PEFT,
        files=manifest("adapter"),
    )
    evidence = [EvidenceDraft(kind=EvidenceKind.EVALUATION, name="training", verdict=Verdict.PASS, metrics={"steps": 10})]
    finished = await platform.finish(job, **succeeded(adapter, evidence=evidence))
    assert finished.status is JobStatus.SUCCEEDED
    assert await kept(platform, job) == [(10, 1, False)]


@pytest.mark.parametrize("ends", [Outcome.FAILED, Outcome.CANCELLED])
async def test_files_of_a_job_that_did_not_succeed_are_kept_for_a_while(platform: Platform, ends: Outcome) -> None:
    job = await training(platform)
    await reach(platform, job, 10)
    assert await sweep(platform) == 0
    if ends is Outcome.CANCELLED:
        await platform.sql("update jobs set cancel_requested = true where id = %s", job.id)
        await platform.finish(job, outcome=ends, reason=JobReason.CANCELLED)
    else:
        await fail(platform, job)
    for days_ago, num_dropped in ((6.9, 0), (7.1, 2), (7.1, 0)):
        await platform.sql("update jobs set finished_at = now() - %s * interval '1 day' where id = %s", days_ago, job.id)
        assert await sweep(platform) == num_dropped
    assert await kept(platform, job) == [(10, 1, False)]


async def test_a_retry_begins_where_the_failed_job_got_to(platform: Platform) -> None:
    old = await training(platform)
    await reach(platform, old, 10)
    await reach(platform, old, 20)
    await fail(platform, old)
    async with platform.database.begin() as uow:
        new = await retry_job(uow, platform.admin, old.id)
    claimed, checkpoint = await leased_checkpoint(platform)
    assert (claimed.id, claimed.attempt, claimed.retry_of) == (new.id, 1, old.id)
    assert checkpoint == LeasedInput(role=InputRole.CHECKPOINT, id=new.id, ref="step 20", files=files_of(20))
    assert await kept(platform, new) == [(20, 0, True)]
    await platform.sql("update jobs set finished_at = now() - interval '8 days' where id = %s", old.id)
    assert await sweep(platform) == 4
    assert await kept(platform, new) == [(20, 0, True)], "the new job's are its own"
    await reach(platform, claimed, 30)
    assert await kept(platform, new) == [(30, 1, True), (20, 0, True)]


async def test_a_retry_of_a_job_whose_files_are_gone_begins_anew(platform: Platform) -> None:
    old = await training(platform)
    await reach(platform, old, 10)
    await fail(platform, old)
    await platform.sql("update jobs set finished_at = now() - interval '8 days' where id = %s", old.id)
    await sweep(platform)
    async with platform.database.begin() as uow:
        await retry_job(uow, platform.admin, old.id)
    _, checkpoint = await leased_checkpoint(platform)
    assert checkpoint is None


async def test_the_vault_keeps_what_checkpoints_refer_to(platform: Platform) -> None:
    job = await training(platform)
    for step in (10, 20, 30):
        await reach(platform, job, step)
    # Sealed, and the worker was killed before it reported that.
    await seal(platform, job, 40)
    await platform.sql("update blobs set sealed_at = now() - interval '2 days'")
    async with platform.database.begin() as uow:
        garbage = {found.sha256 for found in await uow.blobs.unreferenced(DAY_S, after="", limit=100)}
    unused = {files_of(10)[0].sha256, files_of(40)[0].sha256}
    assert unused <= garbage
    assert garbage.isdisjoint({file.sha256 for step in (20, 30) for file in files_of(step)})
    async with platform.database.begin() as uow:
        holders = await uow.blobs.holders(files_of(30)[0].sha256)
    assert holders.checkpoints == [(platform.project_id, f"{job.id}/checkpoints/30/optimizer.pt")]


async def test_nobody_goes_on_from_a_damaged_checkpoint(platform: Platform) -> None:
    job = await training(platform)
    await reach(platform, job, 10)
    await reach(platform, job, 20)
    async with platform.database.begin() as uow:
        damage = await record_damage(uow, files_of(20)[0].sha256, "missing", "run_1")
    assert damage.artifacts == [(platform.project_id, f"{job.id}/checkpoints/20/optimizer.pt")]
    assert await kept(platform, job) == [(20, 1, False), (10, 1, True)]
    await kill(platform, job)
    _, checkpoint = await leased_checkpoint(platform)
    assert checkpoint is not None
    assert checkpoint.ref == "step 10"


async def tell(platform: Platform, job: Job, *data: dict[str, object]) -> None:
    events = [EventDraft(kind=EventKind.METRICS, data=dict(item)) for item in data]
    async with platform.database.begin() as uow:
        [(num_stored,)] = await platform.sql("select num_attempt_events from jobs where id = %s", job.id)
        await append_events(uow, job.id, EventsRequest(attempt=job.attempt, offset=num_stored, events=events))


async def test_what_attempts_measured_is_read_in_order(platform: Platform, stranger: Platform) -> None:
    job = await training(platform)
    await tell(platform, job, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5, "learning_rate": 1e-4})
    await kill(platform, job)
    again = await platform.claim()
    await tell(platform, again, {"step": 2, "loss": 2})
    async with platform.database.begin() as uow:
        points = await uow.events.metrics(platform.project_id, job.id)
        assert await uow.events.metrics(stranger.project_id, job.id) == []
    assert [(point.attempt, point.step, point.values) for point in points] == [
        (1, 1, {"loss": 3.0}),
        (1, 2, {"loss": 2.5, "learning_rate": 1e-4}),
        (2, 2, {"loss": 2.0}),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"loss": 1.0},
        {"step": 1},
        {"step": -1, "loss": 1.0},
        {"step": 1, "loss": "low"},
        {"step": 1, "loss": float("nan")},
        {"step": 1.5, "loss": 1.0},
    ],
)
async def test_what_is_no_point_of_a_curve_is_refused(platform: Platform, data: dict[str, object]) -> None:
    job = await platform.running(import_spec())
    with pytest.raises(InvalidInput, match=r"events\.0: not a metrics event"):
        await tell(platform, job, data)
