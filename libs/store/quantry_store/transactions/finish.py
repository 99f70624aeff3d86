"""The end of an attempt: one fenced transaction records the version, its lineage and its evidence, and moves the job."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.errors import InvalidInput
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import FINAL_STATUSES, REASONS, InputRole, Job, JobReason, JobResult, JobStatus, JobType
from quantry_core.keys import Identity
from quantry_core.versions import EvidenceKind, Verdict, VersionState
from quantry_store.transactions.lost_attempts import lose_attempt
from quantry_store.transactions.made_versions import VERSION_KINDS, record_version
from quantry_store.unit_of_work import UnitOfWork

RETRY_REASONS = frozenset({JobReason.WORKER_LOST, JobReason.POISON})
"""Reasons that only the control plane gives: a worker reports the outcome lost instead."""


class Ending(NamedTuple):
    """Where a job goes, and why."""

    status: JobStatus
    reason: JobReason | None
    message: str | None


async def finish_attempt(uow: UnitOfWork, job_id: str, request: FinishRequest, *, worker: Identity) -> Job:
    """Returns the job after its attempt ended. All of it is written, or nothing.

    succeeded, failed and cancelled end the job; released queues it again at no cost, lost queues it again at the
    cost of one lost attempt. A job that was to be cancelled becomes cancelled unless it succeeded, or failed its gate with
    a version: that one is kept with its evidence, and no cancelled job has a version.

    Raises StaleAttempt if the attempt no longer holds the job (a second finish included), InvalidInput if what is reported
    does not fit the job or the outcome, SealRefused if a version is not what the attempt sealed.
    """
    job = await uow.leases.hold(worker.project_id, job_id, request.attempt)
    check_report(job, request)
    if request.outcome is Outcome.LOST:
        return await lose_attempt(uow, job, request.message or "the worker gave the attempt up as lost")
    ending = decide_ending(job, request)
    version_id: str | None = None
    if request.version is not None:
        version_id = (await record_version(uow, job, request.version)).id
    if request.evidence:
        await uow.evidence.add(_evidence_subject(job, version_id), job, request.evidence)
    if ending.status in FINAL_STATUSES:
        result = JobResult(
            version_id=version_id,
            seconds=request.seconds,
            peak_memory_bytes=request.peak_memory_bytes,
            metrics=request.metrics,
        )
        job = await uow.jobs.set_result(job, result)
    return await uow.jobs.move(job, ending.status, reason=ending.reason, message=ending.message)


def decide_ending(job: Job, request: FinishRequest) -> Ending:
    """Returns where the job goes. Work that was done in time stands, even if it was to be cancelled.

    So does a version that failed its gate: its job ends failed, never cancelled.
    """
    if request.outcome is Outcome.SUCCEEDED:
        return Ending(JobStatus.SUCCEEDED, JobReason.COMPLETED, request.message)
    if request.outcome is Outcome.CANCELLED or (job.cancel_requested and request.version is None):
        return Ending(JobStatus.CANCELLED, JobReason.CANCELLED, request.message)
    if request.outcome is Outcome.RELEASED:
        return Ending(JobStatus.QUEUED, None, request.message or "the worker handed it back")
    return Ending(JobStatus.FAILED, request.reason, request.message)


def check_report(job: Job, request: FinishRequest) -> None:
    """Raises InvalidInput unless outcome, reason, version and evidence fit each other and the job's type."""
    version = request.version
    if version is not None and job.type not in VERSION_KINDS:
        raise InvalidInput(f"an {job.type} job makes no version")
    match request.outcome:
        case Outcome.SUCCEEDED:
            _check_success(job, request)
        case Outcome.FAILED:
            if REASONS[request.reason].final_status is not JobStatus.FAILED or request.reason in RETRY_REASONS:
                raise InvalidInput(f"a failed attempt cannot have the reason {request.reason}")
            if version is not None and (request.reason is not JobReason.GATE_FAILED or version.state is not VersionState.QUARANTINED):
                raise InvalidInput("a failed attempt keeps a version only as quarantined, with the reason gate_failed")
            if version is not None and all(verdict is Verdict.PASS for verdict in _gate_verdicts(request)):
                raise InvalidInput("a version fails its gate by a check that did not pass; none is reported")
        case Outcome.CANCELLED:
            if not job.cancel_requested:
                raise InvalidInput("nobody asked for this job to be cancelled; a worker that must stop releases it")
            if version is not None:
                raise InvalidInput("a cancelled attempt leaves no version")
        case Outcome.RELEASED | Outcome.LOST:
            if version is not None or request.evidence:
                raise InvalidInput(f"a {request.outcome} attempt leaves neither version nor evidence: the next one makes its own")
    if request.evidence and version is None and job.type in VERSION_KINDS:
        raise InvalidInput("there is evidence but no version that it is about")


def _check_success(job: Job, request: FinishRequest) -> None:
    if request.reason is not JobReason.COMPLETED:
        raise InvalidInput(f"a succeeded attempt has the reason completed, not {request.reason}")
    if job.type in VERSION_KINDS:
        if request.version is None:
            raise InvalidInput(f"an {job.type} job that succeeded has made a version")
        if request.version.state is not VersionState.READY:
            raise InvalidInput(f"a job that made a {request.version.state} version did not succeed")
        _check_gate(job, request)
    elif not any(draft.kind is EvidenceKind.EVALUATION for draft in request.evidence):
        # No data is never success.
        raise InvalidInput("an evaluation without results did not succeed")


def _check_gate(job: Job, request: FinishRequest) -> None:
    """Raises InvalidInput where a check of the gate did not pass, or a quantized version comes without any: no data is no pass."""
    verdicts = _gate_verdicts(request)
    if not all(verdict is Verdict.PASS for verdict in verdicts):
        raise InvalidInput("a version that did not pass its gate is no success: it is kept as quarantined")
    if job.type is JobType.QUANTIZE and not verdicts:
        raise InvalidInput("a quantized version without gate evidence has not passed the gate")


def _gate_verdicts(request: FinishRequest) -> list[Verdict]:
    return [draft.verdict for draft in request.evidence if draft.kind is EvidenceKind.GATE]


def _evidence_subject(job: Job, version_id: str | None) -> str:
    """Returns the id of the version that evidence is about: the one made, or the one evaluated."""
    if version_id is not None:
        return version_id
    for item in job.inputs:
        if item.role is InputRole.SUBJECT and item.version_id is not None:
            return item.version_id
    raise InvalidInput("there is evidence but no version that it is about")
