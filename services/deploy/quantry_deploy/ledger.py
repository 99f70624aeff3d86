"""The controller's writes: each one small transaction, fenced by the states it moves from. Nothing is held over I/O."""

from __future__ import annotations

from datetime import datetime

from quantry_core.execution import EventDraft
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import EventKind, JobReason, Progress
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.versions import VersionDetail
from quantry_store.database import Database
from quantry_store.transactions.rollouts import (
    DeploymentRecord,
    begin_rollout,
    delete_replica,
    fail_rollout,
    load_deployments,
    promote_rollout,
    upsert_replica,
)

MAX_MESSAGE_CHARS = 4000


class Ledger:
    """What the controller reads and writes. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[DeploymentRecord]:
        """Returns what there is to reconcile; raises Unavailable when the database is away."""
        async with self._database.begin() as uow:
            return await load_deployments(uow)

    async def version(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a release's version with its files."""
        async with self._database.begin() as uow:
            return await uow.versions.detail(project_id, version_id)

    async def begin(self, rollout_id: str) -> None:
        """pending -> progressing. Raises IllegalTransition if it moved meanwhile."""
        async with self._database.begin() as uow:
            await begin_rollout(uow, rollout_id)

    async def promote(self, rollout_id: str) -> None:
        """progressing -> promoted. Raises IllegalTransition if it moved meanwhile."""
        async with self._database.begin() as uow:
            await promote_rollout(uow, rollout_id)

    async def end(self, rollout_id: str, state: RolloutState, reason: JobReason, message: str) -> None:
        """Ends a rollout without a promotion. Raises IllegalTransition if it moved meanwhile."""
        async with self._database.begin() as uow:
            await fail_rollout(uow, rollout_id, state, reason, message[:MAX_MESSAGE_CHARS])

    async def progress(self, project_id: str, rollout: Rollout, progress: Progress) -> None:
        """Makes this the deploy job's progress, and an event of its stream."""
        async with self._database.begin() as uow:
            job = await uow.jobs.lock(project_id, rollout.job_id)
            if job.progress == progress:
                return
            await uow.jobs.set_progress(job, progress)
            draft = EventDraft(kind=EventKind.PROGRESS, data=progress.model_dump(mode="json"))
            await uow.events.append(job.id, job.attempt, [draft])

    async def add_replica(self, release: Release, ordinal: int, now: datetime) -> Replica:
        """Returns a new replica of a release, pulling."""
        replica = Replica(id=new_id(IdPrefix.REPLICA), release_id=release.id, ordinal=ordinal, state=ReplicaState.PULLING, updated_at=now)
        return await self.write(replica)

    async def write(self, replica: Replica) -> Replica:
        """Returns the replica as written; its ``updated_at`` is the database's time."""
        async with self._database.begin() as uow:
            return await upsert_replica(uow, replica)

    async def set_adapter_message(self, adapter: AttachedAdapter, message: str | None) -> None:
        """Says why an attached adapter is not loaded, or that nothing is the matter."""
        async with self._database.begin() as uow:
            await uow.attached.set_message(adapter.id, None if message is None else message[:MAX_MESSAGE_CHARS])

    async def remove(self, replica: Replica) -> None:
        """Forgets a replica."""
        async with self._database.begin() as uow:
            await delete_replica(uow, replica.id)
