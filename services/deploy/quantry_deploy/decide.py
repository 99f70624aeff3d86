"""What to do next about one deployment: a pure function of its record, what was seen, and the time.

Each pass does the little that is due and leaves the rest to the next one, so that a controller that dies at any point
is continued by its successor from the records alone. docs/state-machines.md draws the states, docs/rollouts.md says what each waits for.
"""

from __future__ import annotations

from datetime import datetime

from quantry_core.rollouts import RolloutState
from quantry_deploy.actions import (
    Action,
    FailReplica,
    KillReplica,
    PullFiles,
    RemoveReplica,
    SetReplica,
    SetWanted,
    StartReplica,
    TerminateReplica,
)
from quantry_deploy.decide_adapters import adapter_actions
from quantry_deploy.decide_replicas import serve, wind_down
from quantry_deploy.decide_rollout import rollout_move
from quantry_deploy.observations import Observations, PullState
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import wanted_replicas
from quantry_store.transactions.rollouts import DeploymentRecord

OF_A_REPLICA = (StartReplica, SetReplica, FailReplica, TerminateReplica, KillReplica, RemoveReplica)
"""Actions after which a replica's adapters are looked at in the next pass."""


def decide(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> list[Action]:
    """Returns what is due. A move of the rollout comes alone: the next pass sees the world after it."""
    move = rollout_move(record, seen, now, policy)
    if move is not None:
        return [move]
    actions = [*_scale(record, seen), *_prefetch(record, seen)]
    kept: set[str] = set()
    wanted = wanted_replicas(record)
    for one in wanted:
        replicas = one.replicas(record)
        kept.update(replica.id for replica in replicas.values())
        actions += serve(one, replicas, seen, now, policy)
    for replica in record.deployment.replicas:
        if replica.id not in kept:
            actions += wind_down(replica, seen, now, policy)
    busy = {action.replica.id for action in actions if isinstance(action, OF_A_REPLICA)}
    releases = [one.release for one in wanted]
    return [*actions, *adapter_actions(record, releases, seen, now, policy, busy=busy)]


def _prefetch(record: DeploymentRecord, seen: Observations) -> list[Action]:
    """Returns what has the files of a pending rollout's release come, so that its replicas start as soon as it begins."""
    rollout = record.deployment.active_rollout
    if rollout is None or rollout.state is not RolloutState.PENDING or record.deployment.is_stopped:
        return []
    release = record.releases[rollout.to_release_id]
    return [PullFiles(release)] if seen.pull(release.id).state is PullState.ABSENT else []


def _scale(record: DeploymentRecord, seen: Observations) -> list[Action]:
    """Returns the change of the number of replicas that is due; the next pass adds or drains them."""
    deployment, current = record.deployment, record.deployment.current_release
    if current is None or deployment.is_stopped:
        return []
    asked = None if current.scaling is None else deployment.num_wanted if seen.num_wanted is None else seen.num_wanted
    return [] if asked == deployment.num_wanted else [SetWanted(deployment.id, asked)]
