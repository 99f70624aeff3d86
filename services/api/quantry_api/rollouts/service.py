"""How a rollout is begun by a deploy job, what is asked of it, and the evidence about it."""

from __future__ import annotations

from datetime import UTC, datetime

from quantry_api.idempotency import IdempotencyKey
from quantry_api.jobs import service as jobs
from quantry_api.state import ApiState
from quantry_core.jobs import DeploySpec, Job, JobSubmission
from quantry_core.keys import Identity
from quantry_core.rollouts import Rollout, RolloutAction, RolloutRequest
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_core.traffic_spans import RolloutSpans, begin_of, figures_of, span_s_for
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


async def spans(database: Database, caller: Identity, rollout_id: str) -> RolloutSpans:
    """Returns what was measured of both releases span by span, of the last hour at most; raises UnknownRollout."""
    async with database.begin() as uow:
        rollout = await uow.rollouts.get(caller.project_id, rollout_id)
        stable_id, candidate_id = rollout.from_release_id, rollout.to_release_id
        if rollout.exposed_at is None:
            return RolloutSpans(rollout_id=rollout.id, since=None, stable=None if stable_id is None else [])
        end = rollout.finished_at or datetime.now(UTC)
        begin = begin_of(rollout.exposed_at, end)
        span_s = span_s_for(end - begin)
        tallies = await uow.traffic.spans(
            [one for one in (stable_id, candidate_id) if one is not None], since=begin, until=rollout.finished_at, span_s=span_s
        )
    stable = None if stable_id is None else figures_of(tallies[stable_id], begin, span_s)
    candidate = figures_of(tallies[candidate_id], begin, span_s)
    return RolloutSpans(rollout_id=rollout.id, since=begin, span_s=span_s, stable=stable, candidate=candidate)
