"""The routes that gateways follow."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.rollouts import ReplicaState, Route, RoutedReplica, RouteSnapshot
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import DeploymentRow, ReplicaRow


class RouteRepository:
    def __init__(self, session: AsyncSession, *, revision: RouteRevision, keys: KeyRepository) -> None:
        self._session = session
        self._revision = revision
        self._keys = keys

    def bump(self) -> None:
        """Marks the routes as changed; the revision is counted up just before the commit."""
        self._revision.bump()

    async def revision(self) -> int:
        """Returns the revision of the last committed change."""
        return await self._revision.current()

    async def snapshot(self) -> RouteSnapshot:
        """Returns the routes of every deployment and the keys of every project.

        A route's replicas are the ready ones of the current release; a stopped deployment has none.
        """
        # The revision is read first: what follows is then at least that new, and a later change has a later revision.
        revision = await self.revision()
        deployments = (await self._session.scalars(select(DeploymentRow).order_by(DeploymentRow.id))).all()
        ready = await self._session.execute(
            select(ReplicaRow.deployment_id, ReplicaRow.id, ReplicaRow.release_id, ReplicaRow.url)
            .join(DeploymentRow, DeploymentRow.current_release_id == ReplicaRow.release_id)
            .where(ReplicaRow.state == ReplicaState.READY, ReplicaRow.url.is_not(None), DeploymentRow.is_stopped.is_(False))
            .order_by(ReplicaRow.ordinal, ReplicaRow.id)
        )
        replicas: dict[str, list[RoutedReplica]] = {}
        for deployment_id, replica_id, release_id, url in ready:
            if url is not None:
                replicas.setdefault(deployment_id, []).append(RoutedReplica(id=replica_id, release_id=release_id, url=url))
        routes = [
            Route(deployment=row.name, project_id=row.project_id, created_at=row.created_at, replicas=replicas.get(row.id, []))
            for row in deployments
        ]
        return RouteSnapshot(revision=revision, routes=routes, keys=await self._keys.snapshot())
