"""Where the facts of a checkpoint come from: looked up in the database first, then read, with no transaction open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quantry_api.estimates.attaching import check_attachable
from quantry_api.estimates.checkpoints import CheckpointLibrary, FactsUnknown
from quantry_api.estimates.lineage import made_from, runnable, sixteen_bit
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.estimates import CheckpointFacts, quantized_facts
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobSpec,
    MergeSpec,
    QuantizeSpec,
    RecalibrateSpec,
    VersionRef,
    chosen,
)
from quantry_core.methods import Format, Scheme
from quantry_core.servability import schemes_of
from quantry_core.training.bases import BASE_KINDS, not_trainable
from quantry_core.versions import ManifestFile, Version, VersionKind
from quantry_store.unit_of_work import UnitOfWork

MAX_DEPTH = 64
"""Of jobs that use each other's outputs: as many as a pipeline has steps."""


@dataclass(frozen=True)
class OfVersion:
    """A version that is there. ``files`` is empty where its facts are known already."""

    version: Version
    files: Sequence[ManifestFile]


@dataclass(frozen=True)
class OfImport:
    """What an import will bring."""

    source: str


@dataclass(frozen=True)
class OfQuantize:
    """What a quantize job will make of its base."""

    spec: QuantizeSpec
    base: Origin


@dataclass(frozen=True)
class Output:
    """What another job of the same submission will make, as far as it is known."""

    spec: JobSpec
    facts: CheckpointFacts | None


@dataclass(frozen=True)
class Told:
    """What the caller knows of an output; None where it knows nothing."""

    ref: VersionRef
    output: Output | None


class StoredAs(NamedTuple):
    """What an engine must be able to load."""

    format: Format
    schemes: set[Scheme | None]
    """None is 16 bit."""


Origin = OfVersion | OfImport | OfQuantize | Told


async def find_origin(
    uow: UnitOfWork,
    library: CheckpointLibrary,
    project_id: str,
    ref: VersionRef,
    *,
    kinds: Collection[VersionKind] | None,
    first: VersionKind | None = None,
    outputs: Mapping[str, Output],
    depth: int = 0,
) -> Origin:
    """Returns where the facts of what ``ref`` means come from; ``outputs`` are of other jobs of the submission, by step or job id.
    An adapter has those of the version that it was trained on.

    Raises InvalidName, UnknownModel, UnknownVersion, UnknownJob, or InvalidInput for a version of another kind than ``kinds``.
    """
    if not ref.startswith(OUTPUT_PREFIX):
        version = await uow.versions.resolve(project_id, ref, kinds=kinds, first=first)
        if kinds is not None and version.kind not in kinds:
            sentence = f"{version.ref} is a {version.kind} version; a {' or '.join(sorted(kinds))} version is needed here"
            raise InvalidInput(sentence, errors=[FieldProblem(field="spec", message=sentence)])
        return await _of_version(uow, library, await runnable(uow, version))
    name = ref.removeprefix(OUTPUT_PREFIX)
    if name in outputs or depth >= MAX_DEPTH:
        return Told(ref, outputs.get(name))
    return await _of_job(uow, library, await uow.jobs.get(project_id, name), outputs=outputs, depth=depth)


async def _of_job(uow: UnitOfWork, library: CheckpointLibrary, job: Job, *, outputs: Mapping[str, Output], depth: int) -> Origin:
    """Returns where the facts of what a job made, or will make, come from."""
    spec = job.spec
    if job.result is not None and job.result.version_id is not None:
        made = await uow.versions.get(job.project_id, job.result.version_id)
        return await _of_version(uow, library, await runnable(uow, made))
    if isinstance(spec, ImportSpec):
        return OfImport(spec.source)
    if isinstance(spec, MergeSpec):
        return await find_merge_base(uow, library, job.project_id, spec.adapters[0].adapter, outputs=outputs, depth=depth + 1)
    recipe = recipe_of(spec)
    # A fine-tuning makes all weights of its base in other values, or an adapter, which is run on its base.
    ref = spec.model if isinstance(spec, FinetuneSpec) else None if recipe is None else recipe.base
    if ref is None:
        return Told(OUTPUT_PREFIX + job.id, None)
    origin = await find_origin(uow, library, job.project_id, ref, kinds=None, outputs=outputs, depth=depth + 1)
    return origin if recipe is None else OfQuantize(recipe, origin)


