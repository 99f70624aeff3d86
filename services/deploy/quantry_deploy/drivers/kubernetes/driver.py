"""Replicas as pods: a StatefulSet for each release, whose pod at an ordinal is the replica at that ordinal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightkube.resources.apps_v1 import StatefulSet

from quantry_core.errors import NotServable, Unavailable
from quantry_core.rollouts import Release, Replica, ReplicaState
from quantry_core.versions import VersionDetail
from quantry_deploy.artifacts import ArtifactCache, read_config
from quantry_deploy.drivers.kubernetes.cluster import Cluster
from quantry_deploy.drivers.kubernetes.names import REPLICA_PREFIX, object_name, pod_name, pod_url
from quantry_deploy.drivers.kubernetes.objects import CACHE_PATH, Rendering, release_objects
from quantry_deploy.drivers.kubernetes.pods import PodLook, look_at
from quantry_deploy.drivers.kubernetes.scalers import check_scaling, scaler_objects
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings, Scaler
from quantry_deploy.drivers.launches import Serving, engine_arguments
from quantry_deploy.drivers.loads import Loads
from quantry_deploy.drivers.logs import TAIL_CHARS, TAIL_LINES
from quantry_deploy.drivers.looks import Looks
from quantry_deploy.drivers.probes import EngineProbe, Target
from quantry_deploy.drivers.protocol import StartedReplica, StartOrder
from quantry_deploy.drivers.pulls import Pulls
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation
from quantry_deploy.servability import check_config, check_release
from quantry_deploy.settings import DeploySettings

POLL_S = 0.5
VERIFY_SCRIPT = "verify_files.py"
"""Lies beside the launch scripts."""

ADAPTER_PID = 0
"""Stands for a process where there is none of this host: a replica's engine has one name as long as it runs."""


SERVING = frozenset({ReplicaState.READY, ReplicaState.UNHEALTHY})
"""A replica's pod is there once it is in one of these, and stays the same one."""


@dataclass(frozen=True)
class _Run:
    """One start of a replica's engine: a pod, and how often its container had ended in it when it was first looked at."""

    uid: str
    num_restarts: int


