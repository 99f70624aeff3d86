"""What the controller needs of whatever runs the engines: processes of this host, a cluster, or somebody else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from quantry_core.jobs import EngineConfig
from quantry_core.rollouts import Release, Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation


@dataclass(frozen=True)
class StartOrder:
    """Which engine to start, for which place of a release."""

    replica: Replica
    release: Release
    served_name: str
    """The deployment's name: what requests carry as their model."""
    version: VersionDetail

    @property
    def replica_id(self) -> str:
        return self.replica.id

    @property
    def engine(self) -> EngineConfig:
        return self.release.engine


@dataclass(frozen=True)
class StartedReplica:
    """What to record of a started engine."""

    url: str
    pid: int | None = None
    """None where it is no process of this host."""
    pid_started_at: float | None = None
    """Unix time in seconds."""
    log_path: str | None = None


class PoolDriver(Protocol):
    """Runs replicas. No method waits for an engine to load, for files to come, or for a process to end, except stop_all."""

    def know(self, releases: Iterable[Release]) -> None:
        """Hears of the releases whose replicas it is asked about from now on, each pass anew: a replica's record names only its id."""
        ...

    def pull(self, version: VersionDetail, release: Release) -> None:
        """Begins to fetch a version's files for the engines of a release in the background, unless that is done or going on.

        It needs no replica: asked before a rollout begins it is a prefetch.
        """
        ...

    def pull_status(self, version: VersionDetail, release: Release) -> PullStatus:
        """Returns how far the files are; refused where an engine of the release could never serve them."""
        ...

    async def start(self, order: StartOrder) -> StartedReplica:
        """Starts an engine; one that runs for this replica already is returned as it is.

        Raises Unavailable with what it waits for (the files, a GPU, memory) where it cannot be started just now, OSError if the process
        cannot be started.
        """
        ...

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        """Looks at a replica and asks its engine. The proof that it completes goes on in the background."""
        ...

    async def loaded_adapters(self, replica: Replica) -> LoadedAdapters | None:
        """Returns the adapters that a replica's engine serves; None if it did not answer."""
        ...

    async def load_adapter(self, replica: Replica, name: str, version: VersionDetail) -> None:
        """Begins to have a replica's engine load an adapter's files, unless that goes on or was refused a moment ago.

        Raises Unavailable if the files are not here (any more).
        """
        ...

    async def unload_adapter(self, replica: Replica, name: str) -> None:
        """Begins to have a replica's engine forget what it serves under a name. Requests under way are finished."""
        ...

    async def terminate(self, replica: Replica) -> None:
        """Asks a replica to end. Asking twice is asking once."""
        ...

    async def kill(self, replica: Replica) -> None:
        """Ends whatever is left of a replica."""
        ...

    async def log_tail(self, replica: Replica) -> str:
        """Returns the last lines a replica wrote; empty if it wrote none."""
        ...

    async def scaled_to(self, release: Release) -> int | None:
        """Returns how many replicas somebody else than the controller wants of a release now; None where the controller decides."""
        ...

    async def stop_all(self, *, within_s: float) -> None:
        """Ends every engine side by side, killing what is left after ``within_s`` seconds."""
        ...

    async def running(self) -> Mapping[str, Collection[int]]:
        """Returns every engine that this driver, or one before it in its place, started, by replica id, with the ids of its processes
        where they are processes of this host."""
        ...

    async def kill_strays(self, replica_id: str, pids: Collection[int]) -> None:
        """Ends those of a replica's engines that were running; only these processes, where they are processes of this host."""
        ...

    async def prune(self, manifest_digests: Collection[str]) -> None:
        """Says which versions are wanted. The files of others go, now or when room is needed, but for those that are being pulled or that
        a running engine was given; and so does what has been lying about for long."""
        ...

    async def close(self) -> None:
        """Gives up what goes on in the background. Engines run on."""
        ...
