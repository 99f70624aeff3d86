"""The drivers under one conformance suite: each with engines that are real processes and answer like vLLM."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster as ClusterAddress
from lightkube.config.models import User

from factories.kube_api import KubeApi
from factories.kube_nodes import FAKE_ENGINE, Nodes, PodNetwork
from factories.rollout_records import NOW, true_version
from factories.rollout_records import release as plain_release
from factories.servers import free_port
from quantry_blobs.errors import DigestMismatch
from quantry_core.ids import IdPrefix, new_id
from quantry_core.methods import DeviceKind, Format
from quantry_core.rollouts import Release, Replica, ReplicaState
from quantry_core.versions import ManifestFile, VersionDetail, VersionKind, VersionState
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.drivers.kubernetes.cluster import Cluster
from quantry_deploy.drivers.kubernetes.driver import KubernetesDriver
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.drivers.protocol import PoolDriver, StartOrder
from quantry_deploy.drivers.static import AllowedHosts, StaticDriver
from quantry_deploy.observations import PullState, ReplicaObservation
from quantry_deploy.settings import DeploySettings

ENGINE_SCRIPTS = Path(__file__).parents[2] / "services" / "engine"
NAMESPACE = "pools"
PATIENCE_S = 20.0
SERVED_NAME = "chat"


class Shelf:
    """The vault, as far as a fetch goes."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.num_fetched = 0

    def fetch(self, file: ManifestFile, to: Path) -> None:
        content = self.contents[file.sha256]
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DigestMismatch(f"{file.path} is not what its digest says")
        self.num_fetched += 1
        to.write_bytes(content)


class PoolUnderTest(ABC):
    """A driver, what it runs on, and what a test asks of both."""

    starts_engines = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf = Shelf()
        self.settings = DeploySettings(
            deploy_port=1,
            deploy_dir=folder / "deploy",
            engine_python=Path(sys.executable),
            engine_script=FAKE_ENGINE,
            engine_device=DeviceKind.CPU,
            drain_s=0.0,
            stop_grace_s=5.0,
        )
        self.drivers: list[PoolDriver] = []
        self.releases: list[Release] = []

    @abstractmethod
    def make_driver(self) -> PoolDriver:
        """Returns a driver as a new process would make it."""

    @property
    def driver(self) -> PoolDriver:
        if not self.drivers:
            self.replace_driver()
        return self.drivers[-1]

    def replace_driver(self) -> None:
        """Puts another driver in this one's place, as after a crash of the controller."""
        self.drivers.append(self.make_driver())
        self.drivers[-1].know(self.releases)

    def cache(self) -> ArtifactCache:
        return ArtifactCache(self.shelf, self.settings.deploy_dir / "cache")

    def version(self, behaviour: str = "serve", weights: str = "weights") -> VersionDetail:
        """Returns a master whose engine behaves so."""
        config = json.dumps({"behaviour": behaviour, "max_position_embeddings": 1024})
        contents = {"config.json": config.encode(), "model.safetensors": weights.encode()}
        self.shelf.contents |= {hashlib.sha256(content).hexdigest(): content for content in contents.values()}
        changes: dict[str, Any] = {"kind": VersionKind.MASTER, "format": Format.SAFETENSORS, "state": VersionState.READY, "scheme": None}
        return true_version(contents).model_copy(update={**changes, "id": new_id(IdPrefix.VERSION)})

    def release(self, version: VersionDetail, num_replicas: int = 1, **changes: Any) -> Release:
        """Returns a release of a version, which the driver knows."""
        values = {"id": new_id(IdPrefix.RELEASE), "version_id": version.id, "num_replicas": num_replicas, **changes}
        made = plain_release().model_copy(update=values)
        self.releases.append(made)
        self.driver.know(self.releases)
        return made

    async def pulled(self, version: VersionDetail, release: Release) -> PullState:
        """Returns how a pull ended."""
        self.driver.pull(version, release)
        await until(lambda: _settled(self.driver, version, release))
        return self.driver.pull_status(version, release).state

    async def started(self, version: VersionDetail, release: Release, ordinal: int = 0) -> Replica:
        """Returns a replica's record once it was started; its files are pulled before."""
        assert await self.pulled(version, release) is PullState.DONE
        replica = Replica(id=new_id(IdPrefix.REPLICA), release_id=release.id, ordinal=ordinal, state=ReplicaState.PULLING, updated_at=NOW)
        return await self.started_again(version, release, replica)

    async def started_again(self, version: VersionDetail, release: Release, replica: Replica) -> Replica:
        """Returns the record of a replica that was asked to start."""
        started = await self.driver.start(StartOrder(replica, release, SERVED_NAME, version))
        changes = {"url": started.url, "pid": started.pid, "pid_started_at": started.pid_started_at, "log_path": started.log_path}
        return replica.model_copy(update={**changes, "state": ReplicaState.STARTING})

    async def ready(self, version: VersionDetail, release: Release, ordinal: int = 0) -> Replica:
        """Returns a replica that is proven."""
        replica = await self.started(version, release, ordinal)
        await self.until_seen(replica, lambda seen: seen.is_proven)
        return replica

    async def until_seen(self, replica: Replica, condition: Callable[[ReplicaObservation], bool]) -> ReplicaObservation:
        """Returns the first look of which the condition holds."""
        seen: list[ReplicaObservation] = []

        async def holds() -> bool:
            seen.append(await self.driver.probe(replica, SERVED_NAME))
            return condition(seen[-1])

        await until(holds, lambda: str(seen[-1]))
        return seen[-1]

    async def close(self) -> None:
        """Ends every engine."""
        await self.driver.stop_all(within_s=0.5)
        for driver in self.drivers:
            # Each driver reaps the children that it started.
            await driver.running()
            await driver.close()


