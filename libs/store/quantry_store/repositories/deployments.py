"""Deployments with what stands behind them: current release, active rollout, replicas, attached adapters."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownDeployment
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import EngineConfig
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import AttachedAdapter, Deployment, Release, Replica, Rollout
from quantry_core.versions import Version
from quantry_store.references import choices, require_name
from quantry_store.repositories.attached_adapters import AttachedAdapterRepository
from quantry_store.repositories.paging import load_page
from quantry_store.repositories.replicas import to_replica
from quantry_store.repositories.rollouts import to_rollout
from quantry_store.tables import DeploymentRow, ReleaseRow, ReplicaRow, RolloutRow


class DeploymentRepository:
    def __init__(self, session: AsyncSession, *, adapters: AttachedAdapterRepository) -> None:
        self._session = session
        self._adapters = adapters

    async def get(self, project_id: str, name: str) -> Deployment:
        """Returns a deployment; raises InvalidName, or UnknownDeployment naming the ones there are."""
        statement = select(DeploymentRow).where(DeploymentRow.project_id == project_id, DeploymentRow.name == require_name(name))
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise await self._unknown(project_id, name)
        return (await self._complete([row]))[0]

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Deployment]:
        """Returns a page of a project's deployments, newest first."""
        statement = select(DeploymentRow).where(DeploymentRow.project_id == project_id)
        found: dict[str, DeploymentRow] = {}

        def bare(row: DeploymentRow) -> Deployment:
            found[row.id] = row
            return _deployment(row, None, None, [], [])

        page = await load_page(self._session, statement, DeploymentRow.id, lambda row: bare(row[0]), after=after, limit=limit)
        return page.model_copy(update={"data": await self._complete([found[item.id] for item in page.data])})

    async def lock(self, project_id: str, name: str) -> Deployment:
        """Returns a deployment with its row locked until the transaction ends; raises UnknownDeployment."""
        deployment = await self._find_locked(project_id, name)
        if deployment is None:
            raise await self._unknown(project_id, name)
        return deployment

    async def lock_or_create(self, project_id: str, name: str) -> Deployment:
        """Returns the deployment of that name, made if there is none, with its row locked until the transaction ends.

        Raises Conflict if there is none and an adapter has the name.
        """
        found = await self._find_locked(project_id, name)
        if found is not None:
            return found
        await self._adapters.claim_name(project_id, name)
        await self._adapters.check_free_for_deployment(project_id, name)
        row = {
            "id": new_id(IdPrefix.DEPLOYMENT),
            "project_id": project_id,
            "name": require_name(name),
            "last_release_number": 0,
            "is_stopped": False,
        }
        await self._session.execute(
            insert(DeploymentRow).values(row).on_conflict_do_nothing(index_elements=[DeploymentRow.project_id, DeploymentRow.name])
        )
        return await self.lock(project_id, name)

    async def of_every_project(self) -> builtins.list[Deployment]:
        """Returns all deployments there are, oldest first. Locks nothing and waits for nobody."""
        statement = select(DeploymentRow).order_by(DeploymentRow.id)
        rows = await self._session.scalars(statement, execution_options={"populate_existing": True})
        return await self._complete(rows.all())

    async def add_release(self, deployment: Deployment, version: Version, *, num_replicas: int, engine: EngineConfig) -> Release:
        """Returns the next release of a locked deployment; it serves nothing until a rollout promotes it."""
        numbers = await self._session.scalars(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment.id)
            .values(last_release_number=DeploymentRow.last_release_number + 1)
            .returning(DeploymentRow.last_release_number)
            .execution_options(synchronize_session=False)
        )
        row = ReleaseRow(
            id=new_id(IdPrefix.RELEASE),
            project_id=deployment.project_id,
            deployment_id=deployment.id,
            number=numbers.one(),
            version_id=version.id,
            version_ref=version.ref,
            num_replicas=num_replicas,
            engine=engine.model_dump(mode="json"),
        )
        self._session.add(row)
        await self._session.flush()
        return _release(row)

    async def release(self, release_id: str) -> Release:
        """Returns a release that a rollout or deployment names."""
        return _release((await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id == release_id))).one())

    async def releases(self, deployment: Deployment) -> dict[str, Release]:
        """Returns by id the releases that are in use: the current one, both ends of the active rollout, those of replicas."""
        ids = {replica.release_id for replica in deployment.replicas}
        if deployment.current_release is not None:
            ids.add(deployment.current_release.id)
        if deployment.active_rollout is not None:
            ids.add(deployment.active_rollout.to_release_id)
            ids.add(deployment.active_rollout.from_release_id or deployment.active_rollout.to_release_id)
        rows = await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id.in_(ids)))
        return {row.id: _release(row) for row in rows}

    async def promote(self, release: Release) -> str:
        """Returns the name of the deployment whose current release is ``release`` from now on."""
        names = await self._session.scalars(
            update(DeploymentRow)
            .where(DeploymentRow.id == release.deployment_id)
            .values(current_release_id=release.id)
            .returning(DeploymentRow.name)
            .execution_options(synchronize_session=False)
        )
        return names.one()

    async def set_stopped(self, deployment: Deployment, *, is_stopped: bool) -> None:
        """Asks for a locked deployment to serve nothing, or to serve again."""
        await self._session.execute(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment.id)
            .values(is_stopped=is_stopped)
            .execution_options(synchronize_session=False)
        )

    async def _find_locked(self, project_id: str, name: str) -> Deployment | None:
        statement = (
            select(DeploymentRow)
            .where(DeploymentRow.project_id == project_id, DeploymentRow.name == require_name(name))
            .with_for_update(key_share=True)
        )
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        return None if row is None else (await self._complete([row]))[0]

    async def _complete(self, rows: Sequence[DeploymentRow]) -> builtins.list[Deployment]:
        """Returns the deployments of ``rows``, in their order, with one query for each kind of thing behind them."""
        ids = [row.id for row in rows]
        release_ids = [row.current_release_id for row in rows if row.current_release_id is not None]
        releases = {row.id: row for row in await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id.in_(release_ids)))}
        active = select(RolloutRow).where(RolloutRow.deployment_id.in_(ids), RolloutRow.finished_at.is_(None))
        rollouts = {
            row.deployment_id: to_rollout(row) for row in await self._session.scalars(active, execution_options={"populate_existing": True})
        }
        replicas: dict[str, builtins.list[Replica]] = {id_: [] for id_ in ids}
        statement = select(ReplicaRow).where(ReplicaRow.deployment_id.in_(ids)).order_by(ReplicaRow.ordinal, ReplicaRow.id)
        for replica in await self._session.scalars(statement, execution_options={"populate_existing": True}):
            replicas[replica.deployment_id].append(to_replica(replica))
        adapters = await self._adapters.of_deployments(ids)
        return [
            _deployment(
                row,
                None if row.current_release_id is None else _release(releases[row.current_release_id]),
                rollouts.get(row.id),
                replicas[row.id],
                adapters[row.id],
            )
            for row in rows
        ]

    async def _unknown(self, project_id: str, name: str) -> UnknownDeployment:
        statement = select(DeploymentRow.name).where(DeploymentRow.project_id == project_id).order_by(DeploymentRow.name)
        known = (await self._session.scalars(statement)).all()
        return UnknownDeployment(f"there is no deployment {name!r}; {choices(known, of='deployments')}")


def _deployment(
    row: DeploymentRow, release: Release | None, rollout: Rollout | None, replicas: list[Replica], adapters: list[AttachedAdapter]
) -> Deployment:
    return Deployment(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        current_release=release,
        active_rollout=rollout,
        replicas=replicas,
        adapters=adapters,
        is_stopped=row.is_stopped,
        created_at=row.created_at,
    )


def _release(row: ReleaseRow) -> Release:
    return Release(
        id=row.id,
        deployment_id=row.deployment_id,
        number=row.number,
        version_id=row.version_id,
        version_ref=row.version_ref,
        num_replicas=row.num_replicas,
        engine=EngineConfig.model_validate(row.engine),
        created_at=row.created_at,
    )
