"""Pipelines: several jobs in one submission, each of which may need others and use what they make."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import MAX_NEEDS, Job, JobOptions, JobSpec, JobStatus, Labels, Metadata, needed_outputs
from quantry_core.names import Name

MAX_STEPS = 64


class PipelineStep(JobOptions):
    """One job of a pipeline."""

    spec: JobSpec = Field(description="Where a version is named, output:<step> means the one that step makes.")
    needs: list[Name] = Field(
        default_factory=list,
        max_length=MAX_NEEDS,
        description="Steps that must succeed first; one whose output is used need not be named.",
    )


class PipelineSubmission(BaseModel):
    """Body of ``POST /api/v1/pipelines``, and the form of a pipeline's YAML file."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    steps: dict[Name, PipelineStep] = Field(min_length=1, max_length=MAX_STEPS, description="Jobs by name.")
    labels: Labels = Field(default_factory=dict, description="Added to those of every step.")
    metadata: Metadata = Field(default_factory=dict)


class Pipeline(BaseModel):
    """A pipeline as the API shows it. Where it is follows from its jobs."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["pipeline"] = "pipeline"
    project_id: str
    name: str
    status: JobStatus
    num_jobs: dict[JobStatus, int] = Field(description="How many jobs are where.")
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    schedule_id: str | None = None
    created_at: datetime


class PipelineDetail(Pipeline):
    """A pipeline with its jobs, in an order in which each comes after what it needs."""

    jobs: list[Job]


def step_order(submission: PipelineSubmission) -> list[str]:
    """Returns the steps in an order in which each comes after those it needs.

    Raises InvalidInput naming the steps of a loop, or a need that is no step.
    """
    graph = {name: step_needs(step) for name, step in submission.steps.items()}
    for name, needs in graph.items():
        for need in needs:
            if need not in graph:
                sentence = f"step {name!r} needs {need!r}, which is no step of this pipeline; there are {', '.join(graph)}"
                raise InvalidInput(sentence, errors=[FieldProblem(field=f"steps.{name}", message=sentence)])
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        raise InvalidInput(f"these steps need each other in a loop, so none could begin: {loop}") from error


def step_needs(step: PipelineStep) -> list[str]:
    """Returns the steps that a step needs, named or because it uses their output, each once."""
    return list(dict.fromkeys([*step.needs, *needed_outputs(step.spec)]))


def newest_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Returns the newest job of each step, in an order in which each comes after those it needs.

    ``jobs`` are all that one pipeline ever had, oldest first: a step that was tried again has several.
    """
    every = list(jobs)
    steps = {job.id: job.step for job in every}
    newest = {job.step: job for job in every}
    # A job may need an earlier job of a step that was tried again since: what counts is the step.
    graph = {step: {steps[need] for need in job.needs if need in steps} for step, job in newest.items()}
    return [newest[step] for step in TopologicalSorter(graph).static_order()]


def pipeline_status(statuses: Iterable[JobStatus]) -> JobStatus:
    """Returns where a pipeline is: running once a job has begun and one is left, else the worst end of its jobs."""
    seen = set(statuses)
    unfinished = seen & {JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING}
    if JobStatus.RUNNING in seen or (unfinished and seen - unfinished):
        return JobStatus.RUNNING
    if unfinished:
        return JobStatus.QUEUED if JobStatus.QUEUED in unfinished else JobStatus.WAITING
    for end in (JobStatus.FAILED, JobStatus.CANCELLED):
        if end in seen:
            return end
    return JobStatus.SUCCEEDED
