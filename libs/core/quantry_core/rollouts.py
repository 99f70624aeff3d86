"""Deployments, releases, rollouts and replicas: states, transition tables, what people ask of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.captures import CaptureSettings
from quantry_core.errors import IllegalTransition
from quantry_core.jobs import EngineConfig, Scaling, VersionRef
from quantry_core.names import Name
from quantry_core.strategies import ImmediateStrategy, Strategy
from quantry_core.verdicts import Judgement


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
    url: str | None = Field(default=None, description="Where it answers, such as http://127.0.0.1:<port>.")
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
    scaling: Scaling | None = Field(default=None, description="None: always num_replicas.")
    servers: list[str] = Field(default=[], description="URLs of servers that someone else runs, one a replica; empty: they are started.")
    created_at: datetime


class RolloutReason(StrEnum):
    """Why a rollout ended, or why it is paused."""

    COMPLETED = "completed"
    REQUESTED = "requested"
    VERDICT_FAILED = "verdict_failed"
    INCONCLUSIVE = "inconclusive"
    CRASH_LOOP = "crash_loop"
    NOT_READY = "not_ready"
    NOT_SERVABLE = "not_servable"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    STEP = "step"
    """Paused because the strategy says so."""


class RolloutCause(StrEnum):
    """Where a rollout comes from."""

    DEPLOY = "deploy"
    """A deploy job."""
    ROLLBACK = "rollback"
    """A person's rollback to an earlier release."""
    WATCH = "watch"
    """The controller's own rollback, in the time after a promotion."""


class RolloutRequest(StrEnum):
    """What a person may ask of a rollout. Each is idempotent."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    ROLL_BACK = "rollback"


class Rollout(BaseModel):
    """The move of a deployment from one release (None for the first) to another."""

    model_config = ConfigDict(frozen=True)

    id: str
    deployment_id: str
    from_release_id: str | None
    to_release_id: str
    job_id: str | None = Field(description="The deploy job that ends with it; a rollback has none.")
    cause: RolloutCause = RolloutCause.DEPLOY
    state: RolloutState
    strategy: Strategy = ImmediateStrategy()
    reason: RolloutReason | None = None
    message: str | None = None
    note: str | None = Field(default=None, description="Why, in the words of who began it.")
    key_id: str | None = Field(default=None, description="Who began it; None: the platform.")
    stage: int = Field(default=0, ge=0, description="Position in the strategy's stages, from 0.")
    percent: int = Field(default=0, ge=0, le=100, description="The candidate's share of requests now.")
    mirror_percent: int = Field(default=0, ge=0, le=100, description="Share of requests that a shadow compares now.")
    staged_at: datetime | None = Field(
        default=None, description="When its stage began to be judged: all replicas were ready and had the share."
    )
    exposed_at: datetime | None = Field(default=None, description="When the candidate first got traffic: its evidence begins there.")
    is_resumed: bool = Field(default=False, description="A person has let this stage go on.")
    promote_requested: bool = Field(default=False, description="A person wants what is left of the strategy skipped.")
    judgement: Judgement | None = Field(default=None, description="The last analysis.")
    ready_deadline_at: datetime
    watch_s: float = Field(
        default=0.0, description="Seconds after promotion in which the release before stays warm and a failure rolls back."
    )
    watch_until: datetime | None = Field(default=None, description="Of a promoted one: the end of its watch.")
    created_at: datetime
    finished_at: datetime | None = None


class RolloutAction(BaseModel):
    """What is said with a request about a rollout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: str | None = Field(default=None, max_length=500, description="Why; kept in the history.")


class RollbackOrder(BaseModel):
    """A deployment is to serve an earlier release again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: int | None = Field(default=None, ge=1, description="The release's number; None: the one that served before the current one.")
    note: str | None = Field(default=None, max_length=500, description="Why; kept in the history.")


class Share(BaseModel):
    """A release's part of a deployment's traffic."""

    model_config = ConfigDict(frozen=True)

    release_id: str
    release_number: int
    version_id: str
    version_ref: str
    percent: int


class PeriodCause(StrEnum):
    """What changed what is served."""

    STAGE = "stage"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    STOPPED = "stopped"
    STARTED = "started"


class ServingPeriod(BaseModel):
    """What served under a deployment's name from one moment to the next change."""

    model_config = ConfigDict(frozen=True)

    object: Literal["deployment.period"] = "deployment.period"
    id: str
    deployment_id: str
    began_at: datetime
    ended_at: datetime | None = Field(default=None, description="None: it goes on.")
    shares: list[Share] = Field(description="Empty: nothing was served.")
    cause: PeriodCause
    reason: RolloutReason | None = None
    message: str | None = None
    rollout_id: str | None = None
    key_id: str | None = Field(default=None, description="Who; None: the platform.")
    note: str | None = None


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
    watched_rollout: Rollout | None = Field(default=None, description="The last promoted one while its watch lasts.")
    is_stopped: bool = Field(description="Asked to serve nothing.")
    num_wanted: int | None = Field(
        default=None, description="Replicas of the current release as scaling wants them; None: its num_replicas."
    )
    demanded_at: datetime | None = Field(default=None, description="When requests last waited for a replica.")
    requested_at: datetime | None = Field(default=None, description="When a request was last answered, as far as gateways have told.")
    capture: CaptureSettings | None = Field(default=None, description="None: no prompt is kept.")
    created_at: datetime

    def num_loaded(self, adapter: AttachedAdapter) -> int:
        """Replicas of any release that have the adapter loaded and answer now."""
        return sum(replica.state is ReplicaState.READY and adapter.id in replica.adapter_ids for replica in self.replicas)

    @property
    def num_ready(self) -> int:
        """Replicas of any release that answer now."""
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)
