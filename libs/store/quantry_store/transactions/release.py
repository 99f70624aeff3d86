"""The release of waiting jobs: each looks at what it waits for and moves if it can, in a transaction of its own.

Found by a sweep, so that nothing depends on anybody having said that something ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.errors import Conflict, InvalidInput, NotFound, RolloutInProgress
from quantry_core.jobs import DeploySpec, Job, JobReason, JobStatus, WaitingOn
from quantry_store.repositories.needs import NeededJob
from quantry_store.transactions.adapter_inputs import complete
from quantry_store.transactions.inputs import check_inputs, take_outputs
from quantry_store.transactions.reuse import Work, digest_of, reused_message, reused_result, same_version
from quantry_store.transactions.rollout_start import open_deployment, plan_rollout
from quantry_store.transactions.submit import environment_of
from quantry_store.unit_of_work import UnitOfWork


async def releasable_jobs(uow: UnitOfWork) -> list[str]:
    """Returns the ids of waiting jobs that can move now. Each is then given to ``release_job`` in a transaction of its own, so
    that one which cannot be released keeps back no other. What moved may let others move: ask again until there is none."""
    return await uow.waiting.releasable()


async def release_job(uow: UnitOfWork, job_id: str) -> Job | None:
    """Returns the job after it moved: queued, ended, or waiting for something else than before; None if there was nothing to do.

    Any number of replicas may run side by side. A job ends failed or cancelled as one that it needs did, or failed if what
    it was given cannot be used any more; it succeeds at once if its version was made meanwhile.
    """
    job = await uow.waiting.lock(job_id)
    if job is None:
        return None
    if job.cancel_requested:
        return await uow.jobs.move(job, JobStatus.CANCELLED, reason=JobReason.CANCELLED, message="cancelled before it started")
    needs = await uow.needs.open(job.id)
    ended = await _end_with_needs(uow, job, needs)
    if ended is not None:
        return ended
    try:
        job = await _settle(uow, job, needs)
        return await _go_on(uow, job, needs)
    except (InvalidInput, NotFound) as error:
        return await uow.jobs.move(job, JobStatus.FAILED, reason=JobReason.INVALID_INPUT, message=error.detail)


async def _end_with_needs(uow: UnitOfWork, job: Job, needs: Sequence[NeededJob]) -> Job | None:
    """Returns the job, ended because one that it needs did not succeed; None if none did so."""
    for need in needs:
        if need.status is JobStatus.FAILED:
            message = f"{need.title}, which this one needs, failed"
            return await uow.jobs.move(job, JobStatus.FAILED, reason=JobReason.DEPENDENCY_FAILED, message=message)
    for need in needs:
        if need.status is JobStatus.CANCELLED:
            message = f"{need.title}, which this one needs, was cancelled"
            return await uow.jobs.move(job, JobStatus.CANCELLED, reason=JobReason.CANCELLED, message=message)
    return None


async def _settle(uow: UnitOfWork, job: Job, needs: Sequence[NeededJob]) -> Job:
    """Returns the job with the versions that it needs and that are there now. They are held at once, not when the last need is
    met, so that none is deleted meanwhile."""
    done = {need.id: need for need in needs if need.status is JobStatus.SUCCEEDED}
    if not done:
        return job
    inputs = await take_outputs(uow, job, done)
    await uow.needs.settle(job.id, list(done))
    return await uow.jobs.write(job.id, inputs=[item.model_dump(mode="json") for item in inputs])


async def _go_on(uow: UnitOfWork, job: Job, needs: Sequence[NeededJob]) -> Job | None:
    """Returns the job, queued or ended at once, or waiting for the next thing; None if it waits for that already."""
    if any(need.status is not JobStatus.SUCCEEDED for need in needs):
        return await _wait(uow, job, WaitingOn.NEEDS)
    if job.not_before is not None and job.not_before > await uow.now():
        return await _wait(uow, job, WaitingOn.TIME)
    await check_inputs(uow, job.project_id, job.type, job.inputs)
    job = await _complete(uow, job)
    if isinstance(job.spec, DeploySpec):
        return await _begin_deploy(uow, job, job.spec)
    digest = await digest_of(uow, job.project_id, job.spec, job.inputs)
    if digest is not None:
        job = await uow.jobs.write(job.id, recipe_digest=digest)
        work = Work(job.project_id, job.spec, job.inputs, digest, job.queue, environment_of(job.spec))
        same = None if job.force else await same_version(uow, work)
        if same is not None:
            job = await uow.jobs.set_result(job, reused_result(same))
            return await uow.jobs.move(job, JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, message=reused_message(job.spec, same))
    if not await uow.waiting.has_room(job.project_id):
        return await _wait(uow, job, WaitingOn.LIMIT)
    return await uow.jobs.move(job, JobStatus.QUEUED)


async def _complete(uow: UnitOfWork, job: Job) -> Job:
    """Returns the job with what follows from versions that were not there when it was submitted."""
    spec, inputs = await complete(uow, job.project_id, job.spec, job.inputs)
    if spec == job.spec and inputs == job.inputs:
        return job
    values = {"spec": spec.model_dump(mode="json"), "inputs": [item.model_dump(mode="json") for item in inputs]}
    return await uow.jobs.write(job.id, **values)


async def _begin_deploy(uow: UnitOfWork, job: Job, spec: DeploySpec) -> Job | None:
    try:
        deployment = await open_deployment(uow, job.project_id, spec)
        await plan_rollout(uow, job, spec, deployment)
    except RolloutInProgress:
        return await _wait(uow, job, WaitingOn.ROLLOUT)
    except Conflict as error:
        return await uow.jobs.move(job, JobStatus.FAILED, reason=JobReason.INVALID_INPUT, message=error.detail)
    return await uow.jobs.move(job, JobStatus.QUEUED)


async def _wait(uow: UnitOfWork, job: Job, on: WaitingOn) -> Job | None:
    """Returns the job, waiting for something else than before; None if it is the same."""
    if job.waiting_on is on:
        return None
    return await uow.jobs.write(job.id, waiting_on=on)
