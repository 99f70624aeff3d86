"""/api/v1/methods"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.methods import METHODS, MethodInfo
from quantry_core.pages import Page
from quantry_http.auth import Viewer

router = APIRouter(prefix="/api/v1/methods", tags=["methods"])


@router.get("")
async def list_methods(_caller: Viewer) -> Page[MethodInfo]:
    """Lists the quantization methods with their schemes and group sizes, all on one page."""
    return Page[MethodInfo](data=list(METHODS.values()))
