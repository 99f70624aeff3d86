"""What a pass may do, as data: decide returns these, the reconciler carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from quantry_core.jobs import JobReason
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout, RolloutReason, RolloutState


@dataclass(frozen=True)
class BeginRollout:
    """pending -> progressing; its job runs."""

    rollout: Rollout


@dataclass(frozen=True)
class StageRollout:
    """A progressing rollout comes to a stage, or its share changes: gateways learn of it."""

    rollout: Rollout
    """As it was seen: what has moved meanwhile is not staged."""
    stage: int
    percent: int
    mirror_percent: int


@dataclass(frozen=True)
class PauseRollout:
    """progressing -> paused; the share stays as it is."""

    rollout: Rollout
    reason: RolloutReason
    message: str


@dataclass(frozen=True)
class PromoteRollout:
    """The new release becomes the one that is served; its job succeeded."""

    rollout: Rollout


@dataclass(frozen=True)
class EndRollout:
    """The rollout ends without a promotion, and its job with it."""

    rollout: Rollout
    state: RolloutState
    """rolled_back or aborted."""
    reason: RolloutReason
    job_reason: JobReason
    message: str
    witness: Replica | None = None
    """The replica whose last log lines say why."""


@dataclass(frozen=True)
class UndoPromotion:
    """What a promoted rollout brought failed in its watch: the release before serves again."""

    rollout: Rollout
    reason: RolloutReason
    message: str
    witness: Replica | None = None


@dataclass(frozen=True)
class EndWatch:
    """The release before is not kept warm any longer."""

    rollout: Rollout


@dataclass(frozen=True)
class SetWanted:
    """Another number of replicas of the current release; None: what the release says."""

    deployment_id: str
    num_wanted: int | None


@dataclass(frozen=True)
class PullFiles:
    """Fetch a release's files in the background."""

    release: Release


@dataclass(frozen=True)
class AddReplica:
    """A new replica of a release, without a process yet."""

    release: Release
    ordinal: int


@dataclass(frozen=True)
class StartReplica:
    """Start the engine. ``num_restarts`` is what the record will say."""

    replica: Replica
    release: Release
    num_restarts: int


@dataclass(frozen=True)
class SetReplica:
    """Only the record changes: the replica is in another state now."""

    replica: Replica
    state: ReplicaState
    message: str | None = None


@dataclass(frozen=True)
class FailReplica:
    """The replica ended, or is given up: kill what is left of it and record why, with its last log lines."""

    replica: Replica
    message: str
    num_restarts: int


@dataclass(frozen=True)
class TerminateReplica:
    """SIGTERM to its process group."""

    replica: Replica


@dataclass(frozen=True)
class KillReplica:
    """SIGKILL to whatever is left of it."""

    replica: Replica


@dataclass(frozen=True)
class RemoveReplica:
    """It has no process and nobody wants it: forget it."""

    replica: Replica


@dataclass(frozen=True)
class PullAdapter:
    """Fetch an adapter's files in the background, for engines that a release configures."""

    adapter: AttachedAdapter
    release: Release


@dataclass(frozen=True)
class LoadAdapter:
    """Have a running engine load an adapter's files."""

    replica: Replica
    adapter: AttachedAdapter


@dataclass(frozen=True)
class UnloadAdapter:
    """Have a running engine forget what it serves under a name. Requests under way are finished."""

    replica: Replica
    name: str


@dataclass(frozen=True)
class SetAdapters:
    """Only the record changes: requests for these attached adapters may go to the replica, no others."""

    replica: Replica
    adapter_ids: list[str]


@dataclass(frozen=True)
class SetAdapterMessage:
    """Say why an adapter is not loaded; None: nothing is the matter."""

    adapter: AttachedAdapter
    message: str | None


AdapterAction = PullAdapter | LoadAdapter | UnloadAdapter | SetAdapters | SetAdapterMessage

RolloutMove = BeginRollout | StageRollout | PauseRollout | PromoteRollout | EndRollout | UndoPromotion | EndWatch
"""What happens to a rollout. Each comes alone: the next pass sees the world after it."""

Action = (
    RolloutMove
    | SetWanted
    | PullFiles
    | AddReplica
    | StartReplica
    | SetReplica
    | FailReplica
    | TerminateReplica
    | KillReplica
    | RemoveReplica
    | AdapterAction
)
