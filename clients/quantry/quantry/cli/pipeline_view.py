"""A pipeline as a tree: each step under the last of those it needs, with where it is."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text
from rich.tree import Tree

from quantry.cli.job_view import outcome_text, place, why
from quantry.cli.output import STATUS_STYLES, duration_text, status_text
from quantry.cli.progress import progress_text
from quantry_core.jobs import FINAL_STATUSES, Job, JobStatus
from quantry_core.pipelines import Pipeline, PipelineDetail

_LINE_STEP = 0.1
"""Without a terminal, a progress line is printed per phase and per tenth of a step."""


def counts_text(pipeline: Pipeline) -> str:
    """Returns how many jobs are where: ``1 running, 2 waiting``."""
    return ", ".join(f"{number} {status}" for status in STATUS_STYLES if (number := pipeline.num_jobs.get(status, 0)))


def step_name(job: Job) -> str:
    """Returns the step a job is."""
    return job.step or job.id


def step_tree(pipeline: PipelineDetail) -> Tree:
    """Returns the steps as a tree. A step hangs under the need that is farthest from the root; all its needs are named beside it."""
    tree = Tree(Text.assemble(f"{pipeline.name} ({pipeline.id}) ", status_text(pipeline.status), f"  {counts_text(pipeline)}"))
    by_id = {job.id: job for job in pipeline.jobs}
    depths: dict[str, int] = {}
    branches: dict[str, Tree] = {}
    width = max((len(step_name(job)) for job in pipeline.jobs), default=0)
    for job in pipeline.jobs:
        # Jobs come after what they need, so that each parent is there.
        needs = [need for need in job.needs if need in branches]
        parent = max(needs, key=lambda need: depths[need], default=None)
        depths[job.id] = 0 if parent is None else depths[parent] + 1
        branches[job.id] = (tree if parent is None else branches[parent]).add(_step_text(job, by_id, width))
    return tree


def _step_text(job: Job, by_id: Mapping[str, Job], width: int) -> Text:
    text = Text.assemble(f"{step_name(job):<{width}}  ", status_text(job.status))
    if words := step_words(job):
        text.append(f"  {words}")
    if len(job.needs) > 1 or (job.needs and job.needs[0] not in by_id):
        needs = ", ".join(step_name(by_id[need]) if need in by_id else need for need in job.needs)
        text.append(f"  needs {needs}", style="dim")
    text.append(f"  {job.id}", style="dim")
    return text


def step_words(job: Job) -> str:
    """Returns how far a step is, what it waits for, or how it ended."""
    if job.status is JobStatus.SUCCEEDED:
        return outcome_text(job).removeprefix(":").strip()
    if job.status in FINAL_STATUSES:
        return f"({job.reason}) {why(job)}" if job.reason else why(job)
    return place(job)


class StepLines:
    """Turns looks at a pipeline into lines: one per change of a step's status, phase and tenth of the work."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[JobStatus, str, float]] = {}

    def lines(self, pipeline: PipelineDetail) -> list[str]:
        """Returns what is new since the last look."""
        return [line for job in pipeline.jobs if (line := self._line(job)) is not None]

    def _line(self, job: Job) -> str | None:
        progress = job.progress if job.status is JobStatus.RUNNING else None
        phase, fraction = ("", -1.0) if progress is None else (progress.phase, progress.fraction)
        shown = self._shown.get(job.id)
        if shown is not None and shown[:2] == (job.status, phase) and fraction < shown[2] + _LINE_STEP:
            return None
        self._shown[job.id] = job.status, phase, fraction
        words = progress_text(progress) if progress is not None else step_words(job)
        return f"{step_name(job)} {job.status} {words}".rstrip()


def pipeline_end_text(pipeline: PipelineDetail) -> str:
    """Returns how a pipeline ended, and how long it took from its submission."""
    ends = [job.finished_at for job in pipeline.jobs if job.finished_at is not None]
    took = f" after {duration_text((max(ends) - pipeline.created_at).total_seconds())}" if ends else ""
    return f"{pipeline.id} {pipeline.status}{took}: {counts_text(pipeline)}"
