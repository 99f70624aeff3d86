"""/api/v1/project"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.projects import Project
from quantry_http.auth import Db, Viewer

router = APIRouter(prefix="/api/v1/project", tags=["project"])


@router.get("")
async def show_project(caller: Viewer, db: Db) -> Project:
    """Shows the caller's project: its limits, and how many jobs are where."""
    async with db.begin() as uow:
        return await uow.projects.get(caller.project_id)
