"""What really became of jobs: read from the database's events and evidence, and from the ledger of the stub's runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from chaos.platform import Chaos
from quantry_core.jobs import FINAL_STATUSES, MAX_LOST_ATTEMPTS, JobReason, JobStatus

SUCCESSES = """
    select job_id, count(*) from job_events where job_id = any(%s) and kind = 'state' and data->>'status' = 'succeeded' group by job_id
"""
EVIDENCE = "select job_id, count(*) from evidence where job_id = any(%s) group by job_id"


class Tally(NamedTuple):
    """What became of some jobs."""

    num_jobs: int
    num_terminal: int
    num_succeeded: int
    failures: dict[str, int]
    """Failed jobs by reason."""

    num_lost_attempts: int
    num_double_successes: int
    """Jobs that succeeded twice by their events, that have evidence twice, or whose events and status disagree."""

    num_side_by_side: int
    """Runs that began while another attempt of their job still lived."""

    examples: dict[str, str]
    """The message of one failed job for each reason."""

    num_wrong_poison: int
    """Jobs that failed as poison with another number of lost attempts than three."""

    def figures(self) -> dict[str, Any]:
        """Returns the tally for a result, without what is of no interest."""
        return {
            "jobs": self.num_jobs,
            "terminal": self.num_terminal,
            "succeeded": self.num_succeeded,
            "failed": self.failures or 0,
            "lost_attempts": self.num_lost_attempts,
            "double_successes": self.num_double_successes,
            "side_by_side": self.num_side_by_side,
        }


def tally(chaos: Chaos, job_ids: Sequence[str]) -> Tally:
    """Returns what became of the jobs."""
    ids = list(job_ids)
    messages = chaos.rows("select reason, message from jobs where id = any(%s) and status = 'failed'", ids)
    jobs = chaos.rows("select id, status, reason, num_lost_attempts from jobs where id = any(%s)", ids)
    succeeded_events = _counts(chaos, SUCCESSES, ids)
    evidence = _counts(chaos, EVIDENCE, ids)
    doubles = 0
    for job_id, status, _, _ in jobs:
        expected = int(status == JobStatus.SUCCEEDED)
        doubles += (succeeded_events.get(job_id, 0), evidence.get(job_id, 0)) != (expected, expected)
    known = set(ids)
    return Tally(
        num_jobs=len(ids),
        num_terminal=sum(JobStatus(status) in FINAL_STATUSES for _, status, _, _ in jobs),
        num_succeeded=sum(status == JobStatus.SUCCEEDED for _, status, _, _ in jobs),
        failures=dict(Counter(str(reason) for _, status, reason, _ in jobs if status == JobStatus.FAILED)),
        examples={str(reason): str(message) for reason, message in messages},
        num_lost_attempts=sum(num_lost for _, _, _, num_lost in jobs),
        num_double_successes=doubles,
        num_side_by_side=sum(mark.what == "beside" and mark.job_id in known for mark in chaos.stub.marks()),
        num_wrong_poison=sum(reason == JobReason.POISON and num_lost != MAX_LOST_ATTEMPTS for _, _, reason, num_lost in jobs),
    )


def num_runs(chaos: Chaos, job_ids: Sequence[str]) -> dict[str, int]:
    """Returns how often each job's recipe was really begun, by the ledger."""
    known = set(job_ids)
    begun = Counter(mark.job_id for mark in chaos.stub.marks() if mark.what == "begin" and mark.job_id in known)
    return {job_id: begun[job_id] for job_id in job_ids}


def _counts(chaos: Chaos, query: str, job_ids: list[str]) -> dict[str, int]:
    return {job_id: number for job_id, number in chaos.rows(query, job_ids)}
