"""/api/v1/audit"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.audit import AuditEntry
from quantry_core.pages import Page
from quantry_http.auth import Admin, Db
from quantry_http.pages import PageParams

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


@router.get("")
async def list_audit(caller: Admin, db: Db, page: PageParams) -> Page[AuditEntry]:
    """Lists who did what, newest first."""
    async with db.begin() as uow:
        return await uow.audit.list(caller.project_id, after=page.after, limit=page.limit)
