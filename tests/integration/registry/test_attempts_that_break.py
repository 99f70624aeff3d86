"""A disk that fills up while a version is saved, and a store that cuts connections while it is uploaded: the worker's own
supervisor and child, on the real registry. A clear reason, nothing registered, nothing left.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from factories.checkpoints import master_contents, write_checkpoint
from factories.fake_control import FakeControl
from factories.registry import LEASE_S, Registry
from factories.store import TOOLCHAIN, WORKER_ID
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging
from quantry_core.execution import FinishRequest, Lease, NextRequest
from quantry_core.jobs import CPU_QUEUE, ImportSpec, Job, JobReason, JobStatus, JobSubmission
from quantry_core.keys import Role
from quantry_core.methods import Environment
from quantry_core.versions import SealRequest, SealResult
from quantry_registry.sweeps import sweep_staging
from quantry_store.transactions.execution import claim_next
from quantry_store.transactions.finish import finish_attempt
from quantry_store.transactions.submit import submit_job
from quantry_worker.artifacts import Artifacts
from quantry_worker.buckets import ImportBuckets
from quantry_worker.cache import BlobCache
from quantry_worker.control import HttpControl
from quantry_worker.guard import worker_clock
from quantry_worker.settings import WorkerSettings
from quantry_worker.supervisor import Claim, Supervisor
from quantry_worker.work_dir import WorkDir

PADDING = b'{"model_type": "llama"}' + b" " * 1_000_000
"""Of a file that no request and no small disk takes at once."""

Answer = TypeVar("Answer")


class CuttingProxy:
    """Passes bytes on to a server, and cuts a connection after ``cut_after_bytes`` of them, ``num_cuts`` times."""

    def __init__(self, port: int, cut_after_bytes: int, num_cuts: int) -> None:
        self._port = port
        self._cut_after_bytes = cut_after_bytes
        self.cuts_left = num_cuts
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, may_cut: bool) -> None:
        num_bytes = 0
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                num_bytes += len(data)
                if may_cut and num_bytes > self._cut_after_bytes and self._takes_a_cut():
                    for end in (source, target):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)

    def _takes_a_cut(self) -> bool:
        with self._lock:
            self.cuts_left -= 1
            return self.cuts_left >= 0


class OverTheRegistry(FakeControl):
    """Seals are the registry's, over HTTP; an attempt ends in its database, as the api would end it."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._http = HttpControl(registry.url, registry.secrets[Role.WORKER])
        self.close = self._http.close

    def seal(self, request: SealRequest) -> SealResult:
        return self._http.seal(request)

    def finish(self, job_id: str, request: FinishRequest, timeout_s: float) -> Job:
        async def end() -> Job:
            async with self._registry.database.begin() as uow:
                return await finish_attempt(uow, job_id, request)

        return self._wait(end())

    def _wait(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)


async def lease_of(registry: Registry, source: Path) -> Lease:
    async with registry.database.begin() as uow:
        spec = ImportSpec(model="bard", source=str(source))
        await submit_job(uow, registry.identities[Role.OPERATOR], JobSubmission(spec=spec))
    async with registry.database.begin() as uow:
        request = NextRequest(queue=CPU_QUEUE, worker_id=WORKER_ID, environments={Environment.ML: TOOLCHAIN})
        lease = await claim_next(uow, request, lease_s=LEASE_S, heartbeat_s=10)
    assert lease is not None
    return lease


async def run_attempt(registry: Registry, store: MinioStore, directory: Path, python: Path) -> Job:
    """Returns the job after one attempt at importing a master with a file of 1 MB."""
    source = write_checkpoint(directory / "source", master_contents() | {"notes.json": PADDING})
    lease = await lease_of(registry, source)
    settings = WorkerSettings(
        control_url=registry.url,
        worker_token=SecretStr(registry.secrets[Role.WORKER]),
        broker_url=SecretStr("redis://"),
        work_dir=directory / "work",
        ml_python=python,
        import_roots=[source.parent],
    )
    control, work_dir = OverTheRegistry(registry), WorkDir(settings.work_dir)
    staging = Staging(store, registry.parts.staging.bucket)
    supervisor = Supervisor(
        settings,
        control=control,
        artifacts=Artifacts(registry.parts.vault, staging, BlobCache(work_dir.cache, 10**6), control),
        buckets=ImportBuckets((), lambda: store),
        work_dir=work_dir,
        is_draining=lambda: False,
    )
    with contextlib.closing(control):
        await asyncio.to_thread(supervisor.run, Claim(lease, worker_clock()))
    assert [path for path in settings.work_dir.rglob("*") if path.is_file()] == []
    async with registry.database.begin() as uow:
        return await uow.jobs.get(lease.job.project_id, lease.job.id)


async def nothing_is_left(registry: Registry) -> None:
    await sweep_staging(registry.database, registry.parts.staging)
    assert registry.parts.staging.attempts() == set()
    async with registry.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/versions")).json()["data"] == []
        assert (await client.get("/api/v1/models")).json()["data"] == []
    assert list(registry.parts.store.list(registry.parts.vault.bucket, "incoming/")) == []


def python_with_small_disk(directory: Path) -> Path:
    """Returns an interpreter that can write no file longer than 512 kB: to what it runs, the same as a disk that is full."""
    python = directory / "python-with-small-disk"
    python.write_text(f'#!/bin/sh\nulimit -f 1000\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture
def cut(blob_settings: BlobSettings, request: pytest.FixtureRequest) -> Iterator[tuple[MinioStore, CuttingProxy]]:
    """The S3 server behind a proxy that cuts as often as the test's parameter says."""
    proxy = CuttingProxy(int(blob_settings.endpoint.rpartition(":")[2]), cut_after_bytes=300_000, num_cuts=request.param)
    store = MinioStore(blob_settings.model_copy(update={"endpoint": f"127.0.0.1:{proxy.port}", "num_retries": 0}))
    yield store, proxy
    store.close()
    proxy.close()


async def test_a_disk_that_is_full_in_mid_save(registry: Registry, tmp_path: Path) -> None:
    store = registry.parts.store
    assert isinstance(store, MinioStore)
    job = await run_attempt(registry, store, tmp_path, python_with_small_disk(tmp_path))
    assert job.reason is JobReason.INTERNAL
    assert "the worker's disk is full: make room in its QUANTRY_WORK_DIR" in (job.message or "")
    await nothing_is_left(registry)


@pytest.mark.parametrize("cut", [1000], indirect=True)
async def test_a_store_that_cuts_every_upload(
    registry: Registry, cut: tuple[MinioStore, CuttingProxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantry_worker.artifacts.STORE_PATIENCE_S", 0.5)
    job = await run_attempt(registry, cut[0], tmp_path, Path(sys.executable))
    # Lost, not failed: another attempt follows.
    assert (job.status, job.reason) == (JobStatus.QUEUED, JobReason.WORKER_LOST)
    assert "the object store at" in (job.message or "")
    assert "notes.json" in (job.message or "")
    assert cut[1].cuts_left <= 998, "it was tried again"
    await nothing_is_left(registry)


@pytest.mark.parametrize("cut", [1], indirect=True)
async def test_a_store_that_cuts_an_upload_once(registry: Registry, cut: tuple[MinioStore, CuttingProxy], tmp_path: Path) -> None:
    job = await run_attempt(registry, cut[0], tmp_path, Path(sys.executable))
    assert job.status is JobStatus.SUCCEEDED, job.message
    assert cut[1].cuts_left < 0
    async with registry.client(Role.VIEWER) as client:
        [version] = (await client.get("/api/v1/versions")).json()["data"]
    assert version["state"] == "ready"
