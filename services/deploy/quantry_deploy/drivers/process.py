"""Replicas as processes of this host. The default of the embedded stack, and of one host with GPUs."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from quantry_core.errors import NotServable, Unavailable
from quantry_core.jobs import EngineKind
from quantry_core.rollouts import Release, Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.artifacts import ArtifactCache, read_config
from quantry_deploy.drivers import logs
from quantry_deploy.drivers.host import Host, available_memory_bytes, needed_memory_bytes, read_host
from quantry_deploy.drivers.launches import Serving, engine_arguments, engine_command, engine_environment, program
from quantry_deploy.drivers.loads import Loads
from quantry_deploy.drivers.looks import Looks
from quantry_deploy.drivers.probes import EngineProbe, Target
from quantry_deploy.drivers.processes import EngineProcess, ProcessTable, free_port
from quantry_deploy.drivers.protocol import StartedReplica, StartOrder
from quantry_deploy.drivers.pulls import Pulls
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation
from quantry_deploy.servability import check_config, check_release
from quantry_deploy.settings import DeploySettings

PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "TZ")
"""Of this process's environment an engine sees only these: no database address, no keys, no tokens."""

MAX_TMP_CHARS = 60
"""vLLM makes Unix sockets below TMPDIR, and a socket's path may have 107 characters."""

_log = structlog.get_logger(__name__)


