"""What the controller needs of whatever runs the engines: local processes here, something else elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from quantry_core.jobs import EngineConfig
from quantry_core.rollouts import Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation


@dataclass(frozen=True)
class StartOrder:
    """Which engine to start."""

    replica_id: str
    served_name: str
    """The deployment's name: what requests carry as their model."""
    version: VersionDetail
    engine: EngineConfig


@dataclass(frozen=True)
class StartedReplica:
    """What to record of a started engine."""

    pid: int
    pid_started_at: float
    """Unix time in seconds."""
    url: str
    log_path: str


class PoolDriver(Protocol):
    """Runs replicas. No method waits for an engine to load, for files to come, or for a process to end, except stop_all."""

    def pull(self, version: VersionDetail, engine: EngineConfig) -> None:
        """Begins to fetch a version's files in the background, unless that is done or going on."""
        ...

    def pull_status(self, version: VersionDetail, engine: EngineConfig) -> PullStatus:
        """Returns how far the files are."""
        ...

    async def start(self, order: StartOrder) -> StartedReplica:
        """Starts an engine; one that runs for this replica already is returned as it is.

        Raises Unavailable if the files are not here (any more), OSError if the process cannot be started.
        """
        ...

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        """Looks at a replica's process and asks its engine. The proof that it completes goes on in the background."""
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

    async def stop_all(self, *, within_s: float) -> None:
        """Ends every engine side by side, killing what is left after ``within_s`` seconds."""
        ...

    async def running(self) -> Mapping[str, Collection[int]]:
        """Returns the process ids of every engine that this driver, or one before it in its place, started; by replica id."""
        ...

    async def kill_strays(self, pids: Collection[int]) -> None:
        """Ends those of these processes that are engines of this driver."""
        ...

    async def prune(self, manifest_digests: Collection[str]) -> None:
        """Removes the files of every other version that is not being pulled and that no running engine was given, and what has been
        lying about for long."""
        ...

    async def close(self) -> None:
        """Gives up what goes on in the background. Engines run on."""
        ...
