"""What follows from the versions that a spec names: the bases of adapters, the recipe of a merge, and whether a base can be trained.

Known at submission, or once the jobs that make those versions have succeeded.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from quantry_core.errors import InvalidInput, QuantryError
from quantry_core.jobs import (
    AS_BASE,
    EvaluateSpec,
    FinetuneSpec,
    InputRole,
    JobInput,
    JobSpec,
    JobType,
    MergeSpec,
    QuantizationRecipe,
    chosen,
)
from quantry_core.methods import Environment
from quantry_core.outputs import made_model
from quantry_core.training.bases import SIXTEEN_BIT_KINDS, not_trainable
from quantry_core.versions import Version, VersionKind
from quantry_store.transactions.inputs import FOUND_FIELDS, dataset_refs, keep_version, refusal
from quantry_store.unit_of_work import UnitOfWork


class Completed(NamedTuple):
    """A spec with all that it left open, and every input of its job."""

    spec: JobSpec
    inputs: list[JobInput]


async def complete(uow: UnitOfWork, project_id: str, spec: JobSpec, inputs: list[JobInput]) -> Completed:
    """Returns spec and inputs with what follows from the versions among them, each kept from deletion; as they are while one of
    those versions is yet to be made. To be asked again does no harm.

    Raises InvalidInput naming the field for a base that cannot be trained, adapters that are not of one base, or a recipe that
    cannot be repeated; UnknownVersion or UnknownDataset for what was deleted.
    """
    if isinstance(spec, FinetuneSpec):
        _check_held_out(inputs)
    if any(item.version_id is None and item.dataset_id is None for item in inputs):
        return Completed(spec, inputs)
    match spec:
        case FinetuneSpec():
            await _check_training(uow, project_id, spec, inputs)
        case MergeSpec():
            return await _complete_merge(uow, project_id, spec, inputs)
        case EvaluateSpec():
            return Completed(spec, await _with_adapter_bases(uow, project_id, inputs))
        case _:
            pass
    return Completed(spec, inputs)


async def with_pinned_recipe(uow: UnitOfWork, project_id: str, spec: JobSpec) -> JobSpec:
    """Returns a spec as it is; of a merge with a recipe of its own, that recipe's datasets by their ids. Raises UnknownDataset."""
    if not isinstance(spec, MergeSpec) or not isinstance(spec.quantize, QuantizationRecipe):
        return spec
    return spec.model_copy(update={"quantize": await _pinned(uow, project_id, spec.quantize)})


def check_recipe(spec: MergeSpec) -> None:
    """Raises UnknownMethod, UnknownScheme or InvalidInput for a merge whose recipe cannot be, or cannot be measured where it merges."""
    if not isinstance(spec.quantize, QuantizationRecipe):
        return
    environment = chosen(spec.quantize).info.environment
    if spec.measure and environment is not Environment.ML:
        sentence = (
            f"method {spec.quantize.method} runs where adapters cannot be read: leave measure out, or take a method of environment ml"
        )
        raise refusal("spec.measure", sentence)


def _check_held_out(inputs: list[JobInput]) -> None:
    datasets = {item.role: item.dataset_id for item in inputs if item.role in {InputRole.TRAINING, InputRole.VALIDATION}}
    if datasets[InputRole.TRAINING] == datasets.get(InputRole.VALIDATION):
        raise refusal("spec.validation_file", "it is the training file: what was learned says nothing of what was not")


async def _check_training(uow: UnitOfWork, project_id: str, spec: FinetuneSpec, inputs: list[JobInput]) -> None:
    base_id = next(item.version_id for item in inputs if item.role is InputRole.BASE)
    base = await uow.versions.get(project_id, base_id or "")
    reason = not_trainable(base.kind, base.format, base.scheme, spec, base.recipe)
    if reason is not None:
        raise refusal("spec.model", f"{base.ref} cannot be trained so: {reason}")
    made_model(spec, base.model_name)


async def _with_adapter_bases(uow: UnitOfWork, project_id: str, inputs: list[JobInput]) -> list[JobInput]:
    """Returns an evaluation's inputs with the bases of the adapters among them, each once, before the datasets."""
    versions = [item for item in inputs if item.version_id is not None and item.role is not InputRole.ADAPTER_BASE]
    bases: dict[str, JobInput] = {}
    for item in versions:
        version = await uow.versions.get(project_id, item.version_id or "")
        if version.kind is VersionKind.ADAPTER:
            base = await _base_of(uow, version)
            bases[base.id] = JobInput(role=InputRole.ADAPTER_BASE, ref=base.ref, version_id=base.id)
            await keep_version(uow, FOUND_FIELDS[JobType.EVALUATE][0], base)
    return [*versions, *bases.values(), *(item for item in inputs if item.dataset_id is not None)]


