"""What people ask of a rollout. It holds at once, without the controller; each may be asked again."""

from __future__ import annotations

from quantry_core.errors import Conflict, RolloutOver
from quantry_core.keys import Identity
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Rollout, RolloutReason, RolloutRequest, RolloutState
from quantry_store.transactions.rollbacks import requested_end
from quantry_store.transactions.rollout_ends import Locked, end_rollout, lock_rollout
from quantry_store.unit_of_work import UnitOfWork

_WORDS = {
    RolloutRequest.PAUSE: "paused",
    RolloutRequest.RESUME: "resumed",
    RolloutRequest.PROMOTE: "promoted",
    RolloutRequest.ABORT: "aborted",
    RolloutRequest.ROLL_BACK: "rolled back",
}

_ALREADY_SO: dict[RolloutRequest, frozenset[RolloutState]] = {
    RolloutRequest.PAUSE: frozenset({RolloutState.PAUSED}),
    RolloutRequest.RESUME: frozenset({RolloutState.PENDING, RolloutState.PROGRESSING}),
    RolloutRequest.PROMOTE: frozenset({RolloutState.PROMOTED}),
    RolloutRequest.ABORT: frozenset({RolloutState.ABORTED, RolloutState.ROLLED_BACK}),
    RolloutRequest.ROLL_BACK: frozenset({RolloutState.ABORTED, RolloutState.ROLLED_BACK}),
}
"""Where a request finds what it asks for: the rollout is returned as it is."""


async def ask_of_rollout(uow: UnitOfWork, identity: Identity, rollout_id: str, request: RolloutRequest, note: str | None) -> Rollout:
    """Returns the rollout after what a person asked of it; as it is where that is so already.

    pause holds it at the share it has, resume lets it go on, promote has what is left of its strategy skipped, abort and rollback
    end it. Raises UnknownRollout; RolloutOver naming the state of one that ended another way; Conflict for a pause before it began.
    """
    await uow.rollouts.get(identity.project_id, rollout_id)
    locked = await lock_rollout(uow, rollout_id)
    rollout = locked.rollout
    if rollout.state in _ALREADY_SO[request] or (request is RolloutRequest.PROMOTE and _is_promised(rollout)):
        return rollout
    if rollout.state not in ACTIVE_ROLLOUT_STATES:
        raise RolloutOver(_over(rollout, request))
    asked = await _act(uow, identity, locked, request, note)
    facts = {"note": note, "state": rollout.state, "stage": rollout.stage, "percent": rollout.percent}
    await uow.audit.record(identity, f"rollout.{request}", "rollout", rollout.id, facts)
    uow.routes.bump()
    return asked


async def _act(uow: UnitOfWork, identity: Identity, locked: Locked, request: RolloutRequest, note: str | None) -> Rollout:
    rollout = locked.rollout
    match request:
        case RolloutRequest.PAUSE:
            if rollout.state is RolloutState.PENDING:
                raise Conflict(f"rollout {rollout.id} has not begun: there is nothing to pause")
            message = "paused by request" + (f": {note}" if note else "")
            return await uow.rollouts.move(rollout, RolloutState.PAUSED, reason=RolloutReason.REQUESTED, message=message)
        case RolloutRequest.RESUME:
            return await uow.rollouts.resume(rollout)
        case RolloutRequest.PROMOTE:
            rollout = await uow.rollouts.ask_promotion(rollout)
            if rollout.state is RolloutState.PAUSED:
                rollout = await uow.rollouts.move(rollout, RolloutState.PROGRESSING)
            return rollout
        case RolloutRequest.ABORT:
            return await end_rollout(uow, locked, requested_end(rollout, RolloutState.ABORTED, identity, note))
        case RolloutRequest.ROLL_BACK:
            return await end_rollout(uow, locked, requested_end(rollout, RolloutState.ROLLED_BACK, identity, note))


def _is_promised(rollout: Rollout) -> bool:
    """Tells whether a promotion was asked for that nothing holds up."""
    return rollout.promote_requested and rollout.state in {RolloutState.PENDING, RolloutState.PROGRESSING}


def _over(rollout: Rollout, request: RolloutRequest) -> str:
    sentence = f"rollout {rollout.id} is {rollout.state}; it cannot be {_WORDS[request]} any more"
    if rollout.state is RolloutState.PROMOTED and request in {RolloutRequest.ABORT, RolloutRequest.ROLL_BACK}:
        return f"{sentence}: roll its deployment back instead"
    return sentence
