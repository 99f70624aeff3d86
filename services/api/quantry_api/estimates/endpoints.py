"""/api/v1/jobs/estimate"""

from __future__ import annotations

from fastapi import APIRouter

from quantry_api.jobs.service import check_spec
from quantry_api.state import State
from quantry_core.jobs import Estimate, JobSubmission
from quantry_http.auth import Caller
from quantry_http.problems import problem_responses

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


@router.post("/estimate", responses=problem_responses(404, 413))
async def estimate_job(submission: JobSubmission, caller: Caller, state: State) -> Estimate:
    """Tells what a job would take and which queue it would go to. Nothing is submitted."""
    await check_spec(submission.spec, state.settings.import_places)
    return await state.estimator.estimate(caller.project_id, submission)
