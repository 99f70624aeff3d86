"""A database with two projects, and the platform's parts in its jobs played by hand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import exp
from typing import Any

import psycopg
from psycopg.sql import Composed

from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin, DatasetStatistics
from quantry_core.execution import FinishRequest, Lease, NextRequest, Outcome
from quantry_core.gate import GateCheck, required_checks
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import (
    BUILT_IN_QUALITY_CORPUS,
    CPU_QUEUE,
    CalibrationSpec,
    DeploySpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobEvent,
    JobReason,
    JobSpec,
    JobStatus,
    JobSubmission,
    MergeSpec,
    QualitySpec,
    QuantizeSpec,
)
from quantry_core.keys import Identity, Role
from quantry_core.methods import Environment, Format
from quantry_core.rollouts import Deployment, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.versions import (
    EvidenceDraft,
    EvidenceKind,
    ManifestFile,
    SealRequest,
    Verdict,
    Version,
    VersionDraft,
    VersionKind,
    VersionState,
)
from quantry_store.database import Database
from quantry_store.repositories.claims import Draw
from quantry_store.repositories.datasets import DatasetDraft
from quantry_store.transactions import (
    begin_rollout,
    claim_next,
    expired_jobs,
    finish_attempt,
    lose_expired,
    promote_rollout,
    record_seal,
    submit_job,
)

MOVES = frozenset(
    {f"job.{status}" for status in JobStatus} | {f"rollout.{state}" for state in RolloutState} | {"rollout.stage", "job.seal"}
)
"""What the audit log tells of things that nobody did something to."""
LEASE_S = 60.0
WORKER_ID = "wrk_" + "0" * 32
TOOLCHAIN = "a" * 64
ALREADY_EXPIRED_S = -1.0
"""A lease of this length has run out by the database's clock the moment it is given."""

GATE_PASSED = [
    EvidenceDraft(kind=EvidenceKind.GATE, name=check, verdict=Verdict.PASS, metrics={"files": 2})
    for check in GateCheck
    if check in required_checks(QualitySpec())
]
"""What a version says that passed every check of its gate."""

GATE_FAILED = GATE_PASSED[0].model_copy(update={"verdict": Verdict.FAIL})

BUILT_IN = DatasetDraft(DatasetKind.TEXT, DatasetOrigin.BUILT_IN, DatasetStatistics())
UPLOADED = DatasetDraft(DatasetKind.TEXT, DatasetOrigin.UPLOADED, DatasetStatistics())


def even_draw() -> float:
    """Returns the draw that stands for all of them: an exponential draw made of it is its mean."""
    return 1.0 - exp(-1.0)


@dataclass(frozen=True)
class Blob:
    """What the vault would say about some bytes."""

    sha256: str
    size_bytes: int


def blob(content: str) -> Blob:
    return Blob(hashlib.sha256(content.encode()).hexdigest(), len(content))


def manifest(content: str) -> list[ManifestFile]:
    """Returns the files of a checkpoint whose weights are ``content``."""
    return [
        ManifestFile(path="config.json", size_bytes=2, sha256=hashlib.sha256(b"{}").hexdigest()),
        ManifestFile(path="model.safetensors", size_bytes=len(content), sha256=blob(content).sha256),
    ]


def master_draft(model: str = "bard", content: str = "master", **changes: Any) -> VersionDraft:
    draft = VersionDraft(
        model=model,
        kind=VersionKind.MASTER,
        state=VersionState.READY,
        format=Format.SAFETENSORS,
        dtype="float16",
        files=manifest(content),
        toolchain={"safetensors": "1.0"},
    )
    return draft.model_copy(update=changes)


def quantized_draft(model: str = "bard", content: str = "quantized", **changes: Any) -> VersionDraft:
    draft = VersionDraft(
        model=model,
        kind=VersionKind.QUANTIZED,
        state=VersionState.READY,
        format=Format.COMPRESSED_TENSORS,
        scheme="W4A16",
        files=manifest(content),
        recipe={"method": "gptq"},
    )
    return draft.model_copy(update=changes)


ADAPTER_RECIPE = {
    "method": {"type": "supervised"},
    "adapter": {"kind": "lora", "rank": 16, "alpha": 32.0, "target_modules": "all-linear"},
    "hyperparameters": {"n_epochs": 1, "batch_size": 8, "learning_rate": 2e-4},
}
"""What a worker says of an adapter that it trained, as far as anybody reads it."""


