"""One transaction, with a repository per aggregate bound to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.keys import Identity
from quantry_store.failures import core_errors
from quantry_store.repositories.aliases import AliasRepository
from quantry_store.repositories.artifacts import ArtifactRepository
from quantry_store.repositories.attached_adapters import AttachedAdapterRepository
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.captures import CaptureRepository
from quantry_store.repositories.checkpoints import CheckpointRepository
from quantry_store.repositories.claims import ClaimRepository
from quantry_store.repositories.counts import CountRepository
from quantry_store.repositories.dataset_deletion import DatasetDeletionRepository
from quantry_store.repositories.datasets import DatasetRepository
from quantry_store.repositories.deployments import DeploymentRepository
from quantry_store.repositories.estimates import EstimateRepository
from quantry_store.repositories.events import EventRepository
from quantry_store.repositories.evidence import EvidenceRepository
from quantry_store.repositories.figures import FigureRepository
from quantry_store.repositories.idempotency import IdempotencyRepository
from quantry_store.repositories.job_endings import job_endings
from quantry_store.repositories.jobs import JobRepository
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.leased_inputs import LeasedInputRepository
from quantry_store.repositories.leases import LeaseRepository
from quantry_store.repositories.model_notes import ModelNotesRepository
from quantry_store.repositories.models import ModelRepository
from quantry_store.repositories.needs import NeedRepository
from quantry_store.repositories.periods import PeriodRepository
from quantry_store.repositories.pipelines import PipelineRepository
from quantry_store.repositories.projects import ProjectRepository
from quantry_store.repositories.registry_search import RegistrySearchRepository
from quantry_store.repositories.releases import ReleaseRepository
from quantry_store.repositories.replicas import ReplicaRepository
from quantry_store.repositories.retention import RetentionRepositories
from quantry_store.repositories.revision import RouteRevision
from quantry_store.repositories.rollouts import RolloutRepository
from quantry_store.repositories.routes import RouteRepository
from quantry_store.repositories.schedules import ScheduleRepository
from quantry_store.repositories.seals import SealRepository
from quantry_store.repositories.traffic import TrafficRepository
from quantry_store.repositories.uploads import UploadRepository
from quantry_store.repositories.vault_runs import VaultRunRepository
from quantry_store.repositories.version_deletion import VersionDeletionRepository
from quantry_store.repositories.version_notes import VersionNotesRepository
from quantry_store.repositories.version_search import VersionSearchRepository
from quantry_store.repositories.versions import VersionRepository
from quantry_store.repositories.waiting import WaitingRepository
from quantry_store.repositories.webhook_deliveries import DeliveryRepository
from quantry_store.repositories.webhook_outbox import OutboxRepository
from quantry_store.repositories.webhooks import WebhookRepository
from quantry_store.repositories.worker_hosts import WorkerHostRepository
from quantry_store.repositories.workers import WorkerRepository


class UnitOfWork:
    """The repositories of one transaction. Made by ``Database.begin``; neither it nor its repositories ever commit.

    Locks are taken in one order, so that no two transactions wait for each other: schedule, pipeline, job, upload, project,
    rollout, the name of an adapter or a new deployment, deployment, model, version, dataset, blob, the writing of traffic windows, the
    ends of the audit chains, and the route revision last of all. Whoever looks for work skips what is locked; whoever needs several
    rows of a kind takes them by id.
    A version or dataset is kept from deletion (key share) at any time: whoever locks one to delete or restore it locks nothing before
    it in this order afterwards.
    """

    def __init__(self, session: AsyncSession, *, actor: Identity | None = None) -> None:
        """``actor`` is whom the transaction acts for where its acts name nobody: the worker that reports."""
        self._session = session
        self.audit = AuditRepository(session, actor=actor)
        self._revision = RouteRevision(session)
        self.projects = ProjectRepository(session, audit=self.audit)
        self.keys = KeyRepository(session, audit=self.audit, revision=self._revision)
        self.routes = RouteRepository(session, revision=self._revision, keys=self.keys)
        self.events = EventRepository(session)
        self.estimates = EstimateRepository(session)
        self.counts = CountRepository(session)
        self.jobs = JobRepository(session, events=self.events, audit=self.audit)
        self.needs = NeedRepository(session)
        self.waiting = WaitingRepository(session, jobs=self.jobs)
        self.pipelines = PipelineRepository(session)
        self.idempotency = IdempotencyRepository(session)
        self.claims = ClaimRepository(session, jobs=self.jobs)
        self.leased_inputs = LeasedInputRepository(session)
        self.leases = LeaseRepository(session, jobs=self.jobs)
        self.workers = WorkerRepository(session, audit=self.audit)
        self.worker_hosts = WorkerHostRepository(session, keys=self.keys, audit=self.audit)
        self.schedules = ScheduleRepository(session)
        self.blobs = BlobRepository(session)
        self.seals = SealRepository(session)
        self.artifacts = ArtifactRepository(session, blobs=self.blobs)
        self.checkpoints = CheckpointRepository(session, blobs=self.blobs)
        self.datasets = DatasetRepository(session, blobs=self.blobs)
        self.dataset_deletions = DatasetDeletionRepository(session, datasets=self.datasets)
        self.models = ModelRepository(session)
        self.model_notes = ModelNotesRepository(session, audit=self.audit)
        self.registry_search = RegistrySearchRepository(session)
        self.evidence = EvidenceRepository(session)
        self.versions = VersionRepository(session, models=self.models, evidence=self.evidence)
        self.deletions = VersionDeletionRepository(session, versions=self.versions)
        self.vault_runs = VaultRunRepository(session)
        self.version_notes = VersionNotesRepository(session, audit=self.audit)
        self.version_search = VersionSearchRepository(session, models=self.models)
        self.figures = FigureRepository(session, models=self.models)
        self.uploads = UploadRepository(session, blobs=self.blobs)
        self.aliases = AliasRepository(session, models=self.models, audit=self.audit)
        self.attached = AttachedAdapterRepository(session, revision=self._revision)
        self.releases = ReleaseRepository(session)
        self.deployments = DeploymentRepository(session, adapters=self.attached, releases=self.releases)
        self.rollouts = RolloutRepository(session, audit=self.audit)
        self.periods = PeriodRepository(session)
        self.traffic = TrafficRepository(session)
        self.captures = CaptureRepository(session)
        self.replicas = ReplicaRepository(session, revision=self._revision)
        self.webhooks = WebhookRepository(session)
        self.deliveries = DeliveryRepository(session)
        self.outbox = OutboxRepository(session)

    @property
    def retention(self) -> RetentionRepositories:
        """What removes things whose time is over, and its reports."""
        return RetentionRepositories.of(self._session, self.blobs)

    async def read_one_moment(self) -> None:
        """Makes all that this transaction reads be of one moment, without a lock. Nothing may have been read before."""
        await self._session.execute(text("set transaction isolation level repeatable read"))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Takes back what the block wrote if it raises; the transaction goes on. Raises as ``Database.begin`` does."""
        counted, acts = self.jobs.counted(), self.audit.counted()
        try:
            with core_errors():
                async with self._session.begin_nested():
                    yield
        except BaseException:
            self.jobs.forget_after(counted)
            self.audit.forget_after(acts)
            raise

    async def now(self) -> datetime:
        """Returns when this transaction began, by the database's clock."""
        return (await self._session.execute(select(func.now()))).scalar_one()

    async def before_commit(self) -> None:
        """Does what must come last in the transaction: tells webhooks of the jobs that it ended, writes its acts, and counts the route
        revision up if a route or key changed."""
        await self.outbox.tell(job_endings(self.jobs.ended))
        await self.audit.write()
        await self._revision.count_up()
