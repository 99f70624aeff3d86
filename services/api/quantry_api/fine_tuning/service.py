"""What a request of OpenAI's fine-tuning API means as a job, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from quantry_api.fine_tuning.schemas import (
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJob,
    FineTuningJobRequest,
    FineTuningJobs,
    spec_hyperparameters,
    spec_method,
)
from quantry_api.fine_tuning.words import CHECKPOINT_PREFIX, EVENT_PREFIX, TOLD_KINDS, request_field, told_checkpoint, told_event, told_job
from quantry_core.errors import FieldProblem, InvalidInput, InvalidName, QuantryError, UnknownDeployment, UnknownJob
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import OUTPUT_PREFIX, FinetuneSpec, Job, JobSubmission, JobType, VersionRef
from quantry_core.pages import Page
from quantry_core.rollouts import Deployment
from quantry_store.unit_of_work import UnitOfWork


async def submission_of(uow: UnitOfWork, project_id: str, request: FineTuningJobRequest) -> JobSubmission:
    """Returns the job that a request means. A deployment's name stands for the version that it serves, and the adapter is for it.

    Raises InvalidInput for a deployment that serves nothing.
    """
    deployment = await _deployment(uow, project_id, request.model)
    spec = FinetuneSpec(
        model=request.model if deployment is None else _served_version(deployment),
        deployment=None if deployment is None else deployment.name,
        training_file=request.training_file,
        validation_file=request.validation_file,
        suffix=request.suffix,
        method=spec_method(request),
        hyperparameters=spec_hyperparameters(request),
        **({} if request.seed is None else {"seed": request.seed}),
    )
    return JobSubmission(spec=spec, metadata=dict(request.metadata or {}))


@contextmanager
def fields_of_the_request() -> Iterator[None]:
    """Has an error that is raised inside name the fields of the request, where it names those of the job's spec."""
    try:
        yield
    except QuantryError as error:
        error.errors = [FieldProblem(field=request_field(problem.field), message=problem.message) for problem in error.errors]
        raise


async def _deployment(uow: UnitOfWork, project_id: str, name: VersionRef) -> Deployment | None:
    """Returns the deployment of that name; None where there is none, and for what can only be a version."""
    if "@" in name or name.startswith(OUTPUT_PREFIX) or is_id(name, IdPrefix.VERSION):
        return None
    with suppress(UnknownDeployment, InvalidName):
        return await uow.deployments.get(project_id, name)
    return None


def _served_version(deployment: Deployment) -> str:
    if deployment.current_release is None:
        sentence = f"nothing is served as {deployment.name!r} yet: name the version to train, or wait for its rollout"
        raise InvalidInput(sentence, errors=[FieldProblem(field="model", message=sentence)])
    return deployment.current_release.version_id


def trained_spec(job: Job) -> FinetuneSpec:
    """Returns the spec of a fine-tune job; raises UnknownJob for one of another type."""
    if not isinstance(job.spec, FinetuneSpec):
        raise UnknownJob(f"job {job.id} is of type {job.type}; it is shown at /api/v1/jobs")
    return job.spec


async def show(uow: UnitOfWork, job: Job) -> FineTuningJob:
    """Returns a fine-tune job in OpenAI's words; raises UnknownJob for one of another type."""
    spec = trained_spec(job)
    return told_job(job, spec, (await _fine_tuned_models(uow, job.project_id, [job])).get(job.id))


async def show_page(uow: UnitOfWork, project_id: str, *, after: str | None, limit: int) -> FineTuningJobs:
    """Returns a page of a project's fine-tune jobs, newest first."""
    page: Page[Job] = await uow.jobs.list(project_id, after=after, limit=limit, type=JobType.FINETUNE)
    models = await _fine_tuned_models(uow, project_id, page.data)
    return FineTuningJobs(
        data=[told_job(job, trained_spec(job), models.get(job.id)) for job in page.data],
        first_id=page.first_id,
        last_id=page.last_id,
        has_more=page.has_more,
    )


async def _fine_tuned_models(uow: UnitOfWork, project_id: str, jobs: list[Job]) -> dict[str, str]:
    """Returns what a client may call that these jobs made, by job: the adapter at the gateway while it is attached, else the version
    until it is deleted."""
    version_ids = {job.id: job.result.version_id for job in jobs if job.result is not None and job.result.version_id is not None}
    attached = await uow.attached.names_by_job(project_id, version_ids)
    refs = await uow.versions.refs(project_id, version_ids.values())
    return {job_id: refs[version_id] for job_id, version_id in version_ids.items() if version_id in refs} | attached


async def show_events(uow: UnitOfWork, job: Job, *, after: str | None, limit: int) -> FineTuningEvents:
    """Returns a page of a job's events, newest first; raises InvalidInput for an ``after`` that is no event's id."""
    before = None if after is None else _number(after, EVENT_PREFIX, "event")
    events = await uow.events.newest(job.project_id, job.id, limit + 1, kinds=TOLD_KINDS, before=before)
    data = [told_event(event) for event in events[:limit]]
    return FineTuningEvents(data=data, **_ends([event.id for event in data]), has_more=len(events) > limit)


async def show_checkpoints(uow: UnitOfWork, job: Job, *, after: str | None, limit: int) -> FineTuningCheckpoints:
    """Returns a page of a job's checkpoints, the furthest first; raises InvalidInput for an ``after`` that is no checkpoint's id."""
    below = None if after is None else _number(after, CHECKPOINT_PREFIX, "checkpoint")
    kept = await uow.checkpoints.furthest(job.project_id, job.id, limit + 1, below=below)
    data = [told_checkpoint(checkpoint) for checkpoint in kept[:limit]]
    return FineTuningCheckpoints(data=data, **_ends([checkpoint.id for checkpoint in data]), has_more=len(kept) > limit)


def _number(after: str, prefix: str, what: str) -> int:
    digits = after.removeprefix(prefix)
    if not after.startswith(prefix) or not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        sentence = f"{after[:64]!r} is no id of this job's {what}s, which begin with {prefix}"
        raise InvalidInput(sentence, errors=[FieldProblem(field="after", message=sentence)])
    return int(digits)


def _ends(ids: list[str]) -> dict[str, Any]:
    return {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
