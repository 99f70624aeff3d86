"""Deployments with what stands behind them: current release, active rollout, replicas, attached adapters."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.captures import CaptureSettings
from quantry_core.errors import UnknownDeployment
from quantry_core.ids import IdPrefix, new_id
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import AttachedAdapter, Deployment, Release, Replica, Rollout
from quantry_store.references import choices, require_name
from quantry_store.repositories.attached_adapters import AttachedAdapterRepository
from quantry_store.repositories.paging import load_page
from quantry_store.repositories.releases import ReleaseRepository
from quantry_store.repositories.replicas import to_replica
from quantry_store.repositories.rollouts import to_rollout
from quantry_store.tables import DeploymentRow, ReplicaRow, RolloutRow
from quantry_store.tables.deployments import WATCHED


class DeploymentRepository:
    def __init__(self, session: AsyncSession, *, adapters: AttachedAdapterRepository, releases: ReleaseRepository) -> None:
        self._session = session
        self._adapters = adapters
        self._releases = releases

    async def get(self, project_id: str, name: str) -> Deployment:
        """Returns a deployment; raises InvalidName, or UnknownDeployment naming the ones there are."""
        statement = select(DeploymentRow).where(*_named(project_id, name))
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
            return _deployment(row, _Behind())

        page = await load_page(self._session, statement, DeploymentRow.id, lambda row: bare(row[0]), after=after, limit=limit)
        return page.model_copy(update={"data": await self._complete([found[item.id] for item in page.data])})

    async def lock(self, project_id: str, name: str) -> Deployment:
        """Returns a deployment with its row locked until the transaction ends; raises UnknownDeployment."""
        deployment = await self._find_locked(*_named(project_id, name))
        if deployment is None:
            raise await self._unknown(project_id, name)
        return deployment

    async def lock_by_id(self, deployment_id: str) -> Deployment:
        """Returns the deployment that a rollout or release names, with its row locked until the transaction ends."""
        deployment = await self._find_locked(DeploymentRow.id == deployment_id)
        if deployment is None:
            raise UnknownDeployment(f"there is no deployment {deployment_id!r}")
        return deployment

    async def lock_or_create(self, project_id: str, name: str) -> Deployment:
        """Returns the deployment of that name, made if there is none, with its row locked until the transaction ends.

        Raises Conflict if there is none and an adapter has the name.
        """
        found = await self._find_locked(*_named(project_id, name))
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

    async def releases(self, deployment: Deployment) -> dict[str, Release]:
        """Returns by id the releases that are in use: the current one, both ends of the active and of the watched rollout, those
        of replicas."""
        ids = {replica.release_id for replica in deployment.replicas}
        if deployment.current_release is not None:
            ids.add(deployment.current_release.id)
        for rollout in (deployment.active_rollout, deployment.watched_rollout):
            if rollout is not None:
                ids |= {rollout.to_release_id, rollout.from_release_id or rollout.to_release_id}
        return await self._releases.by_id(ids)

    async def promote(self, release: Release) -> str:
        """Returns the name of the deployment whose current release is ``release`` from now on, with as many replicas as that says."""
        names = await self._session.scalars(
            update(DeploymentRow)
            .where(DeploymentRow.id == release.deployment_id)
            .values(current_release_id=release.id, num_wanted=None)
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

    async def set_wanted(self, deployment_id: str, num_wanted: int | None) -> bool:
        """Says how many replicas of its current release a deployment is to have; None: as many as that says. Returns whether it
        is another number than before; a deployment that is not there is no error."""
        changed = await self._session.scalars(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment_id, DeploymentRow.num_wanted.is_distinct_from(num_wanted))
            .values(num_wanted=num_wanted)
            .returning(DeploymentRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.one_or_none() is not None

    async def set_capture(self, deployment: Deployment, settings: CaptureSettings | None) -> None:
        """Says what a locked deployment keeps of its prompts; None: nothing new."""
        await self._session.execute(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment.id)
            .values(capture=None if settings is None else settings.model_dump(mode="json"))
            .execution_options(synchronize_session=False)
        )

    async def _find_locked(self, *which: ColumnElement[bool]) -> Deployment | None:
        statement = select(DeploymentRow).where(*which).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        return None if row is None else (await self._complete([row]))[0]

    async def _complete(self, rows: Sequence[DeploymentRow]) -> builtins.list[Deployment]:
        """Returns the deployments of ``rows``, in their order, with one query for each kind of thing behind them."""
        ids = [row.id for row in rows]
        behind = {id_: _Behind() for id_ in ids}
        releases = await self._releases.by_id(row.current_release_id for row in rows if row.current_release_id is not None)
        for row in rows:
            behind[row.id].release = releases.get(row.current_release_id or "")
        in_use = or_(RolloutRow.finished_at.is_(None), text(WATCHED))
        rollouts = select(RolloutRow).where(RolloutRow.deployment_id.in_(ids), in_use)
        for rollout in await self._session.scalars(rollouts, execution_options={"populate_existing": True}):
            if rollout.finished_at is None:
                behind[rollout.deployment_id].active = to_rollout(rollout)
            else:
                behind[rollout.deployment_id].watched = to_rollout(rollout)
        replicas = select(ReplicaRow).where(ReplicaRow.deployment_id.in_(ids)).order_by(ReplicaRow.ordinal, ReplicaRow.id)
        for replica in await self._session.scalars(replicas, execution_options={"populate_existing": True}):
            behind[replica.deployment_id].replicas.append(to_replica(replica))
        for id_, adapters in (await self._adapters.of_deployments(ids)).items():
            behind[id_].adapters = adapters
        return [_deployment(row, behind[row.id]) for row in rows]

    async def _unknown(self, project_id: str, name: str) -> UnknownDeployment:
        statement = select(DeploymentRow.name).where(DeploymentRow.project_id == project_id).order_by(DeploymentRow.name)
        known = (await self._session.scalars(statement)).all()
        return UnknownDeployment(f"there is no deployment {name!r}; {choices(known, of='deployments')}")


@dataclass
class _Behind:
    """What stands behind a deployment's row."""

    release: Release | None = None
    active: Rollout | None = None
    watched: Rollout | None = None
    replicas: list[Replica] = field(default_factory=list)
    adapters: list[AttachedAdapter] = field(default_factory=list)


def _named(project_id: str, name: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return DeploymentRow.project_id == project_id, DeploymentRow.name == require_name(name)


def _deployment(row: DeploymentRow, behind: _Behind) -> Deployment:
    return Deployment(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        current_release=behind.release,
        active_rollout=behind.active,
        replicas=behind.replicas,
        adapters=behind.adapters,
        watched_rollout=behind.watched,
        is_stopped=row.is_stopped,
        num_wanted=row.num_wanted,
        demanded_at=row.demanded_at,
        requested_at=row.requested_at,
        capture=None if row.capture is None else CaptureSettings.model_validate(row.capture),
        created_at=row.created_at,
    )
