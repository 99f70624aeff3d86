"""What a merge leads to: the job that quantizes what was merged."""

from __future__ import annotations

from typing import Any

from quantry_core.errors import QuantryError
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import Job, JobSubmission, MergeSpec, QuantizationRecipe, QuantizeSpec
from quantry_core.keys import Identity, Role
from quantry_core.versions import Version
from quantry_store.transactions.recalibrate import PLATFORM_KEY
from quantry_store.transactions.submit import submit_job
from quantry_store.unit_of_work import UnitOfWork


async def lock_for_quantize(uow: UnitOfWork, job: Job, request: FinishRequest) -> None:
    """Locks the row of a merge's project if it bounds what may be queued: submitting what follows looks there, and it is taken before
    any model's row. Nothing where ``quantize_merged`` will submit nothing."""
    if request.version is not None and _recipe_of(job, request) is not None:
        await uow.waiting.lock_room(job.project_id)


async def quantize_merged(uow: UnitOfWork, job: Job, request: FinishRequest, version: Version) -> dict[str, Any]:
    """Returns what a finished merge led to: the quantize job of its recipe, or why that was refused. Nothing for other jobs, nor
    where nothing is to be quantized.

    The job goes where the merge was run, with its priority and labels. What it is refused for undoes nothing else. ``lock_for_quantize``
    came first.
    """
    given = _recipe_of(job, request)
    if given is None:
        return {}
    who = Identity(key_id=await uow.jobs.created_by(job.id) or PLATFORM_KEY, project_id=job.project_id, role=Role.OPERATOR)
    recipe = QuantizeSpec(base=version.id, **dict(given))
    try:
        async with uow.savepoint():
            submission = JobSubmission(spec=recipe, priority=job.priority, queue=job.queue, labels=job.labels)
            return {"quantize_job_id": (await submit_job(uow, who, submission)).id}
    except QuantryError as error:
        return {"quantize_refused": error.detail}


def _recipe_of(job: Job, request: FinishRequest) -> QuantizationRecipe | None:
    """Returns what a merge that succeeded is to be quantized by; None for other jobs and endings, and where nothing is."""
    if not isinstance(job.spec, MergeSpec) or request.outcome is not Outcome.SUCCEEDED:
        return None
    return job.spec.quantize if isinstance(job.spec.quantize, QuantizationRecipe) else None
