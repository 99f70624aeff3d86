"""The recipe of the version that serves, found when a recalibrate job is submitted."""

from __future__ import annotations

from pydantic import ValidationError

from quantry_core.errors import FieldProblem, InvalidInput, QuantryError
from quantry_core.jobs import JobSpec, QuantizeSpec, RecalibrateSpec, chosen, is_job_output
from quantry_core.versions import EdgeRole, Version, VersionKind
from quantry_store.unit_of_work import UnitOfWork


async def with_recipe(uow: UnitOfWork, project_id: str, spec: JobSpec) -> JobSpec:
    """Returns a spec as it is; of a recalibration with what serves now, and by which recipe that was made, on the new text.

    Raises UnknownVersion, UnknownModel, UnknownDeployment, or InvalidInput where nothing serves or it has no such recipe.
    """
    if not isinstance(spec, RecalibrateSpec) or spec.recipe is not None:
        return spec
    serving = await _serving(uow, project_id, spec)
    if serving.kind is not VersionKind.QUANTIZED:
        raise _refusal("serving", f"{serving.ref} is a {serving.kind} version: only a quantized one has a recipe to repeat")
    master = await _master_of(uow, project_id, serving)
    recipe = _recipe(serving, master, spec)
    return spec.model_copy(update={"serving": serving.id, "recipe": recipe})


async def _serving(uow: UnitOfWork, project_id: str, spec: RecalibrateSpec) -> Version:
    if spec.serving is not None:
        if is_job_output(spec.serving):
            raise _refusal("serving", "what serves is a version that is there: name it, or its deployment")
        return await uow.versions.resolve(project_id, spec.serving, kinds=frozenset({VersionKind.QUANTIZED}))
    deployment = await uow.deployments.get(project_id, spec.deployment or "")
    if deployment.current_release is None:
        raise _refusal("deployment", f"nothing is served as {deployment.name!r} yet; there is no recipe to repeat")
    return await uow.versions.get(project_id, deployment.current_release.version_id)


async def _master_of(uow: UnitOfWork, project_id: str, serving: Version) -> Version:
    edges = (await uow.versions.detail(project_id, serving.id)).edges
    for edge in edges:
        if edge.role is EdgeRole.BASE and edge.parent_version_id is not None:
            return await uow.versions.get(project_id, edge.parent_version_id)
    raise _refusal("serving", f"{serving.ref} has no master in its lineage")


def _recipe(serving: Version, master: Version, spec: RecalibrateSpec) -> QuantizeSpec:
    known = {name: value for name, value in serving.recipe.items() if name in QuantizeSpec.model_fields}
    if not isinstance(known.get("calibration"), dict):
        raise _refusal(
            "serving", f"{serving.ref} was made by method {known.get('method')} without calibration text: new text changes nothing"
        )
    known |= {"base": master.id, "calibration": known["calibration"] | {"datasets": spec.datasets}}
    try:
        recipe = QuantizeSpec.model_validate(known)
        chosen(recipe)
    except (ValidationError, QuantryError) as error:
        raise _refusal("serving", f"the recipe of {serving.ref} is not one that this release knows: {error}") from error
    return recipe


def _refusal(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field=f"spec.{field}", message=sentence)])
