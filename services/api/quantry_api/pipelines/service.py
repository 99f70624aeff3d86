"""How a pipeline is submitted and tried again."""

from __future__ import annotations

from quantry_api.estimates.estimator import Estimator
from quantry_api.estimates.origins import Output
from quantry_api.idempotency import IdempotencyKey, Load
from quantry_api.jobs.service import check_spec
from quantry_api.jobs.sources import ImportPlaces
from quantry_api.state import ApiState
from quantry_core.jobs import JobOptions, JobSubmission
from quantry_core.keys import Identity
from quantry_core.pipelines import PipelineDetail, PipelineSubmission, step_order
from quantry_store import transactions
from quantry_store.database import Database
from quantry_store.transactions import Placement
from quantry_store.transactions.pipelines import naming_step
from quantry_store.unit_of_work import UnitOfWork


async def submit(
    database: Database, state: ApiState, caller: Identity, submission: PipelineSubmission, key: IdempotencyKey
) -> PipelineDetail:
    """Returns the new pipeline, or the one that the same request made before; raises what ``transactions.submit_pipeline``
    does, and what is wrong with a step's spec or estimate or the key."""
    earlier = await key.earlier(database, caller.project_id, loading(caller))
    if earlier is not None:
        return earlier
    placements = await place_steps(state.estimator, state.settings.import_places, caller.project_id, submission)
    async with database.begin() as uow:
        return await key.once(
            uow, caller.project_id, loading(caller), lambda: transactions.submit_pipeline(uow, caller, submission, placements)
        )


async def place_steps(estimator: Estimator, places: ImportPlaces, project_id: str, submission: PipelineSubmission) -> dict[str, Placement]:
    """Returns where each step goes and what it is thought to take; what a step will make is told to those that use it.

    Raises what is wrong with the steps and their specs, naming the step.
    """
    placements: dict[str, Placement] = {}
    outputs: dict[str, Output] = {}
    for name in step_order(submission):
        step = submission.steps[name]
        with naming_step(name):
            await check_spec(step.spec, places)
            options = {option: getattr(step, option) for option in JobOptions.model_fields}
            job = JobSubmission.model_construct(**options, spec=step.spec, needs=[])
            preflight = await estimator.preflight(project_id, job, outputs=outputs)
        placements[name], outputs[name] = preflight
    return placements


async def retry(database: Database, caller: Identity, pipeline_id: str, key: IdempotencyKey) -> PipelineDetail:
    """Returns the pipeline with its failed and cancelled steps begun again, once for each key; raises what
    ``transactions.retry_pipeline`` does, and what is wrong with the key."""
    async with database.begin() as uow:
        return await key.once(uow, caller.project_id, loading(caller), lambda: transactions.retry_pipeline(uow, caller, pipeline_id))


def loading(caller: Identity) -> Load[PipelineDetail]:
    """Returns what reads one of the caller's pipelines."""

    async def load(uow: UnitOfWork, pipeline_id: str) -> PipelineDetail:
        return await uow.pipelines.get(caller.project_id, pipeline_id)

    return load
