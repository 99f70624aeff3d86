"""How much work a queue holds, for what starts workers by it: KEDA's metrics-api scaler, or any other that reads JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import NotFound
from quantry_core.jobs import QUEUE_PATTERN, JobStatus
from quantry_http.auth import Db

router = APIRouter()


class QueueDemand(BaseModel):
    """The jobs of one queue, of all projects together."""

    model_config = ConfigDict(frozen=True)

    queue: str
    num_queued: int = Field(ge=0, description="Jobs that could be claimed now.")
    num_running: int = Field(ge=0, description="Jobs that a worker has.")
    num_jobs: int = Field(ge=0, description="Both together: so many slots have something to do.")


@router.get("/internal/v1/demand/{queue}", include_in_schema=False)
async def show_demand(queue: Annotated[str, Path(pattern=QUEUE_PATTERN)], request: Request, db: Db) -> QueueDemand:
    """Answers what a queue holds; 404 if this installation has no such queue.

    No key: the gateway does not forward this path, and it says less than /metrics does. What starts workers needs no credentials.
    """
    if all(known.name != queue for known in request.app.state.api.settings.queues):
        raise NotFound(f"there is no queue {queue!r} here")
    async with db.begin() as uow:
        counts = await uow.counts.unfinished_jobs()
    num_by_status = {one.status: one.num_jobs for one in counts if one.queue == queue}
    num_queued, num_running = num_by_status.get(JobStatus.QUEUED, 0), num_by_status.get(JobStatus.RUNNING, 0)
    return QueueDemand(queue=queue, num_queued=num_queued, num_running=num_running, num_jobs=num_queued + num_running)
