"""Which driver serves a release: servers of somebody else where it names them, otherwise the driver of this installation."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from quantry_core.rollouts import Release, Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.drivers.protocol import PoolDriver, StartedReplica, StartOrder
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation


class Pools:
    """A ``PoolDriver`` of two: ``own`` starts engines, ``static`` looks at the servers that releases name."""

    def __init__(self, own: PoolDriver, static: PoolDriver) -> None:
        self._own = own
        self._static = static
        self._of_servers: dict[str, bool] = {}

    def know(self, releases: Iterable[Release]) -> None:
        known = list(releases)
        self._of_servers |= {release.id: bool(release.servers) for release in known}
        self._own.know(release for release in known if not release.servers)
        self._static.know(release for release in known if release.servers)

    def pull(self, version: VersionDetail, release: Release) -> None:
        self._for_release(release).pull(version, release)

    def pull_status(self, version: VersionDetail, release: Release) -> PullStatus:
        return self._for_release(release).pull_status(version, release)

    async def start(self, order: StartOrder) -> StartedReplica:
        return await self._for_release(order.release).start(order)

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        return await self._of(replica).probe(replica, served_name)

    async def loaded_adapters(self, replica: Replica) -> LoadedAdapters | None:
        return await self._of(replica).loaded_adapters(replica)

    async def load_adapter(self, replica: Replica, name: str, version: VersionDetail) -> None:
        await self._of(replica).load_adapter(replica, name, version)

    async def unload_adapter(self, replica: Replica, name: str) -> None:
        await self._of(replica).unload_adapter(replica, name)

    async def terminate(self, replica: Replica) -> None:
        await self._of(replica).terminate(replica)

    async def kill(self, replica: Replica) -> None:
        await self._of(replica).kill(replica)

    async def log_tail(self, replica: Replica) -> str:
        return await self._of(replica).log_tail(replica)

    async def scaled_to(self, release: Release) -> int | None:
        return await self._for_release(release).scaled_to(release)

    async def stop_all(self, *, within_s: float) -> None:
        await asyncio.gather(self._own.stop_all(within_s=within_s), self._static.stop_all(within_s=within_s))

    async def running(self) -> Mapping[str, Collection[int]]:
        return {**await self._static.running(), **await self._own.running()}

    async def kill_strays(self, replica_id: str, pids: Collection[int]) -> None:
        await self._own.kill_strays(replica_id, pids)

    async def prune(self, manifest_digests: Collection[str]) -> None:
        await self._own.prune(manifest_digests)

    async def close(self) -> None:
        await self._own.close()
        await self._static.close()

    def _for_release(self, release: Release) -> PoolDriver:
        self._of_servers[release.id] = bool(release.servers)
        return self._static if release.servers else self._own

    def _of(self, replica: Replica) -> PoolDriver:
        return self._static if self._of_servers.get(replica.release_id, False) else self._own
