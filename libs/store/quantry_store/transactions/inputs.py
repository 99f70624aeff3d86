"""What a spec's references mean: resolved once and for all at submission, or when the job that makes a version has succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from quantry_core.datasets import Dataset
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    DatasetRef,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    InputRole,
    Job,
    JobInput,
    JobSpec,
    JobStatus,
    JobType,
    MergeSpec,
    QuantizationRecipe,
    QuantizeSpec,
    RecalibrateSpec,
    VersionRef,
    is_job_output,
    version_refs,
)
from quantry_core.training import REWARD_METHODS
from quantry_core.training.bases import BASE_KINDS, SIXTEEN_BIT_KINDS
from quantry_core.training.data import not_learned_from, not_scored
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.repositories.needs import NeededJob
from quantry_store.unit_of_work import UnitOfWork

SERVABLE_KINDS = SIXTEEN_BIT_KINDS | {VersionKind.QUANTIZED}
"""An adapter is served beside its base, never by itself."""


class VersionField(NamedTuple):
    """A field of a spec that names a version, and which versions may stand there (None: any). A name alone is the newest of them, of
    the kind ``first`` where there is one: what is quantized or trained again is what a model began as, unless somebody says more."""

    name: str
    role: InputRole
    kinds: frozenset[VersionKind] | None = None
    states: frozenset[VersionState] | None = frozenset({VersionState.READY})
    first: VersionKind | None = None


VERSION_FIELDS: dict[JobType, tuple[VersionField, ...]] = {
    JobType.IMPORT: (),
    JobType.QUANTIZE: (VersionField("base", InputRole.BASE, SIXTEEN_BIT_KINDS, first=VersionKind.MASTER),),
    JobType.FINETUNE: (VersionField("model", InputRole.BASE, BASE_KINDS, first=VersionKind.MASTER),),
    JobType.MERGE: (VersionField("adapters", InputRole.ADAPTER, frozenset({VersionKind.ADAPTER})),),
    JobType.EVALUATE: (
        # A quarantined version may be measured too: that is how one finds out what is wrong with it.
        VersionField("version", InputRole.SUBJECT, states=None),
        VersionField("against", InputRole.REFERENCE),
    ),
    JobType.RECALIBRATE: (
        VersionField("base", InputRole.BASE, SIXTEEN_BIT_KINDS),
        VersionField("serving", InputRole.REFERENCE, frozenset({VersionKind.QUANTIZED})),
    ),
    JobType.DEPLOY: (VersionField("version", InputRole.SUBJECT, SERVABLE_KINDS),),
}
"""Fields of specs that name versions, a list of them under one name."""

FOUND_FIELDS: dict[JobType, tuple[VersionField, ...]] = {
    JobType.MERGE: (
        VersionField("adapters", InputRole.ADAPTER_BASE, BASE_KINDS),
        VersionField("adapters", InputRole.BASE, SIXTEEN_BIT_KINDS),
    ),
    JobType.EVALUATE: (VersionField("version", InputRole.ADAPTER_BASE, BASE_KINDS),),
}
"""Versions that no spec names: they follow from the adapters that one names. See adapter_inputs."""


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
    inputs = [
        await _resolve(uow, project_id, _Named(field, name, ref), needed)
        for field in VERSION_FIELDS[spec.type]
        for name, ref in refs.items()
        if name.partition(".")[0] == field.name
    ]
    for role, refs_of_role in dataset_refs(spec).items():
        for ref in refs_of_role:
            dataset = await uow.datasets.resolve(project_id, ref)
            _check_dataset(spec, role, dataset)
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
    return await _take(uow, project_id, field_of(job_type, item.role), item, needed[item.job_id])


async def check_inputs(uow: UnitOfWork, project_id: str, job_type: JobType, inputs: list[JobInput]) -> None:
    """Keeps what ``inputs`` names from deletion; raises InvalidInput, UnknownVersion or UnknownDataset unless each may be used."""
    for item in inputs:
        if item.dataset_id is not None:
            await uow.datasets.hold(item.dataset_id)
        if item.version_id is not None:
            await keep_version(uow, field_of(job_type, item.role), await uow.versions.get(project_id, item.version_id))


def field_of(job_type: JobType, role: InputRole) -> VersionField:
    """Returns the field that a version's role stands for in the specs of a type."""
    return next(field for field in (*VERSION_FIELDS[job_type], *FOUND_FIELDS.get(job_type, ())) if field.role is role)


def refusal(field: str, sentence: str) -> InvalidInput:
    """Returns the error that says what is wrong with one field."""
    return InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])


class _Named(NamedTuple):
    """A reference of a spec, and where it stands: of a list, ``adapters.0``."""

    field: VersionField
    name: str
    ref: VersionRef


async def _resolve(uow: UnitOfWork, project_id: str, named: _Named, needed: Mapping[str, NeededJob]) -> JobInput:
    field, name, ref = named
    if not ref.startswith(OUTPUT_PREFIX):
        version = await uow.versions.resolve(project_id, ref, kinds=field.kinds, first=field.first)
        await keep_version(uow, field, version)
        return JobInput(role=field.role, ref=ref, version_id=version.id)
    need = needed[ref.removeprefix(OUTPUT_PREFIX)]
    kind = need.makes
    if kind is None:
        raise refusal(f"spec.{name}", f"{need.title} is of type {need.type} and makes no version")
    if field.kinds is not None and kind not in field.kinds:
        sentence = f"{need.title} is of type {need.type} and makes {_a(kind)} version; {_a(_names(field.kinds))} version is needed here"
        raise refusal(f"spec.{name}", sentence)
    return await _take(uow, project_id, field, JobInput(role=field.role, ref=ref, job_id=need.id), need)


