"""/api/v1/queues"""

from __future__ import annotations

from fastapi import APIRouter, Request

from quantry_core.jobs import JobStatus
from quantry_core.keys import Role
from quantry_core.pages import Page
from quantry_core.queue_loads import QueueLoad
from quantry_http.auth import Caller, Db

router = APIRouter(prefix="/api/v1/queues", tags=["workers"])


@router.get("")
async def list_queues(caller: Caller, request: Request, db: Db) -> Page[QueueLoad]:
    """Lists the installation's queues, all on one page, with the jobs of the caller's project in each.

    An admin of the platform project is told of the jobs of all projects together.
    """
    project_id = None if caller.is_platform and caller.role is Role.ADMIN else caller.project_id
    async with db.begin() as uow:
        counts = await uow.counts.unfinished_jobs(project_id)
        ages_s = await uow.counts.oldest_queued_s(project_id)
        slots = await uow.counts.alive_slots()
    num_jobs = {(one.queue, one.status): one.num_jobs for one in counts}
    loads = [
        QueueLoad(
            name=queue.name,
            max_memory_bytes=queue.max_memory_bytes,
            num_gpus=queue.num_gpus,
            num_waiting=num_jobs.get((queue.name, JobStatus.WAITING), 0),
            num_queued=num_jobs.get((queue.name, JobStatus.QUEUED), 0),
            num_running=num_jobs.get((queue.name, JobStatus.RUNNING), 0),
            oldest_queued_s=ages_s.get(queue.name),
            num_slots=slots.get(queue.name, 0),
        )
        for queue in request.app.state.api.settings.queues
    ]
    return Page[QueueLoad](data=loads)
