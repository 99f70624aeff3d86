"""How a rollout is begun by a deploy job, what is asked of it, and the evidence about it."""

from __future__ import annotations

from quantry_api.idempotency import IdempotencyKey
from quantry_api.jobs import service as jobs
from quantry_api.state import ApiState
from quantry_core.jobs import DeploySpec, Job, JobSubmission
from quantry_core.keys import Identity
from quantry_core.rollouts import Rollout, RolloutAction, RolloutRequest
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_store import transactions
from quantry_store.database import Database


async def create(database: Database, state: ApiState, caller: Identity, spec: DeploySpec, key: IdempotencyKey) -> Rollout | Job:
    """Returns the rollout of a new deploy job, or of the one that the same request made before; the job where it waits.

    Raises what a submitted deploy job does.
    """
    job = await jobs.submit(database, state, caller, JobSubmission(spec=spec), key)
    state.announce(job)
    async with database.begin() as uow:
        rollout = await uow.rollouts.of_job(caller.project_id, job.id)
    return job if rollout is None else rollout


async def ask(database: Database, caller: Identity, rollout_id: str, request: RolloutRequest, action: RolloutAction) -> Rollout:
    """Returns the rollout after what is asked of it; raises what ``transactions.ask_of_rollout`` does."""
    async with database.begin() as uow:
        return await transactions.ask_of_rollout(uow, caller, rollout_id, request, action.note)


async def traffic(database: Database, caller: Identity, rollout_id: str) -> RolloutTraffic:
    """Returns what was measured of both releases while the candidate had traffic; raises UnknownRollout."""
    async with database.begin() as uow:
        rollout = await uow.rollouts.get(caller.project_id, rollout_id)
        since, until = rollout.exposed_at, rollout.finished_at
        if since is None:
            return RolloutTraffic(rollout_id=rollout.id, since=None, stable=None if rollout.from_release_id is None else Tally())
        stable = None
        if rollout.from_release_id is not None:
            stable = await uow.traffic.total(rollout.from_release_id, since=since, until=until)
        candidate = await uow.traffic.total(rollout.to_release_id, since=since, until=until)
    return RolloutTraffic(rollout_id=rollout.id, since=since, stable=stable, candidate=candidate)
