"""Replicas, as the rollout controller sees them."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.rollouts import Replica, ReplicaState
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import ReleaseRow, ReplicaRow


class ReplicaRepository:
    def __init__(self, session: AsyncSession, *, revision: RouteRevision) -> None:
        self._session = session
        self._revision = revision

    async def upsert(self, replica: Replica) -> Replica:
        """Returns the replica as written, with the database's time in ``updated_at``; raises NotFound for an unknown release.

        Gateways learn of it where whether or where it takes traffic changed, or for which adapters.
        """
        releases = await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id == replica.release_id))
        release = releases.one_or_none()
        if release is None:
            raise NotFound(f"there is no release {replica.release_id!r}")
        before = await self._locked(replica.id)
        values = {
            **replica.model_dump(exclude={"updated_at"}),
            "project_id": release.project_id,
            "deployment_id": release.deployment_id,
            "updated_at": func.now(),
        }
        written = await self._session.scalars(
            insert(ReplicaRow).values(values).on_conflict_do_update(index_elements=[ReplicaRow.id], set_=values).returning(ReplicaRow),
            execution_options={"populate_existing": True},
        )
        after = to_replica(written.one())
        if _traffic(before) != _traffic(after):
            self._revision.bump()
        return after

    async def delete(self, replica_id: str) -> None:
        """Forgets a replica; one that is not there is no error."""
        before = await self._locked(replica_id)
        await self._session.execute(delete(ReplicaRow).where(ReplicaRow.id == replica_id).execution_options(synchronize_session=False))
        if _traffic(before) is not None:
            self._revision.bump()

    async def _locked(self, replica_id: str) -> Replica | None:
        statement = select(ReplicaRow).where(ReplicaRow.id == replica_id).with_for_update()
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        return None if row is None else to_replica(row)


def _traffic(replica: Replica | None) -> tuple[str | None, frozenset[str]] | None:
    """Returns where a replica takes traffic and for which adapters; None where it takes none."""
    return (replica.url, frozenset(replica.adapter_ids)) if replica is not None and replica.state is ReplicaState.READY else None


def to_replica(row: ReplicaRow) -> Replica:
    """Returns the replica a row holds."""
    return Replica(
        id=row.id,
        release_id=row.release_id,
        ordinal=row.ordinal,
        state=row.state,
        url=row.url,
        pid=row.pid,
        pid_started_at=row.pid_started_at,
        num_restarts=row.num_restarts,
        message=row.message,
        log_path=row.log_path,
        adapter_ids=list(row.adapter_ids),
        updated_at=row.updated_at,
    )
