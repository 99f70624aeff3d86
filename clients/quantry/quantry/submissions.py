"""What may be said of a job beside its spec, as keywords; the same for a submission, an estimate and a schedule's template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from quantry_core.jobs import JobLimits, JobSpec, JobSubmission, Queue, Resource


class JobKeywords(TypedDict, total=False):
    """Keywords of ``client.jobs.submit`` and ``client.jobs.estimate``. Defaults are those of JobSubmission."""

    priority: int
    """0 is claimed first, 9 last."""
    resource: Resource | str | None
    """cpu or gpu."""
    queue: Queue | None
    """A queue by its name; chosen by resource and estimate where not given."""
    time_limit_s: int | None
    """Seconds of one attempt; beyond, the job ends as timed_out."""
    memory_limit_bytes: int | None
    """Resident bytes of the job's processes; beyond, the attempt ends as out_of_memory."""
    not_before: datetime | None
    """With a time zone."""
    labels: Mapping[str, str]
    metadata: Mapping[str, Any]
    needs: Sequence[str]
    """Ids of jobs that must succeed first; one whose output the spec uses need not be named."""
    force: bool
    """Works even if an identical job has made its version already."""


def job_submission(spec: JobSpec, **keywords: Unpack[JobKeywords]) -> JobSubmission:
    """Returns the body of a submission; raises pydantic.ValidationError for a value that cannot be."""
    fields: dict[str, Any] = {**keywords, "spec": spec}
    limits = JobLimits(time_s=fields.pop("time_limit_s", None), memory_bytes=fields.pop("memory_limit_bytes", None))
    return JobSubmission.model_validate(fields | {"limits": limits})
