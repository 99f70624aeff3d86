"""Tenants, their share of the workers and their limits."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import JobStatus
from quantry_core.projects import Project, ProjectLimits
from quantry_store.references import require_name
from quantry_store.tables import JobRow, ProjectRow


class ProjectRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_or_create(self, name: str) -> str:
        """Returns the id of the project of that name, made if there is none; raises InvalidName."""
        row = {"id": new_id(IdPrefix.PROJECT), "name": require_name(name)}
        await self._session.execute(insert(ProjectRow).values(row).on_conflict_do_nothing(index_elements=[ProjectRow.name]))
        return (await self._session.scalars(select(ProjectRow.id).where(ProjectRow.name == name))).one()

    async def get(self, project_id: str) -> Project:
        """Returns a project with its limits, and how many of its jobs are where; raises NotFound.

        Counted is what the limits count: deploy jobs, which no worker runs, are not.
        """
        waiting, queued, running = (_num_jobs(status) for status in (JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING))
        statement = select(ProjectRow, waiting, queued, running)
        row = (await self._session.execute(statement.where(ProjectRow.id == project_id))).one_or_none()
        if row is None:
            raise NotFound(f"there is no project {project_id!r}")
        project, num_waiting, num_queued, num_running = row
        return Project(
            id=project.id,
            name=project.name,
            limits=_limits(project),
            num_waiting=num_waiting,
            num_queued=num_queued,
            num_running=num_running,
        )

    async def limits(self, project_id: str) -> ProjectLimits:
        """Returns what a project may use; raises NotFound."""
        row = (await self._session.scalars(select(ProjectRow).where(ProjectRow.id == project_id))).one_or_none()
        if row is None:
            raise NotFound(f"there is no project {project_id!r}")
        return _limits(row)

    async def limits_of(self, name: str) -> ProjectLimits:
        """Returns what the project of that name may use, its row locked until the transaction ends; raises NotFound."""
        row = (await self._session.scalars(select(ProjectRow).where(ProjectRow.name == name).with_for_update(key_share=True))).one_or_none()
        if row is None:
            raise NotFound(f"there is no project {name!r}")
        return _limits(row)

    async def set_limits(self, name: str, limits: ProjectLimits) -> Project:
        """Returns the project of that name with new limits; raises NotFound. Jobs that run or are queued already go on."""
        changed = await self._session.scalars(
            update(ProjectRow)
            .where(ProjectRow.name == name)
            .values(limits.model_dump())
            .returning(ProjectRow.id)
            .execution_options(synchronize_session=False)
        )
        project_id = changed.one_or_none()
        if project_id is None:
            raise NotFound(f"there is no project {name!r}")
        self._session.expire_all()
        return await self.get(project_id)


def _num_jobs(status: JobStatus) -> ColumnElement[int]:
    counted: Select[int] = select(func.count()).where(
        JobRow.project_id == ProjectRow.id, JobRow.status == status, JobRow.queue.is_not(None)
    )
    return counted.scalar_subquery()


def _limits(row: ProjectRow) -> ProjectLimits:
    return ProjectLimits(share=row.share, max_queued=row.max_queued, max_running=row.max_running)