async def _take(uow: UnitOfWork, project_id: str, field: VersionField, item: JobInput, need: NeededJob) -> JobInput:
    """Returns an input with the version that the job it comes from has made, as it is where that one has not succeeded yet."""
    if need.status is not JobStatus.SUCCEEDED:
        return item
    if need.version_id is None:
        raise refusal(f"spec.{field.name}", f"{need.title} succeeded without a version: it found that its adapters are best left unmerged")
    version = await uow.versions.get(project_id, need.version_id)
    await keep_version(uow, field, version)
    return item.model_copy(update={"version_id": version.id})


async def keep_version(uow: UnitOfWork, field: VersionField, version: Version) -> None:
    """Keeps a version from deletion; raises InvalidInput naming the field if it may not stand there, UnknownVersion."""
    if field.kinds is not None and version.kind not in field.kinds:
        sentence = f"{version.ref} is {_a(version.kind)} version; {_a(_names(field.kinds))} version is needed here"
        raise refusal(f"spec.{field.name}", sentence)
    if field.states is not None and version.state not in field.states:
        raise refusal(f"spec.{field.name}", f"{version.ref} is {version.state}; only a {_names(field.states)} version can be used here")
    await uow.versions.hold(version)


def _check_dataset(spec: JobSpec, role: InputRole, dataset: Dataset) -> None:
    """Raises InvalidInput naming the field for a dataset that a job cannot learn from or be judged by."""
    match spec, role:
        case FinetuneSpec(), InputRole.TRAINING:
            field, reason = "spec.training_file", not_learned_from(spec.method.type, dataset.kind)
        case FinetuneSpec(), InputRole.VALIDATION:
            field, reason = "spec.validation_file", not_learned_from(spec.method.type, dataset.kind)
        case MergeSpec(), InputRole.VALIDATION:
            field, reason = "spec.validation_file", not_scored(dataset.kind)
        case _:
            return
    if reason is not None:
        raise refusal(field, f"{dataset.ref}: {reason}")
    # Methods that let the model answer itself need no answer.
    if not (isinstance(spec, FinetuneSpec) and spec.method.type in REWARD_METHODS):
        _check_answers(field, dataset)


def _check_answers(field: str, dataset: Dataset) -> None:
    """Raises InvalidInput naming each line, as far as they were kept, whose row has no answer to learn or to be scored."""
    counted = dataset.statistics
    if not counted.num_untrainable_rows:
        return
    problems = [FieldProblem(field=field, message=f"line {row.line} {row.reason}") for row in counted.untrainable_rows]
    detail = f"{dataset.ref}: {problems[0].message}"
    num_more = counted.num_untrainable_rows - len(problems)
    if num_more:
        detail += f"; there are {counted.num_untrainable_rows} such rows in all: {len(problems)} in errors, {num_more} more"
    elif len(problems) > 1:
        detail += f"; there are {len(problems)} such rows in all, see errors"
    raise InvalidInput(detail, errors=problems)


def dataset_refs(spec: JobSpec) -> dict[InputRole, list[DatasetRef]]:
    """Returns the datasets that a spec names, by what they are to the job."""
    match spec:
        case QuantizeSpec():
            calibration = [] if spec.calibration is None else spec.calibration.datasets
            return {InputRole.CALIBRATION: calibration, InputRole.CORPUS: spec.quality_corpora}
        case RecalibrateSpec():
            quality = [] if spec.recipe is None else spec.recipe.quality_corpora
            return {InputRole.CALIBRATION: spec.datasets, InputRole.CORPUS: quality, InputRole.COMPARISON: spec.corpora}
        case FinetuneSpec():
            validation = [] if spec.validation_file is None else [spec.validation_file]
            return {InputRole.TRAINING: [spec.training_file], InputRole.VALIDATION: validation, InputRole.CORPUS: spec.corpora}
        case MergeSpec():
            validation = [] if spec.validation_file is None else [spec.validation_file]
            # Without a measurement nothing is quantized by the merge itself.
            recipe = spec.quantize if spec.measure and isinstance(spec.quantize, QuantizationRecipe) else None
            calibration = [] if recipe is None or recipe.calibration is None else recipe.calibration.datasets
            return {InputRole.VALIDATION: validation, InputRole.CORPUS: spec.corpora, InputRole.CALIBRATION: calibration}
        case EvaluateSpec():
            return {InputRole.CORPUS: spec.corpora}
        case _:
            return {}


def recipe_datasets(spec: JobSpec) -> list[DatasetRef]:
    """Returns the datasets of a merge's own recipe, which the job that follows it is to use."""
    recipe = spec.quantize if isinstance(spec, MergeSpec) else None
    if not isinstance(recipe, QuantizationRecipe):
        return []
    return [*([] if recipe.calibration is None else recipe.calibration.datasets), *recipe.quality_corpora]


def _names(choices: frozenset[VersionKind] | frozenset[VersionState]) -> str:
    return " or ".join(sorted(choices))


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
