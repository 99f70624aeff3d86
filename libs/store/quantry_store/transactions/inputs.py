"""What a spec's references mean: resolved once and for all at submission, or when the job that makes a version has succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    DatasetRef,
    EvaluateSpec,
    ImportSpec,
    InputRole,
    Job,
    JobInput,
    JobSpec,
    JobStatus,
    JobType,
    QuantizeSpec,
    RecalibrateSpec,
    VersionRef,
    is_job_output,
    version_refs,
)
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.repositories.needs import NeededJob
from quantry_store.transactions.made_versions import VERSION_KINDS
from quantry_store.unit_of_work import UnitOfWork

SERVABLE_KINDS = frozenset({VersionKind.MASTER, VersionKind.QUANTIZED})


class VersionField(NamedTuple):
    """A field of a spec that names a version, and which versions may stand there. None: any."""

    name: str
    role: InputRole
    kinds: frozenset[VersionKind] | None = None
    states: frozenset[VersionState] | None = frozenset({VersionState.READY})


VERSION_FIELDS: dict[JobType, tuple[VersionField, ...]] = {
    JobType.IMPORT: (),
    JobType.QUANTIZE: (VersionField("base", InputRole.BASE, frozenset({VersionKind.MASTER})),),
    JobType.EVALUATE: (
        # A quarantined version may be measured too: that is how one finds out what is wrong with it.
        VersionField("version", InputRole.SUBJECT, states=None),
        VersionField("against", InputRole.REFERENCE),
    ),
    JobType.RECALIBRATE: (
        VersionField("base", InputRole.BASE, frozenset({VersionKind.MASTER})),
        VersionField("serving", InputRole.REFERENCE, frozenset({VersionKind.QUANTIZED})),
    ),
    JobType.DEPLOY: (VersionField("version", InputRole.SUBJECT, SERVABLE_KINDS),),
}


def check_outputs(spec: JobSpec) -> None:
    """Raises InvalidInput naming the field for a reference to an output that names no job by its id."""
    for name, ref in version_refs(spec).items():
        if ref.startswith(OUTPUT_PREFIX) and not is_job_output(ref):
            raise refusal(f"spec.{name}", f"{ref!r} names no job; write {OUTPUT_PREFIX}job_... with a job's id")


async def resolve_inputs(uow: UnitOfWork, project_id: str, spec: JobSpec, needed: Mapping[str, NeededJob]) -> list[JobInput]:
    """Returns the versions and datasets that a spec names, in the order of its fields, each kept from deletion.

    A version that a job is yet to make has no id, only that job's, which must be among ``needed``. Raises InvalidName,
    InvalidInput naming the field, UnknownModel, UnknownVersion, UnknownDataset, SourceRefused for an upload that cannot be imported.
    """
    if isinstance(spec, ImportSpec):
        await uow.uploads.reserve(project_id, spec.source)
    refs = version_refs(spec)
    if isinstance(spec, RecalibrateSpec) and spec.recipe is not None:
        refs |= {"base": spec.recipe.base}
    inputs = [await _resolve(uow, project_id, field, refs[field.name], needed) for field in VERSION_FIELDS[spec.type] if field.name in refs]
    for role, refs_of_role in dataset_refs(spec).items():
        for ref in refs_of_role:
            dataset = await uow.datasets.resolve(project_id, ref)
            await uow.datasets.hold(dataset.id)
            inputs.append(JobInput(role=role, ref=ref, dataset_id=dataset.id))
    return inputs


async def take_outputs(uow: UnitOfWork, job: Job, needed: Mapping[str, NeededJob]) -> list[JobInput]:
    """Returns a job's inputs with the versions that jobs of ``needed`` have made by now, each kept from deletion.

    Raises InvalidInput if one cannot stand where the spec has it, UnknownVersion if it was deleted.
    """
    return [await take_output(uow, job.project_id, job.type, item, needed) for item in job.inputs]


async def take_output(uow: UnitOfWork, project_id: str, job_type: JobType, item: JobInput, needed: Mapping[str, NeededJob]) -> JobInput:
    """Returns an input of a job of that type with its version, if it is the output of a job of ``needed`` that has succeeded."""
    if item.job_id is None or item.version_id is not None or item.job_id not in needed:
        return item
    need = needed[item.job_id]
    if need.status is not JobStatus.SUCCEEDED:
        return item
    version = await uow.versions.get(project_id, need.version_id or "")
    await _keep(uow, field_of(job_type, item.role), version)
    return item.model_copy(update={"version_id": version.id})


async def check_inputs(uow: UnitOfWork, project_id: str, job_type: JobType, inputs: list[JobInput]) -> None:
    """Keeps what ``inputs`` names from deletion; raises InvalidInput, UnknownVersion or UnknownDataset unless each may be used."""
    for item in inputs:
        if item.dataset_id is not None:
            await uow.datasets.hold(item.dataset_id)
        if item.version_id is not None:
            await _keep(uow, field_of(job_type, item.role), await uow.versions.get(project_id, item.version_id))


def field_of(job_type: JobType, role: InputRole) -> VersionField:
    """Returns the field that a version's role stands for in the specs of a type."""
    return next(field for field in VERSION_FIELDS[job_type] if field.role is role)


