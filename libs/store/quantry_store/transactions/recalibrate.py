"""What a recalibrated candidate leads to that is no worse than the version that serves."""

from __future__ import annotations

from typing import Any

from quantry_core.errors import QuantryError
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import DeploySpec, Job, JobSubmission, RecalibrateSpec
from quantry_core.keys import Identity, Role
from quantry_core.recalibration import COMPARISON_PREFIX
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, Version
from quantry_store.transactions.submit import submit_job
from quantry_store.unit_of_work import UnitOfWork

PLATFORM_KEY = "platform"
"""Stands for a key in what the platform itself does for a job whose key is not known."""


def compared(evidence: list[EvidenceDraft]) -> list[EvidenceDraft]:
    """Returns the evidence that compares a candidate with the version that serves."""
    return [one for one in evidence if one.kind is EvidenceKind.EVALUATION and one.name.startswith(COMPARISON_PREFIX)]


async def promote_candidate(uow: UnitOfWork, job: Job, spec: RecalibrateSpec, request: FinishRequest, version: Version) -> dict[str, Any]:
    """Returns what a finished recalibration led to: whether the candidate is no worse, the alias it moved, the rollout it began.

    The candidate is no worse where every corpus of the spec was compared and passed. What a rollout is refused for is told,
    and undoes nothing else.
    """
    verdicts = [one.verdict for one in compared(request.evidence)]
    is_no_worse = (
        request.outcome is Outcome.SUCCEEDED and len(verdicts) == len(spec.corpora) and all(one is Verdict.PASS for one in verdicts)
    )
    led_to: dict[str, Any] = {"is_no_worse": is_no_worse}
    if not is_no_worse:
        return led_to
    who = Identity(key_id=await uow.jobs.created_by(job.id) or PLATFORM_KEY, project_id=job.project_id, role=Role.OPERATOR)
    await uow.aliases.move(job.project_id, version.model_name, spec.alias, version.id, who)
    led_to["alias"] = spec.alias
    if spec.rollout and spec.deployment is not None:
        led_to |= await _roll_out(uow, who, spec.deployment, version)
    return led_to


async def _roll_out(uow: UnitOfWork, who: Identity, name: str, version: Version) -> dict[str, Any]:
    deployment = await uow.deployments.get(who.project_id, name)
    release = deployment.current_release
    served = {} if release is None else {"replicas": release.num_replicas, "engine": release.engine}
    submission = JobSubmission(spec=DeploySpec(deployment=name, version=version.id, **served))
    try:
        async with uow.savepoint():
            return {"rollout_job_id": (await submit_job(uow, who, submission)).id}
    except QuantryError as error:
        return {"rollout_refused": error.detail}
