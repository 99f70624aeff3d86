"""Trying a job again by hand: a new job that does the same as one which failed or was cancelled."""

from __future__ import annotations

from collections.abc import Mapping

from quantry_core.errors import Conflict
from quantry_core.jobs import OUTPUT_PREFIX, ImportSpec, Job, JobInput, JobStatus, JobSubmission, needed_outputs, with_outputs
from quantry_core.keys import Identity
from quantry_core.pipelines import newest_jobs
from quantry_store.transactions.adapter_inputs import complete
from quantry_store.transactions.checkpoints import take_over_checkpoint
from quantry_store.transactions.inputs import check_inputs, take_output
from quantry_store.transactions.submit import Origin, Placement, admit
from quantry_store.unit_of_work import UnitOfWork

RETRIED_STATUSES = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})


async def retry_job(uow: UnitOfWork, identity: Identity, job_id: str) -> Job:
    """Returns a new job with the same spec, options and inputs as one that failed or was cancelled, to be begun at once.

    In a pipeline it takes the place of the old one; where a job that it needs was tried again, it needs that one.

    Raises UnknownJob; Conflict if the job did not fail and was not cancelled, or one that it needs has not succeeded;
    InvalidInput, SourceRefused or UnknownVersion if what it was given is not there any more; RolloutInProgress for a deploy job.
    """
    old = await uow.jobs.get(identity.project_id, job_id)
    if old.status not in RETRIED_STATUSES:
        raise Conflict(f"job {old.id} is {old.status}; only one that failed or was cancelled can be tried again")
    successors: dict[str, str] = {}
    if old.pipeline_id is not None:
        await uow.pipelines.lock(identity.project_id, old.pipeline_id)
        jobs = await uow.pipelines.jobs(old.pipeline_id)
        newest = {job.step: job for job in newest_jobs(jobs)}
        if newest[old.step].id != old.id:
            raise Conflict(f"job {old.id} was tried again already, by job {newest[old.step].id}; that one is the step's now")
        successors = {job.id: newest[job.step].id for job in jobs}
    needed = await uow.needs.load(identity.project_id, [successors.get(need, need) for need in old.needs])
    for need in needed.values():
        if need.status is not JobStatus.SUCCEEDED:
            hint = "that one first" if old.pipeline_id is None else "that one first, or the whole pipeline"
            raise Conflict(f"{need.title}, which job {old.id} needs, is {need.status}; retry {hint}")
    return await repeat_job(uow, identity, old, successors)


async def repeat_job(uow: UnitOfWork, identity: Identity, old: Job, successors: Mapping[str, str]) -> Job:
    """Returns a new job that does what ``old`` was to do. ``successors`` tells which job is needed in place of an earlier one.

    References are not resolved again: what they meant then is what is meant now. A training job goes on from the newest checkpoint
    of ``old``, where its files are kept. Raises SourceRefused for an upload that cannot be
    imported any more.
    """
    output_ids = {job_id: successors.get(job_id, job_id) for job_id in needed_outputs(old.spec)}
    needed = await uow.needs.load(identity.project_id, list(dict.fromkeys(successors.get(need, need) for need in old.needs)))
    inputs = [await take_output(uow, identity.project_id, old.type, _succeeding(item, successors), needed) for item in old.inputs]
    await check_inputs(uow, identity.project_id, old.type, inputs)
    spec, inputs = await complete(uow, identity.project_id, with_outputs(old.spec, output_ids), inputs)
    if isinstance(old.spec, ImportSpec):
        await uow.uploads.reserve(identity.project_id, old.spec.source)
    submission = JobSubmission(
        spec=spec,
        needs=list(needed),
        priority=old.priority,
        queue=old.queue,
        limits=old.limits,
        labels=old.labels,
        metadata=old.metadata,
        force=old.force,
    )
    placement = Placement(queue=old.queue, estimate=old.estimate)
    origin = Origin(pipeline_id=old.pipeline_id, step=old.step, schedule_id=old.schedule_id, retry_of=old.id)
    job = await admit(uow, identity, submission, inputs=inputs, needed=needed, placement=placement, origin=origin)
    await take_over_checkpoint(uow, job, old)
    await uow.audit.record(identity, "job.retry", "job", job.id, {"type": job.type, "retry_of": old.id})
    return job


def _succeeding(item: JobInput, successors: Mapping[str, str]) -> JobInput:
    """Returns an input as the output of the job that took the place of the one which was to make it."""
    if item.job_id is None or item.job_id not in successors or successors[item.job_id] == item.job_id:
        return item
    job_id = successors[item.job_id]
    return item.model_copy(update={"job_id": job_id, "ref": OUTPUT_PREFIX + job_id, "version_id": None})
