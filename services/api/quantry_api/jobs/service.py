"""What may be submitted, how it is submitted, and what a job's log looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quantry_api.idempotency import IdempotencyKey, Load
from quantry_api.jobs.sources import ImportPlaces, check_source
from quantry_api.state import ApiState
from quantry_core.jobs import ImportSpec, Job, JobEvent, JobSpec, JobSubmission, QuantizeSpec, RecalibrateSpec, chosen
from quantry_core.keys import Identity
from quantry_store import transactions
from quantry_store.database import Database
from quantry_store.transactions.inputs import check_outputs, refusal
from quantry_store.unit_of_work import UnitOfWork


async def submit(database: Database, state: ApiState, caller: Identity, submission: JobSubmission, key: IdempotencyKey) -> Job:
    """Returns the new job, or the one that the same request made before; raises what ``transactions.submit_job`` does, and
    what is wrong with the spec, the estimate or the key."""
    earlier = await key.earlier(database, caller.project_id, loading(caller))
    if earlier is not None:
        return earlier
    check_outputs(submission.spec)
    await check_spec(submission.spec, state.settings.import_places)
    # Before the transaction: it reads headers from the object store, and no transaction waits for that.
    placement = (await state.estimator.preflight(caller.project_id, submission)).placement
    async with database.begin() as uow:
        return await key.once(uow, caller.project_id, loading(caller), lambda: transactions.submit_job(uow, caller, submission, placement))


async def retry(database: Database, caller: Identity, job_id: str, key: IdempotencyKey) -> Job:
    """Returns the job that repeats another one, or the one that the same request made before; raises what
    ``transactions.retry_job`` does, and what is wrong with the key."""
    async with database.begin() as uow:
        return await key.once(uow, caller.project_id, loading(caller), lambda: transactions.retry_job(uow, caller, job_id))


def loading(caller: Identity) -> Load[Job]:
    """Returns what reads one of the caller's jobs."""

    async def load(uow: UnitOfWork, job_id: str) -> Job:
        return await uow.jobs.get(caller.project_id, job_id)

    return load


async def check_spec(spec: JobSpec, places: ImportPlaces) -> None:
    """Raises what is wrong with a spec that can be told without the database: UnknownMethod, UnknownScheme, InvalidInput, SourceRefused."""
    if isinstance(spec, QuantizeSpec):
        chosen(spec)
    if isinstance(spec, RecalibrateSpec) and spec.recipe is not None:
        raise refusal("spec.recipe", "the platform fills in the recipe: it is that of the version which serves")
    if isinstance(spec, ImportSpec):
        await check_source(spec.source, places)


def log_lines(events: Iterable[JobEvent]) -> Iterator[str]:
    """Yields a log as text, each attempt under a line that names it."""
    attempt: int | None = None
    for event in events:
        if event.attempt != attempt:
            attempt = event.attempt
            yield f"--- attempt {attempt} ---\n"
        yield f"{event.data.get('text', '')}\n"