class KubernetesDriver:
    """A ``PoolDriver``. The cluster keeps what it is told; this remembers only what it has seen of pods."""

    def __init__(
        self,
        settings: DeploySettings,
        kubernetes: KubernetesSettings,
        cluster: Cluster,
        cache: ArtifactCache,
        probe: EngineProbe,
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._cluster = cluster
        self._cache = cache
        self._probe = probe
        self._pulls = Pulls(cache, self._check, self._check_config)
        self._looks = Looks(probe)
        self._loads = Loads(probe, Path(CACHE_PATH))
        self._releases: dict[str, Release] = {}
        self._runs: dict[str, _Run] = {}
        self._doomed: dict[str, set[int]] = {}
        """Ordinals of each release that were asked to end."""
        self._scaling = asyncio.Lock()

    def know(self, releases: Iterable[Release]) -> None:
        self._releases |= {release.id: release for release in releases}

    def pull(self, version: VersionDetail, release: Release) -> None:
        self._pulls.begin(version, release)

    def pull_status(self, version: VersionDetail, release: Release) -> PullStatus:
        return self._pulls.status(version, release)

    async def start(self, order: StartOrder) -> StartedReplica:
        """Applies the release's objects and has as many pods as it takes; raises Unavailable if the files or the cluster are not there."""
        folder = await asyncio.to_thread(self._cache.find, order.version)
        if folder is None:
            self._pulls.forget(order.version)
            raise Unavailable(f"the files of {order.version.ref} are not in the cluster's cache (any more); they are pulled again")
        rendering = await asyncio.to_thread(self._rendering, order, folder)
        name, ordinal = rendering.name, order.replica.ordinal
        async with self._scaling:
            for document in [*release_objects(rendering), *scaler_objects(rendering)]:
                await self._cluster.apply(document)
            await self._cluster.annotate(name, {f"{REPLICA_PREFIX}{ordinal}": order.replica_id})
            self._doomed.get(order.release.id, set()).discard(ordinal)
            if await self._num_pods(name) <= ordinal:
                await self._cluster.scale(name, ordinal + 1)
        self._looks.started(order.replica_id)
        url = pod_url(order.release.id, ordinal, self._kubernetes.namespace, self._kubernetes.cluster_domain)
        return StartedReplica(url, log_path=f"pods/{pod_name(order.release.id, ordinal)}")

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        """Looks at a replica's pod. One that is about to be made counts as running; one whose engine ended since it was first seen
        does not, though Kubernetes may start it again by itself; nor does one that served and was asked to end by somebody else."""
        if replica.url is None:
            return ReplicaObservation(is_running=False)
        name = pod_name(replica.release_id, replica.ordinal)
        pod = await self._cluster.pod(name)
        if pod is None:
            is_due = replica.state not in SERVING and await self._num_pods(object_name(replica.release_id)) > replica.ordinal
            return ReplicaObservation(is_running=is_due, doubt="its pod is about to be made" if is_due else "")
        look = look_at(pod)
        if (other := self._other_pod(replica, look)) is not None:
            return other
        run = self._run(replica.id, look)
        if look.has_failed_check or look.num_restarts > run.num_restarts or (look.ending and not look.num_restarts):
            return ReplicaObservation(is_running=False, ending=look.ending or "ended")
        target = Target(replica.url, served_name, self._release(replica).engine.engine, mark=name)
        seen = await self._looks.look(replica.id, run, target)
        return replace(seen, doubt=seen.doubt or look.waits_for)

    async def loaded_adapters(self, replica: Replica) -> LoadedAdapters | None:
        return None if replica.url is None else await self._loads.look(replica.id, ADAPTER_PID, replica.url)

    async def load_adapter(self, replica: Replica, name: str, version: VersionDetail) -> None:
        if replica.url is None:
            return
        if await asyncio.to_thread(self._cache.find, version) is None:
            self._pulls.forget(version)
            raise Unavailable(f"the files of {version.ref} are not in the cluster's cache (any more); they are pulled again")
        self._loads.load(replica.id, ADAPTER_PID, replica.url, name, version.manifest_digest)

    async def unload_adapter(self, replica: Replica, name: str) -> None:
        if replica.url is not None:
            self._loads.unload(replica.id, ADAPTER_PID, replica.url, name)

    async def terminate(self, replica: Replica) -> None:
        """Has fewer pods, once those above this one are to end too: a StatefulSet ends the highest first."""
        self._doomed.setdefault(replica.release_id, set()).add(replica.ordinal)
        async with self._scaling:
            await self._end_doomed(replica.release_id)

    async def kill(self, replica: Replica) -> None:
        """Removes a pod at once, or leaves it to its own end where that has begun and is bound to come. One that is still wanted is made
        anew; a release without any loses its objects."""
        name = object_name(replica.release_id)
        if replica.url is None:
            # Nothing is recorded of it any more: it starts again by an order, not by itself.
            self._doomed.setdefault(replica.release_id, set()).add(replica.ordinal)
        doomed = replica.ordinal in self._doomed.get(replica.release_id, set())
        async with self._scaling:
            if doomed:
                await self._end_doomed(replica.release_id)
            num_pods = await self._num_pods(name)
            if not doomed or replica.ordinal >= num_pods:
                await self._remove_pod(pod_name(replica.release_id, replica.ordinal))
            if not num_pods:
                await self._cluster.remove_release(name)
                self._doomed.pop(replica.release_id, None)
        self._forget(replica.id)

    async def log_tail(self, replica: Replica) -> str:
        """Returns the last lines a replica wrote; none while the cluster does not tell: what needs them must go on."""
        name = pod_name(replica.release_id, replica.ordinal)
        pod = None
        with suppress(Unavailable):
            pod = await self._cluster.pod(name)
        if pod is None:
            return ""
        words = look_at(pod).last_words
        lines = words.splitlines() if words else await self._cluster.log(name)
        return "\n".join(line.replace("\x00", "").rstrip() for line in lines[-TAIL_LINES:])[-TAIL_CHARS:]

    async def scaled_to(self, release: Release) -> int | None:
        """Returns what an HPA or KEDA wants. From zero the controller brings the first one up: it alone hears of requests that wait at
        gateways."""
        if self._kubernetes.scaler is Scaler.CONTROLLER or release.scaling is None:
            return None
        return await self._num_pods(object_name(release.id)) or None

    async def stop_all(self, *, within_s: float) -> None:
        for one in await self._cluster.stateful_sets(self._kubernetes.owner):
            name = _name(one)
            await self._cluster.remove_scalers(name)
            await self._cluster.scale(name, 0)
        pods = await self._cluster.pods(self._kubernetes.owner)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while pods:
                    await asyncio.sleep(POLL_S)
                    pods = await self._cluster.pods(self._kubernetes.owner)
        for pod in pods:
            await self._cluster.remove_pod(str(pod.metadata.name if pod.metadata else ""))

    async def running(self) -> Mapping[str, Collection[int]]:
        sets = await self._cluster.stateful_sets(self._kubernetes.owner)
        return {replica_id: () for one in sets for replica_id in _replicas(one).values()}

    async def kill_strays(self, replica_id: str, pids: Collection[int]) -> None:  # noqa: ARG002  there are no processes of this host
        for one in await self._cluster.stateful_sets(self._kubernetes.owner):
            places = {id_: ordinal for ordinal, id_ in _replicas(one).items()}
            if replica_id not in places:
                continue
            name = _name(one)
            async with self._scaling:
                # The highest only: those below go at the next look, or belong to somebody.
                if places[replica_id] == _pods_of(one) - 1:
                    await self._cluster.scale(name, places[replica_id])
                    await self._cluster.remove_pod(f"{name}-{places[replica_id]}")
                if not await self._num_pods(name):
                    await self._cluster.remove_release(name)

    async def prune(self, manifest_digests: Collection[str]) -> None:
        self._pulls.keep_only(manifest_digests)
        await asyncio.to_thread(self._cache.prune, {*manifest_digests, *self._pulls.manifest_digests(), *self._loads.given_digests()})

    async def close(self) -> None:
        await self._pulls.close()
        await self._looks.close()
        await self._loads.close()
        await self._probe.close()
        await self._cluster.close()

    def _check(self, version: VersionDetail, release: Release) -> None:
        check_release(version, release, self._settings.engine_device)
        image, variable = self._kubernetes.image(release.engine.engine)
        if image is None:
            raise NotServable(f"there is no image of {release.engine.engine} in this installation: {variable} is not set")
        check_scaling(release, self._kubernetes)

    def _check_config(self, version: VersionDetail, release: Release, config: dict[str, Any]) -> None:
        check_config(version, config, release.engine)
        try:
            engine_arguments(Serving(release.engine, config, "", "", "", "", 1, 0.0, 0))
        except NotServable as error:
            raise NotServable(f"{version.ref}: {error.detail}") from error

    def _rendering(self, order: StartOrder, folder: Path) -> Rendering:
        return Rendering(
            settings=self._kubernetes,
            release=order.release,
            version=order.version,
            served_name=order.served_name,
            config=read_config(folder),
            verify_script=self._settings.engine_script.with_name(VERIFY_SCRIPT).read_text(),
            device=self._settings.engine_device,
            drain_s=self._settings.drain_s,
            stop_grace_s=self._settings.stop_grace_s,
            start_timeout_s=self._settings.start_timeout_s,
        )

    async def _end_doomed(self, release_id: str) -> None:
        """Scales a release down to the highest ordinal that was not asked to end. Call it with the lock held."""
        doomed, name = self._doomed.get(release_id, set()), object_name(release_id)
        num_pods = wanted = await self._num_pods(name)
        while wanted and wanted - 1 in doomed:
            wanted -= 1
        if not wanted:
            await self._cluster.remove_scalers(name)
        if wanted < num_pods:
            await self._cluster.scale(name, wanted)

    async def _remove_pod(self, name: str) -> None:
        """Removes a pod, unless it was asked to end and has time left: requests may run in it that long."""
        pod = await self._cluster.pod(name)
        ends_by = None if pod is None else look_at(pod).ends_by
        if ends_by is None or ends_by <= datetime.now(UTC):
            await self._cluster.remove_pod(name)

    async def _num_pods(self, name: str) -> int:
        found = await self._cluster.stateful_set(name)
        return 0 if found is None else _pods_of(found)

    def _other_pod(self, replica: Replica, look: PodLook) -> ReplicaObservation | None:
        """Returns what is seen of a replica where the pod in its place is not its own, or not for long; None where it is."""
        before = self._runs.get(replica.id)
        if replica.state in SERVING and before is not None and before.uid != look.uid:
            return ReplicaObservation(is_running=False, ending="was ended: another pod is in its place")
        if replica.state in SERVING and look.ends_by is not None:
            # Its engine hears of that only after the pod's preStop: time to take its route away.
            return ReplicaObservation(is_running=False, ending="was asked to end by the cluster")
        if replica.state is ReplicaState.STARTING and look.ends_by is not None:
            return ReplicaObservation(is_running=True, doubt="the pod before it has yet to end")
        return None

    def _run(self, replica_id: str, look: PodLook) -> _Run:
        """Returns the start that a pod is: another pod at the same place is another start, and begins with what has happened in it."""
        run = self._runs.get(replica_id)
        if run is None or run.uid != look.uid:
            run = self._runs[replica_id] = _Run(look.uid, look.num_restarts)
        return run

    def _release(self, replica: Replica) -> Release:
        release = self._releases.get(replica.release_id)
        if release is None:
            raise Unavailable(f"nothing is known of release {replica.release_id} yet")
        return release

    def _forget(self, replica_id: str) -> None:
        self._runs.pop(replica_id, None)
        self._looks.forget(replica_id)
        self._loads.forget(replica_id)


def _name(one: StatefulSet) -> str:
    return str(one.metadata.name if one.metadata else "")


def _pods_of(one: StatefulSet) -> int:
    """Returns how many pods a StatefulSet is to have; 1 where it does not say, as Kubernetes has it."""
    replicas = one.spec.replicas if one.spec else None
    return 1 if replicas is None else replicas


def _replicas(one: StatefulSet) -> dict[int, str]:
    """Returns the replica at each ordinal that has a pod."""
    annotations = (one.metadata.annotations if one.metadata else None) or {}
    places = {int(key.removeprefix(REPLICA_PREFIX)): id_ for key, id_ in annotations.items() if key.startswith(REPLICA_PREFIX)}
    return {ordinal: id_ for ordinal, id_ in places.items() if ordinal < _pods_of(one)}
