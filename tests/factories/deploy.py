"""A rollout controller over a real database and object store, its engines real processes that answer like vLLM."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from factories.adapter_files import write_adapter
from factories.store import Platform, import_spec, master_draft
from factories.traffic import histogram
from factories.trained import trained
from quantry_blobs.s3 import MinioStore
from quantry_blobs.vault import Vault
from quantry_core.jobs import EngineConfig, Job, JobEvent
from quantry_core.rollouts import AttachedAdapter, Replica, Rollout, RolloutRequest
from quantry_core.routes import Route
from quantry_core.traffic import Demand, PairTally, Tally, TrafficReport, TrafficWindow
from quantry_core.training import AdapterKind
from quantry_core.versions import ManifestFile, Version, blob_key
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.controller import Controller
from quantry_deploy.drivers.probes import EngineProbe
from quantry_deploy.drivers.process import ProcessDriver
from quantry_deploy.judging import Judging
from quantry_deploy.ledger import Ledger
from quantry_deploy.policy import Policy
from quantry_deploy.reconcile import Reconciler
from quantry_deploy.settings import DeploySettings
from quantry_store.database import Database
from quantry_store.transactions import ask_of_rollout, attach_adapter, cancel_job, record_traffic

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
    num_reports: int = 0

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
            return (await self.job(rollout)).finished_at is not None

        await self.until(is_over)
        return await self.job(rollout)

    async def job(self, rollout: Rollout) -> Job:
        """Returns the deploy job of a rollout."""
        assert rollout.job_id is not None
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
        rollout = await self.platform.rollout(version, name, replicas=replicas, engine=engine or EngineConfig(), watch_s=0)
        job = await self.until_finished(rollout)
        assert job.status == "succeeded", job.message
        return rollout

    async def told(self, release_id: str, *, answered: int = 0, failed: int = 0, pairs: PairTally | None = None) -> None:
        """Has a gateway tell of requests to a release that ended just now."""
        self.num_reports += 1
        now = datetime.now(UTC)
        tally = Tally(num_answered=answered, num_failed=failed, e2e_s=histogram([0.1] * answered), pairs=pairs or PairTally())
        window = TrafficWindow(release_id=release_id, began_at=now, ended_at=now + timedelta(seconds=1), tally=tally)
        report = TrafficReport(gateway_id="gateway", sequence=self.num_reports, windows=[window])
        async with self.database.begin() as uow:
            await record_traffic(uow, report)

    async def demanded(self, name: str = "chat") -> None:
        """Has a gateway tell of a request that waits for a replica."""
        self.num_reports += 1
        demand = Demand(deployment_id=(await self.platform.deployment(name)).id, num_waiting=1)
        async with self.database.begin() as uow:
            await record_traffic(uow, TrafficReport(gateway_id="gateway", sequence=self.num_reports, demands=[demand]))

    async def ask(self, rollout: Rollout, request: RolloutRequest) -> Rollout:
        """Returns the rollout after a person's request."""
        async with self.database.begin() as uow:
            return await ask_of_rollout(uow, self.platform.admin, rollout.id, request, None)

    async def cancel(self, rollout: Rollout) -> None:
        """Asks for the end of a rollout's deploy job."""
        job = await self.job(rollout)
        async with self.database.begin() as uow:
            await cancel_job(uow, self.platform.admin, job.id)

    async def rollout(self, rollout: Rollout) -> Rollout:
        """Returns a rollout as it is now."""
        async with self.database.begin() as uow:
            return await uow.rollouts.get(self.platform.project_id, rollout.id)

    async def until_rollout(self, rollout: Rollout, **expected: object) -> Rollout:
        """Returns the rollout once it is as expected."""

        async def is_so() -> bool:
            now = await self.rollout(rollout)
            return all(getattr(now, name) == value for name, value in expected.items())

        await self.until(is_so)
        return await self.rollout(rollout)

    async def look(self, num: int = 3) -> None:
        """Has the controller make a few passes."""
        for _ in range(num):
            await self.controller.look()
            await self.controller.settle(within_s=PATIENCE_S)

    async def shares(self, name: str = "chat") -> dict[str, int]:
        """Returns the share of each release that requests go to."""
        return {variant.release_id: variant.percent for variant in (await self.route(name)).variants if variant.percent}

    async def replicas(self, name: str = "chat") -> list[Replica]:
        return (await self.platform.deployment(name)).replicas

    async def route(self, name: str = "chat") -> Route:
        async with self.database.begin() as uow:
            snapshot = await uow.routes.snapshot()
        return next(route for route in snapshot.routes if route.deployment == name)

    async def progress(self, rollout: Rollout) -> list[JobEvent]:
        job = await self.job(rollout)
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
        lost_after_s=1.0,
    )
    ledger = Ledger(database)
    reconciler = Reconciler(ledger, driver, policy, Judging(ledger))
    return Controller(ledger, driver, reconciler, interval_s=0.05), driver
