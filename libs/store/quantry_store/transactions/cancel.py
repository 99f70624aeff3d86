"""Cancelling a job."""

from __future__ import annotations

from quantry_core.jobs import FINAL_STATUSES, Job, JobReason, JobStatus, JobType
from quantry_core.keys import Identity
from quantry_store.unit_of_work import UnitOfWork


async def cancel_job(uow: UnitOfWork, identity: Identity, job_id: str) -> Job:
    """Returns the job: cancelled at once where it waits, with its cancel flag set where it runs, unchanged where it ended.

    A deploy job that has its rollout only gets the flag: the controller aborts the rollout and ends the job with it. Raises
    UnknownJob.
    """
    job = await uow.jobs.lock(identity.project_id, job_id)
    if job.status in FINAL_STATUSES or job.cancel_requested:
        return job
    await uow.audit.record(identity, "job.cancel", "job", job.id, {"type": job.type, "status": job.status})
    job = await uow.jobs.request_cancel(job)
    if job.status is JobStatus.RUNNING or (job.type is JobType.DEPLOY and job.status is not JobStatus.WAITING):
        return job
    return await uow.jobs.move(job, JobStatus.CANCELLED, reason=JobReason.CANCELLED, message="cancelled before it started")
