"""/api/v1/rollouts"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from quantry_api.idempotency import RequestKey
from quantry_api.rollouts import service
from quantry_api.state import State
from quantry_core.errors import UnknownRollout
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import DeploySpec, Job
from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_core.rollouts import Rollout, RolloutAction, RolloutRequest, RolloutState
from quantry_core.traffic import RolloutTraffic
from quantry_core.traffic_spans import RolloutSpans
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses

router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

NO_NOTE = RolloutAction()


async def rollout_id_in_path(rollout_id: str) -> str:
    """Returns the id in the address; raises UnknownRollout if it has not even the form of one."""
    if not is_id(rollout_id, IdPrefix.ROLLOUT):
        raise UnknownRollout(f"there is no rollout {rollout_id!r}")
    return rollout_id


RolloutId = Annotated[str, Depends(rollout_id_in_path)]


@router.post(
    "",
    status_code=201,
    response_model=Rollout,
    responses={
        202: {"model": Job, "description": "The deploy job waits for what its version comes from; its rollout begins then."},
        **problem_responses(404, 409, 413),
    },
)
async def create_rollout(*, spec: DeploySpec, caller: Caller, db: Db, state: State, key: RequestKey) -> Rollout | Response:
    """Begins to serve a version under a deployment's name: submits the deploy job and answers its rollout."""
    made = await service.create(db, state, caller, spec, key)
    if isinstance(made, Job):
        return Response(made.model_dump_json(), status_code=202, media_type="application/json")
    return made


@router.get("", responses=problem_responses(404))
async def list_all_rollouts(
    *,
    caller: Caller,
    db: Db,
    page: PageParams,
    deployment: Annotated[Name | None, Query(description="Only rollouts of this deployment.")] = None,
    state: Annotated[RolloutState | None, Query(description="Only rollouts in this state.")] = None,
) -> Page[Rollout]:
    """Lists rollouts, newest first."""
    async with db.begin() as uow:
        of = None if deployment is None else await uow.deployments.get(caller.project_id, deployment)
        return await uow.rollouts.list(caller.project_id, of, state=state, after=page.after, limit=page.limit)


@router.get("/{rollout_id}", responses=problem_responses(404))
async def show_rollout(rollout_id: RolloutId, caller: Caller, db: Db) -> Rollout:
    """Shows a rollout with its stage, its shares and the last judgement of its target."""
    async with db.begin() as uow:
        return await uow.rollouts.get(caller.project_id, rollout_id)


@router.get("/{rollout_id}/traffic", responses=problem_responses(404))
async def show_rollout_traffic(rollout_id: RolloutId, caller: Caller, db: Db) -> RolloutTraffic:
    """Shows what gateways measured of both releases from the candidate's first traffic to the rollout's end."""
    return await service.traffic(db, caller, rollout_id)


@router.get("/{rollout_id}/traffic/spans", responses=problem_responses(404))
async def show_rollout_spans(rollout_id: RolloutId, caller: Caller, db: Db) -> RolloutSpans:
    """Shows the same span by span, errors and latencies with their 95% intervals, of the last hour at most: what charts draw."""
    return await service.spans(db, caller, rollout_id)


@router.post("/{rollout_id}/pause", responses=problem_responses(404, 409))
async def pause_rollout(rollout_id: RolloutId, caller: Caller, db: Db, action: RolloutAction = NO_NOTE) -> Rollout:
    """Holds a rollout at the share it has, until it is resumed. One that is paused stays as it is."""
    return await service.ask(db, caller, rollout_id, RolloutRequest.PAUSE, action)


@router.post("/{rollout_id}/resume", responses=problem_responses(404, 409))
async def resume_rollout(rollout_id: RolloutId, caller: Caller, db: Db, action: RolloutAction = NO_NOTE) -> Rollout:
    """Lets a paused rollout go on. One that is under way stays as it is."""
    return await service.ask(db, caller, rollout_id, RolloutRequest.RESUME, action)


@router.post("/{rollout_id}/promote", responses=problem_responses(404, 409))
async def promote_rollout(rollout_id: RolloutId, caller: Caller, db: Db, action: RolloutAction = NO_NOTE) -> Rollout:
    """Skips what is left of the strategy: the candidate serves everything as soon as all its replicas are ready."""
    return await service.ask(db, caller, rollout_id, RolloutRequest.PROMOTE, action)


@router.post("/{rollout_id}/abort", responses=problem_responses(404, 409))
async def abort_rollout(rollout_id: RolloutId, caller: Caller, db: Db, action: RolloutAction = NO_NOTE) -> Rollout:
    """Ends a rollout: the candidate has no share from now on, and its job is cancelled. One that ended so stays as it is."""
    return await service.ask(db, caller, rollout_id, RolloutRequest.ABORT, action)


@router.post("/{rollout_id}/rollback", responses=problem_responses(404, 409))
async def roll_back_rollout(rollout_id: RolloutId, caller: Caller, db: Db, action: RolloutAction = NO_NOTE) -> Rollout:
    """Ends a rollout as rolled back. To undo a promoted one, roll its deployment back."""
    return await service.ask(db, caller, rollout_id, RolloutRequest.ROLL_BACK, action)
