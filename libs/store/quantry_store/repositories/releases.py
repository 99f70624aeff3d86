"""Releases: versions with the configuration they are served by, numbered within their deployment."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownRelease
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import DeploySpec, EngineConfig, Scaling
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import Deployment, Release
from quantry_core.versions import Version
from quantry_store.references import choices, fits_integer
from quantry_store.repositories.paging import load_page
from quantry_store.tables import DeploymentRow, ReleaseRow


class ReleaseRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, release_id: str) -> Release:
        """Returns a release that a rollout or deployment names."""
        return to_release((await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id == release_id))).one())

    async def by_id(self, release_ids: Iterable[str]) -> dict[str, Release]:
        """Returns those of these releases that there are, by id."""
        rows = await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id.in_(set(release_ids))))
        return {row.id: to_release(row) for row in rows}

    async def numbered(self, deployment: Deployment, number: int) -> Release:
        """Returns a deployment's release of that number; raises UnknownRelease naming those there are."""
        of_deployment = select(ReleaseRow).where(ReleaseRow.deployment_id == deployment.id)
        row = None
        if fits_integer(number):
            row = (await self._session.scalars(of_deployment.where(ReleaseRow.number == number))).one_or_none()
        if row is None:
            numbers = await self._session.scalars(of_deployment.with_only_columns(ReleaseRow.number).order_by(ReleaseRow.number.desc()))
            raise UnknownRelease(f"deployment {deployment.name!r} has no release {number}; {choices(numbers.all(), of='releases')}")
        return to_release(row)

    async def list(self, deployment: Deployment, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Release]:
        """Returns a page of a deployment's releases, newest first."""
        statement = select(ReleaseRow).where(ReleaseRow.deployment_id == deployment.id)
        return await load_page(self._session, statement, ReleaseRow.id, lambda row: to_release(row[0]), after=after, limit=limit)

    async def add(self, deployment: Deployment, version: Version, spec: DeploySpec) -> Release:
        """Returns the next release of a locked deployment, as a deploy job wants it; it serves nothing until a rollout promotes it."""
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
            num_replicas=spec.num_replicas,
            engine=spec.engine.model_dump(mode="json"),
            scaling=None if spec.scaling is None else spec.scaling.model_dump(mode="json"),
            servers=list(spec.servers),
        )
        self._session.add(row)
        await self._session.flush()
        return to_release(row)


def to_release(row: ReleaseRow) -> Release:
    """Returns the release a row holds."""
    return Release(
        id=row.id,
        deployment_id=row.deployment_id,
        number=row.number,
        version_id=row.version_id,
        version_ref=row.version_ref,
        num_replicas=row.num_replicas,
        engine=EngineConfig.model_validate(row.engine),
        scaling=None if row.scaling is None else Scaling.model_validate(row.scaling),
        servers=list(row.servers),
        created_at=row.created_at,
    )
