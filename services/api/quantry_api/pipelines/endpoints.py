"""/api/v1/pipelines"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from quantry_api.idempotency import RequestKey
from quantry_api.jobs.endpoints import LabelSelector
from quantry_api.pipelines import service
from quantry_api.state import State
from quantry_core.errors import UnknownPipeline
from quantry_core.ids import IdPrefix, is_id
from quantry_core.pages import Page
from quantry_core.pipelines import Pipeline, PipelineDetail, PipelineSubmission
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions

router = APIRouter(prefix="/api/v1/pipelines", tags=["pipelines"])


async def pipeline_id_in_path(pipeline_id: str) -> str:
    """Returns the id in the address; raises UnknownPipeline if it has not even the form of one."""
    if not is_id(pipeline_id, IdPrefix.PIPELINE):
        raise UnknownPipeline(f"there is no pipeline {pipeline_id!r}")
    return pipeline_id


PipelineId = Annotated[str, Depends(pipeline_id_in_path)]


@router.post("", status_code=201, responses=problem_responses(404, 409, 413))
async def submit_pipeline(*, submission: PipelineSubmission, caller: Caller, db: Db, state: State, key: RequestKey) -> PipelineDetail:
    """Submits several jobs at once, all of them or none. A step may need others and use what they make."""
    pipeline = await service.submit(db, state, caller, submission, key)
    state.announce(*pipeline.jobs)
    return pipeline


@router.get("")
async def list_pipelines(
    caller: Caller,
    db: Db,
    page: PageParams,
    labels: LabelSelector,
    schedule_id: Annotated[str | None, Query(max_length=64, description="Only pipelines that this schedule submitted.")] = None,
) -> Page[Pipeline]:
    """Lists pipelines, newest first."""
    async with db.begin() as uow:
        return await uow.pipelines.list(caller.project_id, after=page.after, limit=page.limit, labels=labels, schedule_id=schedule_id)


@router.get("/{pipeline_id}", responses=problem_responses(404))
async def show_pipeline(pipeline_id: PipelineId, caller: Caller, db: Db) -> PipelineDetail:
    """Shows a pipeline with the newest job of each step."""
    async with db.begin() as uow:
        return await uow.pipelines.get(caller.project_id, pipeline_id)


@router.post("/{pipeline_id}/cancel", responses=problem_responses(404))
async def cancel_pipeline(pipeline_id: PipelineId, caller: Caller, db: Db, state: State) -> PipelineDetail:
    """Cancels every job of a pipeline that has not ended. A pipeline that is over stays as it is."""
    async with db.begin() as uow:
        pipeline = await transactions.cancel_pipeline(uow, caller, pipeline_id)
    state.nudge()
    return pipeline


@router.post("/{pipeline_id}/retry", status_code=201, responses=problem_responses(404, 409))
async def retry_pipeline(*, pipeline_id: PipelineId, caller: Caller, db: Db, state: State, key: RequestKey) -> PipelineDetail:
    """Begins every step again whose job failed or was cancelled; what the others made is used."""
    pipeline = await service.retry(db, caller, pipeline_id, key)
    state.announce(*pipeline.jobs)
    return pipeline
