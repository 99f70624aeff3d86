"""Pipelines: several jobs in one submission, cancelled and tried again together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from quantry_core.errors import Conflict, FieldProblem, QuantryError
from quantry_core.jobs import FINAL_STATUSES, ImportSpec, JobOptions, JobSubmission, check_labels, with_outputs
from quantry_core.keys import Identity
from quantry_core.pipelines import PipelineDetail, PipelineStep, PipelineSubmission, newest_jobs, step_needs, step_order
from quantry_store.transactions.cancel import cancel_job
from quantry_store.transactions.inputs import refusal
from quantry_store.transactions.retry import RETRIED_STATUSES, repeat_job
from quantry_store.transactions.submit import DEFAULT_PLACEMENT, Origin, Placement, submit_job
from quantry_store.unit_of_work import UnitOfWork


async def submit_pipeline(
    uow: UnitOfWork,
    identity: Identity,
    submission: PipelineSubmission,
    placements: Mapping[str, Placement],
    *,
    schedule_id: str | None = None,
) -> PipelineDetail:
    """Returns the new pipeline with its jobs, all of them or none. ``placements`` are by step.

    Raises what ``submit_job`` does, naming the step; InvalidInput for steps that need each other in a loop or one that is
    not there. A deploy step is never refused because of another rollout: it waits for its end.
    """
    order = step_order(submission)
    project_id = identity.project_id
    pipeline_id = await uow.pipelines.add(project_id, submission, schedule_id=schedule_id, created_by_key_id=identity.key_id)
    specs = [step.spec for step in submission.steps.values()]
    await uow.uploads.hold_sources(project_id, [spec.source for spec in specs if isinstance(spec, ImportSpec)])
    job_ids: dict[str, str] = {}
    for name in order:
        with naming_step(name):
            job = await submit_job(
                uow,
                identity,
                _job_of(submission, submission.steps[name], job_ids),
                placements.get(name, DEFAULT_PLACEMENT),
                origin=Origin(pipeline_id=pipeline_id, step=name, schedule_id=schedule_id),
            )
        job_ids[name] = job.id
    await uow.audit.record(identity, "pipeline.submit", "pipeline", pipeline_id, {"name": submission.name, "jobs": job_ids})
    return await uow.pipelines.get(project_id, pipeline_id)


async def cancel_pipeline(uow: UnitOfWork, identity: Identity, pipeline_id: str) -> PipelineDetail:
    """Returns the pipeline with every job cancelled that had not begun, and asked to stop where it runs. One that is over is
    returned as it is. Raises UnknownPipeline."""
    project_id = identity.project_id
    await uow.pipelines.lock(project_id, pipeline_id)
    # By id, in one order for everybody: two that lock the same jobs never wait for each other.
    unfinished = sorted(job.id for job in await uow.pipelines.jobs(pipeline_id) if job.status not in FINAL_STATUSES)
    if unfinished:
        await uow.audit.record(identity, "pipeline.cancel", "pipeline", pipeline_id, {"jobs": unfinished})
    for job_id in unfinished:
        await cancel_job(uow, identity, job_id)
    return await uow.pipelines.get(project_id, pipeline_id)


async def retry_pipeline(uow: UnitOfWork, identity: Identity, pipeline_id: str) -> PipelineDetail:
    """Returns the pipeline with a new job for every step whose newest one failed or was cancelled; the others stay, and what
    they made is used.

    Raises UnknownPipeline; Conflict if there is no such step; InvalidInput or UnknownVersion if what a step was given is
    not there any more.
    """
    project_id = identity.project_id
    await uow.pipelines.lock(project_id, pipeline_id)
    jobs = await uow.pipelines.jobs(pipeline_id)
    newest = newest_jobs(jobs)
    current = {job.step: job.id for job in newest}
    retried: dict[str, str] = {}
    again_due = [job for job in newest if job.status in RETRIED_STATUSES]
    await uow.uploads.hold_sources(project_id, [job.spec.source for job in again_due if isinstance(job.spec, ImportSpec)])
    for job in again_due:
        # Needs come first in this order, so those that are tried again have their new job already.
        successors = {earlier.id: current[earlier.step] for earlier in jobs}
        with naming_step(job.step or ""):
            again = await repeat_job(uow, identity, job, successors)
        current[job.step] = again.id
        retried[job.id] = again.id
    if not retried:
        raise Conflict(f"no step of pipeline {pipeline_id} failed or was cancelled, so there is nothing to try again")
    await uow.audit.record(identity, "pipeline.retry", "pipeline", pipeline_id, {"jobs": retried})
    return await uow.pipelines.get(project_id, pipeline_id)


@contextmanager
def naming_step(name: str) -> Iterator[None]:
    """Makes an expected error say which step of a pipeline it is about, in its sentence and in its fields."""
    try:
        yield
    except QuantryError as error:
        fields = [FieldProblem(field=f"steps.{name}.{problem.field}", message=problem.message) for problem in error.errors]
        raise type(error)(f"step {name!r}: {error.detail}", errors=fields) from error


def _job_of(submission: PipelineSubmission, step: PipelineStep, job_ids: dict[str, str]) -> JobSubmission:
    """Returns a step as the job it becomes. The pipeline's labels are added; where both name a key, the step's value stands."""
    try:
        labels = check_labels({**submission.labels, **step.labels})
    except ValueError as error:
        raise refusal("labels", f"together with those of the pipeline: {error}") from error
    options = {name: getattr(step, name) for name in JobOptions.model_fields}
    needs = [job_ids[need] for need in step_needs(step)]
    # Nothing is parsed again: the step was, and what is put in its place here is right by construction.
    return JobSubmission.model_construct(**{**options, "labels": labels}, spec=with_outputs(step.spec, job_ids), needs=needs)
