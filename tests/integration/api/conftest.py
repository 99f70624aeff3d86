"""The api as it is served, on a real database and a real Redis, without a socket of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from factories.checkpoints import master_contents, write_checkpoint
from factories.store import BUILT_IN, UPLOADED, blob
from factories.trained import adapter_draft
from quantry_api.app import build_app
from quantry_api.bootstrap import bootstrap
from quantry_api.settings import ApiSettings
from quantry_blobs.settings import BlobSettings
from quantry_core.datasets import Dataset
from quantry_core.errors import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, FinetuneSpec, JobSubmission
from quantry_core.keys import Identity, Role
from quantry_core.versions import ManifestFile, SealRequest
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_store.transactions import record_seal, submit_job

SWEEPS_BY_HAND_S = 3600.0
ENVIRONMENTS = {"ml": "0" * 64}
WORKER_ID = "wrk_" + "1" * 32


@dataclass
class Api:
    """A running api with a client per role, and what a test does with it again and again."""

    app: FastAPI
    database: Database
    project_id: str
    roots: Path
    clients: dict[Role, httpx.AsyncClient]

    def __getitem__(self, role: Role) -> httpx.AsyncClient:
        return self.clients[role]

    async def submit(self, **spec: Any) -> dict[str, Any]:
        """Submits a job that must be taken, and returns it."""
        response = await self[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
        assert response.status_code == 201, response.text
        job: dict[str, Any] = response.json()
        return job

    async def submit_import(self, model: str = "bard") -> dict[str, Any]:
        """Submits the import of a tiny good master."""
        source = write_checkpoint(self.roots / model, master_contents())
        return await self.submit(type="import", model=model, source=str(source))

    async def show(self, job: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = (await self[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}")).json()
        return shown

    async def claim(self, worker_id: str = WORKER_ID) -> dict[str, Any] | None:
        body = {"queue": "cpu", "worker_id": worker_id, "environments": ENVIRONMENTS}
        response = await self[Role.WORKER].post("/api/v1/execution/next", json=body)
        if response.status_code == 204:
            return None
        assert response.status_code == 200, response.text
        lease: dict[str, Any] = response.json()
        return lease

    async def execute(self, lease: dict[str, Any], action: str, **body: Any) -> httpx.Response:
        """Reports for an attempt: heartbeat, events or finish."""
        path = f"/api/v1/execution/jobs/{lease['job']['id']}/{action}"
        return await self[Role.WORKER].post(path, json={"attempt": lease["attempt"], **body})

    async def master_draft(self, lease: dict[str, Any], model: str = "bard") -> dict[str, Any]:
        """Returns a master as a worker reports it, its one file noted as sealed by the lease's attempt."""
        content = model.encode()
        file = ManifestFile(path="model.safetensors", size_bytes=len(content), sha256=sha256(content).hexdigest())
        request = SealRequest(job_id=lease["job"]["id"], attempt=lease["attempt"], files=[file])
        async with self.database.begin() as uow:
            await record_seal(uow, request, dtype="float16")
        return {
            "model": model,
            "kind": "master",
            "state": "ready",
            "format": "safetensors",
            "dtype": "float16",
            "files": [file.model_dump()],
        }

    async def make_master(self, model: str = "bard") -> str:
        """Imports a master from submission to finish and returns its version id."""
        await self.submit_import(model)
        lease = await self.claim()
        assert lease is not None
        draft = await self.master_draft(lease, model)
        finished = await self.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft)
        assert finished.status_code == 200, finished.text
        return str(finished.json()["result"]["version_id"])

    async def make_dataset(self, name: str = "shakespeare") -> str:
        content = name.encode()
        file = ManifestFile(path="text.txt", size_bytes=len(content), sha256=sha256(content).hexdigest())
        async with self.database.begin() as uow:
            return (await uow.datasets.add(self.project_id, name, file, UPLOADED))[0].id

    async def make_adapter(self, base_id: str, dataset_id: str) -> str:
        """Fine-tunes without an estimate, which would read the base's headers, and returns the adapter's version id."""
        spec = FinetuneSpec(model=base_id, training_file=dataset_id)
        who = Identity(key_id="platform", project_id=self.project_id, role=Role.OPERATOR)
        async with self.database.begin() as uow:
            await submit_job(uow, who, JobSubmission(spec=spec))
        lease = await self.claim()
        assert lease is not None
        files = [ManifestFile.model_validate(file) for file in (await self.master_draft(lease))["files"]]
        draft = adapter_draft(spec, "bard", files).model_copy(update={"dtype": "float16"})
        finished = await self.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft.model_dump(mode="json"))
        assert finished.status_code == 200, finished.text
        return str(finished.json()["result"]["version_id"])

    async def dataset(self, ref: str) -> Dataset:
        """Returns what a reference to a dataset means now."""
        async with self.database.begin() as uow:
            return await uow.datasets.resolve(self.project_id, ref)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds; raises TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


def slug(response: httpx.Response) -> str:
    """Returns the type of a problem answer, after checking that it is a whole one."""
    assert response.headers["content-type"] == PROBLEM_CONTENT_TYPE, response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert len(problem["detail"]) > 10
    assert problem["title"]
    return str(problem["type"]).removeprefix(PROBLEM_TYPE_PREFIX)


@pytest.fixture
def api_settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    roots = tmp_path / "roots"
    roots.mkdir()
    return ApiSettings(broker_url=SecretStr(redis_url), import_roots=[roots], sweep_interval_s=SWEEPS_BY_HAND_S)


@pytest.fixture
def api_blobs() -> BlobSettings | None:
    """The object store of the api under test: none, unless a module has its own."""
    return None


@pytest.fixture
async def api(api_settings: ApiSettings, database_url: str, api_blobs: BlobSettings | None) -> AsyncIterator[Api]:
    app = build_app(api_settings, StoreSettings(database_url=database_url), api_blobs)
    database: Database = app.state.database
    async with app.router.lifespan_context(app):
        project_id = (await bootstrap(database))["project_id"]
        async with database.begin() as uow:
            await uow.datasets.add(project_id, BUILT_IN_QUALITY_CORPUS, blob(BUILT_IN_QUALITY_CORPUS), BUILT_IN)
        clients = {}
        for role in Role:
            async with database.begin() as uow:
                _, secret = await uow.keys.create(project_id, f"test-{role}", role)
            clients[role] = client_of(app, secret)
        yield Api(app, database, project_id, api_settings.import_roots[0], clients)
        for client in clients.values():
            await client.aclose()


def client_of(app: FastAPI, secret: str | None) -> httpx.AsyncClient:
    """Returns a client of the app that sends this key, or none."""
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers)
