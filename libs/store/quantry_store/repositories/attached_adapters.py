"""Adapters that deployments serve beside their base, each under a name that no deployment and no other adapter has."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.rollouts import AttachedAdapter, Deployment
from quantry_core.versions import Version
from quantry_store.references import choices
from quantry_store.repositories.revision import RouteRevision
from quantry_store.tables import DeploymentAdapterRow, DeploymentRow


class AttachedAdapterRepository:
    def __init__(self, session: AsyncSession, *, revision: RouteRevision) -> None:
        self._session = session
        self._revision = revision

    async def claim_name(self, project_id: str, name: str) -> None:
        """Makes whoever else wants to give this name to a deployment or an adapter of the project wait for this transaction.

        Taken before the rows of deployments.
        """
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"serving-name:{project_id}:{name}", 0))))

    async def check_free_for_deployment(self, project_id: str, name: str) -> None:
        """Raises Conflict if an adapter has the name, which must have been claimed."""
        statement = (
            select(DeploymentRow.name)
            .join(DeploymentAdapterRow, DeploymentAdapterRow.deployment_id == DeploymentRow.id)
            .where(DeploymentAdapterRow.project_id == project_id, DeploymentAdapterRow.name == name)
        )
        owner = (await self._session.scalars(statement)).one_or_none()
        if owner is not None:
            raise Conflict(f"{name!r} is the name of an adapter of deployment {owner!r}; requests could not tell the two apart")

    async def check_free_for_adapter(self, deployment: Deployment, name: str) -> None:
        """Raises Conflict if a deployment has the name, or an adapter of another one; it must have been claimed."""
        of_name = select(DeploymentRow.id).where(DeploymentRow.project_id == deployment.project_id, DeploymentRow.name == name)
        if (await self._session.scalars(of_name)).one_or_none() is not None:
            raise Conflict(f"{name!r} is the name of a deployment; requests could not tell the two apart")
        owner = await self._session.scalars(
            select(DeploymentRow.name)
            .join(DeploymentAdapterRow, DeploymentAdapterRow.deployment_id == DeploymentRow.id)
            .where(
                DeploymentAdapterRow.project_id == deployment.project_id,
                DeploymentAdapterRow.name == name,
                DeploymentAdapterRow.deployment_id != deployment.id,
            )
        )
        other = owner.one_or_none()
        if other is not None:
            raise Conflict(f"{name!r} is the name of an adapter of deployment {other!r}; detach it there first")

    async def add(self, deployment: Deployment, name: str, version: Version, job_id: str | None) -> AttachedAdapter:
        """Returns the adapter, newly attached to a locked deployment."""
        row = DeploymentAdapterRow(
            id=new_id(IdPrefix.ADAPTER),
            project_id=deployment.project_id,
            deployment_id=deployment.id,
            name=name,
            version_id=version.id,
            version_ref=version.ref,
            job_id=job_id,
            message=None,
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        self._revision.bump()
        return to_attached(row)

    async def replace(self, adapter: AttachedAdapter, version: Version, job_id: str | None) -> AttachedAdapter:
        """Returns the adapter, of another version from now on. Replicas serve the one before until they have loaded this one."""
        rows = await self._session.scalars(
            update(DeploymentAdapterRow)
            .where(DeploymentAdapterRow.id == adapter.id)
            .values(version_id=version.id, version_ref=version.ref, job_id=job_id, message=None)
            .returning(DeploymentAdapterRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        self._revision.bump()
        return to_attached(rows.one())

    async def remove(self, adapter: AttachedAdapter) -> None:
        """Forgets an adapter of a locked deployment; its route is gone with that."""
        statement = delete(DeploymentAdapterRow).where(DeploymentAdapterRow.id == adapter.id)
        await self._session.execute(statement.execution_options(synchronize_session=False))
        self._revision.bump()

    async def set_message(self, adapter_id: str, message: str | None) -> None:
        """Says why an adapter cannot be loaded, or that it can; one that was detached meanwhile is no error."""
        statement = update(DeploymentAdapterRow).where(DeploymentAdapterRow.id == adapter_id).values(message=message)
        await self._session.execute(statement.execution_options(synchronize_session=False))

    async def names_by_job(self, project_id: str, job_ids: Collection[str]) -> dict[str, str]:
        """Returns the name of the adapter that each of these jobs made, of those whose adapter is attached for them."""
        statement = select(DeploymentAdapterRow.job_id, DeploymentAdapterRow.name)
        rows = await self._session.execute(
            statement.where(DeploymentAdapterRow.project_id == project_id, DeploymentAdapterRow.job_id.in_(job_ids))
        )
        return {job_id: name for job_id, name in rows if job_id is not None}

    async def of_deployments(self, deployment_ids: Collection[str]) -> dict[str, list[AttachedAdapter]]:
        """Returns the adapters of each of these deployments, oldest first."""
        statement = select(DeploymentAdapterRow).where(DeploymentAdapterRow.deployment_id.in_(deployment_ids))
        found: dict[str, list[AttachedAdapter]] = {id_: [] for id_ in deployment_ids}
        rows = await self._session.scalars(statement.order_by(DeploymentAdapterRow.id), execution_options={"populate_existing": True})
        for row in rows:
            found[row.deployment_id].append(to_attached(row))
        return found


def attached_adapter(deployment: Deployment, name: str) -> AttachedAdapter:
    """Returns a deployment's adapter of that name; raises NotFound naming those there are."""
    for adapter in deployment.adapters:
        if adapter.name == name:
            return adapter
    names = sorted(adapter.name for adapter in deployment.adapters)
    raise NotFound(f"deployment {deployment.name!r} has no adapter {name!r}; {choices(names, of='adapters')}")


def to_attached(row: DeploymentAdapterRow) -> AttachedAdapter:
    """Returns the attached adapter a row holds."""
    return AttachedAdapter(
        id=row.id,
        project_id=row.project_id,
        deployment_id=row.deployment_id,
        name=row.name,
        version_id=row.version_id,
        version_ref=row.version_ref,
        job_id=row.job_id,
        message=row.message,
        created_at=row.created_at,
    )
