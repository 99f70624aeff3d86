"""What becomes of a job whose attempt was lost."""

from __future__ import annotations

from quantry_core.jobs import MAX_LOST_ATTEMPTS, Job, JobReason, JobStatus
from quantry_store.unit_of_work import UnitOfWork


async def lose_attempt(uow: UnitOfWork, job: Job, message: str) -> Job:
    """Returns the locked job after one more lost attempt: queued again, failed as poison after MAX_LOST_ATTEMPTS of them,
    or cancelled if that was asked for."""
    job = await uow.leases.count_lost(job)
    if job.cancel_requested:
        return await uow.jobs.move(job, JobStatus.CANCELLED, reason=JobReason.CANCELLED, message=message)
    if job.num_lost_attempts >= MAX_LOST_ATTEMPTS:
        sentence = f"{job.num_lost_attempts} attempts were lost and it is not tried again; the last: {message}"
        return await uow.jobs.move(job, JobStatus.FAILED, reason=JobReason.POISON, message=sentence)
    return await uow.jobs.move(job, JobStatus.QUEUED, reason=JobReason.WORKER_LOST, message=message)


async def sweep_expired_leases(uow: UnitOfWork) -> list[Job]:
    """Returns the jobs whose lease had run out, as they are now. Any number of sweeps may run side by side."""
    expired = await uow.leases.lock_expired()
    return [await lose_attempt(uow, job, f"the worker of attempt {job.attempt} stopped answering") for job in expired]
