"""/api/v1/workers"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.pages import Page
from quantry_core.workers import Worker
from quantry_http.auth import Caller, Db

router = APIRouter(prefix="/api/v1/workers", tags=["workers"])


@router.get("")
async def list_workers(caller: Caller, db: Db) -> Page[Worker]:
    """Lists the workers that were heard of in the last days, all on one page, with the jobs of the caller's project that each runs now."""
    async with db.begin() as uow:
        return Page[Worker](data=await uow.workers.list(caller.project_id))