def adapter_draft(model: str = "bard", content: str = "adapter", **changes: Any) -> VersionDraft:
    draft = VersionDraft(
        model=model,
        kind=VersionKind.ADAPTER,
        state=VersionState.READY,
        format=Format.PEFT,
        files=manifest(content),
        recipe=ADAPTER_RECIPE,
    )
    return draft.model_copy(update=changes)


def merged_draft(model: str = "bard", content: str = "merged", **changes: Any) -> VersionDraft:
    draft = master_draft(model, content, kind=VersionKind.MERGED, recipe={"merged_into": "master"})
    return draft.model_copy(update=changes)


def finetune_spec(model: str, training_file: str = "lessons", **changes: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"model": model, "training_file": training_file, **changes})


def merge_spec(*adapters: str, **changes: Any) -> MergeSpec:
    return MergeSpec.model_validate({"adapters": [{"adapter": adapter} for adapter in adapters], **changes})


def import_spec(model: str = "bard") -> ImportSpec:
    return ImportSpec(model=model, source="/models/bard")


def quantize_spec(base: str, *datasets: str, **changes: Any) -> QuantizeSpec:
    return QuantizeSpec(base=base, calibration=CalibrationSpec(datasets=list(datasets)), **changes)


def succeeded(draft: VersionDraft | None = None, **changes: Any) -> dict[str, Any]:
    return {"outcome": Outcome.SUCCEEDED, "reason": JobReason.COMPLETED, "version": draft, **changes}


