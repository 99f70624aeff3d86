"""``/api/v1/versions/{id}/archive``: putting a version aside, and taking it back."""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.versions import Version
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.versions.deletion import VersionId
from quantry_store.transactions.archiving import archive_version as archive
from quantry_store.transactions.archiving import unarchive_version as unarchive

router = APIRouter(prefix="/versions", tags=["versions"])


@router.post("/{version_id}/archive", responses=problem_responses(404, 409))
async def archive_version(caller: Caller, database: Db, version_id: VersionId) -> Version:
    """Puts a version aside: nothing new is made from it or served. Its files and evidence stay, and it can be taken back."""
    async with database.begin() as uow:
        return await archive(uow, version_id, who=caller)


@router.post("/{version_id}/unarchive", responses=problem_responses(404, 409))
async def unarchive_version(caller: Caller, database: Db, version_id: VersionId) -> Version:
    """Makes an archived version ready again."""
    async with database.begin() as uow:
        return await unarchive(uow, version_id, who=caller)
