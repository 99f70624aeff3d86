"""Checkpoints of training attempts: noted when they are sealed, recorded when they are reported, handed on to retries."""

from __future__ import annotations

from quantry_core.errors import InvalidInput
from quantry_core.execution import CheckpointReport
from quantry_core.jobs import FinetuneSpec, Job
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import manifest_digest
from quantry_store.transactions.vault import note_checkpoint_blobs, note_seal
from quantry_store.unit_of_work import UnitOfWork

NUM_KEPT = 2
"""Checkpoints of a job whose files are kept: the newest, and the one before it for the case that the newest is damaged."""


async def record_checkpoint_seal(uow: UnitOfWork, request: CheckpointSeal) -> None:
    """Notes that the bytes of the files are in the vault, and that this attempt may report exactly this checkpoint.

    The attempt's last seal of a checkpoint wins. Raises StaleAttempt if the attempt no longer holds its job, SealRefused where
    the vault knows a digest with another size.
    """
    job = await uow.leases.hold(request.job_id, request.attempt)
    await note_checkpoint_blobs(uow, request.files)
    await uow.seals.record_checkpoint(job, request.step, manifest_digest(request.files))
    await note_seal(uow, job, "job.seal_checkpoint", request.files, step=request.step)


async def record_checkpoint(uow: UnitOfWork, job_id: str, report: CheckpointReport) -> None:
    """Records where an attempt got to: another one goes on from there. May be repeated.

    An attempt that got further than any before is none that is lost for nothing: lost attempts are counted from 0 again.
    Older checkpoints let go of their files, but for the last.

    Raises StaleAttempt if the attempt no longer holds the job, InvalidInput for a job that trains nothing, SealRefused unless the
    files are exactly what the attempt sealed last as a checkpoint of this step.
    """
    job = await uow.leases.hold(job_id, report.attempt)
    if not isinstance(job.spec, FinetuneSpec):
        raise InvalidInput(f"a job of type {job.type} has no checkpoints")
    await uow.seals.check_checkpoint(job, report.step, report.files)
    furthest = await uow.checkpoints.furthest_step(job.id)
    await uow.checkpoints.add(job, report)
    await uow.checkpoints.keep_newest(job.id, NUM_KEPT)
    if job.num_lost_attempts and (furthest is None or report.step > furthest):
        await uow.jobs.write(job.id, num_lost_attempts=0)
    facts = {"attempt": job.attempt, "step": report.step, "num_files": len(report.files)}
    await uow.audit.record(None, "job.checkpoint", "job", job.id, facts, project_id=job.project_id)


async def take_over_checkpoint(uow: UnitOfWork, job: Job, old: Job) -> None:
    """Lets a retry begin where the job that it repeats got to, if the files for that are kept still."""
    if isinstance(job.spec, FinetuneSpec):
        await uow.checkpoints.take_over(job, old)
