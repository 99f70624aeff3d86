"""What becomes of a job whose attempt was lost."""

from __future__ import annotations

from quantry_core.jobs import MAX_LOST_ATTEMPTS, Job, JobReason, JobStatus
from quantry_store.transactions.webhook_events import tell_worker_lost
from quantry_store.unit_of_work import UnitOfWork


async def lose_attempt(uow: UnitOfWork, job: Job, message: str) -> Job:
    """Returns the locked job after one more lost attempt: queued again, failed as poison after MAX_LOST_ATTEMPTS of them,
    or cancelled if that was asked for."""
    num_lost = job.num_lost_attempts + 1
    if job.cancel_requested:
        return await uow.jobs.move(job, JobStatus.CANCELLED, reason=JobReason.CANCELLED, message=message, num_lost_attempts=num_lost)
    if num_lost >= MAX_LOST_ATTEMPTS:
        sentence = f"{num_lost} attempts were lost and it is not tried again; the last: {message}"
        return await uow.jobs.move(job, JobStatus.FAILED, reason=JobReason.POISON, message=sentence, num_lost_attempts=num_lost)
    # At once: a lost worker says nothing against the job, and its peers are there.
    retried = await uow.leases.retry(job, JobReason.WORKER_LOST, message=message, delay_s=0.0, num_lost_attempts=num_lost)
    await tell_worker_lost(uow, retried)
    return retried


async def expired_jobs(uow: UnitOfWork) -> list[str]:
    """Returns the ids of jobs whose lease has run out. Each is then given to ``lose_expired`` in a transaction of its own, so
    that one which cannot be swept keeps back no other."""
    return await uow.leases.expired()


async def lose_expired(uow: UnitOfWork, job_id: str) -> Job | None:
    """Returns the job after its attempt was lost with its lease; None if there is nothing left to do.

    Any number of sweeps may run side by side. A job that cannot be read ends as failed.
    """
    job = await uow.leases.lock_expired(job_id)
    if job is None:
        return None
    return await lose_attempt(uow, job, f"the worker of attempt {job.attempt} stopped answering")
