"""Where a rollout is, as the progress of its deploy job."""

from __future__ import annotations

from quantry_core.jobs import Progress
from quantry_core.rollouts import ReplicaState, Rollout, RolloutState
from quantry_deploy.observations import Observations, PullState
from quantry_store.transactions.rollouts import DeploymentRecord

PULLED = 0.2
"""Share of the whole that the files count for; loading the engine is the longer part."""


def rollout_progress(record: DeploymentRecord, rollout: Rollout, seen: Observations) -> Progress | None:
    """Returns the phase (pulling, starting, ready) and share of a progressing rollout; None before it begins."""
    if rollout.state is RolloutState.PENDING:
        return None
    release = record.releases[rollout.to_release_id]
    replicas = [replica for replica in record.deployment.replicas if replica.release_id == release.id]
    num_ready = sum(replica.state is ReplicaState.READY for replica in replicas)
    detail = f"{num_ready} of {release.num_replicas} replicas ready"
    if num_ready >= release.num_replicas:
        return Progress(phase="ready", fraction=1.0, detail=detail)
    if any(replica.state is not ReplicaState.PULLING for replica in replicas):
        share = num_ready / release.num_replicas
        return Progress(phase="starting", fraction=round(PULLED + (1 - PULLED) * share, 3), detail=detail)
    pull = seen.pull(release.id)
    share = 1.0 if pull.state is PullState.DONE else pull.fraction
    # Whole tenths: each change is an event, and an event for every chunk would drown the others.
    tenths = int(share * 10) / 10
    return Progress(phase="pulling", fraction=round(PULLED * tenths, 3), detail=pull.message[:200] or f"{tenths:.0%} of the files")
