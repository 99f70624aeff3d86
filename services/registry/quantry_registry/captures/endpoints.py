"""``/api/v1/deployments/{name}/capture/dataset``: what a deployment captured becomes a dataset."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from quantry_core.captures import CaptureDatasetOrder
from quantry_core.datasets import Dataset
from quantry_core.names import Name
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.captures.service import dataset_of_captures
from quantry_registry.datasets.endpoints import answer_made
from quantry_registry.parts import PartsOf

router = APIRouter(prefix="/deployments", tags=["datasets"])


@router.post(
    "/{name}/capture/dataset",
    status_code=201,
    responses={200: {"model": Dataset, "description": "The name has these bytes already."}, **problem_responses(404, 409)},
)
async def make_capture_dataset(
    *, caller: Caller, database: Db, parts: PartsOf, request: Request, response: Response, name: Name, order: CaptureDatasetOrder
) -> Dataset:
    """Makes the next version of a dataset of what a deployment has captured, scrubbed: for calibration."""
    dataset, is_new = await dataset_of_captures(database, parts, caller, name, order.name)
    return answer_made(request, response, dataset, is_new)
