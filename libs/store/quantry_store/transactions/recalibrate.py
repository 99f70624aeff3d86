"""What a recalibrated candidate leads to that is no worse than the version that serves."""

from __future__ import annotations

from typing import Any

from quantry_core.errors import QuantryError
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import DeploySpec, Job, JobSubmission, RecalibrateSpec
from quantry_core.keys import Identity, Role
from quantry_core.recalibration import COMPARISON_PREFIX
from quantry_core.rollouts import Deployment
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, Version
from quantry_store.transactions.submit import submit_job
from quantry_store.unit_of_work import UnitOfWork

PLATFORM_KEY = "platform"
"""Stands for a key in what the platform itself does for a job whose key is not known."""


def compared(evidence: list[EvidenceDraft]) -> list[EvidenceDraft]:
    """Returns the evidence that compares a candidate with the version that serves."""
    return [one for one in evidence if one.kind is EvidenceKind.EVALUATION and one.name.startswith(COMPARISON_PREFIX)]


async def lock_deployment(uow: UnitOfWork, job: Job) -> Deployment | None:
    """Returns the deployment that a recalibration is for, its row locked; None where there is none. Taken before any model's row."""
    if not isinstance(job.spec, RecalibrateSpec) or job.spec.deployment is None:
        return None
    return await uow.deployments.lock(job.project_id, job.spec.deployment)


async def promote_candidate(
    uow: UnitOfWork, job: Job, request: FinishRequest, version: Version, deployment: Deployment | None
) -> dict[str, Any]:
    """Returns what a finished recalibration led to: whether the candidate is no worse, the alias it moved, the rollout it began.
    Nothing for other jobs.

    The candidate is no worse where every corpus of the spec was compared and passed. It leads to nothing where it is the
    serving version once more, or where another version serves by now than the one it was compared with. What an alias or a rollout is
    refused for is told, and undoes nothing else. ``deployment`` is what ``lock_deployment`` returned.
    """
    spec = job.spec
    if not isinstance(spec, RecalibrateSpec):
        return {}
    verdicts = [one.verdict for one in compared(request.evidence)]
    is_no_worse = (
        request.outcome is Outcome.SUCCEEDED and len(verdicts) == len(spec.corpora) and all(one is Verdict.PASS for one in verdicts)
    )
    led_to: dict[str, Any] = {"is_no_worse": is_no_worse}
    if not is_no_worse:
        return led_to
    stopped_by = await _stopped_by(uow, spec, version, deployment)
    if stopped_by is not None:
        return led_to | {"nothing_moved": stopped_by}
    who = Identity(key_id=await uow.jobs.created_by(job.id) or PLATFORM_KEY, project_id=job.project_id, role=Role.OPERATOR)
    try:
        async with uow.savepoint():
            await uow.aliases.move(job.project_id, version.model_name, spec.alias, version.id, who)
    except QuantryError as error:
        return led_to | {"alias_refused": error.detail}
    led_to["alias"] = spec.alias
    if spec.rollout and deployment is not None:
        led_to |= await _roll_out(uow, who, deployment, version)
    return led_to


async def _stopped_by(uow: UnitOfWork, spec: RecalibrateSpec, version: Version, deployment: Deployment | None) -> str | None:
    """Returns why a candidate that is no worse leads to nothing all the same, None if it does lead on."""
    compared_with = await uow.versions.get(version.project_id, spec.serving or "")
    if compared_with.manifest_digest == version.manifest_digest:
        return f"it is {compared_with.ref} to the byte: the text changed nothing"
    release = None if deployment is None else deployment.current_release
    if deployment is None or (release is not None and release.version_id == compared_with.id):
        return None
    now = "nothing" if release is None else (await uow.versions.get(version.project_id, release.version_id)).ref
    return f"{deployment.name} serves {now} by now, and it was compared with {compared_with.ref}"


async def _roll_out(uow: UnitOfWork, who: Identity, deployment: Deployment, version: Version) -> dict[str, Any]:
    release = deployment.current_release
    served = {} if release is None else {"replicas": release.num_replicas, "engine": release.engine}
    submission = JobSubmission(spec=DeploySpec(deployment=deployment.name, version=version.id, **served))
    try:
        async with uow.savepoint():
            return {"rollout_job_id": (await submit_job(uow, who, submission)).id}
    except QuantryError as error:
        return {"rollout_refused": error.detail}
