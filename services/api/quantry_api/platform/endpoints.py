"""/api/v1/platform"""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request

from quantry_core.platform_state import PlatformState
from quantry_http.auth import Caller, Db
from quantry_store.revisions import newest_revision

router = APIRouter(prefix="/api/v1/platform", tags=["project"])


@router.get("")
async def show_platform(caller: Caller, request: Request, db: Db) -> PlatformState:
    """Shows how the installation is: its clocks, the database's migration, the caller's key, and when the vault was last verified."""
    state = request.app.state.api
    async with db.begin() as uow:
        key = await uow.keys.get(caller.project_id, caller.key_id)
        verification = await uow.counts.last_verification()
        database_time, revision = await uow.counts.database_state()
    return PlatformState(
        time=datetime.now(UTC),
        database_time=database_time,
        version=request.app.version,
        database_revision=revision,
        wanted_revision=newest_revision(request.app.state.migrations_dir),
        key_expires_at=key.expires_at,
        verified_at=None if verification is None else verification.finished_at,
        num_damaged=0 if verification is None else verification.num_damaged,
        has_webhooks=state.webhook_cipher is not None,
        has_captures=state.capture_cipher is not None,
    )
