"""What each type of job is asked to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs.specs.deploy import DeploySpec, EngineConfig
from quantry_core.jobs.specs.evaluate import EvaluateSpec, SpeedSpec, TasksSpec
from quantry_core.jobs.specs.imports import ImportSpec
from quantry_core.jobs.specs.quantize import (
    BUILT_IN_QUALITY_CORPUS,
    CalibrationSpec,
    ModuleOverride,
    QualitySpec,
    QuantizeSpec,
    chosen,
    overridden,
    written_out,
)
from quantry_core.jobs.specs.recalibrate import JudgedBy, RecalibrateSpec
from quantry_core.jobs.specs.references import OUTPUT_PREFIX, DatasetRef, ModulePattern, VersionRef
from quantry_core.jobs.states import JobType

__all__ = [
    "BUILT_IN_QUALITY_CORPUS",
    "OUTPUT_PREFIX",
    "SPECS",
    "CalibrationSpec",
    "DatasetRef",
    "DeploySpec",
    "EngineConfig",
    "EvaluateSpec",
    "ImportSpec",
    "JobSpec",
    "JudgedBy",
    "ModuleOverride",
    "ModulePattern",
    "QualitySpec",
    "QuantizeSpec",
    "RecalibrateSpec",
    "SpeedSpec",
    "TasksSpec",
    "VersionRef",
    "chosen",
    "is_job_output",
    "needed_outputs",
    "overridden",
    "version_refs",
    "with_outputs",
    "written_out",
]

JobSpec = Annotated[ImportSpec | QuantizeSpec | EvaluateSpec | RecalibrateSpec | DeploySpec, Field(discriminator="type")]

SPECS: dict[JobType, type[ImportSpec] | type[QuantizeSpec] | type[EvaluateSpec] | type[RecalibrateSpec] | type[DeploySpec]] = {
    JobType.IMPORT: ImportSpec,
    JobType.QUANTIZE: QuantizeSpec,
    JobType.EVALUATE: EvaluateSpec,
    JobType.RECALIBRATE: RecalibrateSpec,
    JobType.DEPLOY: DeploySpec,
}


def needed_outputs(spec: JobSpec) -> list[str]:
    """Returns the job ids (in a pipeline: steps) whose outputs a spec uses, each once, in the order of its fields."""
    names = [ref.removeprefix(OUTPUT_PREFIX) for ref in version_refs(spec).values() if ref.startswith(OUTPUT_PREFIX)]
    return list(dict.fromkeys(names))


def version_refs(spec: JobSpec) -> dict[str, VersionRef]:
    """Returns a spec's references to versions by the name of their field; those that are not given are left out."""
    refs = {name: getattr(spec, name, None) for name in ("base", "version", "against", "serving")}
    return {name: ref for name, ref in refs.items() if ref is not None}


def with_outputs(spec: JobSpec, job_ids: dict[str, str]) -> JobSpec:
    """Returns a pipeline step's spec with each ``output:<step>`` turned into ``output:<job id>``; raises KeyError for an unknown step."""
    changed = {
        name: OUTPUT_PREFIX + job_ids[ref.removeprefix(OUTPUT_PREFIX)]
        for name, ref in version_refs(spec).items()
        if ref.startswith(OUTPUT_PREFIX)
    }
    return spec.model_copy(update=changed)


def is_job_output(ref: str) -> bool:
    """Tells whether a reference names the output of a job by its id."""
    return ref.startswith(OUTPUT_PREFIX) and is_id(ref.removeprefix(OUTPUT_PREFIX), IdPrefix.JOB)
