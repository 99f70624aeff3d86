"""A rollout controller over a real database and object store, its engines real processes that answer like vLLM."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from factories.adapter_files import write_adapter
from factories.store import Platform, import_spec, master_draft
from factories.trained import trained
from quantry_blobs.s3 import MinioStore
from quantry_blobs.vault import Vault
from quantry_core.jobs import EngineConfig, Job, JobEvent
from quantry_core.rollouts import AttachedAdapter, Replica, Rollout, Route
from quantry_core.training import AdapterKind
from quantry_core.versions import ManifestFile, Version, blob_key
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.controller import Controller
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.ledger import Ledger
from quantry_deploy.policy import Policy
from quantry_deploy.reconcile import Reconciler
from quantry_deploy.settings import DeploySettings
from quantry_store.database import Database
from quantry_store.transactions import attach_adapter

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
PATIENCE_S = 20.0
DRAIN_S = 0.3


@dataclass
class Pool:
    """One controller with the platform around it."""

    platform: Platform
    database: Database
    objects: MinioStore
    vault: Vault
    settings: DeploySettings
    controller: Controller
    driver: ProcessDriver
    retired: list[ProcessDriver] = field(default_factory=list)

    def replace_controller(self) -> None:
        """Puts a new controller in the old one's place, as after a crash: the engines run on, what it remembered is gone."""
        self.retired.append(self.driver)
        self.controller, self.driver = make_controller(self.settings, self.database, self.vault)

    async def close(self) -> None:
        """Ends every engine."""
        await self.controller.settle(within_s=PATIENCE_S)
        await self.driver.stop_all(within_s=0.5)
        for driver in [*self.retired, self.driver]:
            # Each driver reaps the children it started.
            assert await driver.running() == {}
            await driver.close()

    async def version(self, behaviour: str = "serve", weights: str = "weights") -> Version:
        """Returns a master whose engine behaves so; its bytes are in the vault."""
        contents = {
            "config.json": json.dumps({"behaviour": behaviour, "weights": weights, "max_position_embeddings": 1024}),
            "model.safetensors": weights,
        }
        files = []
        for path, content in contents.items():
            stored = await asyncio.to_thread(self.vault.put_stream, io.BytesIO(content.encode()))
            files.append(ManifestFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256))
        job = await self.platform.running(import_spec())
        return await self.platform.made(job, master_draft(files=files))

    async def damage(self, version: Version, path: str) -> None:
        """Puts other bytes of the same length in the vault in a file's place."""
        async with self.database.begin() as uow:
            file = await uow.versions.file(self.platform.project_id, version.id, path)
        damaged = io.BytesIO(b"x" * file.size_bytes)
        await asyncio.to_thread(self.objects.put_stream, self.vault.bucket, blob_key(file.sha256), damaged)

    async def until(self, condition: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> None:
        """Looks at the deployments again and again until the condition holds."""
        deadline_s = time.monotonic() + patience_s
        while not await condition():
            assert time.monotonic() < deadline_s, f"not in {patience_s} s: {await self.platform.deployment()}"
            await self.controller.look()
            await self.controller.settle(within_s=PATIENCE_S)
            await asyncio.sleep(0.02)

    async def until_finished(self, rollout: Rollout) -> Job:
        """Returns the rollout's job once it ended."""

        async def is_over() -> bool:
            return (await self.platform.job(rollout.job_id)).finished_at is not None

        await self.until(is_over)
        return await self.platform.job(rollout.job_id)

    async def adapter(
        self, base: Version, folder: Path, *, seed: int = 0, alpha: float = 8.0, kind: AdapterKind = AdapterKind.LORA
    ) -> Version:
        """Returns an adapter version of a base; its files are written to a new folder and put in the vault."""
        write_adapter(folder, {"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed, alpha=alpha, kind=kind, base_ref=base.ref)
        files = []
        for path in sorted(folder.iterdir()):  # noqa: ASYNC240  two small files
            stored = await asyncio.to_thread(self.vault.put_stream, io.BytesIO(path.read_bytes()))
            files.append(ManifestFile(path=path.name, size_bytes=stored.size_bytes, sha256=stored.sha256))
        # What the recipe says is lora: an engine's refusal of the files is another matter.
        return await trained(self.platform, base, await self.platform.dataset(), seed=seed, files=files)

    async def attach(self, name: str, version: Version) -> AttachedAdapter:
        async with self.database.begin() as uow:
            return await attach_adapter(uow, self.platform.admin, "chat", name, version.id)

    async def until_served(self, name: str, num_replicas: int = 1) -> Route:
        """Returns the route of an adapter once so many replicas are in it."""

        async def is_served() -> bool:
            return len((await self.route(name)).replicas) == num_replicas

        await self.until(is_served)
        return await self.route(name)

    async def serving(self, version: Version, name: str = "chat", replicas: int = 1, engine: EngineConfig | None = None) -> Rollout:
        """Returns the rollout that brought a version up."""
        rollout = await self.platform.rollout(version, name, replicas=replicas, engine=engine or EngineConfig())
        job = await self.until_finished(rollout)
        assert job.status == "succeeded", job.message
        return rollout

    async def replicas(self, name: str = "chat") -> list[Replica]:
        return (await self.platform.deployment(name)).replicas

    async def route(self, name: str = "chat") -> Route:
        async with self.database.begin() as uow:
            snapshot = await uow.routes.snapshot()
        return next(route for route in snapshot.routes if route.deployment == name)

    async def progress(self, rollout: Rollout) -> list[JobEvent]:
        job = await self.platform.job(rollout.job_id)
        return [event for event in await self.platform.events(job) if event.kind == "progress"]


async def eventually(condition: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds, with nobody but the processes under test at work."""
    deadline_s = time.monotonic() + patience_s
    while not await condition():
        assert time.monotonic() < deadline_s, f"not in {patience_s} s"
        await asyncio.sleep(0.05)


async def ask(url: str, name: str = "chat") -> dict[str, object]:
    """Returns what the fake engine says of itself in a completion."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{url}/v1/completions", json={"model": name, "prompt": "x", "max_tokens": 1})
    document: dict[str, object] = json.loads(answer.json()["choices"][0]["text"])
    return document


def make_controller(settings: DeploySettings, database: Database, vault: Vault) -> tuple[Controller, ProcessDriver]:
    """Returns a controller as a new process would make it, less patient than the real one."""
    driver = ProcessDriver(settings, ArtifactCache(vault, settings.deploy_dir / "cache"), EngineProbe())
    policy = Policy(
        resumed_at=datetime.now(UTC),
        drain_s=DRAIN_S,
        stop_grace_s=0.5,
        unhealthy_after_s=0.5,
        restart_after_s=60.0,
        max_backoff_s=0.05,
    )
    ledger = Ledger(database)
    reconciler = Reconciler(ledger, driver, policy, lambda: datetime.now(UTC))
    return Controller(ledger, driver, reconciler, interval_s=0.05), driver
