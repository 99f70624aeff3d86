"""What each type of job is asked to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs.specs.deploy import DeploySpec, EngineConfig, EngineKind, Scaling, ServerUrl
from quantry_core.jobs.specs.evaluate import EvaluateSpec, SpeedSpec, TasksSpec
from quantry_core.jobs.specs.finetune import (
    ALL_LINEAR,
    AdapterSpec,
    DistributedSpec,
    DpoMethod,
    FinetuneSpec,
    GrpoMethod,
    Hyperparameters,
    KtoMethod,
    MethodSpec,
    OrpoMethod,
    RewardSpec,
    RlooMethod,
    SupervisedMethod,
    ValidationSpec,
)
from quantry_core.jobs.specs.imports import ImportSpec
from quantry_core.jobs.specs.merge import AS_BASE, AdapterShare, MergeSpec
from quantry_core.jobs.specs.quantize import (
    BUILT_IN_QUALITY_CORPUS,
    CalibrationSpec,
    ModuleOverride,
    QualitySpec,
    QuantizationRecipe,
    QuantizeSpec,
    chosen,
    overridden,
    written_out,
)
from quantry_core.jobs.specs.recalibrate import JudgedBy, RecalibrateSpec
from quantry_core.jobs.specs.references import OUTPUT_PREFIX, REFERS_TO, DatasetRef, ModulePattern, RefersTo, VersionRef
from quantry_core.jobs.states import JobType

__all__ = [
    "ALL_LINEAR",
    "AS_BASE",
    "BUILT_IN_QUALITY_CORPUS",
    "OUTPUT_PREFIX",
    "REFERS_TO",
    "SPECS",
    "AdapterShare",
    "AdapterSpec",
    "CalibrationSpec",
    "DatasetRef",
    "DeploySpec",
    "DistributedSpec",
    "DpoMethod",
    "EngineConfig",
    "EngineKind",
    "EvaluateSpec",
    "FinetuneSpec",
    "GrpoMethod",
    "Hyperparameters",
    "ImportSpec",
    "JobSpec",
    "JudgedBy",
    "KtoMethod",
    "MergeSpec",
    "MethodSpec",
    "ModuleOverride",
    "ModulePattern",
    "OrpoMethod",
    "QualitySpec",
    "QuantizationRecipe",
    "QuantizeSpec",
    "RecalibrateSpec",
    "RefersTo",
    "RewardSpec",
    "RlooMethod",
    "Scaling",
    "ServerUrl",
    "SpeedSpec",
    "SupervisedMethod",
    "TasksSpec",
    "ValidationSpec",
    "VersionRef",
    "chosen",
    "is_job_output",
    "needed_outputs",
    "overridden",
    "version_refs",
    "with_outputs",
    "written_out",
]

JobSpec = Annotated[
    ImportSpec | QuantizeSpec | FinetuneSpec | MergeSpec | EvaluateSpec | RecalibrateSpec | DeploySpec,
    Field(discriminator="type"),
]

AnySpec = (
    type[ImportSpec]
    | type[QuantizeSpec]
    | type[FinetuneSpec]
    | type[MergeSpec]
    | type[EvaluateSpec]
    | type[RecalibrateSpec]
    | type[DeploySpec]
)

SPECS: dict[JobType, AnySpec] = {
    JobType.IMPORT: ImportSpec,
    JobType.QUANTIZE: QuantizeSpec,
    JobType.FINETUNE: FinetuneSpec,
    JobType.MERGE: MergeSpec,
    JobType.EVALUATE: EvaluateSpec,
    JobType.RECALIBRATE: RecalibrateSpec,
    JobType.DEPLOY: DeploySpec,
}


VERSION_NAMES: dict[JobType, frozenset[str]] = {
    JobType.IMPORT: frozenset(),
    JobType.QUANTIZE: frozenset({"base"}),
    JobType.FINETUNE: frozenset({"model"}),
    JobType.MERGE: frozenset(),
    JobType.EVALUATE: frozenset({"version", "against"}),
    JobType.RECALIBRATE: frozenset({"serving"}),
    JobType.DEPLOY: frozenset({"version"}),
}
"""Fields of a spec that name one version each: an import's ``model`` is a name to be given."""


def needed_outputs(spec: JobSpec) -> list[str]:
    """Returns the job ids (in a pipeline: steps) whose outputs a spec uses, each once, in the order of its fields."""
    names = [ref.removeprefix(OUTPUT_PREFIX) for ref in version_refs(spec).values() if ref.startswith(OUTPUT_PREFIX)]
    return list(dict.fromkeys(names))


def version_refs(spec: JobSpec) -> dict[str, VersionRef]:
    """Returns a spec's references to versions by where they stand (``base``, ``adapters.0``); those not given are left out."""
    if isinstance(spec, MergeSpec):
        return {f"adapters.{index}": share.adapter for index, share in enumerate(spec.adapters)}
    refs = {
        name: getattr(spec, name, None) for name in ("base", "model", "version", "against", "serving") if name in VERSION_NAMES[spec.type]
    }
    return {name: ref for name, ref in refs.items() if ref is not None}


def with_outputs(spec: JobSpec, job_ids: dict[str, str]) -> JobSpec:
    """Returns a pipeline step's spec with each ``output:<step>`` turned into ``output:<job id>``; raises KeyError for an unknown step."""

    def named(ref: VersionRef) -> VersionRef:
        return OUTPUT_PREFIX + job_ids[ref.removeprefix(OUTPUT_PREFIX)] if ref.startswith(OUTPUT_PREFIX) else ref

    if isinstance(spec, MergeSpec):
        shares = [share.model_copy(update={"adapter": named(share.adapter)}) for share in spec.adapters]
        return spec.model_copy(update={"adapters": shares})
    return spec.model_copy(update={name: named(ref) for name, ref in version_refs(spec).items()})


def is_job_output(ref: str) -> bool:
    """Tells whether a reference names the output of a job by its id."""
    return ref.startswith(OUTPUT_PREFIX) and is_id(ref.removeprefix(OUTPUT_PREFIX), IdPrefix.JOB)
