"""Engines that do not stay up."""

from __future__ import annotations

from quantry_core.rollouts import Release, Replica, ReplicaState
from quantry_deploy.policy import Policy


def crash_loops(replica: Replica, policy: Policy) -> bool:
    """Tells whether a replica has ended so often that starting it once more is no answer."""
    return replica.state is ReplicaState.FAILED and replica.num_restarts >= policy.max_restarts_in_rollout


def crash_words(release: Release, replica: Replica) -> str:
    """Returns what is said of it to people."""
    return f"{release.version_ref} does not stay up: replica {replica.ordinal} ended {replica.num_restarts + 1} times"
