"""YAML files of schedules and of single jobs."""

from __future__ import annotations

from pathlib import Path

from quantry.yaml_files import read_yaml
from quantry_core.jobs import ImportSpec, JobSubmission
from quantry_core.pipelines import PipelineStep
from quantry_core.schedules import JobTemplate, ScheduleSubmission
from quantry_core.sources import is_local


def read_schedule(path: Path) -> ScheduleSubmission:
    """Returns the schedule that a YAML file describes. A relative ``source`` of an import is taken from the file's folder.

    Raises FileRefused with every problem that was found, and OSError if the file cannot be read.
    """
    schedule = read_yaml(ScheduleSubmission, path)
    template = schedule.template
    jobs = [template.submission] if isinstance(template, JobTemplate) else list(template.submission.steps.values())
    for job in jobs:
        _find_source(job, path.parent)
    return schedule


def read_job(path: Path) -> JobSubmission:
    """Returns the job that a YAML file describes, as ``read_schedule`` does."""
    job = read_yaml(JobSubmission, path)
    _find_source(job, path.parent)
    return job


def _find_source(job: JobSubmission | PipelineStep, folder: Path) -> None:
    if isinstance(job.spec, ImportSpec) and is_local(job.spec.source):
        job.spec = job.spec.model_copy(update={"source": str((folder / job.spec.source).resolve())})
