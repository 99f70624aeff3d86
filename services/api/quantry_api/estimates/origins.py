"""Where the facts of a checkpoint come from: looked up in the database first, then read, with no transaction open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quantry_api.estimates.checkpoints import CheckpointLibrary, FactsUnknown
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.estimates import CheckpointFacts, quantized_facts
from quantry_core.jobs import OUTPUT_PREFIX, ImportSpec, JobSpec, QuantizeSpec, RecalibrateSpec, VersionRef, chosen
from quantry_core.methods import Format, Scheme
from quantry_core.servability import schemes_of
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
    outputs: Mapping[str, Output],
    depth: int = 0,
) -> Origin:
    """Returns where the facts of what ``ref`` means come from; ``outputs`` are of other jobs of the submission, by step or job id.

    Raises InvalidName, UnknownModel, UnknownVersion, UnknownJob, or InvalidInput for a version of another kind than ``kinds``.
    """
    if not ref.startswith(OUTPUT_PREFIX):
        version = await uow.versions.resolve(project_id, ref, kinds=kinds)
        if kinds is not None and version.kind not in kinds:
            sentence = f"{version.ref} is a {version.kind} version; a {' or '.join(sorted(kinds))} version is needed here"
            raise InvalidInput(sentence, errors=[FieldProblem(field="spec", message=sentence)])
        return await _of_version(uow, library, version)
    name = ref.removeprefix(OUTPUT_PREFIX)
    if name in outputs or depth >= MAX_DEPTH:
        return Told(ref, outputs.get(name))
    job = await uow.jobs.get(project_id, name)
    if job.result is not None and job.result.version_id is not None:
        return await _of_version(uow, library, await uow.versions.get(project_id, job.result.version_id))
    if isinstance(job.spec, ImportSpec):
        return OfImport(job.spec.source)
    recipe = recipe_of(job.spec)
    if recipe is None:
        return Told(ref, None)
    return OfQuantize(recipe, await find_origin(uow, library, project_id, recipe.base, kinds=None, outputs=outputs, depth=depth + 1))


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
        case OfImport() | Told(output=Output(spec=ImportSpec())):
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
