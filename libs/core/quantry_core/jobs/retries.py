"""Which ends of an attempt are tried again, how often, and after how long: one table."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.jobs.states import JobReason

MAX_LOST_ATTEMPTS = 3


class RetryRule(NamedTuple):
    """How often a reason is tried again, and after how many seconds.

    The n-th retry comes after ``backoff_s * factor ** (n - 1)`` seconds, at most ``max_backoff_s``, of which a random half
    is left out, so that jobs which failed together do not come back together ("equal jitter": Brooker, Exponential Backoff
    And Jitter, AWS Architecture Blog, 2015).
    """

    max_retries: int
    backoff_s: float = 0.0
    factor: float = 2.0
    max_backoff_s: float = 600.0


NEVER = RetryRule(max_retries=0)

RETRIES: dict[JobReason, RetryRule] = {
    # Lost workers are no fault of the job, up to a point: after the third it is the likely cause, and poison.
    JobReason.WORKER_LOST: RetryRule(max_retries=MAX_LOST_ATTEMPTS - 1),
    # A neighbour may have had the memory.
    JobReason.OUT_OF_MEMORY: RetryRule(max_retries=2, backoff_s=2.0, factor=4.0),
    # A device that had to be reset, a driver's hiccup: seen once, not twice.
    JobReason.INTERNAL: RetryRule(max_retries=1, backoff_s=4.0),
    # The same input gives the same end.
    JobReason.INVALID_INPUT: NEVER,
    JobReason.GATE_FAILED: NEVER,
    JobReason.VERDICT_FAILED: NEVER,
    JobReason.DIVERGED: NEVER,
    JobReason.TIMED_OUT: NEVER,
    JobReason.DEPENDENCY_FAILED: NEVER,
    # Ends that nothing comes after.
    JobReason.COMPLETED: NEVER,
    JobReason.CANCELLED: NEVER,
    JobReason.POISON: NEVER,
}


def retry_delay_s(reason: JobReason, num_retries: int, draw: float) -> float | None:
    """Returns seconds until the next try, or None if there is none.

    ``num_retries`` counts the earlier retries for this reason; ``draw`` is a random number from 0 to 1.
    """
    rule = RETRIES[reason]
    if num_retries >= rule.max_retries:
        return None
    backoff_s = min(rule.backoff_s * rule.factor**num_retries, rule.max_backoff_s)
    return backoff_s / 2 + backoff_s / 2 * draw
