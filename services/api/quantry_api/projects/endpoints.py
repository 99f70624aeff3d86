"""/api/v1/project: the caller's own. /api/v1/projects: all of them, for the platform's admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from quantry_core.keys import NewKey, Role
from quantry_core.pages import Page
from quantry_core.projects import NewProject, Project, ProjectChange, ProjectRequest
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses

FIRST_KEY = "admin"
"""What the first key of a new project is called."""
MAX_REF_CHARS = 80

router = APIRouter(prefix="/api/v1", tags=["project"])

ProjectRef = Annotated[str, Path(max_length=MAX_REF_CHARS, description="A project's id or name.")]


@router.get("/project")
async def show_project(caller: Caller, db: Db) -> Project:
    """Shows the caller's project: its limits, and how many jobs are where."""
    async with db.begin() as uow:
        return await uow.projects.get(caller.project_id)


@router.get("/projects")
async def list_projects(db: Db, page: PageParams) -> Page[Project]:
    """Lists all projects, newest first, archived ones included."""
    async with db.begin() as uow:
        return await uow.projects.list(after=page.after, limit=page.limit)


@router.post("/projects", status_code=201, responses=problem_responses(409))
async def create_project(request: ProjectRequest, caller: Caller, db: Db) -> NewProject:
    """Makes a project with one admin's key, whose secret is shown this once. Whoever has that makes the others."""
    async with db.begin() as uow:
        project = await uow.projects.create(request, who=caller)
        key, secret = await uow.keys.create(project.id, FIRST_KEY, Role.ADMIN, who=caller)
    return NewProject(project=project, admin_key=NewKey(key=key, secret=secret))


@router.get("/projects/{project}", responses=problem_responses(404))
async def show_any_project(project: ProjectRef, db: Db) -> Project:
    """Shows a project: its limits, and how many jobs are where."""
    async with db.begin() as uow:
        return await uow.projects.find(project)


@router.patch("/projects/{project}", responses=problem_responses(404, 409))
async def change_project(project: ProjectRef, change: ProjectChange, caller: Caller, db: Db) -> Project:
    """Changes a project's share and limits, or archives it: it takes no new jobs then; what runs, serves and is kept goes on."""
    async with db.begin() as uow:
        return await uow.projects.change(await uow.projects.find(project), change, who=caller)
