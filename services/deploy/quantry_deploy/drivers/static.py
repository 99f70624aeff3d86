"""Servers that somebody else runs: looked at and given traffic, never started, never ended, never given files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from quantry_core.errors import NotServable, Unavailable
from quantry_core.jobs import EngineKind, JobReason
from quantry_core.rollouts import Release, Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.drivers.looks import Looks
from quantry_deploy.drivers.probes import EngineProbe, Target
from quantry_deploy.drivers.protocol import StartedReplica, StartOrder
from quantry_deploy.observations import LoadedAdapters, PullState, PullStatus, ReplicaObservation
from quantry_deploy.servability import check_release

DEFAULT_PORTS = {"http": 80, "https": 443}


class AllowedHosts:
    """Which servers a release may name. The controller and the gateways ask them from within: an address is not for anybody to choose."""

    def __init__(self, patterns: str) -> None:
        """``patterns``: hosts, or host:port, separated by commas, ``*`` for any part of one."""
        stripped = (pattern.strip().lower() for pattern in patterns.split(","))
        self._patterns = [re.compile(".*".join(re.escape(part) for part in one.split("*"))) for one in stripped if one]

    def check(self, url: str) -> None:
        """Raises NotServable unless a server's URL is one of a scheme, a host and a port alone, and the host is allowed."""
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        except ValueError as error:
            raise NotServable(f"{url} is no address of a server: {error}") from error
        if (
            parts.scheme not in DEFAULT_PORTS
            or not parts.hostname
            or parts.username is not None
            or parts.path
            or parts.query
            or parts.fragment
        ):
            raise NotServable(f"{url} is no address of a server: http or https, a host and a port are wanted")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if not any(pattern.fullmatch(name) for name in (host, f"{host}:{port}") for pattern in self._patterns):
            raise NotServable(f"{url} is not among the hosts that a release may name; an administrator adds it to QUANTRY_STATIC_HOSTS")


class StaticDriver:
    """A ``PoolDriver`` over the servers that releases name: the one at a replica's ordinal is that replica."""

    def __init__(self, probe: EngineProbe, allowed: AllowedHosts) -> None:
        self._looks = Looks(probe)
        self._allowed = allowed
        self._kinds: dict[str, EngineKind] = {}
        self._ended: set[str] = set()

    def know(self, releases: Iterable[Release]) -> None:
        self._kinds |= {release.id: release.engine.engine for release in releases}

    def pull(self, version: VersionDetail, release: Release) -> None:
        """Does nothing: the servers have their files already."""

    def pull_status(self, version: VersionDetail, release: Release) -> PullStatus:
        try:
            check_release(version, release)
            for url in release.servers:
                self._allowed.check(url)
        except NotServable as error:
            return PullStatus(PullState.REFUSED, reason=JobReason.INVALID_INPUT, message=error.detail)
        return PullStatus(PullState.DONE, fraction=1.0)

    async def start(self, order: StartOrder) -> StartedReplica:
        """Returns where the server is; raises Unavailable if the release names none for this place, or one that is not allowed."""
        servers: Sequence[str] = order.release.servers
        if order.replica.ordinal >= len(servers):
            raise Unavailable(f"the release names {len(servers)} servers, none for replica {order.replica.ordinal}")
        url = servers[order.replica.ordinal].rstrip("/")
        try:
            self._allowed.check(url)
        except NotServable as error:
            raise Unavailable(error.detail) from error
        self._ended.discard(order.replica_id)
        self._looks.started(order.replica_id)
        return StartedReplica(url)

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        """Looks at a server. It counts as running until the replica is ended: whether it answers is another matter."""
        if replica.url is None or replica.id in self._ended:
            return ReplicaObservation(is_running=False)
        kind = self._kinds.get(replica.release_id, EngineKind.VLLM)
        return await self._looks.look(replica.id, replica.num_restarts, Target(replica.url, served_name, kind))

    async def loaded_adapters(self, replica: Replica) -> LoadedAdapters | None:  # noqa: ARG002  it is given none
        return LoadedAdapters()

    async def load_adapter(self, replica: Replica, name: str, version: VersionDetail) -> None:  # noqa: ARG002
        raise Unavailable(f"{name} is not loaded: {version.ref} cannot be given to a server that somebody else runs")

    async def unload_adapter(self, replica: Replica, name: str) -> None:
        """Does nothing: no adapter was loaded."""

    async def terminate(self, replica: Replica) -> None:
        """Forgets the server; it runs on."""
        self._ended.add(replica.id)

    async def kill(self, replica: Replica) -> None:
        """Forgets the server; it runs on."""
        self._ended.add(replica.id)
        self._looks.forget(replica.id)

    async def log_tail(self, replica: Replica) -> str:  # noqa: ARG002  its log is where it runs
        return ""

    async def scaled_to(self, release: Release) -> int | None:  # noqa: ARG002  as many as are named
        return None

    async def stop_all(self, *, within_s: float) -> None:
        """Does nothing: the servers are not this controller's to end."""

    async def running(self) -> Mapping[str, Collection[int]]:
        return {}

    async def kill_strays(self, replica_id: str, pids: Collection[int]) -> None:
        """Does nothing: there are none."""

    async def prune(self, manifest_digests: Collection[str]) -> None:
        """Does nothing: no files are kept."""

    async def close(self) -> None:
        await self._looks.close()
