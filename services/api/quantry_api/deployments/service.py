"""What served under a deployment's name, the way back to it, and what is kept of its prompts."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from quantry_api.state import ApiState
from quantry_core.captures import CaptureSettings, CaptureStatus
from quantry_core.comparisons import Descent, compare, relation_of
from quantry_core.deployment_diffs import DeploymentDiff, ServedSide, config_differences
from quantry_core.errors import Conflict, FieldProblem, InvalidInput, NotFound, StaleRollout
from quantry_core.keys import Identity
from quantry_core.names import is_number
from quantry_core.rollouts import Deployment, RollbackOrder, ServingPeriod
from quantry_core.versions import VersionDetail
from quantry_http.moments import Moment
from quantry_store import transactions
from quantry_store.capture_cipher import KEYS_VARIABLE
from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork

MAX_TRIES = 5
"""Of a rollback that meets another change of the same deployment at its very moment."""

_TIME: TypeAdapter[datetime] = TypeAdapter(Moment)


async def roll_back(database: Database, caller: Identity, name: str, order: RollbackOrder) -> Deployment:
    """Returns the deployment after ``transactions.roll_back``; raises what that does, StaleRollout only after MAX_TRIES."""
    for _ in range(MAX_TRIES - 1):
        try:
            async with database.begin() as uow:
                return await transactions.roll_back(uow, caller, name, order)
        except StaleRollout:
            continue
    async with database.begin() as uow:
        return await transactions.roll_back(uow, caller, name, order)


async def served_at(database: Database, caller: Identity, name: str, time: datetime) -> ServingPeriod:
    """Returns what served at a time; raises UnknownDeployment, NotFound where nothing had served yet."""
    async with database.begin() as uow:
        return await _period(uow, await uow.deployments.get(caller.project_id, name), time)


async def diff(database: Database, caller: Identity, name: str, left: str, right: str) -> DeploymentDiff:
    """Returns what tells two releases or moments of a deployment apart: each is a release's number or a time with its zone.

    Raises UnknownDeployment, UnknownRelease, NotFound where nothing served then, InvalidInput for what is neither.
    """
    async with database.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
        ours, theirs = await _side(uow, deployment, "from", left), await _side(uow, deployment, "to", right)
        versions = [await _version(uow, deployment, side) for side in (ours, theirs)]
        descents = [Descent(one.id, await uow.versions.ancestors(deployment.project_id, one.id)) for one in versions]
    return DeploymentDiff(
        left=ours,
        right=theirs,
        config=config_differences(ours.release, theirs.release),
        versions=compare(versions[0], versions[1], relation_of(descents[0], descents[1])),
    )


async def capture(database: Database, state: ApiState, caller: Identity, name: str, settings: CaptureSettings) -> CaptureStatus:
    """Returns what a deployment keeps from now on; raises UnknownDeployment, Conflict where nothing could be encrypted."""
    async with database.begin() as uow:
        if state.capture_cipher is None:
            await uow.deployments.get(caller.project_id, name)
            raise Conflict(f"prompts are stored encrypted or not at all, and there is no key here: set {KEYS_VARIABLE} first")
        return await transactions.set_capture(uow, caller, name, settings)


async def _period(uow: UnitOfWork, deployment: Deployment, time: datetime) -> ServingPeriod:
    period = await uow.periods.at(deployment, time)
    if period is None:
        raise NotFound(f"nothing had been served as {deployment.name!r} by {time.isoformat()}")
    return period


async def _side(uow: UnitOfWork, deployment: Deployment, field: str, wanted: str) -> ServedSide:
    if is_number(wanted):
        return ServedSide(release=await uow.releases.numbered(deployment, int(wanted)))
    try:
        time = _TIME.validate_python(wanted)
    except ValidationError as error:
        sentence = f"{wanted!r} is neither a release's number nor a time with its zone, such as 2026-11-23T12:00:00Z"
        raise InvalidInput(sentence, errors=[FieldProblem(field=field, message=sentence)]) from error
    period = await _period(uow, deployment, time)
    if not period.shares:
        raise NotFound(f"deployment {deployment.name!r} served nothing at {time.isoformat()}: it was stopped")
    share = max(period.shares, key=lambda one: one.percent)
    return ServedSide(release=await uow.releases.get(share.release_id), at=time, period=period)


async def _version(uow: UnitOfWork, deployment: Deployment, side: ServedSide) -> VersionDetail:
    return await uow.versions.detail(deployment.project_id, side.release.version_id)
