"""The routes that gateways follow."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.rollouts import ReplicaState, Route, RoutedReplica, RouteSnapshot
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import DeploymentAdapterRow, DeploymentRow, ReplicaRow


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
        """Returns the routes of every deployment and attached adapter, and the keys of every project.

        A route's replicas are the ready ones of the current release; a stopped deployment has none. An adapter's are those of them
        that have it loaded.
        """
        # The revision is read first: what follows is then at least that new, and a later change has a later revision.
        revision = await self.revision()
        deployments = (await self._session.scalars(select(DeploymentRow).order_by(DeploymentRow.id))).all()
        ready = await self._session.execute(
            select(ReplicaRow.deployment_id, ReplicaRow.id, ReplicaRow.release_id, ReplicaRow.url, ReplicaRow.adapter_ids)
            .join(DeploymentRow, DeploymentRow.current_release_id == ReplicaRow.release_id)
            .where(ReplicaRow.state == ReplicaState.READY, ReplicaRow.url.is_not(None), DeploymentRow.is_stopped.is_(False))
            .order_by(ReplicaRow.ordinal, ReplicaRow.id)
        )
        replicas: dict[str, list[RoutedReplica]] = {}
        """By the id of their deployment, and of each adapter that they have loaded."""
        for deployment_id, replica_id, release_id, url, adapter_ids in ready:
            if url is not None:
                for id_ in (deployment_id, *adapter_ids):
                    replicas.setdefault(id_, []).append(RoutedReplica(id=replica_id, release_id=release_id, url=url))
        routes = [
            Route(deployment=row.name, project_id=row.project_id, created_at=row.created_at, replicas=replicas.get(row.id, []))
            for row in deployments
        ]
        names = {row.id: row.name for row in deployments}
        for adapter in await self._session.scalars(select(DeploymentAdapterRow).order_by(DeploymentAdapterRow.id)):
            # One attached to a deployment that was made since comes with the next snapshot, as the deployment does.
            if adapter.deployment_id in names:
                routes.append(
                    Route(
                        deployment=adapter.name,
                        parent=names[adapter.deployment_id],
                        project_id=adapter.project_id,
                        created_at=adapter.created_at,
                        replicas=replicas.get(adapter.id, []),
                    )
                )
        return RouteSnapshot(revision=revision, routes=routes, keys=await self._keys.snapshot())
