"""What the controller saw: of each replica's process and engine, and of each release's files. Plain facts, no decisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quantry_core.jobs import JobReason
from quantry_core.verdicts import Judgement


@dataclass(frozen=True)
class ReplicaObservation:
    """One look at a replica."""

    is_running: bool
    """The process that the record names is there, and is the same one."""
    ending: str = ""
    """How it ended, for people, where it did: "ended with exit status 1"."""
    answers: bool = False
    """GET /health answered 200 this time."""
    is_proven: bool = False
    """It served this deployment's model with a real one-token completion since it was started."""
    silent_s: float = 0.0
    """Seconds since it last answered, or since it was first looked at."""
    doubt: str = ""
    """Why it is not proven although it answers."""
    num_running: float | None = None
    """Requests that the engine works on now, as its /metrics say; None where they do not."""
    num_waiting: float | None = None
    """Requests that wait in the engine for a place in a batch; None where it does not say."""
    kv_use: float | None = None
    """Share of the KV cache that is in use, 0 to 1; None where it does not say."""


class PullState(StrEnum):
    """absent: nobody asked, or the files went bad. running: files are coming. done: all are here, every digest checked.
    waiting: it failed and is tried again. refused: it failed and trying again changes nothing."""

    ABSENT = "absent"
    RUNNING = "running"
    DONE = "done"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True)
class PullStatus:
    """How far the files of a release are."""

    state: PullState
    fraction: float = 0.0
    """Of the bytes, 0 to 1."""
    reason: JobReason = JobReason.INTERNAL
    """Why it was refused."""
    message: str = ""


@dataclass(frozen=True)
class LoadedAdapters:
    """What one engine said of its adapters, by the name that it serves each under."""

    listed: Mapping[str, str] = field(default_factory=dict)
    """The manifest digest of the files; a path where they are none of this controller's."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Why it did not load the files that it was given last."""
    resting: Collection[str] = ()
    """Names that it is not to be asked about just now: it is loading, or refused a moment ago."""


@dataclass(frozen=True)
class AttachedFiles:
    """What is known of an attached adapter's version, and how far its files are for each release that may load them."""

    base_version_id: str | None
    """The version that it was trained on."""
    manifest_digest: str
    pulls: Mapping[str, PullStatus] = field(default_factory=dict)
    """By release id, of the releases that serve that version: each has settings of its own, by which it may refuse the files."""

    def pull(self, release_id: str) -> PullStatus:
        """Returns how far they are for a release; absent where nobody asked."""
        return self.pulls.get(release_id, ABSENT)


@dataclass(frozen=True)
class Readiness:
    """How long replicas of a release have been missing, as this controller saw it. It remembers that, no record does: a controller
    that begins anew counts anew."""

    none_s: float = 0.0
    """Seconds without one that is ready; 0 while there is one."""
    some_missing_s: float = 0.0
    """Seconds in which not all of them were ready."""
    was_ready: bool = False
    """This controller has seen one that was."""


ABSENT = PullStatus(PullState.ABSENT)
UNSEEN = ReplicaObservation(is_running=False)
NOT_LOOKED = Readiness()


@dataclass(frozen=True)
class Observations:
    """Everything one pass saw of one deployment."""

    replicas: Mapping[str, ReplicaObservation] = field(default_factory=dict)
    """By replica id."""
    pulls: Mapping[str, PullStatus] = field(default_factory=dict)
    """By release id."""
    loaded: Mapping[str, LoadedAdapters] = field(default_factory=dict)
    """By replica id; nothing of those whose engine did not say."""
    adapters: Mapping[str, AttachedFiles] = field(default_factory=dict)
    """By the id of the attached adapter."""
    readiness: Mapping[str, Readiness] = field(default_factory=dict)
    """By release id."""
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    """By rollout id: what the evidence of its stage, or of its watch, says now."""
    num_wanted: int | None = None
    """Replicas of the current release as scaling wants them now; None: nobody has looked."""

    def replica(self, replica_id: str) -> ReplicaObservation:
        """Returns what was seen of a replica; one nobody looked at has no process."""
        return self.replicas.get(replica_id, UNSEEN)

    def pull(self, release_id: str) -> PullStatus:
        """Returns how far a release's files are; absent where nobody asked."""
        return self.pulls.get(release_id, ABSENT)

    def ready(self, release_id: str) -> Readiness:
        """Returns how long replicas of a release have been missing."""
        return self.readiness.get(release_id, NOT_LOOKED)
