"""What lists may be narrowed by: keywords of ``list`` and ``iterate``. All that is given must hold."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from quantry_core.datasets import DatasetKind, DatasetOrigin
from quantry_core.jobs import JobStatus, JobType
from quantry_core.methods import Format
from quantry_core.rollouts import RolloutState
from quantry_core.versions import VersionKind, VersionState


class JobFilter(TypedDict, total=False):
    """Keywords of ``client.jobs.iterate``."""

    status: JobStatus | None
    type: JobType | None
    labels: str | None
    """A selector such as ``team=search,stage!=test,nightly``."""
    queue: str | None
    pipeline_id: str | None
    schedule_id: str | None
    uses: str | None
    """The id of a version or dataset that is among their inputs."""


class PipelineFilter(TypedDict, total=False):
    """Keywords of ``client.pipelines.iterate``."""

    labels: str | None
    """A selector such as ``team=search,!draft``."""
    schedule_id: str | None


class VersionFilter(TypedDict, total=False):
    """What versions may be looked for by: keywords of ``client.versions.list`` and ``iterate``."""

    kind: VersionKind | None
    state: VersionState | None
    scheme: str | None
    format: Format | None
    license: str | None
    tags: str | None
    """A selector such as ``stage=test,owner!=ann,golden``."""
    text: str | None
    """Part of the model's name or of the notes."""
    created_after: datetime | None
    created_before: datetime | None
    min_size_bytes: int | None
    max_size_bytes: int | None
    dataset_id: str | None
    """Made with it: calibrated, trained or held out."""


class DatasetFilter(TypedDict, total=False):
    """Keywords of ``client.datasets.iterate``."""

    kind: DatasetKind | None
    origin: DatasetOrigin | None
    text: str | None
    """Part of the name."""


class RolloutFilter(TypedDict, total=False):
    """Keywords of ``client.rollouts.iterate``."""

    deployment: str | None
    state: RolloutState | None