async def _complete_merge(uow: UnitOfWork, project_id: str, spec: MergeSpec, inputs: list[JobInput]) -> Completed:
    adapters = [item for item in inputs if item.role is InputRole.ADAPTER]
    trained_on = await _one_base(uow, project_id, [item.version_id or "" for item in adapters])
    sixteen_bit = trained_on if trained_on.kind in SIXTEEN_BIT_KINDS else await _base_of(uow, trained_on)
    made_model(spec, sixteen_bit.model_name)
    if spec.quantize == AS_BASE:
        spec = spec.model_copy(update={"quantize": await _recipe_of(uow, project_id, trained_on)})
        check_recipe(spec)
    if isinstance(spec.quantize, QuantizationRecipe):
        spec = spec.model_copy(update={"quantize": await _pinned(uow, project_id, spec.quantize)})
    if spec.measure and spec.quantize is None:
        sentence = f"measure compares quantized results, and the adapters were trained on {trained_on.ref}, which is 16-bit: give a recipe"
        raise refusal("spec.quantize", sentence)
    found = []
    for field, version in zip(FOUND_FIELDS[spec.type], (trained_on, sixteen_bit), strict=True):
        await keep_version(uow, field, version)
        found.append(JobInput(role=field.role, ref=version.ref, version_id=version.id))
    datasets = [item for item in inputs if item.dataset_id is not None and item.role is not InputRole.CALIBRATION]
    for ref in dataset_refs(spec)[InputRole.CALIBRATION]:
        dataset = await uow.datasets.resolve(project_id, ref)
        await uow.datasets.hold(dataset.id)
        datasets.append(JobInput(role=InputRole.CALIBRATION, ref=ref, dataset_id=dataset.id))
    return Completed(spec, [*adapters, *found, *datasets])


async def _one_base(uow: UnitOfWork, project_id: str, adapter_ids: list[str]) -> Version:
    """Returns the version that all adapters were trained on; raises InvalidInput naming two that were not."""
    adapters = [await uow.versions.get(project_id, adapter_id) for adapter_id in adapter_ids]
    for index, adapter in enumerate(adapters):
        if adapter.id in adapter_ids[:index]:
            raise refusal(f"spec.adapters.{index}", f"{adapter.ref} is named twice")
    bases = [await _base_of(uow, adapter) for adapter in adapters]
    for index, (adapter, base) in enumerate(zip(adapters, bases, strict=True)):
        if base.id != bases[0].id:
            sentence = (
                f"{adapter.ref} was trained on {base.ref} and {adapters[0].ref} on {bases[0].ref}: only adapters of one version merge"
            )
            raise refusal(f"spec.adapters.{index}", sentence)
    return bases[0]


async def _base_of(uow: UnitOfWork, version: Version) -> Version:
    """Returns the version that a version was made from; raises InvalidInput where its lineage has none."""
    base = await uow.versions.base_of(version)
    if base is None:
        raise InvalidInput(f"{version.ref} has no base in its lineage")
    return base


async def _recipe_of(uow: UnitOfWork, project_id: str, version: Version) -> QuantizationRecipe | None:
    """Returns how a version was quantized, with the very datasets that it was, by their ids; None for 16-bit weights.

    Raises InvalidInput where the recipe is not one that can be repeated.
    """
    if version.kind in SIXTEEN_BIT_KINDS:
        return None
    known = {name: value for name, value in version.recipe.items() if name in QuantizationRecipe.model_fields}
    made_with = (await uow.jobs.get(project_id, version.job_id)).inputs
    for part, name, role in (("calibration", "datasets", InputRole.CALIBRATION), ("quality", "corpora", InputRole.CORPUS)):
        if isinstance(known.get(part), dict):
            known[part] = known[part] | {name: [item.dataset_id for item in made_with if item.role is role]}
    try:
        recipe = QuantizationRecipe.model_validate(known)
        chosen(recipe)
    except (ValidationError, QuantryError) as error:
        sentence = f"the recipe of {version.ref} is not one that this release can repeat: {error}; give quantize one, or null"
        raise refusal("spec.quantize", sentence) from error
    return recipe


async def _pinned(uow: UnitOfWork, project_id: str, recipe: QuantizationRecipe) -> QuantizationRecipe:
    """Returns a recipe with its datasets by their ids, so that they are the same whenever it is followed, each kept from deletion.

    Raises UnknownDataset.
    """

    async def ids(refs: list[str]) -> list[str]:
        found = [await uow.datasets.resolve(project_id, ref) for ref in refs]
        for dataset in found:
            await uow.datasets.hold(dataset.id)
        return [dataset.id for dataset in found]

    calibration, quality = recipe.calibration, recipe.quality
    if calibration is not None:
        calibration = calibration.model_copy(update={"datasets": await ids(calibration.datasets)})
    if quality is not None:
        quality = quality.model_copy(update={"corpora": await ids(recipe.quality_corpora)})
    return recipe.model_copy(update={"calibration": calibration, "quality": quality})
