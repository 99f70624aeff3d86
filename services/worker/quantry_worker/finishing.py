"""Delivers the end of an attempt: tried again until it is taken, refused, or the lease is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from quantry_core.errors import QuantryError, StaleAttempt, Unavailable
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import JobReason
from quantry_worker.control import Control
from quantry_worker.guard import Guard, StopReason
from quantry_worker.outcomes import Ending

log = structlog.get_logger(__name__)

RETRY_S = 0.5
DRAINING_PATIENCE_S = 3.0
"""How long a worker that is shutting down tries to hand a job back; after that the lease runs out by itself."""


def deliver(control: Control, job_id: str, request: FinishRequest, guard: Guard, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Finishes an attempt; returns False if it was given up because the job is not this attempt's any more.

    A finish that is refused for what is in it becomes a failed attempt with the refusal as its message.
    """
    began_at = guard.now()
    is_tried = False
    while not _is_over(guard, guard.now() - began_at if is_tried else 0.0):
        is_tried = True
        try:
            control.finish(job_id, request, guard.timeout_s())
        except StaleAttempt as error:
            # Also when an earlier try was taken and only its answer was lost.
            log.warning("the attempt is stale; its end is dropped", job_id=job_id, attempt=request.attempt, error=str(error))
            return False
        except Unavailable as error:
            log.warning("the end of an attempt waits for the control plane", job_id=job_id, error=str(error))
            sleep(RETRY_S)
        except QuantryError as error:
            if request.outcome is Outcome.FAILED and request.version is None:
                log.error("the control plane refuses the end of an attempt", job_id=job_id, error=str(error))
                return False
            log.error("the control plane refuses the result", job_id=job_id, error=str(error))
            ending = Ending(Outcome.FAILED, JobReason.INTERNAL, f"the control plane refused the result: {error.detail}")
            request = ending.request(request.attempt).model_copy(
                update={"seconds": request.seconds, "peak_memory_bytes": request.peak_memory_bytes}
            )
        else:
            return True
    log.warning("the end of an attempt could not be delivered", job_id=job_id, attempt=request.attempt)
    return False


def _is_over(guard: Guard, waited_s: float) -> bool:
    match guard.reason():
        case StopReason.STALE | StopReason.LEASE_LOST:
            return True
        case StopReason.DRAINING:
            return waited_s >= DRAINING_PATIENCE_S
        case _:
            return False
