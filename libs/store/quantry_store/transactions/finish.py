"""The end of an attempt: one fenced transaction records the version, its lineage and its evidence, and moves the job."""

from __future__ import annotations

import random
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.estimates import actual_figures, ratios
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import FINAL_STATUSES, InputRole, Job, JobResult, JobStatus
from quantry_core.versions import Version
from quantry_store.repositories.claims import Draw
from quantry_store.transactions.artifacts import record_artifacts
from quantry_store.transactions.attach_finished import attach_finished, lock_for_adapter
from quantry_store.transactions.endings import Ending, check_report, decide_ending
from quantry_store.transactions.lost_attempts import lose_attempt
from quantry_store.transactions.made_versions import record_version
from quantry_store.transactions.merge import lock_for_quantize, quantize_merged
from quantry_store.transactions.recalibrate import lock_deployment, promote_candidate
from quantry_store.unit_of_work import UnitOfWork


async def finish_attempt(uow: UnitOfWork, job_id: str, request: FinishRequest, *, draw: Draw = random.random) -> Job:
    """Returns the job after its attempt ended. All of it is written, or nothing.

    succeeded, failed and cancelled end the job, unless the table of retries has the failure tried again: then nothing of the
    attempt is kept but its events, and the job waits for its backoff. released queues it again at no cost, lost queues it
    again at the cost of one lost attempt. A job that was to be cancelled becomes cancelled unless it succeeded, or failed
    its gate with a version: that one is kept with its evidence, and no cancelled job has a version.

    ``draw`` returns random numbers from 0 up to 1, for the backoff. Raises StaleAttempt if the attempt no longer holds the
    job (a second finish included), InvalidInput if what is reported does not fit the job or the outcome, SealRefused if a
    version or its artifacts are not what the attempt sealed.
    """
    job = await uow.leases.hold(job_id, request.attempt)
    check_report(job, request)
    if request.outcome is Outcome.LOST:
        return await lose_attempt(uow, job, request.message or "the worker gave the attempt up as lost")
    ending = decide_ending(job, request, draw())
    if ending.delay_s is not None and ending.reason is not None:
        return await uow.leases.retry(job, ending.reason, message=ending.message, delay_s=ending.delay_s)
    if ending.status not in FINAL_STATUSES:
        return await uow.jobs.move(job, ending.status, reason=ending.reason, message=ending.message)
    if ending.status is JobStatus.SUCCEEDED:
        await uow.checkpoints.drop(job.id)
    await lock_for_quantize(uow, job, request)
    deployment = await lock_deployment(uow, job)
    await lock_for_adapter(uow, job)
    version = None if request.version is None else await record_version(uow, job, request.version)
    if request.evidence:
        await uow.evidence.add(_evidence_subject(job, version), job, request.evidence)
    if request.artifacts:
        await record_artifacts(uow, job, request.artifacts)
    led_to: dict[str, Any] = {}
    if version is not None:
        led_to = await promote_candidate(uow, job, request, version, deployment) | await attach_finished(uow, job, version)
        led_to |= await quantize_merged(uow, job, request, version)
    result = _result(job, request, version, ending, led_to).model_dump(mode="json")
    return await uow.jobs.move(job, ending.status, reason=ending.reason, message=ending.message, result=result)


def _result(job: Job, request: FinishRequest, version: Version | None, ending: Ending, led_to: dict[str, Any]) -> JobResult:
    result = JobResult(
        version_id=None if version is None else version.id,
        seconds=request.seconds,
        peak_memory_bytes=request.peak_memory_bytes,
        peak_vram_bytes=request.peak_vram_bytes,
        metrics=request.metrics | led_to,
    )
    if ending.status is not JobStatus.SUCCEEDED or job.estimate is None:
        # Only work that was done in full says how good its estimate was.
        return result
    actual = actual_figures(result, None if version is None else version.weights_bytes)
    return result.model_copy(update={"estimate_errors": ratios(actual, job.estimate)})


def _evidence_subject(job: Job, version: Version | None) -> str:
    """Returns the id of the version that evidence is about: the one made, the one evaluated, or the first adapter that was left
    unmerged."""
    if version is not None:
        return version.id
    for item in job.inputs:
        if item.role in {InputRole.SUBJECT, InputRole.ADAPTER} and item.version_id is not None:
            return item.version_id
    raise InvalidInput("there is evidence but no version that it is about")
