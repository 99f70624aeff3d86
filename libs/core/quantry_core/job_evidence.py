"""What a job measured, as tables: before and after of a training, the ways of a measured merge. Pure.

The evidence lies with a version; these functions say with which, and which of its evidence is the job's.
"""

from __future__ import annotations

from typing import Any

from quantry_core.evidence_tables import EvidenceTable, evidence_tables
from quantry_core.jobs import FinetuneSpec, InputRole, Job, JobStatus, MergeSpec
from quantry_core.versions import VersionDetail

_IN_TABLES = frozenset({"corpora", "decision", "validation", "ways"})
"""Metrics of a result that the evidence holds as well."""


def measured_version_id(job: Job) -> str | None:
    """Returns the version that a training's or a merge's evidence lies with; None for other jobs, and before the end.

    Of a merge that made no version, because the adapter does best beside its base, it is the first adapter.
    """
    if job.status is not JobStatus.SUCCEEDED or job.result is None or not isinstance(job.spec, FinetuneSpec | MergeSpec):
        return None
    adapters = (given.version_id for given in job.inputs if given.role is InputRole.ADAPTER)
    return job.result.version_id or next(adapters, None)


def job_tables(job: Job, version: VersionDetail) -> list[EvidenceTable]:
    """Returns the tables of what a job measured of a version."""
    measured = [one for one in version.evidence if one.job_id == job.id]
    return evidence_tables(version.model_copy(update={"evidence": measured}))


def metrics_beside_tables(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns a result's metrics without those that its tables show."""
    return {name: value for name, value in metrics.items() if name not in _IN_TABLES}
