"""The same work once: a quantize job whose version was made before takes that one."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.fingerprints import fingerprint, recipe_digest
from quantry_core.jobs import InputRole, JobInput, JobResult, JobSpec, QuantizeSpec, Queue
from quantry_core.methods import Environment
from quantry_core.versions import Version
from quantry_store.unit_of_work import UnitOfWork


async def digest_of(uow: UnitOfWork, project_id: str, spec: JobSpec, inputs: Sequence[JobInput]) -> str | None:
    """Returns a quantize job's recipe digest; None for other jobs, and while the job that makes the base has not succeeded."""
    if not isinstance(spec, QuantizeSpec):
        return None
    base_id = next(item.version_id for item in inputs if item.role is InputRole.BASE)
    if base_id is None:
        return None
    base = await uow.versions.get(project_id, base_id)

    async def texts(role: InputRole) -> list[str]:
        ids = [item.dataset_id for item in inputs if item.role is role and item.dataset_id is not None]
        return [(await uow.datasets.get(project_id, dataset_id)).sha256 for dataset_id in ids]

    return recipe_digest(
        spec,
        master_digest=base.manifest_digest,
        calibration_sha256=await texts(InputRole.CALIBRATION),
        quality_sha256=await texts(InputRole.CORPUS),
    )


async def same_version(
    uow: UnitOfWork, project_id: str, digest: str, queue: Queue | None, environment: Environment | None
) -> Version | None:
    """Returns the ready version that a job with this recipe digest would make on a worker of its queue; None if there is none."""
    if queue is None or environment is None:
        return None
    # The toolchain is that of whoever would claim the job, which nobody knows yet: any of those that may will do.
    toolchains = await uow.workers.toolchains(queue, environment)
    if not toolchains:
        return None
    return await uow.versions.with_fingerprint(project_id, [fingerprint(digest, toolchain) for toolchain in sorted(toolchains)])


def reused_result(version: Version) -> JobResult:
    """Returns the result of a job that takes an earlier one's version."""
    return JobResult(version_id=version.id, reused=True)


def reused_message(version: Version) -> str:
    """Returns what a job that takes an earlier one's version says of itself."""
    return f"job {version.job_id} made {version.ref} from the same inputs, recipe and toolchain; nothing was run"
