"""A registry reached over HTTP, and a worker's part of a job played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from factories.checkpoints import master_contents
from factories.store import GATE_PASSED, TOOLCHAIN, WORKER_ID
from quantry_core.execution import FinishRequest, NextRequest, Outcome
from quantry_core.jobs import CPU_QUEUE, ImportSpec, Job, JobReason, JobSpec, JobSubmission
from quantry_core.keys import Identity, Role
from quantry_core.methods import Environment, Format
from quantry_core.versions import (
    ManifestFile,
    SealRequest,
    Version,
    VersionCard,
    VersionDraft,
    VersionKind,
    VersionState,
)
from quantry_registry.parts import Parts
from quantry_store.database import Database
from quantry_store.transactions.execution import claim_next
from quantry_store.transactions.finish import finish_attempt
from quantry_store.transactions.submit import submit_job

LEASE_S = 60.0


@dataclass(frozen=True)
class Registry:
    """A running registry, and what is behind it."""

    url: str
    database: Database
    parts: Parts
    identities: Mapping[Role, Identity]
    secrets: Mapping[Role, str]

    def client(self, role: Role) -> httpx.AsyncClient:
        """Returns an HTTP client with a key of that role."""
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.secrets[role]}"}, timeout=30)

    async def claim(self, spec: JobSpec | None = None, lease_s: float = LEASE_S) -> Job:
        """Returns a job that the worker just claimed."""
        async with self.database.begin() as uow:
            submission = JobSubmission(spec=ImportSpec(model="bard", source="/models/bard") if spec is None else spec)
            await submit_job(uow, self.identities[Role.OPERATOR], submission)
        async with self.database.begin() as uow:
            request = NextRequest(queue=CPU_QUEUE, worker_id=WORKER_ID, environments={Environment.ML: TOOLCHAIN})
            lease = await claim_next(uow, request, lease_s=lease_s, heartbeat_s=10)
        assert lease is not None
        return lease.job

    def stage(self, job: Job, contents: Mapping[str, bytes], folder: Path) -> list[ManifestFile]:
        """Uploads files to staging as a worker does."""
        files = []
        for path, content in contents.items():
            (folder / "staged").write_bytes(content)
            files.append(self.parts.staging.put(job.id, job.attempt, path, folder / "staged"))
        return files

    async def seal(self, job: Job, files: list[ManifestFile]) -> httpx.Response:
        """Asks for the seal over HTTP."""
        request = SealRequest(job_id=job.id, attempt=job.attempt, files=files)
        async with self.client(Role.WORKER) as client:
            return await client.post("/api/v1/seals", json=request.model_dump(mode="json"))

    async def finish(
        self,
        job: Job,
        files: list[ManifestFile],
        kind: VersionKind = VersionKind.MASTER,
        *,
        dtype: str = "float16",
        card: VersionCard | None = None,
    ) -> Version:
        """Returns the version recorded by a successful finish; ``dtype`` and ``card`` are what the worker says of a master."""
        is_master = kind is VersionKind.MASTER
        draft = VersionDraft(
            model="bard",
            kind=kind,
            state=VersionState.READY,
            format=Format.SAFETENSORS if is_master else Format.COMPRESSED_TENSORS,
            scheme=None if is_master else "W4A16",
            dtype=dtype if is_master else None,
            files=files,
            card=card or VersionCard(),
        )
        gate = [] if is_master else GATE_PASSED
        request = FinishRequest(attempt=job.attempt, outcome=Outcome.SUCCEEDED, reason=JobReason.COMPLETED, version=draft, evidence=gate)
        async with self.database.begin() as uow:
            done = await finish_attempt(uow, job.id, request)
            assert done.result is not None
            assert done.result.version_id is not None
            return await uow.versions.get(done.project_id, done.result.version_id)

    async def import_master_of(self, job_id: str, folder: Path, contents: Mapping[str, bytes]) -> Version:
        """Returns the master that a queued import made, the only job that is queued."""
        async with self.database.begin() as uow:
            request = NextRequest(queue=CPU_QUEUE, worker_id=WORKER_ID, environments={Environment.ML: TOOLCHAIN})
            lease = await claim_next(uow, request, lease_s=LEASE_S, heartbeat_s=10)
        assert lease is not None and lease.job.id == job_id
        files = self.stage(lease.job, contents, folder)
        sealed = await self.seal(lease.job, files)
        assert sealed.status_code == 200, sealed.text
        return await self.finish(lease.job, files)

    async def import_master(self, folder: Path, contents: Mapping[str, bytes] | None = None, *, card: VersionCard | None = None) -> Version:
        """Returns a master that went through claim, staging, seal and finish."""
        job = await self.claim()
        files = self.stage(job, contents or master_contents(), folder)
        sealed = await self.seal(job, files)
        assert sealed.status_code == 200, sealed.text
        return await self.finish(job, files, card=card)


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serves an app on a free port of this event loop; yields its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=3))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the service did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
