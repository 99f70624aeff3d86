"""The execution API's transactions: claim, heartbeat, events. Every write of an attempt is fenced.

``worker`` is the identity of the worker's key: a worker sees the jobs of its own project only.
"""

from __future__ import annotations

from pydantic import ValidationError

from quantry_core.errors import InvalidInput
from quantry_core.execution import EventDraft, EventsRequest, HeartbeatReply, HeartbeatRequest, Lease, LeasedInput, NextRequest
from quantry_core.jobs import EventKind, Job, JobInput, Progress, Queue
from quantry_core.keys import Identity
from quantry_core.versions import ManifestFile
from quantry_store.unit_of_work import UnitOfWork

DATASET_FILE = "text.txt"


async def claim_next(uow: UnitOfWork, worker: Identity, request: NextRequest, *, lease_s: float, heartbeat_s: float) -> Lease | None:
    """Returns the next job of a queue with a lease of ``lease_s`` seconds on it, or None if there is nothing to do.

    Lowest priority number first, then oldest. Jobs that need a child environment which the worker does not name are left
    to others. Never waits for another claim.
    """
    job = await uow.leases.claim(worker.project_id, request, lease_s=lease_s)
    if job is None:
        return None
    inputs = [await _leased_input(uow, job, item) for item in job.inputs]
    return Lease(job=job, attempt=job.attempt, inputs=inputs, lease_s=lease_s, heartbeat_s=heartbeat_s)


async def renew_lease(uow: UnitOfWork, job_id: str, request: HeartbeatRequest, lease_s: float, *, worker: Identity) -> HeartbeatReply:
    """Returns how long the renewed lease holds, in seconds, and whether the job is to be cancelled; raises StaleAttempt."""
    job = await uow.leases.hold(worker.project_id, job_id, request.attempt)
    job = await uow.leases.renew(job, lease_s=lease_s)
    if request.progress is not None and _is_news(request.progress, job.progress):
        await uow.jobs.set_progress(job, request.progress)
        draft = EventDraft(kind=EventKind.PROGRESS, data=request.progress.model_dump(mode="json"))
        await uow.events.append(job.id, job.attempt, [draft])
    return HeartbeatReply(lease_s=lease_s, cancel_requested=job.cancel_requested)


async def append_events(uow: UnitOfWork, job_id: str, request: EventsRequest, *, worker: Identity) -> int:
    """Returns the job's last seq after appending an attempt's events in order; the last progress becomes the job's.

    Progress that is known already, a heartbeat having been faster, or that lies before it is left out: an attempt only goes on.

    Raises StaleAttempt, or InvalidInput for a state event (only the control plane moves a job) or malformed progress.
    """
    reported = _checked_progress(request)
    job = await uow.leases.hold(worker.project_id, job_id, request.attempt)
    news: list[EventDraft] = []
    latest = job.progress
    for event, progress in zip(request.events, reported, strict=True):
        if progress is not None:
            if not _is_news(progress, latest):
                continue
            latest = progress
        news.append(event)
    if latest is not None and latest != job.progress:
        await uow.jobs.set_progress(job, latest)
    return await uow.events.append(job.id, job.attempt, news)


async def check_attempt(uow: UnitOfWork, job_id: str, attempt: int, *, worker: Identity) -> Job:
    """Returns the job if ``attempt`` holds it now; raises StaleAttempt. The registry asks before it seals."""
    return await uow.leases.check(worker.project_id, job_id, attempt)


async def queues_with_work(uow: UnitOfWork) -> list[Queue]:
    """Returns the queues that hold work of any project: what the sweep wakes workers for."""
    return await uow.leases.queues_with_work()


def _is_news(progress: Progress, known: Progress | None) -> bool:
    """Tells whether an attempt got on. ``known`` is of the same attempt: a job that is claimed anew has no progress."""
    return known is None or (progress != known and progress.fraction >= known.fraction)


def _checked_progress(request: EventsRequest) -> list[Progress | None]:
    """Returns for each event its progress, None for other kinds; raises InvalidInput for what a worker may not write."""
    reported: list[Progress | None] = []
    for position, event in enumerate(request.events):
        if event.kind is EventKind.STATE:
            raise InvalidInput(f"events.{position}: only the control plane writes state events")
        try:
            reported.append(Progress.model_validate(event.data) if event.kind is EventKind.PROGRESS else None)
        except ValidationError as error:
            raise InvalidInput(f"events.{position}: not a progress event ({error.errors()[0]['msg']})") from error
    return reported


async def _leased_input(uow: UnitOfWork, job: Job, item: JobInput) -> LeasedInput:
    if item.version_id is not None:
        version = await uow.versions.get(job.project_id, item.version_id)
        files = await uow.versions.files(version.id)
        return LeasedInput(role=item.role, id=version.id, ref=version.ref, files=files, kind=version.kind, format=version.format)
    dataset = await uow.datasets.get(job.project_id, item.dataset_id or "")
    file = ManifestFile(path=DATASET_FILE, size_bytes=dataset.size_bytes, sha256=dataset.sha256)
    return LeasedInput(role=item.role, id=dataset.id, ref=dataset.ref, files=[file])
