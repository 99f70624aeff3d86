"""Tenants, their share of the workers and their limits."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.audit import GENESIS_HASH
from quantry_core.errors import Conflict, ProjectArchived, UnknownProject
from quantry_core.ids import IdPrefix, is_id, new_id
from quantry_core.jobs import JobStatus
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.projects import Project, ProjectChange, ProjectLimits, ProjectRequest
from quantry_store.references import require_name
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.paging import load_page
from quantry_store.tables import AuditChainRow, JobRow, ProjectRow


class ProjectRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository) -> None:
        self._session = session
        self._audit = audit

    async def get_or_create(self, name: str) -> str:
        """Returns the id of the project of that name, made if there is none; raises InvalidName."""
        project_id = await self._add(name, ProjectLimits())
        if project_id is not None:
            await self._audit.record(None, "project.create", "project", project_id, {"name": name}, project_id=project_id)
        return (await self._session.scalars(select(ProjectRow.id).where(ProjectRow.name == name))).one()

    async def make_platform(self, project_id: str) -> None:
        """Makes a project the one that looks after the installation, unless there is one already."""
        there_is_one = select(ProjectRow.id).where(ProjectRow.is_platform).exists()
        await self._session.execute(
            update(ProjectRow)
            .where(ProjectRow.id == project_id, ~there_is_one)
            .values(is_platform=True)
            .execution_options(synchronize_session=False)
        )

    async def create(self, request: ProjectRequest, *, who: Identity) -> Project:
        """Returns a new project; raises InvalidName, Conflict where the name is taken."""
        project_id = await self._add(request.name, request.limits)
        if project_id is None:
            raise Conflict(f"there is a project {request.name!r} already")
        facts = {"name": request.name, **request.limits.model_dump(mode="json")}
        # In its own log and in that of who made it: the platform's shows what its admins do.
        await self._audit.record(who, "project.create", "project", project_id, facts, project_id=project_id)
        await self._audit.record(who, "project.create", "project", project_id, facts)
        return await self.get(project_id)

    async def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Project]:
        """Returns a page of all projects, newest first."""
        return await load_page(self._session, _counted(), ProjectRow.id, lambda row: _project(*row), after=after, limit=limit)

    async def find(self, ref: str) -> Project:
        """Returns the project of an id or a name; raises UnknownProject."""
        column = ProjectRow.id if is_id(ref, IdPrefix.PROJECT) else ProjectRow.name
        project_id = (await self._session.scalars(select(ProjectRow.id).where(column == ref))).one_or_none()
        if project_id is None:
            raise UnknownProject(f"there is no project {ref!r}")
        return await self.get(project_id)

    async def change(self, project: Project, change: ProjectChange, *, who: Identity) -> Project:
        """Returns the project with what is given in ``change``. Jobs that run or are queued go on.

        Raises Conflict for archiving the platform's own.
        """
        given = change.model_dump(mode="json", exclude_unset=True)
        values = {name: value for name, value in given.items() if name != "is_archived"}
        if given.get("is_archived") and project.is_platform:
            raise Conflict(f"project {project.name} looks after the installation: it cannot be archived")
        if "is_archived" in given and change.is_archived is not (project.archived_at is not None):
            values["archived_at"] = func.now() if change.is_archived else None
        if not values:
            return project
        await self._session.execute(
            update(ProjectRow).where(ProjectRow.id == project.id).values(values).execution_options(synchronize_session=False)
        )
        await self._audit.record(who, "project.change", "project", project.id, given, project_id=project.id)
        if who.project_id != project.id:
            await self._audit.record(who, "project.change", "project", project.id, given)
        self._session.expire_all()
        return await self.get(project.id)

    async def check_open(self, project_id: str) -> None:
        """Raises ProjectArchived where a project takes no new work."""
        archived = select(ProjectRow.name).where(ProjectRow.id == project_id, ProjectRow.archived_at.is_not(None))
        name = (await self._session.scalars(archived)).one_or_none()
        if name is not None:
            raise ProjectArchived(f"project {name} is archived: it takes no new jobs; what it has can be read and goes on being served")

    async def get(self, project_id: str) -> Project:
        """Returns a project with its limits, and how many of its jobs are where; raises UnknownProject.

        Counted is what the limits count: deploy jobs, which no worker runs, are not.
        """
        row = (await self._session.execute(_counted().where(ProjectRow.id == project_id))).one_or_none()
        if row is None:
            raise UnknownProject(f"there is no project {project_id!r}")
        return _project(*row)

    async def limits(self, project_id: str) -> ProjectLimits:
        """Returns what a project may use; raises UnknownProject."""
        row = (await self._session.scalars(select(ProjectRow).where(ProjectRow.id == project_id))).one_or_none()
        if row is None:
            raise UnknownProject(f"there is no project {project_id!r}")
        return _limits(row)

    async def limits_of(self, name: str) -> ProjectLimits:
        """Returns what the project of that name may use, its row locked until the transaction ends; raises UnknownProject."""
        row = (await self._session.scalars(select(ProjectRow).where(ProjectRow.name == name).with_for_update(key_share=True))).one_or_none()
        if row is None:
            raise UnknownProject(f"there is no project {name!r}")
        return _limits(row)

    async def set_limits(self, name: str, limits: ProjectLimits) -> Project:
        """Returns the project of that name with new limits; raises UnknownProject. Jobs that run or are queued already go on."""
        changed = await self._session.scalars(
            update(ProjectRow)
            .where(ProjectRow.name == name)
            .values(limits.model_dump())
            .returning(ProjectRow.id)
            .execution_options(synchronize_session=False)
        )
        project_id = changed.one_or_none()
        if project_id is None:
            raise UnknownProject(f"there is no project {name!r}")
        await self._audit.record(None, "project.change", "project", project_id, limits.model_dump(mode="json"), project_id=project_id)
        self._session.expire_all()
        return await self.get(project_id)

    async def _add(self, name: str, limits: ProjectLimits) -> str | None:
        """Returns the id of a project just made, with the beginning of its audit chain; None where the name is taken."""
        row = {"id": new_id(IdPrefix.PROJECT), "name": require_name(name), **limits.model_dump()}
        added = insert(ProjectRow).values(row).on_conflict_do_nothing(index_elements=[ProjectRow.name]).returning(ProjectRow.id)
        project_id = (await self._session.scalars(added)).one_or_none()
        if project_id is not None:
            await self._session.execute(insert(AuditChainRow).values(project_id=project_id, seq=0, hash=GENESIS_HASH))
        return project_id


def _counted() -> Select[ProjectRow, int, int, int]:
    """Returns the statement of projects, each with how many of its jobs wait, are queued and run."""
    waiting, queued, running = (_num_jobs(status) for status in (JobStatus.WAITING, JobStatus.QUEUED, JobStatus.RUNNING))
    return select(ProjectRow, waiting, queued, running)


def _num_jobs(status: JobStatus) -> ColumnElement[int]:
    counted: Select[int] = select(func.count()).where(
        JobRow.project_id == ProjectRow.id, JobRow.status == status, JobRow.queue.is_not(None)
    )
    return counted.scalar_subquery()


def _limits(row: ProjectRow) -> ProjectLimits:
    return ProjectLimits(share=row.share, max_queued=row.max_queued, max_running=row.max_running)


def _project(row: ProjectRow, num_waiting: int, num_queued: int, num_running: int) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        is_platform=row.is_platform,
        created_at=row.created_at,
        archived_at=row.archived_at,
        limits=_limits(row),
        num_waiting=num_waiting,
        num_queued=num_queued,
        num_running=num_running,
    )
