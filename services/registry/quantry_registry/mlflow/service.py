"""What MLflow's words mean here: a registered model is a model, a model version a version, and one that is created an import job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantry_core.errors import FieldProblem, InvalidInput, NotOffered, QuantryError, SourceRefused, UnknownVersion
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import ImportSpec, Job, JobSubmission
from quantry_core.keys import Identity
from quantry_core.model_notes import ModelNotesChange
from quantry_core.names import is_number
from quantry_core.registry_filters import (
    OF_MODELS,
    OF_VERSIONS,
    ORDERS_OF_MODELS,
    ORDERS_OF_VERSIONS,
    parse_filter,
    parse_orders,
)
from quantry_core.sources import HubSource, UploadSource, parse_source
from quantry_core.version_notes import VersionNotesChange
from quantry_core.versions import Model, Version, VersionState
from quantry_registry.mlflow.schemas import (
    CreateModel,
    CreateVersion,
    ModelVersion,
    MoveStage,
    RegisteredModel,
    SomeModels,
    SomeVersions,
    Stage,
    Tag,
)
from quantry_store.references import require_name
from quantry_store.repositories.registry_search import PROMPT_TAG
from quantry_store.transactions.archiving import archive_version, unarchive_version
from quantry_store.transactions.models import create_model
from quantry_store.transactions.submit import submit_job
from quantry_store.unit_of_work import UnitOfWork

MAX_PAGE = 1000
"""Items of one page of a search; a client that asks for more goes on with the token."""
RESERVED_PREFIX = "quantry."
_SHOWN_CHARS = 80


async def model_record(uow: UnitOfWork, project_id: str, name: str) -> RegisteredModel:
    """Returns a model by its name; raises InvalidName, UnknownModel."""
    model = await uow.models.get(project_id, name)
    return RegisteredModel.of(await uow.registry_search.model(project_id, model.id))


async def version_record(uow: UnitOfWork, version: Version) -> ModelVersion:
    """Returns a version with what is written about it."""
    (record,) = await uow.registry_search.version_records(version.project_id, [version.id])
    return ModelVersion.of(record)


async def find_version(uow: UnitOfWork, project_id: str, name: str, number: str) -> Version:
    """Returns a version by its number, or by the id of the import job that made it.

    Raises InvalidName, UnknownModel, UnknownVersion, and InvalidInput for what is neither.
    """
    if is_id(number, IdPrefix.JOB):
        job, _ = await _import(uow, project_id, name, number)
        made = None if job.result is None else job.result.version_id
        if made is None:
            raise UnknownVersion(f"import job {job.id} has made no version yet: it is {job.status}")
        return await uow.versions.get(project_id, made)
    if not is_number(number):
        raise _bad_field("version", f"a version is a number, or the id of the import job that makes it, not {number[:_SHOWN_CHARS]!r}")
    return await uow.versions.resolve(project_id, f"{require_name(name)}@{number}")


async def told_version(uow: UnitOfWork, project_id: str, name: str, number: str) -> ModelVersion:
    """Returns a version by its number; by the id of an import job what it has made, or how it goes. Raises as ``find_version``."""
    if is_id(number, IdPrefix.JOB):
        job, spec = await _import(uow, project_id, name, number)
        if job.result is None or job.result.version_id is None:
            return ModelVersion.of_import(job, spec)
    return await version_record(uow, await find_version(uow, project_id, name, number))


async def add_model(uow: UnitOfWork, asked: CreateModel, who: Identity) -> RegisteredModel:
    """Returns a new model without versions; raises InvalidName, ModelExists, and what its tags are refused for."""
    tags = checked_tags(asked.tags)
    model = await create_model(uow, asked.name, who=who)
    if tags or asked.description:
        await uow.model_notes.change(model, ModelNotesChange(set_tags=tags, notes=asked.description), who)
    return await model_record(uow, who.project_id, asked.name)


async def change_model(uow: UnitOfWork, name: str, change: ModelNotesChange, who: Identity) -> Model:
    """Returns a model whose tags or notes were changed; raises InvalidName, UnknownModel, InvalidInput."""
    model = await uow.models.get(who.project_id, name)
    await uow.model_notes.change(model, change, who)
    return model


async def begin_import(uow: UnitOfWork, asked: CreateVersion, who: Identity) -> ModelVersion:
    """Returns the version that an import job will make, under the job's id.

    Only what needs no look at a disk or bucket is taken; api's own submission takes the rest. Raises NotOffered, SourceRefused,
    UnknownModel and what ``submit_job`` raises.
    """
    given = [name for name in ("run_id", "run_link", "model_id", "tags", "description") if getattr(asked, name)]
    if given:
        raise NotOffered(
            f"{', '.join(given)}: Quantry keeps no runs, and a version has no tags before it is there; "
            "create it with name and source alone, and set tags and description once its status is READY"
        )
    await uow.models.get(who.project_id, asked.name)
    try:
        source = parse_source(asked.source)
    except SourceRefused as error:
        raise NotOffered(_other_source(asked)) from error
    if not isinstance(source, HubSource | UploadSource):
        raise NotOffered(_other_source(asked))
    spec = ImportSpec(model=asked.name, source=asked.source)
    job = await submit_job(uow, who, JobSubmission(spec=spec))
    return ModelVersion.of_import(job, spec)


async def move_stage(uow: UnitOfWork, asked: MoveStage, who: Identity) -> ModelVersion:
    """Returns a version that was put aside or taken back. Raises NotOffered for stages that are aliases here."""
    version = await find_version(uow, who.project_id, asked.name, asked.version)
    match asked.stage.capitalize():
        case Stage.ARCHIVED:
            version = await archive_version(uow, version.id, who=who)
        case Stage.NONE if version.state is VersionState.ARCHIVED:
            version = await unarchive_version(uow, version.id, who=who)
        case Stage.NONE:
            pass
        case Stage.STAGING | Stage.PRODUCTION as stage:
            alias = stage.lower()
            raise NotOffered(
                f"Quantry has aliases where MLflow had the stage {stage}: "
                f"client.set_registered_model_alias({version.model_name!r}, {alias!r}, {str(version.number)!r}), "
                f"and models:/{version.model_name}@{alias} finds it"
            )
        case _:
            raise _bad_field("stage", f"{asked.stage[:_SHOWN_CHARS]!r} is no stage; known: {', '.join(Stage)}")
    return await version_record(uow, version)


async def describe_version(uow: UnitOfWork, version: Version, description: str | None, who: Identity) -> ModelVersion:
    """Returns a version whose notes were changed."""
    await uow.version_notes.change(version, VersionNotesChange(notes=description or ""), who)
    return await version_record(uow, version)


async def latest_versions(uow: UnitOfWork, project_id: str, name: str, stages: Iterable[str]) -> SomeVersions:
    """Returns the latest version of each stage, or of those that are asked for; raises InvalidInput for what is no stage."""
    wanted = {stage.capitalize() for stage in stages}
    unknown = wanted - set(Stage)
    if unknown:
        raise _bad_field("stages", f"{min(unknown)[:_SHOWN_CHARS]!r} is no stage; known: {', '.join(Stage)}")
    found = (await model_record(uow, project_id, name)).latest_versions
    return SomeVersions(model_versions=[version for version in found if not wanted or version.current_stage in wanted])


async def search_models(uow: UnitOfWork, project_id: str, filter_: str, orders: list[str], *, token: str | None, limit: int) -> SomeModels:
    """Returns a page of the models that fit; raises InvalidInput for a filter, an order or a token that cannot be read."""
    found = await uow.registry_search.models(
        project_id,
        parse_filter(filter_, OF_MODELS),
        parse_orders(orders, ORDERS_OF_MODELS),
        token=token or None,
        limit=min(limit, MAX_PAGE),
    )
    models = [RegisteredModel.of(record) for record in found.records]
    return SomeModels(registered_models=models, next_page_token=found.next_token or "")


async def search_versions(
    uow: UnitOfWork, project_id: str, filter_: str, orders: list[str], *, token: str | None, limit: int
) -> SomeVersions:
    """Returns a page of the versions that fit; raises InvalidInput for a filter, an order or a token that cannot be read."""
    conditions, wanted = parse_filter(filter_, OF_VERSIONS), parse_orders(orders, ORDERS_OF_VERSIONS)
    found = await uow.registry_search.versions(project_id, conditions, wanted, token=token or None, limit=min(limit, MAX_PAGE))
    versions = [ModelVersion.of(record) for record in found.records]
    return SomeVersions(model_versions=versions, next_page_token=found.next_token or "")


def checked_tags(tags: Iterable[Tag]) -> Mapping[str, str]:
    """Returns tags by key; raises NotOffered for those that mark prompts, InvalidInput for those that only the platform says."""
    kept = {tag.key: tag.value for tag in tags}
    for key in kept:
        if key == PROMPT_TAG:
            raise NotOffered("Quantry keeps models, no prompts: keep them in MLflow's own server")
        if key.startswith(RESERVED_PREFIX):
            raise _bad_field(
                "key", f"tags that begin with {RESERVED_PREFIX} say what a version is, and cannot be set: {key[:_SHOWN_CHARS]!r}"
            )
    return kept


def rename_refused(name: str, new_name: str) -> QuantryError:
    """Returns why a model keeps its name."""
    return NotOffered(
        f"model {name[:_SHOWN_CHARS]!r} cannot be called {new_name[:_SHOWN_CHARS]!r}: lineage, cards, recipes and the audit log name it; "
        "import or quantize into a model of the new name"
    )


async def _import(uow: UnitOfWork, project_id: str, name: str, job_id: str) -> tuple[Job, ImportSpec]:
    job = await uow.jobs.get(project_id, job_id)
    if not isinstance(job.spec, ImportSpec) or job.spec.model != name:
        raise UnknownVersion(f"job {job_id} imports no version of model {name[:_SHOWN_CHARS]!r}")
    return job, job.spec


def _other_source(asked: CreateVersion) -> str:
    return (
        f"Quantry makes versions by jobs, and this door begins imports of hf:<owner>/<name>[@<revision>] and upload:upl_... alone, "
        f"not of {asked.source[:_SHOWN_CHARS]!r}. For a folder or a bucket: quantry import {asked.name} SOURCE; "
        "for anything made from another version: quantry jobs submit"
    )


def _bad_field(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"{name}: {why}", errors=[FieldProblem(field=name, message=why)])
