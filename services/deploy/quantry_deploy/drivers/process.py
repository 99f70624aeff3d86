"""Replicas as processes of this machine. The default of the embedded stack, and of one host with GPUs."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from quantry_core.errors import Unavailable
from quantry_core.jobs import EngineConfig
from quantry_core.rollouts import Replica
from quantry_core.versions import VersionDetail
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.drivers import logs
from quantry_deploy.drivers.loads import Loads
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.processes import EngineProcess, ProcessTable, free_port
from quantry_deploy.drivers.proofs import Proofs
from quantry_deploy.drivers.protocol import StartedReplica, StartOrder
from quantry_deploy.drivers.pulls import Pulls
from quantry_deploy.observations import LoadedAdapters, PullStatus, ReplicaObservation
from quantry_deploy.settings import DeploySettings

HOST = "127.0.0.1"

PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "TZ")
"""Of this process's environment an engine sees only these: no database address, no keys, no tokens."""

MAX_TMP_CHARS = 60
"""vLLM makes Unix sockets below TMPDIR, and a socket's path may have 107 characters."""

_log = structlog.get_logger(__name__)


class ProcessDriver:
    """A ``PoolDriver``. Everything it writes is below ``settings.deploy_dir``."""

    def __init__(self, settings: DeploySettings, cache: ArtifactCache, probe: EngineProbe) -> None:
        self._settings = settings
        self._home = settings.deploy_dir.resolve()
        self._cache = cache
        self._pulls = Pulls(cache, device=settings.engine_device)
        self._probe = probe
        self._proofs = Proofs(probe)
        self._loads = Loads(probe, cache.directory)
        self._table = ProcessTable(self._home)
        self._ports: dict[str, int] = {}
        self._answered_at_s: dict[str, float] = {}
        self._asked_to_end: set[tuple[str, int]] = set()
        for folder in (self._home / "replicas", self._home / "home", self._home / "tmp"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def pull(self, version: VersionDetail, engine: EngineConfig) -> None:
        self._pulls.begin(version, engine)

    def pull_status(self, version: VersionDetail, engine: EngineConfig) -> PullStatus:
        return self._pulls.status(version, engine)

    async def start(self, order: StartOrder) -> StartedReplica:
        """Starts an engine unless one runs for this replica; raises Unavailable if the files are not here, or OSError."""
        folder = await asyncio.to_thread(self._cache.find, order.version)
        if folder is None:
            self._pulls.forget(order.version)
            raise Unavailable(f"the files of {order.version.ref} are not on this host (any more); they are pulled again")
        process = await asyncio.to_thread(self._table.leader, order.replica_id)
        if process is None:
            process = await asyncio.to_thread(self._spawn, order, folder)
            _log.info("engine started", replica=order.replica_id, pid=process.pid, url=process.url, version=order.version.ref)
        self._answered_at_s[order.replica_id] = time.monotonic()
        return StartedReplica(process.pid, process.started_at, process.url, str(self._log_path(order.replica_id)))

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        if replica.pid is None or replica.pid_started_at is None or replica.url is None:
            return ReplicaObservation(is_running=False)
        self._remember_port(replica)
        if not await asyncio.to_thread(self._table.is_running, replica.pid, replica.pid_started_at):
            return ReplicaObservation(is_running=False, ending=self._table.ending(replica.pid))
        now_s = time.monotonic()
        answers = await self._probe.answers(replica.url)
        if answers:
            self._answered_at_s[replica.id] = now_s
            self._proofs.ask(replica.id, replica.pid, replica.url, served_name)
        return ReplicaObservation(
            is_running=True,
            answers=answers,
            is_proven=self._proofs.is_proven(replica.id, replica.pid),
            silent_s=now_s - self._answered_at_s.setdefault(replica.id, now_s),
            doubt=self._proofs.doubt(replica.id, replica.pid),
        )

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

    async def running(self) -> Mapping[str, Collection[int]]:
        return await asyncio.to_thread(self._table.pids)

    async def kill_strays(self, pids: Collection[int]) -> None:
        await asyncio.to_thread(self._table.kill_only, pids)

    async def prune(self, manifest_digests: Collection[str]) -> None:
        self._pulls.keep_only(manifest_digests)
        await asyncio.to_thread(self._cache.prune, {*manifest_digests, *self._pulls.manifest_digests(), *self._loads.given_digests()})
        await asyncio.to_thread(logs.prune, self._home / "replicas", time.time())

    async def close(self) -> None:
        await self._pulls.close()
        await self._proofs.close()
        await self._loads.close()
        await self._probe.close()

    def _spawn(self, order: StartOrder, folder: Path) -> EngineProcess:
        port = free_port(HOST, set(self._ports.values()))
        self._ports[order.replica_id] = port
        log_path = self._log_path(order.replica_id)
        logs.rotate(log_path)
        command = engine_command(self._settings, order, folder, port)
        return self._table.spawn(order.replica_id, f"http://{HOST}:{port}", command, self._environment(), log_path)

    def _environment(self) -> dict[str, str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"HOME": str(self._home / "home"), "LANG": "C.UTF-8", "TMPDIR": self._tmp()}
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
        self._answered_at_s.pop(replica.id, None)
        self._proofs.forget(replica.id)
        self._loads.forget(replica.id)
        self._asked_to_end = {key for key in self._asked_to_end if key[0] != replica.id}


def engine_command(settings: DeploySettings, order: StartOrder, folder: Path, port: int) -> list[str]:
    """Returns the launch script's command line. The replica's id is a second name of the model: the probe looks for it."""
    command = [str(settings.engine_python), "-P", str(settings.engine_script), "--model", str(folder)]
    command += ["--served-model-name", order.served_name, order.replica_id, "--host", HOST, "--port", str(port)]
    command += ["--kv-cache-bytes", str(order.engine.kv_cache_bytes), "--max-num-seqs", str(order.engine.max_num_seqs)]
    command += ["--shutdown-timeout", str(int(settings.stop_grace_s))]
    if order.engine.max_model_len_tokens is not None:
        command += ["--max-model-len", str(order.engine.max_model_len_tokens)]
    if order.engine.max_adapters:
        command += ["--max-adapters", str(order.engine.max_adapters), "--max-adapter-rank", str(order.engine.max_adapter_rank)]
    return command
