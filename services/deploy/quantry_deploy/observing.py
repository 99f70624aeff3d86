"""What one pass sees of a deployment: replicas, files, adapters, and the little that is remembered from the passes before."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime

from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, RolloutState
from quantry_core.verdicts import Judgement
from quantry_core.versions import EdgeRole, VersionDetail
from quantry_deploy.drivers.protocol import PoolDriver
from quantry_deploy.ledger import Ledger
from quantry_deploy.observations import AttachedFiles, LoadedAdapters, Observations, PullStatus, ReplicaObservation
from quantry_deploy.probing import PATIENCE_S, Probing
from quantry_deploy.readiness import ReadinessMemory
from quantry_deploy.scaling import Needs, ready_looks, scaled
from quantry_deploy.wanted import needs_files, of_release, wanted_releases, wanted_replicas
from quantry_store.transactions.rollouts import DeploymentRecord


class Observer:
    """Looks at deployments through a driver. Lives in one event loop."""

    def __init__(self, ledger: Ledger, driver: PoolDriver) -> None:
        self._ledger = ledger
        self._driver = driver
        self._probing = Probing(driver)
        self._readiness = ReadinessMemory()
        self._needs: dict[str, Needs] = {}
        self._versions: dict[str, VersionDetail] = {}

    async def observe(self, record: DeploymentRecord, judgements: Mapping[str, Judgement], now: datetime) -> Observations:
        """Returns what there is to see. A replica that hangs holds this up for no longer than probing.PATIENCE_S."""
        deployment = record.deployment
        self._driver.know(record.releases.values())
        looks, loaded = await asyncio.gather(self._probing.look(deployment.replicas, deployment.name), self._loaded(record))
        return Observations(
            replicas=looks,
            pulls={release.id: await self._pull_status(record, release) for release in _needing_files(record)},
            loaded=loaded,
            adapters={adapter.id: await self._attached_files(record, adapter) for adapter in deployment.adapters},
            readiness=self._readiness.look(record, now),
            judgements=judgements,
            num_wanted=await self._scaled(record, looks, now),
        )

    async def version(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a version; it is immutable, so it is asked for once."""
        version = self._versions.get(version_id)
        if version is None:
            version = self._versions[version_id] = await self._ledger.version(project_id, version_id)
        return version

    def keep_only(self, records: Collection[DeploymentRecord]) -> None:
        """Forgets what none of these deployments has to do with any more."""
        versions = {release.version_id for record in records for release in record.releases.values()}
        versions |= {adapter.version_id for record in records for adapter in record.deployment.adapters}
        self._versions = {id_: version for id_, version in self._versions.items() if id_ in versions}
        releases = {release_id for record in records for release_id in record.releases}
        self._needs = {id_: needs for id_, needs in self._needs.items() if id_ in releases}
        self._probing.keep_only({replica.id for record in records for replica in record.deployment.replicas})
        self._readiness.keep_only(releases)

    async def close(self) -> None:
        """Gives up what goes on."""
        await self._probing.close()

    async def _loaded(self, record: DeploymentRecord) -> dict[str, LoadedAdapters]:
        """Returns what the engines list that may have adapters, as far as they answer in time."""
        asked = [
            replica
            for replica in record.deployment.replicas
            if replica.state is ReplicaState.READY and record.releases[replica.release_id].engine.max_adapters
        ]
        looks = await asyncio.gather(*(self._listed(replica) for replica in asked))
        return {replica.id: look for replica, look in zip(asked, looks, strict=True) if look is not None}

    async def _listed(self, replica: Replica) -> LoadedAdapters | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._driver.loaded_adapters(replica)
        except TimeoutError:
            return None

    async def _attached_files(self, record: DeploymentRecord, adapter: AttachedAdapter) -> AttachedFiles:
        version = await self.version(adapter.project_id, adapter.version_id)
        base_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
        releases = [release for release in wanted_releases(record) if release.version_id == base_id]
        pulls = {release.id: self._driver.pull_status(version, release) for release in releases}
        return AttachedFiles(base_version_id=base_id, manifest_digest=version.manifest_digest, pulls=pulls)

    async def _pull_status(self, record: DeploymentRecord, release: Release) -> PullStatus:
        version = await self.version(record.deployment.project_id, release.version_id)
        return self._driver.pull_status(version, release)

    async def _scaled(self, record: DeploymentRecord, looks: dict[str, ReplicaObservation], now: datetime) -> int | None:
        """Returns how many replicas of the current release are wanted now; None where that is not scaled."""
        deployment, current = record.deployment, record.deployment.current_release
        for release_id in record.releases:
            if current is None or release_id != current.id:
                # What served before and comes back begins anew: its old load says nothing.
                self._needs.pop(release_id, None)
        if current is None or current.scaling is None or deployment.is_stopped:
            return None
        elsewhere = await self._driver.scaled_to(current)
        if elsewhere is not None:
            return elsewhere
        ready = ready_looks(of_release(record, current), looks)
        needs = self._needs.get(current.id, Needs())
        wanted, self._needs[current.id] = scaled(deployment, current, ready, needs, now)
        return wanted


def _needing_files(record: DeploymentRecord) -> list[Release]:
    """Returns the releases whose files are needed now, or soon: those of a rollout that is about to begin."""
    needing = {wanted.release.id: wanted.release for wanted in wanted_replicas(record) if needs_files(record, wanted)}
    rollout = record.deployment.active_rollout
    if rollout is not None and rollout.state is RolloutState.PENDING:
        needing[rollout.to_release_id] = record.releases[rollout.to_release_id]
    return list(needing.values())
