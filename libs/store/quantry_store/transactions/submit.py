"""Submission: a spec is checked, its references are resolved once and for all, and the job is queued with its audit row."""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from quantry_core.errors import Conflict, FieldProblem, InvalidInput, RolloutInProgress
from quantry_core.jobs import (
    DeploySpec,
    EvaluateSpec,
    ImportSpec,
    InputRole,
    Job,
    JobInput,
    JobSubmission,
    QuantizeSpec,
)
from quantry_core.keys import Identity
from quantry_core.methods import Environment, check_method
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.references import require_name
from quantry_store.unit_of_work import UnitOfWork

SERVABLE_KINDS = frozenset({VersionKind.MASTER, VersionKind.QUANTIZED})


async def submit_job(uow: UnitOfWork, identity: Identity, submission: JobSubmission) -> Job:
    """Returns the new job, queued.

    What the spec names is resolved now, so that it cannot change under the job, and kept from deletion while the job is
    unfinished. A deploy job comes with the next release of its deployment and a pending rollout.

    Raises UnknownMethod, UnknownScheme, InvalidName, InvalidInput, UnknownModel, UnknownVersion, UnknownDataset; for a
    deploy job RolloutInProgress if another is not over, Conflict if the deployment is stopped.
    """
    spec = submission.spec
    match spec:
        case ImportSpec():
            require_name(spec.model)
            job = await _add(uow, identity, submission, [], Environment.ML)
        case QuantizeSpec():
            method, _, _ = check_method(spec.method, spec.scheme, spec.group_size)
            inputs = await _quantize_inputs(uow, identity.project_id, spec)
            job = await _add(uow, identity, submission, inputs, method.environment)
        case EvaluateSpec():
            inputs = await _evaluate_inputs(uow, identity.project_id, spec)
            job = await _add(uow, identity, submission, inputs, Environment.ML)
        case DeploySpec():
            job = await _submit_deploy(uow, identity, submission, spec)
        case _:
            assert_never(spec)
    await uow.audit.record(identity, "job.submit", "job", job.id, {"type": job.type, "spec": job.spec.model_dump(mode="json")})
    return job


async def _add(
    uow: UnitOfWork, identity: Identity, submission: JobSubmission, inputs: list[JobInput], environment: Environment | None
) -> Job:
    return await uow.jobs.add(
        identity.project_id,
        submission.spec,
        inputs=inputs,
        priority=submission.priority,
        environment=environment,
        created_by_key_id=identity.key_id,
    )


async def _quantize_inputs(uow: UnitOfWork, project_id: str, spec: QuantizeSpec) -> list[JobInput]:
    base = await _version(uow, project_id, "spec.base", spec.base, {VersionKind.MASTER})
    datasets = await _datasets(uow, project_id, InputRole.CALIBRATION, spec.calibration.datasets)
    return [JobInput(role=InputRole.BASE, ref=spec.base, version_id=base.id), *datasets]


async def _evaluate_inputs(uow: UnitOfWork, project_id: str, spec: EvaluateSpec) -> list[JobInput]:
    # A quarantined version may be measured too: that is how one finds out what is wrong with it.
    subject = await uow.versions.resolve(project_id, spec.version)
    await uow.versions.hold(subject)
    inputs = [JobInput(role=InputRole.SUBJECT, ref=spec.version, version_id=subject.id)]
    if spec.against is not None:
        reference = await _version(uow, project_id, "spec.against", spec.against, frozenset(VersionKind))
        inputs.append(JobInput(role=InputRole.REFERENCE, ref=spec.against, version_id=reference.id))
    return [*inputs, *await _datasets(uow, project_id, InputRole.CORPUS, spec.corpora)]


async def _submit_deploy(uow: UnitOfWork, identity: Identity, submission: JobSubmission, spec: DeploySpec) -> Job:
    version = await _version(uow, identity.project_id, "spec.version", spec.version, SERVABLE_KINDS)
    deployment = await uow.deployments.lock_or_create(identity.project_id, spec.deployment)
    if deployment.is_stopped:
        raise Conflict(f"deployment {deployment.name!r} is stopped; start it before you deploy to it")
    if deployment.active_rollout is not None:
        active = deployment.active_rollout
        raise RolloutInProgress(
            f"deployment {deployment.name!r} has a {active.state} rollout, that of job {active.job_id}; wait for it or cancel that job"
        )
    job = await _add(uow, identity, submission, [JobInput(role=InputRole.SUBJECT, ref=spec.version, version_id=version.id)], None)
    release = await uow.deployments.add_release(deployment, version, num_replicas=spec.replicas, engine=spec.engine)
    await uow.rollouts.add(job, deployment, release, ready_timeout_s=spec.ready_timeout_s)
    return job


async def _version(uow: UnitOfWork, project_id: str, field: str, ref: str, kinds: Collection[VersionKind]) -> Version:
    """Returns a ready version of one of ``kinds``, kept from deletion; raises InvalidInput naming ``field`` if it is another."""
    version = await uow.versions.resolve(project_id, ref, kinds=kinds)
    if version.kind not in kinds:
        wanted = " or ".join(sorted(kinds))
        sentence = f"{version.ref} is a {version.kind} version; a {wanted} version is needed here"
        raise InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])
    if version.state is not VersionState.READY:
        sentence = f"{version.ref} is {version.state}; only a ready version can be used here"
        raise InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)])
    await uow.versions.hold(version)
    return version


async def _datasets(uow: UnitOfWork, project_id: str, role: InputRole, refs: list[str]) -> list[JobInput]:
    datasets = [await uow.datasets.resolve(project_id, ref) for ref in refs]
    return [JobInput(role=role, ref=ref, dataset_id=dataset.id) for ref, dataset in zip(refs, datasets, strict=True)]
