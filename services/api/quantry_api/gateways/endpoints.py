"""/internal/v1/traffic and /internal/v1/captures: for gateways, which forward nothing below /internal."""

from __future__ import annotations

from fastapi import APIRouter

from quantry_api.gateways import service
from quantry_api.state import State
from quantry_core.captures import CaptureReport
from quantry_core.traffic import TrafficReport
from quantry_http.auth import Db
from quantry_store import transactions

router = APIRouter(prefix="/internal/v1", include_in_schema=False)


@router.post("/traffic", status_code=204)
async def report_traffic(report: TrafficReport, db: Db) -> None:
    """Takes what a gateway measured, and which deployments have requests that wait. The same report twice counts once."""
    async with db.begin() as uow:
        await transactions.record_traffic(uow, report)


@router.post("/captures", status_code=204)
async def report_captures(report: CaptureReport, db: Db, state: State) -> None:
    """Takes captured prompts and keeps them encrypted: those of deployments that keep some, as far as there is room."""
    await service.keep_prompts(db, state.capture_cipher, report)
