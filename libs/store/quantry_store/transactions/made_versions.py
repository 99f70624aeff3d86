"""The version an attempt made: checked against its job, then recorded with files and lineage."""

from __future__ import annotations

from quantry_core.errors import InvalidInput
from quantry_core.jobs import ImportSpec, InputRole, Job, JobSpec, JobType, QuantizeSpec, RecalibrateSpec, chosen
from quantry_core.methods import Format
from quantry_core.versions import EdgeRole, LineageEdge, Model, Version, VersionDraft, VersionKind
from quantry_store.unit_of_work import UnitOfWork

VERSION_KINDS: dict[JobType, VersionKind] = {
    JobType.IMPORT: VersionKind.MASTER,
    JobType.QUANTIZE: VersionKind.QUANTIZED,
    JobType.RECALIBRATE: VersionKind.QUANTIZED,
}
"""What a job of each type makes; the others make no version."""

EDGE_ROLES: dict[InputRole, EdgeRole] = {
    InputRole.BASE: EdgeRole.BASE,
    InputRole.CALIBRATION: EdgeRole.CALIBRATION,
}
"""Inputs that a version is made from."""

MASTER_DTYPES = frozenset({"float16", "bfloat16"})


async def record_version(uow: UnitOfWork, job: Job, draft: VersionDraft) -> Version:
    """Returns the version that a held job made, recorded under the next number of its model.

    Lineage comes from the job's inputs, which were fixed at submission, not from the worker. Raises InvalidInput where the
    draft does not fit the job, SealRefused where its files or its dtype are not what the attempt sealed.
    """
    check_draft(job, draft)
    edges = lineage_of(job)
    for edge in draft.edges:
        if edge not in edges:
            raise InvalidInput(f"the version names a {edge.role} parent that is not an input of its job")
    await uow.seals.check(job, draft)
    model = await _model(uow, job, draft)
    if not isinstance(job.spec, ImportSpec):
        # Only an import reads a card; what is made from a master has the master's.
        draft = draft.model_copy(update={"card": (await _base(uow, job)).card})
    return await uow.versions.add(job, model, draft, edges, fingerprint=await uow.jobs.fingerprint(job.id))


def check_draft(job: Job, draft: VersionDraft) -> None:
    """Raises InvalidInput unless a draft is of the kind, format, scheme and dtype that its job makes, with unique paths."""
    kind = VERSION_KINDS.get(job.type)
    if draft.kind is not kind:
        raise InvalidInput(f"an {job.type} job makes a version of kind {kind}, not {draft.kind}")
    paths = [file.path for file in draft.files]
    if len(set(paths)) != len(paths):
        raise InvalidInput("the version names a file twice")
    if isinstance(job.spec, ImportSpec):
        if draft.model != job.spec.model:
            raise InvalidInput(f"the job imports model {job.spec.model!r}, not {draft.model!r}")
        if draft.format is not Format.SAFETENSORS or draft.scheme is not None or draft.dtype not in MASTER_DTYPES:
            raise InvalidInput("a master is plain safetensors of float16 or bfloat16, without a scheme")
    recipe = recipe_of(job.spec)
    if recipe is not None:
        choice = chosen(recipe)
        if draft.scheme != choice.scheme or draft.format is not choice.info.format:
            wanted = f"{choice.scheme} in format {choice.info.format}"
            raise InvalidInput(f"the job makes {wanted}, not {draft.scheme} in format {draft.format}")


def recipe_of(spec: JobSpec) -> QuantizeSpec | None:
    """Returns by which recipe a job makes its quantized version; None for a job that makes none."""
    match spec:
        case QuantizeSpec():
            return spec
        case RecalibrateSpec():
            return spec.recipe
        case _:
            return None


def lineage_of(job: Job) -> list[LineageEdge]:
    """Returns the edges from what a job makes to what it was given, each once, in the order of its inputs."""
    edges = [
        LineageEdge(role=EDGE_ROLES[item.role], parent_version_id=item.version_id, parent_dataset_id=item.dataset_id)
        for item in job.inputs
        if item.role in EDGE_ROLES
    ]
    return list(dict.fromkeys(edges))


async def _model(uow: UnitOfWork, job: Job, draft: VersionDraft) -> Model:
    """Returns the model that the version belongs to: the imported one, made if missing, or that of the base."""
    if isinstance(job.spec, ImportSpec):
        return await uow.models.get_or_create(job.project_id, job.spec.model)
    base = await _base(uow, job)
    if draft.model != base.model_name:
        raise InvalidInput(f"the base is of model {base.model_name!r}, not {draft.model!r}")
    return await uow.models.get(job.project_id, base.model_name)


async def _base(uow: UnitOfWork, job: Job) -> Version:
    base_id = next(item.version_id for item in job.inputs if item.role is InputRole.BASE)
    return await uow.versions.get(job.project_id, base_id or "")
