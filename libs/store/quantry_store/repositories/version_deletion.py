"""Deleting versions, taking it back, and removing for good what was deleted long ago."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownVersion, VersionProtected
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.failures import core_errors
from quantry_store.repositories.open_jobs import is_open_in
from quantry_store.repositories.version_rows import to_version
from quantry_store.repositories.versions import VersionRepository
from quantry_store.tables import (
    AliasRow,
    DeploymentAdapterRow,
    DeploymentRow,
    JobRow,
    LineageEdgeRow,
    ModelRow,
    ReleaseRow,
    RolloutRow,
    VersionRow,
)

MASTER_RETENTION_S = 7 * 24 * 3600.0
"""A deleted master's row stays at least so long, whatever the settings say; a trigger of the third migration holds it too."""


class VersionDeletionRepository:
    def __init__(self, session: AsyncSession, *, versions: VersionRepository) -> None:
        self._session = session
        self._versions = versions

    async def hold(self, project_id: str, version_id: str) -> Version:
        """Returns a version, deleted or not, its row locked until the transaction ends; raises UnknownVersion."""
        statement = select(VersionRow.id).where(VersionRow.id == version_id, VersionRow.project_id == project_id).with_for_update()
        if (await self._session.scalars(statement)).one_or_none() is None:
            raise UnknownVersion(f"there is no version {version_id!r}")
        return await self._versions.get(project_id, version_id)

    async def hold_with_parents(self, project_id: str, version_id: str) -> Version:
        """As ``hold``, with the versions that it was made from locked too, so that none of them is deleted meanwhile."""
        parents = select(LineageEdgeRow.parent_version_id).where(LineageEdgeRow.child_version_id == version_id)
        family = or_(VersionRow.id == version_id, VersionRow.id.in_(parents))
        # All at once and by id, so that whoever locks several versions never waits for another crosswise.
        statement = select(VersionRow.id).where(VersionRow.project_id == project_id, family).order_by(VersionRow.id)
        await self._session.execute(statement.with_for_update())
        return await self.hold(project_id, version_id)

    async def check_unused(self, version: Version) -> None:
        """Raises VersionProtected if an alias points at a version, a deployment has it attached or an unfinished job uses it."""
        aliases = (await self._session.scalars(select(AliasRow.alias).where(AliasRow.version_id == version.id))).all()
        if aliases:
            raise VersionProtected(f"alias {aliases[0]!r} points at {version.ref}; move or delete it first")
        attached = await self._session.execute(
            select(DeploymentAdapterRow.name, DeploymentRow.name)
            .join(DeploymentRow, DeploymentRow.id == DeploymentAdapterRow.deployment_id)
            .where(DeploymentAdapterRow.version_id == version.id)
            .limit(1)
        )
        for adapter, deployment in attached:
            raise VersionProtected(f"deployment {deployment!r} serves {version.ref} as adapter {adapter!r}; detach it first")
        jobs = await self._session.scalars(
            select(JobRow.id)
            .where(
                is_open_in(version.project_id),
                # By its id, or as the output of the job that made it, which one that waits has not been given yet.
                or_(JobRow.inputs.contains([{"version_id": version.id}]), JobRow.inputs.contains([{"job_id": version.job_id}])),
            )
            .limit(1)
        )
        job_id = jobs.one_or_none()
        if job_id is not None:
            raise VersionProtected(f"job {job_id} still uses {version.ref}; wait for it or cancel it")

    async def check_unserved(self, version: Version) -> None:
        """Raises VersionProtected if a deployment serves a version now, or is on the way to or from it."""
        is_served = DeploymentRow.current_release_id == ReleaseRow.id
        is_moving = exists().where(
            RolloutRow.finished_at.is_(None), or_(RolloutRow.from_release_id == ReleaseRow.id, RolloutRow.to_release_id == ReleaseRow.id)
        )
        names = await self._session.scalars(
            select(DeploymentRow.name)
            .join(ReleaseRow, ReleaseRow.deployment_id == DeploymentRow.id)
            .where(ReleaseRow.version_id == version.id, or_(is_served, is_moving))
            .limit(1)
        )
        for name in names:
            raise VersionProtected(f"deployment {name!r} serves {version.ref}; deploy another version there first")

    async def mark_state(self, version_id: str, state: VersionState) -> None:
        """Moves a version to another state; raises VersionProtected for a master."""
        with core_errors():
            await self._session.execute(update(VersionRow).where(VersionRow.id == version_id).values(state=state))
        self._session.expire_all()

    async def mark_deleted(self, version_id: str) -> None:
        """Hides a version; raises VersionProtected where the triggers refuse: descendants, releases, aliases, jobs."""
        await self._mark(version_id, func.now())

    async def mark_restored(self, version_id: str) -> None:
        """Shows a version again; raises VersionProtected if what it was made from is deleted."""
        await self._mark(version_id, None)

    async def expired(self, retention_s: float, *, after: str, limit: int) -> list[Version]:
        """Returns the next versions by id after ``after``, of every project, that were deleted ``retention_s`` seconds ago and from
        which no other was made."""
        statement = (
            select(VersionRow, ModelRow.name)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.id > after, *_is_expired(retention_s))
            .order_by(VersionRow.id)
            .limit(limit)
        )
        return [to_version(*row) for row in await self._session.execute(statement)]

    async def is_expired(self, version_id: str, retention_s: float) -> bool:
        """Tells whether a version is one of those that ``expired`` returns."""
        statement = select(VersionRow.id).where(VersionRow.id == version_id, *_is_expired(retention_s))
        return (await self._session.scalars(statement)).one_or_none() is not None

    async def remove(self, version_id: str) -> None:
        """Removes a deleted version's row, files, edges, notes and evidence; raises VersionProtected where the triggers refuse."""
        with core_errors():
            await self._session.execute(delete_from(VersionRow).where(VersionRow.id == version_id))

    async def _mark(self, version_id: str, deleted_at: object) -> None:
        # Descendants and releases are the triggers' business, so that SQL by hand meets the same rule.
        with core_errors():
            statement = update(VersionRow).where(VersionRow.id == version_id).values(deleted_at=deleted_at)
            await self._session.execute(statement.execution_options(synchronize_session=False))
        self._session.expire_all()


def _is_expired(retention_s: float) -> list[ColumnElement[bool]]:
    master_s = max(retention_s, MASTER_RETENTION_S)
    return [
        or_(
            and_(VersionRow.kind == VersionKind.MASTER, VersionRow.deleted_at < func.now() - timedelta(seconds=master_s)),
            and_(VersionRow.kind != VersionKind.MASTER, VersionRow.deleted_at < func.now() - timedelta(seconds=retention_s)),
        ),
        ~exists().where(LineageEdgeRow.parent_version_id == VersionRow.id),
        ~exists().where(ReleaseRow.version_id == VersionRow.id),
    ]
