"""The version an attempt made: checked against its job, then recorded with files and lineage."""

from __future__ import annotations

from quantry_core.errors import InvalidInput
from quantry_core.jobs import ImportSpec, InputRole, Job, JobType, MergeSpec, chosen
from quantry_core.methods import Format
from quantry_core.outputs import made_kind, made_model, recipe_of
from quantry_core.training import MergeTarget
from quantry_core.versions import EdgeRole, LineageEdge, Model, Version, VersionDraft, VersionKind
from quantry_store.unit_of_work import UnitOfWork

EDGE_ROLES: dict[JobType, dict[InputRole, EdgeRole]] = {
    JobType.QUANTIZE: {InputRole.BASE: EdgeRole.BASE, InputRole.CALIBRATION: EdgeRole.CALIBRATION},
    JobType.RECALIBRATE: {InputRole.BASE: EdgeRole.BASE, InputRole.CALIBRATION: EdgeRole.CALIBRATION},
    JobType.FINETUNE: {InputRole.BASE: EdgeRole.BASE, InputRole.TRAINING: EdgeRole.TRAINING, InputRole.VALIDATION: EdgeRole.TRAINING},
    # What a merge is judged by did not go into it.
    JobType.MERGE: {InputRole.BASE: EdgeRole.BASE, InputRole.ADAPTER: EdgeRole.ADAPTER},
}
"""Inputs that a version is made from, by the type of its job."""

SIXTEEN_BIT_DTYPES = frozenset({"float16", "bfloat16"})


async def record_version(uow: UnitOfWork, job: Job, draft: VersionDraft) -> Version:
    """Returns the version that a held job made, recorded under the next number of its model.

    Lineage comes from the job's inputs, which were fixed at submission, not from the worker. Raises InvalidInput where the
    draft does not fit the job, SealRefused where its files or its dtype are not what the attempt sealed.
    """
    check_draft(job, draft)
    edges = lineage_of(job, draft)
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
    kind = made_kind(job.spec)
    if draft.kind is not kind:
        raise InvalidInput(f"an {job.type} job makes a version of kind {kind}, not {draft.kind}")
    paths = [file.path for file in draft.files]
    if len(set(paths)) != len(paths):
        raise InvalidInput("the version names a file twice")
    match draft.kind:
        case VersionKind.MASTER | VersionKind.MERGED:
            if draft.format is not Format.SAFETENSORS or draft.scheme is not None or draft.dtype not in SIXTEEN_BIT_DTYPES:
                raise InvalidInput(f"a {draft.kind} version is plain safetensors of float16 or bfloat16, without a scheme")
        case VersionKind.ADAPTER:
            if draft.format is not Format.PEFT or draft.scheme is not None or draft.dtype not in {None, *SIXTEEN_BIT_DTYPES}:
                raise InvalidInput("an adapter is of format peft, without a scheme, and of float16, bfloat16 or no dtype that is told")
        case VersionKind.QUANTIZED:
            _check_scheme(job, draft)


def _check_scheme(job: Job, draft: VersionDraft) -> None:
    recipe = recipe_of(job.spec)
    if recipe is None:
        raise InvalidInput(f"job {job.id} has no recipe by which it could have quantized")
    choice = chosen(recipe)
    if draft.scheme != choice.scheme or draft.format is not choice.info.format:
        wanted = f"{choice.scheme} in format {choice.info.format}"
        raise InvalidInput(f"the job makes {wanted}, not {draft.scheme} in format {draft.format}")


def lineage_of(job: Job, draft: VersionDraft) -> list[LineageEdge]:
    """Returns the edges from what a job makes to what it was given, each once, in the order of its inputs.

    Adapters that were merged into the dequantized weights they were trained on have those as their base. Raises InvalidInput for a
    merge that does not say what it merged into.
    """
    roles = EDGE_ROLES.get(job.type, {})
    if isinstance(job.spec, MergeSpec) and _merged_into(draft) is MergeTarget.DEQUANTIZED_BASE:
        roles = {InputRole.ADAPTER_BASE: EdgeRole.BASE, InputRole.ADAPTER: EdgeRole.ADAPTER}
    edges = [
        LineageEdge(role=roles[item.role], parent_version_id=item.version_id, parent_dataset_id=item.dataset_id)
        for item in job.inputs
        if item.role in roles
    ]
    return list(dict.fromkeys(edges))


def _merged_into(draft: VersionDraft) -> MergeTarget:
    target = draft.recipe.get("merged_into")
    if target not in {MergeTarget.MASTER, MergeTarget.DEQUANTIZED_BASE}:
        raise InvalidInput("a merged version's recipe says what it was merged into: merged_into is master or dequantized-base")
    return MergeTarget(target)


async def _model(uow: UnitOfWork, job: Job, draft: VersionDraft) -> Model:
    """Returns the model that the version belongs to, made if missing: the imported one, or that of the base, with a suffix if asked for."""
    base_model = draft.model if isinstance(job.spec, ImportSpec) else (await _base(uow, job)).model_name
    name = made_model(job.spec, base_model)
    if draft.model != name:
        raise InvalidInput(f"the job makes a version of model {name!r}, not {draft.model!r}")
    return await uow.models.get_or_create(job.project_id, name)


async def _base(uow: UnitOfWork, job: Job) -> Version:
    base_id = next(item.version_id for item in job.inputs if item.role is InputRole.BASE)
    return await uow.versions.get(job.project_id, base_id or "")
