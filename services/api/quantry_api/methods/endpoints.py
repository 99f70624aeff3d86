"""/api/v1/methods"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.method_views import MethodView, method_view, method_views
from quantry_core.methods import method_info
from quantry_core.pages import Page
from quantry_http.problems import problem_responses

router = APIRouter(prefix="/api/v1/methods", tags=["methods"])


@router.get("")
async def list_methods() -> Page[MethodView]:
    """Lists the quantization methods with their schemes, options and what loads their results, all on one page."""
    return Page[MethodView](data=method_views())


@router.get("/{method}", responses=problem_responses(422))
async def get_method(method: str) -> MethodView:
    """Returns one method."""
    return method_view(method_info(method))
