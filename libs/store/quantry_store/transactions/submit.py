"""Submission: a spec is checked, its references are resolved once and for all, and the job is written with its audit row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

from quantry_core.engines import config_refused
from quantry_core.jobs import (
    CPU_QUEUE,
    DeploySpec,
    Estimate,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobInput,
    JobSpec,
    JobStatus,
    JobSubmission,
    MergeSpec,
    QuantizeSpec,
    Queue,
    RecalibrateSpec,
    WaitingOn,
    chosen,
    needed_outputs,
)
from quantry_core.keys import Identity
from quantry_core.methods import Environment
from quantry_core.rollouts import Deployment
from quantry_core.versions import Version
from quantry_store.references import require_name
from quantry_store.repositories.jobs import NewJob
from quantry_store.repositories.needs import NeededJob
from quantry_store.transactions.adapter_inputs import check_recipe, complete, with_pinned_recipe
from quantry_store.transactions.inputs import check_outputs, refusal, resolve_inputs
from quantry_store.transactions.reuse import Work, digest_of, reused_message, reused_result, same_version
from quantry_store.transactions.rollout_start import open_deployment, plan_rollout
from quantry_store.transactions.serving_recipe import with_recipe
from quantry_store.unit_of_work import UnitOfWork

MAX_AHEAD = timedelta(days=366)
"""How far ahead a job's earliest start may lie: beyond it is a mistake in the date, more likely than not."""


class Placement(NamedTuple):
    """Where a job goes and what it is thought to take. No queue: the one it names, else cpu."""

    queue: Queue | None
    estimate: Estimate | None


DEFAULT_PLACEMENT = Placement(queue=None, estimate=None)


class Origin(NamedTuple):
    """What a job was submitted by or for, where it is not alone."""

    pipeline_id: str | None = None
    step: str | None = None
    schedule_id: str | None = None
    retry_of: str | None = None


ALONE = Origin()


async def submit_job(
    uow: UnitOfWork, identity: Identity, submission: JobSubmission, placement: Placement = DEFAULT_PLACEMENT, *, origin: Origin = ALONE
) -> Job:
    """Returns the new job: queued; waiting for what it needs, for its time or for room in its project's queue; or succeeded
    at once if its version was made before.

    What the spec names is resolved now, so that it cannot change under the job, and kept from deletion while the job is
    unfinished. A deploy job that need not wait comes with the next release of its deployment and a pending rollout; in a
    pipeline it waits for its turn instead of being refused.

    Raises UnknownMethod, UnknownScheme, InvalidName, InvalidInput, UnknownJob, UnknownModel, UnknownVersion, UnknownDataset;
    for a deploy job RolloutInProgress if another is not over, Conflict if the deployment is stopped.
    """
    check_outputs(submission.spec)
    spec = await with_recipe(uow, identity.project_id, submission.spec)
    environment_of(spec)
    submission = submission.model_copy(update={"spec": await with_pinned_recipe(uow, identity.project_id, spec)})
    need_ids = list(dict.fromkeys([*submission.needs, *needed_outputs(submission.spec)]))
    needed = await uow.needs.load(identity.project_id, need_ids)
    for need in needed.values():
        if need.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
            field = "needs" if need.id in submission.needs else "spec"
            raise refusal(field, f"{need.title} is {need.status}, so a job that needs it could never begin")
    spec, inputs = await complete(
        uow, identity.project_id, submission.spec, await resolve_inputs(uow, identity.project_id, submission.spec, needed)
    )
    submission = submission.model_copy(update={"spec": spec})
    job = await admit(uow, identity, submission, inputs=inputs, needed=needed, placement=placement, origin=origin)
    facts: dict[str, Any] = {"type": job.type, "spec": job.spec.model_dump(mode="json")}
    if origin.pipeline_id is not None:
        facts |= {"pipeline_id": origin.pipeline_id, "step": origin.step}
    await uow.audit.record(identity, "job.submit", "job", job.id, facts)
    return job


