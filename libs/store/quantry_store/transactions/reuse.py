"""The same work once: a job whose version was made before takes that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantry_core.fingerprints import fingerprint, recipe_digest
from quantry_core.jobs import InputRole, JobInput, JobResult, JobSpec, QuantizeSpec, Queue, RecalibrateSpec
from quantry_core.methods import Environment
from quantry_core.recalibration import has_compared
from quantry_core.versions import Version
from quantry_store.unit_of_work import UnitOfWork


async def digest_of(uow: UnitOfWork, project_id: str, spec: JobSpec, inputs: Sequence[JobInput]) -> str | None:
    """Returns the recipe digest of a job that quantizes; None for other jobs, and while the job that makes the base has not succeeded."""
    recipe = spec.recipe if isinstance(spec, RecalibrateSpec) else spec
    if not isinstance(recipe, QuantizeSpec):
        return None
    base_id = next(item.version_id for item in inputs if item.role is InputRole.BASE)
    if base_id is None:
        return None
    base = await uow.versions.get(project_id, base_id)

    async def texts(role: InputRole) -> list[str]:
        ids = [item.dataset_id for item in inputs if item.role is role and item.dataset_id is not None]
        return [(await uow.datasets.get(project_id, dataset_id)).sha256 for dataset_id in ids]

    return recipe_digest(
        recipe,
        master_digest=base.manifest_digest,
        calibration_sha256=await texts(InputRole.CALIBRATION),
        quality_sha256=await texts(InputRole.CORPUS),
    )


@dataclass(frozen=True)
class Work:
    """What a job would do, and where."""

    project_id: str
    spec: JobSpec
    inputs: Sequence[JobInput]
    digest: str
    queue: Queue | None
    environment: Environment | None


async def same_version(uow: UnitOfWork, work: Work) -> Version | None:
    """Returns the ready version that a job of this work would make on a worker of its queue; None if there is none.

    A recalibration compares its version too: it has nothing to do only where that version serves already, or was compared
    with what serves.
    """
    if work.queue is None or work.environment is None:
        return None
    # The toolchain is that of whoever would claim the job, which nobody knows yet: any of those that may will do.
    toolchains = await uow.workers.toolchains(work.queue, work.environment)
    if not toolchains:
        return None
    fingerprints = [fingerprint(work.digest, toolchain) for toolchain in sorted(toolchains)]
    same = await uow.versions.with_fingerprint(work.project_id, fingerprints)
    if same is None or not isinstance(work.spec, RecalibrateSpec) or same.id == work.spec.serving:
        return same
    return same if await _is_compared(uow, work.project_id, work.spec, work.inputs, same) else None


async def _is_compared(uow: UnitOfWork, project_id: str, spec: RecalibrateSpec, inputs: Sequence[JobInput], version: Version) -> bool:
    ids = [item.dataset_id for item in inputs if item.role is InputRole.COMPARISON and item.dataset_id is not None]
    corpora = [(await uow.datasets.get(project_id, dataset_id)).ref for dataset_id in ids]
    return has_compared(spec, await uow.evidence.list(version.id), corpora)


def reused_result(version: Version) -> JobResult:
    """Returns the result of a job that takes an earlier one's version."""
    return JobResult(version_id=version.id, reused=True)


def reused_message(spec: JobSpec, version: Version) -> str:
    """Returns what a job that takes an earlier one's version says of itself."""
    if isinstance(spec, RecalibrateSpec):
        known = "is what it would be compared with" if version.id == spec.serving else "was compared with what serves before"
        return f"there is nothing new: {version.ref} was made by the same recipe from the same text, and {known}; nothing was run"
    return f"job {version.job_id} made {version.ref} from the same inputs, recipe and toolchain; nothing was run"