async def find_trained(
    uow: UnitOfWork, library: CheckpointLibrary, project_id: str, spec: FinetuneSpec, *, outputs: Mapping[str, Output]
) -> Origin:
    """Returns where the facts of the version that a job trains come from.

    A quantized one is told from its master and its recipe: of packed weights the headers do not say the shape. Raises as
    ``find_origin``, and InvalidInput for a version that cannot be trained so, or whose adapter the spec's deployment could not serve.
    """
    origin = await find_origin(uow, library, project_id, spec.model, kinds=BASE_KINDS, first=VersionKind.MASTER, outputs=outputs)
    version = origin.version if isinstance(origin, OfVersion) else None
    await check_attachable(uow, project_id, spec, version)
    if version is None:
        recipe = _output_recipe(origin)
        if recipe is not None:
            choice = chosen(recipe)
            told = recipe.model_dump(mode="json")
            _check_trainable(spec.model, not_trainable(VersionKind.QUANTIZED, choice.info.format, choice.scheme, spec, told))
        return origin
    _check_trainable(version.ref, not_trainable(version.kind, version.format, version.scheme, spec, version.recipe))
    made = await made_from(uow, version)
    return origin if made is None else OfQuantize(made.recipe, await _of_version(uow, library, made.master))


def _output_recipe(origin: Origin) -> QuantizeSpec | None:
    """Returns how what a job will make is quantized; None where it is not, or nothing is known of it."""
    match origin:
        case OfQuantize(recipe):
            return recipe
        case Told(output=Output(spec=spec)):
            return recipe_of(spec)
        case _:
            return None


def _check_trainable(ref: str, reason: str | None) -> None:
    if reason is not None:
        sentence = f"{ref} cannot be trained on so: {reason}"
        raise InvalidInput(sentence, errors=[FieldProblem(field="spec.model", message=sentence)])


async def find_merge_base(
    uow: UnitOfWork, library: CheckpointLibrary, project_id: str, adapter: VersionRef, *, outputs: Mapping[str, Output], depth: int = 0
) -> Origin:
    """Returns where the facts of the 16-bit version come from that an adapter is merged into; raises as ``find_origin``."""
    if adapter.startswith(OUTPUT_PREFIX):
        # The adapter's base, or where that is to be quantized first, what it is quantized from.
        origin = await find_origin(uow, library, project_id, adapter, kinds=None, outputs=outputs, depth=depth)
        return origin.base if isinstance(origin, OfQuantize) else origin
    version = await uow.versions.resolve(project_id, adapter, kinds=frozenset({VersionKind.ADAPTER}))
    base = await sixteen_bit(uow, version)
    return Told(adapter, None) if base is None else await _of_version(uow, library, base)


def recipe_of(spec: JobSpec) -> QuantizeSpec | None:
    """Returns how a job quantizes: a recalibration by its recipe, once that is found; None for one that does not."""
    if isinstance(spec, RecalibrateSpec):
        return spec.recipe
    return spec if isinstance(spec, QuantizeSpec) else None


async def read_facts(library: CheckpointLibrary, origin: Origin) -> CheckpointFacts:
    """Returns the facts of an origin; raises FactsUnknown saying why they cannot be told."""
    match origin:
        case OfVersion(version, files):
            known = library.known(version.manifest_digest)
            return known or await library.of_version(version.ref, version.manifest_digest, files)
        case OfImport(source):
            return await library.of_source(source)
        case OfQuantize(spec, base):
            return quantized_facts(await read_facts(library, base), spec)
        case Told(ref, output):
            if output is None or output.facts is None:
                raise FactsUnknown(f"nothing can be told yet of {ref}")
            return output.facts


def stored_as(origin: Origin) -> StoredAs | None:
    """Returns how an origin's weights are stored, or will be; None where that is not known."""
    match origin:
        case OfVersion(version):
            return StoredAs(version.format, schemes_of(version.scheme, version.recipe))
        case OfImport() | Told(output=Output(spec=ImportSpec() | MergeSpec() | FinetuneSpec(adapter=None))):
            return StoredAs(Format.SAFETENSORS, {None})
        case OfQuantize(spec):
            return _quantized_as(spec)
        case Told(output=Output(spec=spec)) if (recipe := recipe_of(spec)) is not None:
            return _quantized_as(recipe)
        case _:
            return None


def _quantized_as(spec: QuantizeSpec) -> StoredAs:
    choice = chosen(spec)
    return StoredAs(choice.info.format, schemes_of(choice.scheme, spec.model_dump(mode="json")))


async def _of_version(uow: UnitOfWork, library: CheckpointLibrary, version: Version) -> OfVersion:
    is_known = library.known(version.manifest_digest) is not None
    return OfVersion(version, [] if is_known else await uow.versions.files(version.id))
