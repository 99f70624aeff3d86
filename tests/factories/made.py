"""Versions as workers make them, and what jobs and versions say of what they were made from."""

from __future__ import annotations

from typing import Any

from factories.store import (
    Platform,
    quantize_spec,
    quantized_draft,
)
from quantry_core.jobs import (
    InputRole,
    Job,
    written_out,
)
from quantry_core.versions import EdgeRole, Version
from quantry_store.transactions import releasable_jobs, release_job


async def quantized(platform: Platform, master: Version, **changes: Any) -> Version:
    """Returns a quantized version whose recipe is such as a worker writes."""
    tales = await platform.dataset()
    spec = quantize_spec(master.id, tales.ref, group_size=64)
    recipe = written_out(spec).model_dump(mode="json") | {"backend": "llm-compressor"} | changes
    return await platform.made(await platform.running(spec), quantized_draft(recipe=recipe))


def ids(job: Job, role: InputRole) -> list[str | None]:
    return [item.version_id or item.dataset_id for item in job.inputs if item.role is role]


async def edges(platform: Platform, version: Version) -> list[tuple[EdgeRole, str | None]]:
    async with platform.database.begin() as uow:
        found = (await uow.versions.detail(platform.project_id, version.id)).edges
    return [(edge.role, edge.parent_version_id or edge.parent_dataset_id) for edge in found]


async def release(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        job_ids = await releasable_jobs(uow)
    for job_id in job_ids:
        async with platform.database.begin() as uow:
            await release_job(uow, job_id)
