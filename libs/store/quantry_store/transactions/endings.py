"""How a worker's report ends an attempt: what may be reported, and where the job goes. Pure decisions."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.errors import InvalidInput
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.gate import lets_pass, required_checks
from quantry_core.jobs import REASONS, Job, JobReason, JobStatus, MergeSpec, retry_delay_s
from quantry_core.outputs import made_kind, recipe_of
from quantry_core.versions import EvidenceDraft, EvidenceKind, VersionDraft, VersionState

CONTROL_PLANE_REASONS = frozenset({JobReason.WORKER_LOST, JobReason.POISON})
"""Reasons that only the control plane gives: a worker reports the outcome lost instead."""


class Ending(NamedTuple):
    """Where a job goes, and why. ``delay_s`` is set where the job is tried again: after so many seconds, at once where 0."""

    status: JobStatus
    reason: JobReason | None
    message: str | None
    delay_s: float | None = None


def decide_ending(job: Job, request: FinishRequest, draw: float) -> Ending:
    """Returns where the job goes. Work that was done in time stands, even if it was to be cancelled.

    So does a version that failed its gate: its job ends failed, never cancelled. Other failures are tried again as the table
    of retries says, unless the job is to be cancelled; ``draw`` is a random number from 0 to 1 for the backoff.
    """
    if request.outcome is Outcome.SUCCEEDED:
        return Ending(JobStatus.SUCCEEDED, JobReason.COMPLETED, request.message)
    if request.outcome is Outcome.CANCELLED or (job.cancel_requested and request.version is None):
        return Ending(JobStatus.CANCELLED, JobReason.CANCELLED, request.message)
    if request.outcome is Outcome.RELEASED:
        return Ending(JobStatus.QUEUED, None, request.message or "the worker handed it back")
    delay_s = retry_delay_s(request.reason, job.retries.get(request.reason, 0), draw)
    if delay_s is None or request.version is not None:
        return Ending(JobStatus.FAILED, request.reason, request.message)
    return Ending(JobStatus.WAITING if delay_s > 0 else JobStatus.QUEUED, request.reason, request.message, delay_s)


def check_report(job: Job, request: FinishRequest) -> None:
    """Raises InvalidInput unless outcome, reason, version and evidence fit each other and the job's type."""
    version = request.version
    if version is not None and made_kind(job.spec) is None:
        raise InvalidInput(f"an {job.type} job makes no version")
    match request.outcome:
        case Outcome.SUCCEEDED:
            _check_success(job, request)
        case Outcome.FAILED:
            if REASONS[request.reason].final_status is not JobStatus.FAILED or request.reason in CONTROL_PLANE_REASONS:
                raise InvalidInput(f"a failed attempt cannot have the reason {request.reason}")
            if version is not None and (request.reason is not JobReason.GATE_FAILED or version.state is not VersionState.QUARANTINED):
                raise InvalidInput("a failed attempt keeps a version only as quarantined, with the reason gate_failed")
            if version is not None and not _in_the_way(request, version):
                raise InvalidInput("a version fails its gate by a check that did not pass; none is reported")
        case Outcome.CANCELLED:
            if not job.cancel_requested:
                raise InvalidInput("nobody asked for this job to be cancelled; a worker that must stop releases it")
            if version is not None:
                raise InvalidInput("a cancelled attempt leaves no version")
        case Outcome.RELEASED | Outcome.LOST:
            if version is not None or request.evidence:
                raise InvalidInput(f"a {request.outcome} attempt leaves neither version nor evidence: the next one makes its own")
    if request.evidence and version is None and made_kind(job.spec) is not None and not _may_make_nothing(job):
        raise InvalidInput("there is evidence but no version that it is about")


def _check_success(job: Job, request: FinishRequest) -> None:
    if request.reason is not JobReason.COMPLETED:
        raise InvalidInput(f"a succeeded attempt has the reason completed, not {request.reason}")
    if made_kind(job.spec) is not None:
        if request.version is None:
            if _may_make_nothing(job):
                return
            raise InvalidInput(f"an {job.type} job that succeeded has made a version")
        if request.version.state is not VersionState.READY:
            raise InvalidInput(f"a job that made a {request.version.state} version did not succeed")
        _check_gate(job, request, request.version)
    elif not any(draft.kind is EvidenceKind.EVALUATION for draft in request.evidence):
        # No data is never success.
        raise InvalidInput("an evaluation without results did not succeed")


def _may_make_nothing(job: Job) -> bool:
    """Tells whether a job can succeed without a version: a merge that measured may find that the adapters are best left as they are."""
    return isinstance(job.spec, MergeSpec) and job.spec.measure


def _check_gate(job: Job, request: FinishRequest, version: VersionDraft) -> None:
    """Raises InvalidInput where a check of the gate did not pass, or a quantized version comes without any: no data is no pass."""
    if _in_the_way(request, version):
        raise InvalidInput("a version that did not pass its gate is no success: it is kept as quarantined")
    recipe = recipe_of(job.spec)
    if recipe is None:
        return
    checks = {draft.name for draft in request.evidence if draft.kind is EvidenceKind.GATE}
    missing = sorted(required_checks(recipe.quality) - checks)
    if missing:
        raise InvalidInput(f"a quantized version has not passed its gate: there is no evidence of {', '.join(missing)}")


def _in_the_way(request: FinishRequest, version: VersionDraft) -> list[EvidenceDraft]:
    """Returns the gate's evidence for which a version cannot be ready."""
    evidence = [draft for draft in request.evidence if draft.kind is EvidenceKind.GATE]
    return [draft for draft in evidence if not lets_pass(draft.name, draft.verdict, version.format)]
