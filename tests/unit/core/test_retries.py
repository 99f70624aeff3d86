"""The retry table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.jobs import FINAL_STATUSES, MAX_LOST_ATTEMPTS, REASONS, RETRIES, JobReason, JobStatus, retry_delay_s


@pytest.mark.parametrize("reason", JobReason)
def test_a_reason_is_tried_again_as_often_as_the_table_says(reason: JobReason) -> None:
    tries = [retry_delay_s(reason, num_retries, 0.5) for num_retries in range(10)]
    assert [delay is not None for delay in tries] == [number < RETRIES[reason].max_retries for number in range(10)]


@given(st.sampled_from(sorted(JobReason)), st.integers(0, 100), st.floats(0, 1))
def test_jitter_takes_away_at_most_half(reason: JobReason, num_retries: int, draw: float) -> None:
    rule = RETRIES[reason]
    delay_s = retry_delay_s(reason, num_retries, draw)
    if delay_s is not None:
        full_s = min(rule.backoff_s * rule.factor**num_retries, rule.max_backoff_s)
        assert full_s / 2 <= delay_s <= full_s


def test_waits_grow() -> None:
    rule = RETRIES[JobReason.OUT_OF_MEMORY]
    waits = [retry_delay_s(JobReason.OUT_OF_MEMORY, retry, 1.0) for retry in range(rule.max_retries)]
    assert waits == [2.0, 8.0]


def test_a_lost_worker_is_no_fault_of_the_job_until_the_third() -> None:
    assert retry_delay_s(JobReason.WORKER_LOST, 0, 1.0) == 0.0
    assert RETRIES[JobReason.WORKER_LOST].max_retries == MAX_LOST_ATTEMPTS - 1


def test_what_succeeded_or_was_cancelled_is_never_tried_again() -> None:
    for reason, info in REASONS.items():
        assert info.final_status in FINAL_STATUSES
        if info.final_status is not JobStatus.FAILED:
            assert RETRIES[reason].max_retries == 0