async def admit(
    uow: UnitOfWork,
    identity: Identity,
    submission: JobSubmission,
    *,
    inputs: list[JobInput],
    needed: Mapping[str, NeededJob],
    placement: Placement,
    origin: Origin,
) -> Job:
    """Returns the job, written in the first status it may have. Its inputs have been resolved, its needs looked up.

    Raises ProjectArchived.
    """
    spec, project_id = submission.spec, identity.project_id
    await uow.projects.check_open(project_id)
    options = _with_sensible_time(submission, await uow.now())
    environment = environment_of(spec)
    queue = None if isinstance(spec, DeploySpec) else placement.queue or submission.queue or CPU_QUEUE
    digest = await digest_of(uow, project_id, spec, inputs)
    same: Version | None = None
    deployment: Deployment | None = None
    waiting_on = _first_wait(options, needed)
    if waiting_on is None and isinstance(spec, DeploySpec):
        if origin.pipeline_id is None:
            deployment = await open_deployment(uow, project_id, spec)
        else:
            waiting_on = WaitingOn.ROLLOUT
    elif waiting_on is None:
        if digest is not None and not options.force:
            same = await same_version(uow, Work(project_id, spec, inputs, digest, queue, environment))
        if same is None and not await _may_be_queued(uow, project_id, options.priority):
            waiting_on = WaitingOn.LIMIT
    new = NewJob(
        spec=spec,
        options=options,
        inputs=inputs,
        status=_first_status(same, waiting_on),
        waiting_on=waiting_on,
        needs=list(needed),
        queue=queue,
        environment=environment,
        estimate=placement.estimate,
        recipe_digest=digest,
        pipeline_id=origin.pipeline_id,
        step=origin.step,
        schedule_id=origin.schedule_id,
        retry_of=origin.retry_of,
        result=None if same is None else reused_result(same),
        message=None if same is None else reused_message(spec, same),
    )
    job = await uow.jobs.add(project_id, new, created_by_key_id=identity.key_id)
    await uow.needs.settle(job.id, [need.id for need in needed.values() if need.status is JobStatus.SUCCEEDED])
    if deployment is not None and isinstance(spec, DeploySpec):
        await plan_rollout(uow, job, spec, deployment)
    return job


def environment_of(spec: JobSpec) -> Environment | None:
    """Returns the child environment that a job needs, None for a deploy job, which has no child.

    Raises UnknownMethod, UnknownScheme, InvalidInput, InvalidName for a spec that says what cannot be.
    """
    match spec:
        case ImportSpec():
            require_name(spec.model)
            return Environment.ML
        case QuantizeSpec():
            return chosen(spec).info.environment
        case RecalibrateSpec():
            return Environment.ML if spec.recipe is None else chosen(spec.recipe).info.environment
        case MergeSpec():
            check_recipe(spec)
            return Environment.ML
        case FinetuneSpec() | EvaluateSpec():
            return Environment.ML
        case DeploySpec():
            require_name(spec.deployment)
            sentence = config_refused(spec.engine, has_servers=bool(spec.servers))
            if sentence is not None:
                raise refusal("spec.engine", sentence)
            return None
        case _:
            assert_never(spec)


def _with_sensible_time(submission: JobSubmission, now: datetime) -> JobSubmission:
    """Returns the submission without a start that lies in the past; raises InvalidInput for one too far ahead."""
    start = submission.not_before
    if start is None:
        return submission
    if start > now + MAX_AHEAD:
        raise refusal("not_before", f"{start.isoformat()} is more than {MAX_AHEAD.days} days ahead")
    return submission if start > now else submission.model_copy(update={"not_before": None})


def _first_wait(options: JobSubmission, needed: Mapping[str, NeededJob]) -> WaitingOn | None:
    if any(need.status is not JobStatus.SUCCEEDED for need in needed.values()):
        return WaitingOn.NEEDS
    return WaitingOn.TIME if options.not_before is not None else None


def _first_status(same: Version | None, waiting_on: WaitingOn | None) -> JobStatus:
    if same is not None:
        return JobStatus.SUCCEEDED
    return JobStatus.QUEUED if waiting_on is None else JobStatus.WAITING


async def _may_be_queued(uow: UnitOfWork, project_id: str, priority: int) -> bool:
    """Tells whether there is room, and nobody before it in the line for it."""
    return await uow.waiting.has_room(project_id) and not await uow.waiting.has_others_in_line(project_id, priority)
