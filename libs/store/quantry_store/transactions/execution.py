"""The execution API's transactions: claim, heartbeat, events. Every write of an attempt is fenced.

Workers are the platform's and serve the jobs of every project; what fences a write is job, attempt and lease.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic import ValidationError

from quantry_core.errors import InvalidInput
from quantry_core.execution import EventDraft, EventsRequest, HeartbeatReply, HeartbeatRequest, Lease, NextRequest
from quantry_core.jobs import EventKind, Job, Progress, Queue, read_metrics
from quantry_store.repositories.claims import Draw
from quantry_store.unit_of_work import UnitOfWork


async def claim_next(
    uow: UnitOfWork, request: NextRequest, *, lease_s: float, heartbeat_s: float, draw: Draw = random.random
) -> Lease | None:
    """Returns the next job of a queue with a lease of ``lease_s`` seconds on it, or None if there is nothing to do.

    Projects take turns by their shares and never run more than their bound; within one, the lowest priority number goes
    first, then the oldest. Jobs that need a child environment which the worker does not name are left to others. ``draw``
    returns random numbers from 0 up to 1.
    """
    job = await uow.claims.claim(request, lease_s=lease_s, draw=draw)
    if job is None:
        return None
    inputs = await uow.leased_inputs.of(job)
    return Lease(job=job, attempt=job.attempt, inputs=inputs, lease_s=lease_s, heartbeat_s=heartbeat_s)


async def renew_lease(uow: UnitOfWork, job_id: str, request: HeartbeatRequest, lease_s: float) -> HeartbeatReply:
    """Returns how long the renewed lease holds, in seconds, and whether the job is to be cancelled; raises StaleAttempt."""
    cancel_requested = await uow.leases.renew(job_id, request.attempt, lease_s=lease_s)
    return HeartbeatReply(lease_s=lease_s, cancel_requested=cancel_requested)


async def append_events(uow: UnitOfWork, job_id: str, request: EventsRequest) -> int:
    """Returns the job's last seq after appending an attempt's events in order; the last progress becomes the job's.

    What is stored already, the answer to an earlier request having been lost, is not stored again. Progress that says
    nothing new, or that lies before what is known, is left out: an attempt only goes on.

    Raises StaleAttempt, or InvalidInput for a state event (only the control plane moves a job), malformed progress or metrics, or an
    offset beyond what is stored, which would leave a hole.
    """
    reported = _checked_progress(request)
    job, num_stored = await uow.leases.hold_stream(job_id, request.attempt)
    if request.offset > num_stored:
        raise InvalidInput(f"the events begin at {request.offset}, but only {num_stored} of this attempt are stored; send those between")
    num_known = num_stored - request.offset
    news: list[EventDraft] = []
    latest = job.progress
    for event, progress in list(zip(request.events, reported, strict=True))[num_known:]:
        if progress is not None:
            if not _is_news(progress, latest):
                continue
            latest = progress
        news.append(event)
    written: dict[str, Any] = {"num_attempt_events": max(num_stored, request.offset + len(request.events))}
    if latest is not None and latest != job.progress:
        written["progress"] = latest.model_dump(mode="json")
    return await uow.events.append(job.id, job.attempt, news, **written)


async def check_attempt(uow: UnitOfWork, job_id: str, attempt: int) -> Job:
    """Returns the job if ``attempt`` holds it now; raises StaleAttempt. The registry asks before it seals."""
    return await uow.leases.check(job_id, attempt)


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
        if event.kind is EventKind.METRICS:
            _check_metrics(position, event)
    return reported


def _check_metrics(position: int, event: EventDraft) -> None:
    try:
        read_metrics(event.data)
    except ValueError as error:
        raise InvalidInput(f"events.{position}: not a metrics event ({error})") from error
