"""Deployments, releases, rollouts and replicas: states, transition tables, and the routes a gateway learns."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import IllegalTransition
from quantry_core.jobs import EngineConfig, VersionRef
from quantry_core.keys import Role
from quantry_core.names import Name


class RolloutState(StrEnum):
    PENDING = "pending"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


ROLLOUT_TRANSITIONS: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.PENDING: frozenset({RolloutState.PROGRESSING, RolloutState.ABORTED}),
    RolloutState.PROGRESSING: frozenset({RolloutState.PAUSED, RolloutState.PROMOTED, RolloutState.ROLLED_BACK, RolloutState.ABORTED}),
    RolloutState.PAUSED: frozenset({RolloutState.PROGRESSING, RolloutState.ROLLED_BACK, RolloutState.ABORTED}),
    RolloutState.PROMOTED: frozenset(),
    RolloutState.ROLLED_BACK: frozenset(),
    RolloutState.ABORTED: frozenset(),
}
"""Undoing a promoted rollout is a new rollout back."""

ACTIVE_ROLLOUT_STATES = frozenset(state for state, successors in ROLLOUT_TRANSITIONS.items() if successors)


def check_rollout_transition(old: RolloutState, new: RolloutState) -> None:
    """Raises IllegalTransition unless a rollout may move from ``old`` to ``new``."""
    if new not in ROLLOUT_TRANSITIONS[old]:
        raise IllegalTransition(f"a {old} rollout cannot become {new}")


class ReplicaState(StrEnum):
    """pulling: its bytes are fetched and checked. starting: the engine loads. ready: it answers and may get traffic.
    unhealthy: it ran but does not answer. stopping: asked to end. stopped: gone. failed: it ended by itself."""

    PULLING = "pulling"
    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Replica(BaseModel):
    """One engine process of a release."""

    model_config = ConfigDict(frozen=True)

    id: str
    release_id: str
    ordinal: int
    state: ReplicaState
    url: str | None = Field(default=None, description="http://127.0.0.1:<port>")
    pid: int | None = None
    pid_started_at: float | None = Field(default=None, description="Unix time in seconds, to tell a reused pid.")
    num_restarts: int = 0
    message: str | None = None
    log_path: str | None = None
    adapter_ids: list[str] = Field(default_factory=list, description="Attached adapters that it has loaded and serves.")
    updated_at: datetime


class Release(BaseModel):
    """A version with the engine configuration it is served by."""

    model_config = ConfigDict(frozen=True)

    id: str
    deployment_id: str
    number: int
    version_id: str
    version_ref: str
    num_replicas: int
    engine: EngineConfig
    created_at: datetime


class Rollout(BaseModel):
    """The move of a deployment from one release (None for the first) to another."""

    model_config = ConfigDict(frozen=True)

    id: str
    deployment_id: str
    from_release_id: str | None
    to_release_id: str
    job_id: str
    state: RolloutState
    message: str | None = None
    ready_deadline_at: datetime
    created_at: datetime
    finished_at: datetime | None = None


class AttachedAdapter(BaseModel):
    """An adapter that a deployment serves beside its base, under a name of its own at the gateway."""

    model_config = ConfigDict(frozen=True)

    object: Literal["deployment.adapter"] = "deployment.adapter"
    id: str
    project_id: str
    deployment_id: str
    name: Name = Field(description="What requests carry as their model. No deployment or other adapter of the project has it.")
    version_id: str
    version_ref: str
    job_id: str | None = Field(default=None, description="The fine-tune job that attached it.")
    message: str | None = Field(default=None, description="Why it could not be loaded, where it could not.")
    created_at: datetime


class AdapterAttachment(BaseModel):
    """What a deployment is to serve under an adapter's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: VersionRef = Field(description="A ready version of kind adapter, trained on what the deployment serves.")


class Deployment(BaseModel):
    """The name that clients call, and what stands behind it."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    name: Name
    current_release: Release | None
    active_rollout: Rollout | None
    replicas: list[Replica]
    adapters: list[AttachedAdapter] = Field(default_factory=list)
    is_stopped: bool = Field(description="Asked to serve nothing.")
    created_at: datetime

    def num_loaded(self, adapter: AttachedAdapter) -> int:
        """Replicas of any release that have the adapter loaded and answer now."""
        return sum(replica.state is ReplicaState.READY and adapter.id in replica.adapter_ids for replica in self.replicas)

    @property
    def num_ready(self) -> int:
        """Replicas of any release that answer now."""
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)


class RoutedReplica(BaseModel):
    """A replica that may get traffic."""

    model_config = ConfigDict(frozen=True)

    id: str
    release_id: str
    url: str


class Route(BaseModel):
    """Where requests for one name go: a deployment's, or an attached adapter's. No replicas: it exists, but nothing is ready."""

    model_config = ConfigDict(frozen=True)

    deployment: str = Field(description="The name that requests carry as their model.")
    parent: str | None = Field(default=None, description="Of an adapter: the deployment that serves it.")
    project_id: str
    created_at: datetime
    replicas: list[RoutedReplica]


class RoutedKey(BaseModel):
    """A key as the gateway knows it: its hash."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    key_hash: str
    project_id: str
    role: Role


class RouteSnapshot(BaseModel):
    """Everything a gateway needs to serve, at one revision. Swapped whole, kept on disk."""

    model_config = ConfigDict(frozen=True)

    object: Literal["routes"] = "routes"
    revision: int
    routes: list[Route]
    keys: list[RoutedKey]
