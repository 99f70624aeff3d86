"""Whether a deployment could take the adapter that a fine-tune job is to make: asked before hours are spent on it.

It is asked again when the adapter is there; what changed by then is said in the job's metrics.
"""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import FinetuneSpec
from quantry_core.servability import adapter_not_served
from quantry_core.versions import Version
from quantry_store.unit_of_work import UnitOfWork


async def check_attachable(uow: UnitOfWork, project_id: str, spec: FinetuneSpec, base: Version | None) -> None:
    """Raises InvalidInput where the spec's deployment serves another version than ``base``, or its engine could not load the adapter;
    InvalidName, UnknownDeployment. ``base`` is None where it is not made yet.
    """
    if spec.deployment is None or spec.adapter is None:
        return
    deployment = await uow.deployments.get(project_id, spec.deployment)
    release = deployment.current_release
    if release is None:
        raise _refusal(f"deployment {deployment.name!r} serves nothing yet; wait for its rollout, or attach the adapter later")
    if base is None or release.version_id != base.id:
        trained = spec.model if base is None else base.ref
        raise _refusal(
            f"deployment {deployment.name!r} serves {release.version_ref}, and an adapter trained on {trained} fits that alone: "
            f"train on {release.version_ref}, or leave deployment out"
        )
    if len(deployment.adapters) >= release.engine.max_adapters:
        raise _refusal(
            f"the release of deployment {deployment.name!r} takes {release.engine.max_adapters} adapters and has "
            f"{len(deployment.adapters)}: roll out with a higher engine.max_adapters, or detach one"
        )
    reason = adapter_not_served(spec.adapter.kind, spec.adapter.rank, release.engine.max_adapter_rank)
    if reason is not None:
        raise _refusal(f"deployment {deployment.name!r} could not serve the adapter: {reason}")


def _refusal(sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[FieldProblem(field="spec.deployment", message=sentence)])