class ProcessPool(PoolUnderTest):
    def make_driver(self) -> PoolDriver:
        return ProcessDriver(self.settings, self.cache(), EngineProbe())


class KubernetesPool(PoolUnderTest):
    def __init__(self, folder: Path, url: str, api: KubeApi, **settings: Any) -> None:
        super().__init__(folder)
        self.settings = self.settings.model_copy(update={"engine_script": ENGINE_SCRIPTS / "serve.py"})
        self.kubernetes = KubernetesSettings(namespace=NAMESPACE, cache_claim="cache", image_vllm="quantry-engine:cpu", **settings)
        self.api = api
        self.url = url
        (folder / "nodes").mkdir()
        self.nodes = Nodes(api, NAMESPACE, self.settings.deploy_dir / "cache", folder / "nodes")

    def make_driver(self) -> KubernetesDriver:
        client = AsyncClient(
            config=KubeConfig.from_one(cluster=ClusterAddress(server=self.url), user=User(token="token")).get(),
            namespace=NAMESPACE,
            trust_env=False,
        )
        probe = EngineProbe(PodNetwork(self.nodes))
        return KubernetesDriver(self.settings, self.kubernetes, Cluster(client, NAMESPACE), self.cache(), probe)

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            self.nodes.close()


class StaticPool(PoolUnderTest):
    """Servers that are there before a release names them."""

    starts_engines = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers: list[subprocess.Popen[bytes]] = []

    def make_driver(self) -> PoolDriver:
        return StaticDriver(EngineProbe(), AllowedHosts("127.0.0.1"))

    def release(self, version: VersionDetail, num_replicas: int = 1, **changes: Any) -> Release:
        servers = [self._serve(version) for _ in range(num_replicas)]
        return super().release(version, num_replicas, **{"servers": servers, **changes})

    def _serve(self, version: VersionDetail) -> str:
        folder, port = self.folder / new_id(IdPrefix.VERSION), free_port()
        folder.mkdir(parents=True)
        for file in version.files:
            (folder / file.path).write_bytes(self.shelf.contents[file.sha256])
        words = ["--model", str(folder), "--served-model-name", SERVED_NAME, "--host", "127.0.0.1", "--port", str(port)]
        sizes = ["--kv-cache-bytes", "1", "--max-num-seqs", "1", "--shutdown-timeout", "1"]
        self.servers.append(
            subprocess.Popen([sys.executable, str(FAKE_ENGINE), *words, *sizes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return f"http://127.0.0.1:{port}"

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            for server in self.servers:
                server.kill()
                server.wait()


async def until(condition: Callable[[], Awaitable[bool]], words: Callable[[], str] = str) -> None:
    """Returns once the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline_s, f"not in {PATIENCE_S} s: {words()}"
        await asyncio.sleep(0.02)


async def _settled(driver: PoolDriver, version: VersionDetail, release: Release) -> bool:
    return driver.pull_status(version, release).state is not PullState.RUNNING
