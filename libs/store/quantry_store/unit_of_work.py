"""One transaction, with a repository per aggregate bound to it."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_store.repositories.aliases import AliasRepository
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.datasets import DatasetRepository
from quantry_store.repositories.deployments import DeploymentRepository
from quantry_store.repositories.events import EventRepository
from quantry_store.repositories.evidence import EvidenceRepository
from quantry_store.repositories.jobs import JobRepository
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.leases import LeaseRepository
from quantry_store.repositories.models import ModelRepository
from quantry_store.repositories.projects import ProjectRepository
from quantry_store.repositories.replicas import ReplicaRepository
from quantry_store.repositories.revision import RouteRevision
from quantry_store.repositories.rollouts import RolloutRepository
from quantry_store.repositories.routes import RouteRepository
from quantry_store.repositories.seals import SealRepository
from quantry_store.repositories.versions import VersionRepository


class UnitOfWork:
    """The repositories of one transaction. Made by ``Database.begin``; neither it nor its repositories ever commit.

    Locks are taken in one order, so that no two transactions wait for each other: job, rollout, deployment, model,
    version, and the route revision last of all.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self.audit = AuditRepository(session)
        self._revision = RouteRevision(session)
        self.projects = ProjectRepository(session)
        self.keys = KeyRepository(session, audit=self.audit, revision=self._revision)
        self.routes = RouteRepository(session, revision=self._revision, keys=self.keys)
        self.events = EventRepository(session)
        self.jobs = JobRepository(session, events=self.events)
        self.leases = LeaseRepository(session, jobs=self.jobs)
        self.blobs = BlobRepository(session)
        self.seals = SealRepository(session)
        self.datasets = DatasetRepository(session, blobs=self.blobs)
        self.models = ModelRepository(session)
        self.evidence = EvidenceRepository(session)
        self.versions = VersionRepository(session, models=self.models, evidence=self.evidence, audit=self.audit)
        self.aliases = AliasRepository(session, models=self.models, audit=self.audit)
        self.deployments = DeploymentRepository(session)
        self.rollouts = RolloutRepository(session)
        self.replicas = ReplicaRepository(session, revision=self._revision)

    async def read_one_moment(self) -> None:
        """Makes all that this transaction reads be of one moment, without a lock. Nothing may have been read before."""
        await self._session.execute(text("set transaction isolation level repeatable read"))

    async def before_commit(self) -> None:
        """Does what must come last in the transaction: counts the route revision up, if a route or key changed."""
        await self._revision.count_up()