@dataclass(frozen=True)
class Platform:
    """One project of a database, with an identity of each kind that acts in these tests."""

    url: str
    database: Database
    admin: Identity
    worker: Identity

    @property
    def project_id(self) -> str:
        return self.admin.project_id

    async def submit(self, spec: JobSpec, *, priority: int = 5) -> Job:
        async with self.database.begin() as uow:
            return await submit_job(uow, self.admin, JobSubmission(spec=spec, priority=priority))

    async def lease(
        self, *, lease_s: float = LEASE_S, environments: list[Environment] | None = None, draw: Draw = even_draw
    ) -> Lease | None:
        """Returns what a slot is given; workers are the platform's, so it may be a job of any project."""
        chosen = [Environment.ML] if environments is None else environments
        request = NextRequest(queue=CPU_QUEUE, worker_id=WORKER_ID, environments=dict.fromkeys(chosen, TOOLCHAIN))
        async with self.database.begin() as uow:
            return await claim_next(uow, request, lease_s=lease_s, heartbeat_s=10, draw=draw)

    async def claim(self, *, lease_s: float = LEASE_S) -> Job:
        lease = await self.lease(lease_s=lease_s)
        assert lease is not None, "there is nothing to claim"
        return lease.job

    async def running(self, spec: JobSpec, *, lease_s: float = LEASE_S) -> Job:
        """Returns a job that was submitted and is held by attempt 1; there must be no other one in the queue."""
        submitted = await self.submit(spec)
        job = await self.claim(lease_s=lease_s)
        assert job.id == submitted.id
        return job

    async def finish(self, job: Job, **request: Any) -> Job:
        """Returns the job after its attempt finished; the files of a version were sealed before."""
        report = FinishRequest(attempt=job.attempt, **request)
        if report.version is not None:
            await self.seal(job, report.version.files, dtype=report.version.dtype)
        async with self.database.begin() as uow:
            return await finish_attempt(uow, job.id, report, draw=even_draw)

    async def seal(self, job: Job, files: list[ManifestFile], *, dtype: str | None = "float16") -> None:
        """Notes what the registry would after it sealed an attempt's files."""
        request = SealRequest(job_id=job.id, attempt=job.attempt, files=files)
        async with self.database.begin() as uow:
            await record_seal(uow, request, dtype=dtype)

    async def sweep(self) -> list[Job]:
        """Returns the jobs whose leases had run out, swept one by one as the api does."""
        async with self.database.begin() as uow:
            job_ids = await expired_jobs(uow)
        swept = []
        for job_id in job_ids:
            async with self.database.begin() as uow:
                swept.append(await lose_expired(uow, job_id))
        return [job for job in swept if job is not None]

    async def made(self, job: Job, draft: VersionDraft) -> Version:
        """Returns the version that a successful finish recorded."""
        gate = GATE_PASSED if draft.kind is VersionKind.QUANTIZED else []
        finished = await self.finish(job, **succeeded(draft, evidence=gate))
        assert finished.result is not None
        assert finished.result.version_id is not None
        async with self.database.begin() as uow:
            return await uow.versions.get(self.project_id, finished.result.version_id)

    async def master(self, model: str = "bard", content: str = "master") -> Version:
        return await self.made(await self.running(import_spec(model)), master_draft(model, content))

    async def quantized(self, base: Version, dataset: Dataset, content: str = "quantized") -> Version:
        job = await self.running(quantize_spec(base.id, dataset.id))
        return await self.made(job, quantized_draft(base.model_name, content))

    async def quarantined(self, base: Version, dataset: Dataset) -> Version:
        job = await self.running(quantize_spec(base.id, dataset.id))
        draft = quantized_draft(base.model_name, "broken", state=VersionState.QUARANTINED)
        finished = await self.finish(job, outcome=Outcome.FAILED, reason=JobReason.GATE_FAILED, version=draft, evidence=[GATE_FAILED])
        assert finished.result is not None
        async with self.database.begin() as uow:
            return await uow.versions.get(self.project_id, finished.result.version_id or "")

    async def adapter(self, base: Version, content: str = "adapter", **changes: Any) -> Version:
        """Returns an adapter that was trained on ``base`` with the dataset lessons."""
        await self.dataset("lessons")
        job = await self.running(finetune_spec(base.id, **changes))
        suffix = f"-{changes['suffix']}" if "suffix" in changes else ""
        return await self.made(job, adapter_draft(base.model_name + suffix, content))

    async def dataset(self, name: str = "tales", content: str = "once upon a time", kind: DatasetKind = DatasetKind.TEXT) -> Dataset:
        async with self.database.begin() as uow:
            return (await uow.datasets.add(self.project_id, name, blob(content), replace(UPLOADED, kind=kind)))[0]

    async def job(self, job_id: str) -> Job:
        async with self.database.begin() as uow:
            return await uow.jobs.get(self.project_id, job_id)

    async def events(self, job: Job) -> list[JobEvent]:
        async with self.database.begin() as uow:
            return await uow.events.after(self.project_id, job.id, 0)

    async def actions(self) -> list[str]:
        """Returns the audit log's actions, oldest first, but for where jobs and rollouts went of themselves."""
        async with self.database.begin() as uow:
            entries = (await uow.audit.list(self.project_id, limit=100)).data
        return [entry.action for entry in reversed(entries) if entry.action not in MOVES]

    async def deployment(self, name: str = "chat") -> Deployment:
        async with self.database.begin() as uow:
            return await uow.deployments.get(self.project_id, name)

    async def rollout(self, version: Version, name: str = "chat", **changes: Any) -> Rollout:
        """Returns the pending rollout of a deploy job that was just submitted."""
        await self.submit(DeploySpec(deployment=name, version=version.id, **changes))
        rollout = (await self.deployment(name)).active_rollout
        assert rollout is not None
        return rollout

    async def promoted(self, version: Version, name: str = "chat", **changes: Any) -> Rollout:
        rollout = await self.rollout(version, name, **changes)
        async with self.database.begin() as uow:
            await begin_rollout(uow, rollout.id)
        async with self.database.begin() as uow:
            return await promote_rollout(uow, rollout.id)

    async def revision(self) -> int:
        async with self.database.begin() as uow:
            return await uow.routes.revision()

    async def sql(self, statement: str | Composed, *parameters: Any) -> list[Any]:
        """Returns the rows of a statement run by hand, past everything the store does."""
        async with await psycopg.AsyncConnection.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description is not None else []


def replica(release_id: str, state: ReplicaState = ReplicaState.READY, **changes: Any) -> Replica:
    values = {"id": new_id(IdPrefix.REPLICA), "ordinal": 0, "url": "http://127.0.0.1:9000", "updated_at": datetime(2020, 1, 1, tzinfo=UTC)}
    return Replica.model_validate({**values, "release_id": release_id, "state": state, **changes})


async def make_platform(url: str, database: Database, project: str) -> Platform:
    """Returns a new project with an admin's and a worker's key, and the text that quality is measured on where a job names none."""
    async with database.begin() as uow:
        project_id = await uow.projects.get_or_create(project)
        await uow.datasets.add(project_id, BUILT_IN_QUALITY_CORPUS, blob(BUILT_IN_QUALITY_CORPUS), BUILT_IN)
        keys = {role: (await uow.keys.create(project_id, role, role))[0] for role in (Role.ADMIN, Role.WORKER)}
    admin, worker = (Identity(key_id=keys[role].id, project_id=project_id, role=role) for role in (Role.ADMIN, Role.WORKER))
    return Platform(url=url, database=database, admin=admin, worker=worker)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Yields a database whose connections are closed at the end."""
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()