def refusal(field: str, sentence: str) -> InvalidInput:
    """Returns the error that says what is wrong with one field."""
    return InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])


async def _resolve(uow: UnitOfWork, project_id: str, field: VersionField, ref: VersionRef, needed: Mapping[str, NeededJob]) -> JobInput:
    if not ref.startswith(OUTPUT_PREFIX):
        version = await uow.versions.resolve(project_id, ref, kinds=field.kinds)
        await _keep(uow, field, version)
        return JobInput(role=field.role, ref=ref, version_id=version.id)
    need = needed[ref.removeprefix(OUTPUT_PREFIX)]
    kind = VERSION_KINDS.get(need.type)
    if kind is None:
        raise refusal(f"spec.{field.name}", f"{need.title} is of type {need.type} and makes no version")
    if field.kinds is not None and kind not in field.kinds:
        sentence = f"{need.title} is of type {need.type} and makes a {kind} version; a {_names(field.kinds)} version is needed here"
        raise refusal(f"spec.{field.name}", sentence)
    item = JobInput(role=field.role, ref=ref, job_id=need.id)
    if need.status is not JobStatus.SUCCEEDED:
        return item
    version = await uow.versions.get(project_id, need.version_id or "")
    await _keep(uow, field, version)
    return item.model_copy(update={"version_id": version.id})


async def _keep(uow: UnitOfWork, field: VersionField, version: Version) -> None:
    """Keeps a version from deletion; raises InvalidInput naming the field if it may not stand there, UnknownVersion."""
    if field.kinds is not None and version.kind not in field.kinds:
        raise refusal(f"spec.{field.name}", f"{version.ref} is a {version.kind} version; a {_names(field.kinds)} version is needed here")
    if field.states is not None and version.state not in field.states:
        raise refusal(f"spec.{field.name}", f"{version.ref} is {version.state}; only a {_names(field.states)} version can be used here")
    await uow.versions.hold(version)


def dataset_refs(spec: JobSpec) -> dict[InputRole, list[DatasetRef]]:
    """Returns the datasets that a spec names, by what they are to the job."""
    match spec:
        case QuantizeSpec():
            calibration = [] if spec.calibration is None else spec.calibration.datasets
            return {InputRole.CALIBRATION: calibration, InputRole.CORPUS: spec.quality_corpora}
        case RecalibrateSpec():
            quality = [] if spec.recipe is None else spec.recipe.quality_corpora
            return {InputRole.CALIBRATION: spec.datasets, InputRole.CORPUS: quality, InputRole.COMPARISON: spec.corpora}
        case EvaluateSpec():
            return {InputRole.CORPUS: spec.corpora}
        case _:
            return {}


def _names(choices: frozenset[VersionKind] | frozenset[VersionState]) -> str:
    return " or ".join(sorted(choices))
