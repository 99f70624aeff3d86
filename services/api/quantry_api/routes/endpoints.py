"""/internal/v1/routes: for gateways, which forward nothing below /internal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from quantry_api.routes.service import wait_for_routes
from quantry_core.routes import RouteSnapshot
from quantry_http.auth import Db

MAX_WAIT_S = 60.0

router = APIRouter(prefix="/internal/v1/routes", include_in_schema=False)


@router.get("", response_model=RouteSnapshot, responses={204: {"description": "Nothing changed in that time.", "model": None}})
async def follow_routes(
    db: Db,
    request: Request,
    after: Annotated[int | None, Query(description="The revision at hand; without it the answer comes at once.")] = None,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Longest wait for a change, in seconds.")] = 20.0,
) -> RouteSnapshot | Response:
    """Answers the routes as soon as their revision is another than ``after``; 204 when it stays for ``wait_s``."""
    snapshot = await wait_for_routes(db, after, wait_s, has_left=request.is_disconnected)
    return Response(status_code=204) if snapshot is None else snapshot
