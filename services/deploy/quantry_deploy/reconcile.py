"""One pass over one deployment: observe, decide, act, persist. Early returns wait for the next pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime

import structlog

from quantry_core.errors import Unavailable
from quantry_core.jobs import Progress
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState
from quantry_core.versions import EdgeRole, VersionDetail
from quantry_deploy.actions import (
    Action,
    AdapterAction,
    AddReplica,
    BeginRollout,
    EndRollout,
    FailReplica,
    KillReplica,
    LoadAdapter,
    PromoteRollout,
    PullAdapter,
    PullFiles,
    RemoveReplica,
    SetAdapterMessage,
    SetAdapters,
    SetReplica,
    StartReplica,
    TerminateReplica,
    UnloadAdapter,
)
from quantry_deploy.decide import decide, needs_files, wanted_releases
from quantry_deploy.drivers.protocol import PoolDriver, StartOrder
from quantry_deploy.ledger import Ledger
from quantry_deploy.observations import AttachedFiles, LoadedAdapters, Observations, PullStatus
from quantry_deploy.policy import Policy
from quantry_deploy.progress import rollout_progress
from quantry_store.transactions.rollouts import DeploymentRecord

_log = structlog.get_logger(__name__)


class Reconciler:
    """Moves deployments towards what their records ask for."""

    def __init__(self, ledger: Ledger, driver: PoolDriver, policy: Policy, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._driver = driver
        self._policy = policy
        self._clock = clock
        self._versions: dict[str, VersionDetail] = {}
        self._told: dict[str, tuple[str, Progress]] = {}

    async def reconcile(self, record: DeploymentRecord) -> None:
        """Does what is due for one deployment; what fails is due again in the next pass."""
        seen = await self._observe(record)
        actions = decide(record, seen, self._clock(), self._policy)
        await self._tell(record, seen)
        for action in actions:
            await self._carry_out(record, action)

    async def version(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a version; it is immutable, so it is asked for once."""
        version = self._versions.get(version_id)
        if version is None:
            version = self._versions[version_id] = await self._ledger.version(project_id, version_id)
        return version

    def keep_only(self, records: Collection[DeploymentRecord]) -> None:
        """Forgets the versions and rollouts that none of these deployments has to do with any more."""
        versions = {release.version_id for record in records for release in record.releases.values()}
        versions |= {adapter.version_id for record in records for adapter in record.deployment.adapters}
        rollouts = {record.deployment.active_rollout.id for record in records if record.deployment.active_rollout is not None}
        self._versions = {id_: version for id_, version in self._versions.items() if id_ in versions}
        self._told = {id_: told for id_, told in self._told.items() if told[0] in rollouts}

    async def _observe(self, record: DeploymentRecord) -> Observations:
        deployment = record.deployment
        looks = await asyncio.gather(*(self._driver.probe(replica, deployment.name) for replica in deployment.replicas))
        pulls = {release.id: await self._pull_status(record, release) for release in _needing_files(record)}
        return Observations(
            replicas=dict(zip((replica.id for replica in deployment.replicas), looks, strict=True)),
            pulls=pulls,
            loaded=await self._loaded(record),
            adapters={adapter.id: await self._attached_files(record, adapter) for adapter in deployment.adapters},
        )

    async def _loaded(self, record: DeploymentRecord) -> dict[str, LoadedAdapters]:
        """Returns what the engines list that may have adapters, as far as they answer."""
        asked = [
            replica
            for replica in record.deployment.replicas
            if replica.state is ReplicaState.READY and record.releases[replica.release_id].engine.max_adapters
        ]
        looks = await asyncio.gather(*(self._driver.loaded_adapters(replica) for replica in asked))
        return {replica.id: look for replica, look in zip(asked, looks, strict=True) if look is not None}

    async def _attached_files(self, record: DeploymentRecord, adapter: AttachedAdapter) -> AttachedFiles:
        version = await self.version(adapter.project_id, adapter.version_id)
        base_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
        releases = [release for release in wanted_releases(record) if release.version_id == base_id]
        pulls = {release.id: self._driver.pull_status(version, release.engine) for release in releases}
        return AttachedFiles(base_version_id=base_id, manifest_digest=version.manifest_digest, pulls=pulls)

    async def _pull_status(self, record: DeploymentRecord, release: Release) -> PullStatus:
        version = await self.version(record.deployment.project_id, release.version_id)
        return self._driver.pull_status(version, release.engine)

    async def _tell(self, record: DeploymentRecord, seen: Observations) -> None:
        """Shows where a rollout is as its job's progress, when that changed."""
        rollout = record.deployment.active_rollout
        progress = None if rollout is None else rollout_progress(record, rollout, seen)
        if rollout is None or progress is None or self._told.get(rollout.deployment_id) == (rollout.id, progress):
            return
        await self._ledger.progress(record.deployment.project_id, rollout, progress)
        self._told[rollout.deployment_id] = (rollout.id, progress)

    async def _carry_out(self, record: DeploymentRecord, action: Action) -> None:
        _log.info("action", deployment=record.deployment.name, action=type(action).__name__, **_subject(action))
        match action:
            case BeginRollout():
                await self._ledger.begin(action.rollout_id)
            case PromoteRollout():
                await self._ledger.promote(action.rollout_id)
            case EndRollout():
                await self._ledger.end(action.rollout_id, action.state, action.reason, await self._with_log(action.message, action.witness))
            case PullFiles():
                self._driver.pull(await self.version(record.deployment.project_id, action.release.version_id), action.release.engine)
            case AddReplica():
                await self._ledger.add_replica(action.release, action.ordinal, self._clock())
            case StartReplica():
                await self._start(record, action)
            case SetReplica():
                await self._ledger.write(action.replica.model_copy(update={"state": action.state, "message": action.message}))
            case FailReplica():
                await self._fail(action)
            case TerminateReplica():
                await self._driver.terminate(action.replica)
            case KillReplica():
                await self._driver.kill(action.replica)
            case RemoveReplica():
                await self._driver.kill(action.replica)
                await self._ledger.remove(action.replica)
            case PullAdapter() | LoadAdapter() | UnloadAdapter() | SetAdapters() | SetAdapterMessage():
                await self._carry_out_for_adapter(action)

    async def _carry_out_for_adapter(self, action: AdapterAction) -> None:
        match action:
            case PullAdapter():
                version = await self.version(action.adapter.project_id, action.adapter.version_id)
                self._driver.pull(version, action.release.engine)
            case LoadAdapter():
                version = await self.version(action.adapter.project_id, action.adapter.version_id)
                try:
                    await self._driver.load_adapter(action.replica, action.adapter.name, version)
                except Unavailable as error:
                    _log.warning("not loaded", replica=action.replica.id, adapter=action.adapter.name, error=error.detail)
            case UnloadAdapter():
                await self._driver.unload_adapter(action.replica, action.name)
            case SetAdapters():
                await self._ledger.write(action.replica.model_copy(update={"adapter_ids": action.adapter_ids}))
            case SetAdapterMessage():
                await self._ledger.set_adapter_message(action.adapter, action.message)

    async def _start(self, record: DeploymentRecord, action: StartReplica) -> None:
        """Starts the engine, then records it. If the second fails, the next pass finds the engine running and records that."""
        version = await self.version(record.deployment.project_id, action.release.version_id)
        order = StartOrder(action.replica.id, record.deployment.name, version, action.release.engine)
        try:
            started = await self._driver.start(order)
        except Unavailable as error:
            _log.warning("not started", replica=action.replica.id, error=error.detail)
            return
        except OSError as error:
            await self._fail(FailReplica(action.replica, f"the engine cannot be started: {error}", action.num_restarts))
            return
        changes = {
            "state": ReplicaState.STARTING,
            "url": started.url,
            "pid": started.pid,
            "pid_started_at": started.pid_started_at,
            "log_path": started.log_path,
            "num_restarts": action.num_restarts,
            "adapter_ids": [],
            "message": None,
        }
        await self._ledger.write(action.replica.model_copy(update=changes))

    async def _fail(self, action: FailReplica) -> None:
        """Ends what is left of a replica and records why. Without a pid in the record its next process is not a stray."""
        message = await self._with_log(action.message, action.replica)
        await self._driver.kill(action.replica)
        changes: dict[str, object] = {
            "state": ReplicaState.FAILED,
            "url": None,
            "pid": None,
            "pid_started_at": None,
            "num_restarts": action.num_restarts,
            "adapter_ids": [],
            "message": message,
        }
        await self._ledger.write(action.replica.model_copy(update=changes))

    async def _with_log(self, message: str, witness: Replica | None) -> str:
        tail = "" if witness is None else await self._driver.log_tail(witness)
        return f"{message}. Its last log lines:\n{tail}" if tail else message


def _needing_files(record: DeploymentRecord) -> list[Release]:
    return [release for release in wanted_releases(record) if needs_files(record, release)]


def _subject(action: Action) -> dict[str, str]:  # noqa: PLR0911  one row for each kind
    """Returns what an action is about, for the log line."""
    match action:
        case BeginRollout() | PromoteRollout():
            return {"rollout": action.rollout_id}
        case EndRollout():
            return {"rollout": action.rollout_id, "reason": action.reason, "message": action.message}
        case PullFiles() | AddReplica():
            return {"release": action.release.id}
        case SetReplica():
            return {"replica": action.replica.id, "state": action.state}
        case FailReplica():
            return {"replica": action.replica.id, "message": action.message}
        case PullAdapter() | LoadAdapter() | SetAdapterMessage():
            return {"adapter": action.adapter.name}
        case StartReplica() | TerminateReplica() | KillReplica() | RemoveReplica() | UnloadAdapter() | SetAdapters():
            return {"replica": action.replica.id}
