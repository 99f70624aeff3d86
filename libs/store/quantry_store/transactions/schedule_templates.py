"""The template of a schedule: submitted, tried, and compared with how often it is to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, assert_never

from pydantic import TypeAdapter

from quantry_core.errors import Conflict, QuantryError
from quantry_core.jobs import JobStatus, Queue
from quantry_core.keys import Identity
from quantry_core.pipelines import step_needs, step_order
from quantry_core.schedules import JobTemplate, OverlapPolicy, PipelineTemplate, Template
from quantry_store.cron import Cron, bad_cron
from quantry_store.transactions.cancel import cancel_job
from quantry_store.transactions.pipelines import cancel_pipeline, submit_pipeline
from quantry_store.transactions.submit import Origin, Placement, submit_job
from quantry_store.unit_of_work import UnitOfWork

ONLY_JOB = ""
"""The name under which a single job's placement is kept; no step can be called so."""

NUM_RUNS_COMPARED = 50
SKIP_SHARE = 0.01
"""With overlap skip, two runs may lie closer than one takes, but not closer than this share of it."""

_TEMPLATES: TypeAdapter[Template] = TypeAdapter(Template)


@dataclass(frozen=True)
class Prepared:
    """A template that was looked at outside of any transaction: where its jobs go, or why it cannot be submitted."""

    template: dict[str, Any]
    """As the schedule has it: if that was changed meanwhile, this is of no use."""
    placements: Mapping[str, Placement]
    """By step; a single job's under ONLY_JOB."""
    refusal: str | None = None


@dataclass(frozen=True)
class Submitted:
    """What a run became, and the queues whose workers have something to do now."""

    job_id: str | None
    pipeline_id: str | None
    queues: frozenset[Queue]


def read_template(document: dict[str, Any]) -> Template:
    """Returns a template as it was stored; raises ValidationError if this release cannot read it."""
    return _TEMPLATES.validate_python(document)


async def submit_template(uow: UnitOfWork, identity: Identity, schedule_id: str | None, prepared: Prepared) -> Submitted:
    """Returns what was submitted; raises what a submission of it raises."""
    template = read_template(prepared.template)
    match template:
        case JobTemplate(submission=submission):
            job = await submit_job(uow, identity, submission, prepared.placements[ONLY_JOB], origin=Origin(schedule_id=schedule_id))
            return Submitted(job.id, None, _queues([(job.status, job.queue)]))
        case PipelineTemplate(submission=pipeline):
            made = await submit_pipeline(uow, identity, pipeline, prepared.placements, schedule_id=schedule_id)
            return Submitted(None, made.id, _queues([(job.status, job.queue) for job in made.jobs]))
        case _:
            assert_never(template)


async def take_over(uow: UnitOfWork, identity: Identity, schedule_id: str, overlap: OverlapPolicy, prepared: Prepared) -> Submitted:
    """Returns what was submitted, after cancelling what is left of earlier runs where the policy wants that.

    All or nothing: where the submission is refused, the earlier runs go on.
    """
    async with uow.savepoint():
        if overlap is OverlapPolicy.CANCEL_PREVIOUS:
            pipelines, jobs = await uow.schedules.unfinished(schedule_id)
            for pipeline_id in pipelines:
                await cancel_pipeline(uow, identity, pipeline_id)
            for job_id in jobs:
                await cancel_job(uow, identity, job_id)
        return await submit_template(uow, identity, schedule_id, prepared)


async def try_template(uow: UnitOfWork, identity: Identity, prepared: Prepared) -> None:
    """Submits a template and takes it back, so that one that can never work is refused before anybody relies on it.

    Raises what a submission raises, but for Conflict: a deployment that is stopped now may be started until the run is due.
    """
    try:
        async with uow.savepoint():
            await submit_template(uow, identity, None, prepared)
            raise _TakenBack
    except (_TakenBack, Conflict):
        return


class _TakenBack(Exception):
    """Ends the savepoint of a submission that was only tried."""


def is_final(error: QuantryError) -> bool:
    """Tells whether a refusal is about the template; otherwise something is away or broken, and the run is tried again."""
    return error.status < HTTPStatus.INTERNAL_SERVER_ERROR


def check_frequency(cron: Cron, overlap: OverlapPolicy, prepared: Prepared, now: datetime) -> None:
    """Raises BadCron, naming both figures, if a schedule fires more often than what it starts could ever keep up with.

    Of a pipeline counts its longest chain of steps. Where nothing is known of how long it takes, anything goes: cron itself
    is never quicker than once a second.
    """
    minutes = template_minutes(prepared)
    gap_s = cron.shortest_gap_s(now, NUM_RUNS_COMPARED)
    if minutes is None or gap_s is None:
        return
    least_s = minutes * 60 * (SKIP_SHARE if overlap is OverlapPolicy.SKIP else 1)
    if gap_s < least_s:
        raise bad_cron(
            f"{cron.text!r} fires every {duration_text(gap_s)} at its closest, but one run takes about {duration_text(minutes * 60)}; "
            f"with overlap {overlap} at least {duration_text(least_s)} must lie between two runs"
        )


def template_minutes(prepared: Prepared) -> float | None:
    """Returns how many minutes one run takes by its estimates: of a pipeline the longest chain. None if nothing is known."""
    minutes = {name: _minutes(placement) for name, placement in prepared.placements.items()}
    if all(value is None for value in minutes.values()):
        return None
    template = read_template(prepared.template)
    if isinstance(template, JobTemplate):
        return minutes[ONLY_JOB]
    until: dict[str, float] = {}
    for name in step_order(template.submission):
        needed = max((until[need] for need in step_needs(template.submission.steps[name])), default=0.0)
        until[name] = needed + (minutes.get(name) or 0.0)
    return max(until.values())


def duration_text(seconds: float) -> str:
    """Returns a duration as people say it, for example 1 s, 36 s, 60 minutes, 36 hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 120 * 60:
        return f"{seconds / 60:.3g} minutes"
    return f"{seconds / 3600:.3g} hours"


def _minutes(placement: Placement) -> float | None:
    return None if placement.estimate is None else placement.estimate.minutes


def _queues(jobs: list[tuple[JobStatus, Queue | None]]) -> frozenset[Queue]:
    return frozenset(queue for status, queue in jobs if status is JobStatus.QUEUED and queue is not None)