class ProcessDriver:
    """A ``PoolDriver``. Everything it writes is below ``settings.deploy_dir``."""

    def __init__(self, settings: DeploySettings, cache: ArtifactCache, probe: EngineProbe, host: Host | None = None) -> None:
        """``host`` is what engines may have of this host; None: it is looked up."""
        self._settings = settings
        self._home = settings.deploy_dir.resolve()
        self._cache = cache
        self._host = host if host is not None else read_host(settings.engine_device, settings.host_gpus)
        self._pulls = Pulls(cache, self._check, self._check_config)
        self._probe = probe
        self._looks = Looks(probe)
        self._loads = Loads(probe, cache.directory)
        self._table = ProcessTable(self._home)
        self._starting = threading.Lock()
        self._kinds: dict[str, EngineKind] = {}
        self._ports: dict[str, int] = {}
        self._needs_bytes: dict[str, int] = {}
        self._asked_to_end: set[tuple[str, int]] = set()
        for folder in ("replicas", "home", "tmp", "compiled"):
            (self._home / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def know(self, releases: Iterable[Release]) -> None:
        self._kinds |= {release.id: release.engine.engine for release in releases}

    def pull(self, version: VersionDetail, release: Release) -> None:
        self._pulls.begin(version, release)

    def pull_status(self, version: VersionDetail, release: Release) -> PullStatus:
        return self._pulls.status(version, release)

    async def start(self, order: StartOrder) -> StartedReplica:
        folder = await asyncio.to_thread(self._cache.find, order.version)
        if folder is None:
            self._pulls.forget(order.version)
            raise Unavailable(f"the files of {order.version.ref} are not on this host (any more); they are pulled again")
        process = await asyncio.to_thread(self._started, order, folder)
        self._looks.started(order.replica_id)
        return StartedReplica(process.url, process.pid, process.started_at, str(self._log_path(order.replica_id)))

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        if replica.pid is None or replica.pid_started_at is None or replica.url is None:
            return ReplicaObservation(is_running=False)
        self._remember_port(replica)
        if not await asyncio.to_thread(self._table.is_running, replica.pid, replica.pid_started_at):
            return ReplicaObservation(is_running=False, ending=self._table.ending(replica.pid))
        kind = self._kinds.get(replica.release_id, EngineKind.VLLM)
        return await self._looks.look(replica.id, replica.pid, Target(replica.url, served_name, kind, mark=replica.id))

    async def loaded_adapters(self, replica: Replica) -> LoadedAdapters | None:
        if replica.pid is None or replica.url is None:
            return None
        return await self._loads.look(replica.id, replica.pid, replica.url)

    async def load_adapter(self, replica: Replica, name: str, version: VersionDetail) -> None:
        if replica.pid is None or replica.url is None:
            return
        if await asyncio.to_thread(self._cache.find, version) is None:
            self._pulls.forget(version)
            raise Unavailable(f"the files of {version.ref} are not on this host (any more); they are pulled again")
        self._loads.load(replica.id, replica.pid, replica.url, name, version.manifest_digest)

    async def unload_adapter(self, replica: Replica, name: str) -> None:
        if replica.pid is not None and replica.url is not None:
            self._loads.unload(replica.id, replica.pid, replica.url, name)

    async def terminate(self, replica: Replica) -> None:
        if replica.pid is None or replica.pid_started_at is None or (replica.id, replica.pid) in self._asked_to_end:
            return
        self._asked_to_end.add((replica.id, replica.pid))
        await asyncio.to_thread(self._table.terminate, replica.pid, replica.pid_started_at)

    async def kill(self, replica: Replica) -> None:
        await asyncio.to_thread(self._table.kill, replica.id)
        self._forget(replica)

    async def log_tail(self, replica: Replica) -> str:
        return await asyncio.to_thread(logs.tail, self._log_path(replica.id))

    async def stop_all(self, *, within_s: float) -> None:
        await asyncio.to_thread(self._table.end_all, within_s)

    async def scaled_to(self, release: Release) -> int | None:  # noqa: ARG002  the controller decides
        return None

    async def running(self) -> Mapping[str, Collection[int]]:
        return await asyncio.to_thread(self._table.pids)

    async def kill_strays(self, replica_id: str, pids: Collection[int]) -> None:  # noqa: ARG002  the processes say whose they are
        await asyncio.to_thread(self._table.kill_only, pids)

    async def prune(self, manifest_digests: Collection[str]) -> None:
        self._pulls.keep_only(manifest_digests)
        await asyncio.to_thread(self._cache.prune, {*manifest_digests, *self._pulls.manifest_digests(), *self._loads.given_digests()})
        await asyncio.to_thread(logs.prune, self._home / "replicas", time.time())
        await asyncio.to_thread(logs.trim, self._home / "replicas")

    async def close(self) -> None:
        await self._pulls.close()
        await self._looks.close()
        await self._loads.close()
        await self._probe.close()

    def _check(self, version: VersionDetail, release: Release) -> None:
        """Raises NotServable where this host could never serve the version so."""
        check_release(version, release, self._settings.engine_device)
        program(self._settings, release.engine.engine)
        self._host.check_fits(version, release.engine)

    def _check_config(self, version: VersionDetail, release: Release, config: dict[str, Any]) -> None:
        """Raises NotServable where the files say that the engine could not be started so."""
        check_config(version, config, release.engine)
        try:
            engine_arguments(self._serving(release, "", "", "", config, host="", port=1))
        except NotServable as error:
            raise NotServable(f"{version.ref}: {error.detail}") from error

    def _started(self, order: StartOrder, folder: Path) -> EngineProcess:
        """Returns the replica's engine, started unless it runs: one at a time, so that nothing is given away twice."""
        with self._starting:
            process = self._table.leader(order.replica_id)
            if process is None:
                # What a leader that is gone has left behind serves nothing, and may hold GPUs.
                self._table.kill(order.replica_id)
                process = self._spawn(order, folder)
                _log.info("engine started", replica=order.replica_id, pid=process.pid, url=process.url, version=order.version.ref)
            return process

    def _spawn(self, order: StartOrder, folder: Path) -> EngineProcess:
        """Starts an engine on what is free. Call it with the lock held."""
        self._check_free(order)
        gpus = self._host.choose_gpus(order.engine.num_gpus, {gpu for gpus in self._table.gpus().values() for gpu in gpus})
        host = self._settings.engine_host
        address = _address_of(host)
        port = free_port(address, {*self._ports.values(), *self._table.ports()})
        self._ports[order.replica_id] = port
        log_path = self._log_path(order.replica_id)
        logs.rotate(log_path)
        config = read_config(folder)
        serving = self._serving(order.release, str(folder), order.served_name, order.replica_id, config, host=address, port=port)
        command = engine_command(self._settings, serving)
        environment = self._environment() | engine_environment(order.engine.engine)
        process = self._table.spawn(order.replica_id, f"http://{host}:{port}", command, environment, log_path, gpus=gpus)
        self._needs_bytes[order.replica_id] = needed_memory_bytes(order.version, order.engine)
        return process

    def _check_free(self, order: StartOrder) -> None:
        """Raises Unavailable where the replica does not fit beside what runs, and what has been started but has not grown yet."""
        taken_bytes = self._table.memory_bytes()
        promised = (needed - taken_bytes[id_] for id_, needed in self._needs_bytes.items() if id_ in taken_bytes)
        promised_bytes = sum(max(0, left_bytes) for left_bytes in promised)
        self._host.check_free(needed_memory_bytes(order.version, order.engine), available_memory_bytes(), promised_bytes)

    def _serving(
        self, release: Release, model: str, served_name: str, mark: str, config: Mapping[str, Any], *, host: str, port: int
    ) -> Serving:
        return Serving(
            engine=release.engine,
            config=config,
            model=model,
            served_name=served_name,
            mark=mark,
            host=host,
            port=port,
            stop_grace_s=self._settings.stop_grace_s,
            num_gpus=release.engine.num_gpus if self._host.gpus else 0,
        )

    def _environment(self) -> dict[str, str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # What an engine compiles, and what it learns of a model's class, is kept for the next start of it on this host.
        environment |= {"HOME": str(self._home / "home"), "VLLM_CACHE_ROOT": str(self._home / "compiled")}
        environment |= {"LANG": "C.UTF-8", "TMPDIR": self._tmp()}
        if self._settings.state_dir is not None:
            environment["QUANTRY_STATE_DIR"] = str(self._settings.state_dir)
        return environment

    def _tmp(self) -> str:
        own = str(self._home / "tmp")
        return own if len(own) <= MAX_TMP_CHARS else tempfile.gettempdir()

    def _log_path(self, replica_id: str) -> Path:
        return self._home / "replicas" / f"{replica_id}.log"

    def _remember_port(self, replica: Replica) -> None:
        port = urlsplit(replica.url or "").port
        if port is not None:
            self._ports[replica.id] = port

    def _forget(self, replica: Replica) -> None:
        self._ports.pop(replica.id, None)
        self._needs_bytes.pop(replica.id, None)
        self._looks.forget(replica.id)
        self._loads.forget(replica.id)
        self._asked_to_end = {key for key in self._asked_to_end if key[0] != replica.id}


def _address_of(host: str) -> str:
    """Returns the IPv4 address that engines listen on; raises Unavailable for a name that is not known (yet)."""
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise Unavailable(f"engines are to listen on {host!r} (QUANTRY_ENGINE_HOST), which is no host here: {error.strerror}") from error
