"""``python -m bench.jobs``: prints the table and writes bench/results/jobs.json and .md. Takes some minutes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.embedded import Measured, no_op_stack
from bench.jobs.history import FEW, MANY, Timings, compare
from bench.jobs.latency import commit_to_claim_ms, commit_to_taken_ms
from bench.jobs.memory import has_torch, resident_mb
from bench.jobs.peer.running import Peer, running_peer
from bench.jobs.throughput import inserts_per_s, jobs_per_s, submissions_per_s, tasks_per_s
from bench.report import Row, middle, percentile, publish, row, versions

NUM_REPETITIONS = 5
NUM_LATENCIES = 60
NUM_JOBS = 60
NUM_SUBMISSIONS = 400
NUM_SLOTS = 2
MEMORY_GOAL_MB = 120.0
LIBRARIES = ("celery", "kombu", "redis", "fastapi", "sqlalchemy", "psycopg", "uvicorn")


def main() -> int:
    """Measures everything side by side; returns 1 if a supervisor has loaded torch, which no figure would excuse."""
    settings = {"QUANTRY_WORKER_SLOTS": str(NUM_SLOTS)}
    with no_op_stack(settings) as measured, running_peer(measured, concurrency=NUM_SLOTS) as peer:
        latencies, details = _latencies(measured, peer)
        rows = [*latencies, *_rates(measured, peer), *_history(measured), _memory(measured)]
        loaded_torch = has_torch(measured)
    publish("jobs", "What a job costs beside its work", rows, libraries=versions(*LIBRARIES), details=details)
    return int(loaded_torch)


def _latencies(measured: Measured, peer: Peer) -> tuple[list[Row], dict[str, list[float]]]:
    ours, theirs = [], []
    commit_to_claim_ms(measured, 5)
    commit_to_taken_ms(peer, 5)
    for _ in range(NUM_REPETITIONS):
        ours.append(commit_to_claim_ms(measured, NUM_LATENCIES))
        theirs.append(commit_to_taken_ms(peer, NUM_LATENCIES))
    rows = []
    for name, share, goal in (("commit to claim, p50", 0.5, "<= 1.3"), ("commit to claim, p99", 0.99, "")):
        value, other = (middle([percentile(one, share) for one in runs]) for runs in (ours, theirs))
        floor = "a bare Celery task, one HTTP round trip, one commit"
        bound = "the message through Redis and Celery's loop, then the claim's statements and its commit's fsync"
        rows.append(row(name, value, other, "ms", goal=goal, floor=floor, bound=bound))
    details = {
        "commit_to_claim_p50_ms": [percentile(one, 0.5) for one in ours],
        "peer_p50_ms": [percentile(one, 0.5) for one in theirs],
        "commit_to_claim_p99_ms": [percentile(one, 0.99) for one in ours],
        "peer_p99_ms": [percentile(one, 0.99) for one in theirs],
    }
    return rows, details


def _rates(measured: Measured, peer: Peer) -> list[Row]:
    api = next(part for part in measured.stack.status() if part.name == "api")
    jobs, tasks, submissions, inserts = [], [], [], []
    for _ in range(NUM_REPETITIONS):
        jobs.append(jobs_per_s(measured, NUM_JOBS))
        tasks.append(tasks_per_s(measured, peer, NUM_JOBS))
        submissions.append(submissions_per_s(api.address, measured.api_key, NUM_SUBMISSIONS))
        inserts.append(inserts_per_s(peer, NUM_SUBMISSIONS))
    return [
        row(
            "no-op jobs through everything",
            middle(jobs),
            middle(tasks),
            "1/s",
            floor=f"{NUM_SLOTS} bare Celery slots: commit, start of the same Python, commit",
            bound="CPU of all processes on these cores: claim, inputs, child, events, finish",
        ),
        row(
            "submissions to one api process",
            middle(submissions),
            middle(inserts),
            "1/s",
            floor="one insert and commit behind Starlette",
            bound="Python in the api: validation, and the statements of key, references, estimate, job, event, audit",
        ),
    ]


def _history(measured: Measured) -> list[Row]:
    pairs = compare(measured, NUM_REPETITIONS)
    picks: dict[str, Callable[[Timings], float]] = {
        "list": lambda timings: timings.list_ms,
        "claim": lambda timings: timings.claim_ms,
        "sweep": lambda timings: timings.sweep_ms,
    }
    return [
        row(
            f"{name} beside {MANY} finished jobs",
            middle([pick(many) for _, many in pairs]),
            middle([pick(few) for few, _ in pairs]),
            "ms",
            goal="<= 1.2",
            floor=f"the same beside {FEW}",
            bound="partial indexes: what has ended is in none that is read",
        )
        for name, pick in picks.items()
    ]


def _memory(measured: Measured) -> Row:
    return row(
        "supervisor's resident memory",
        resident_mb(measured),
        MEMORY_GOAL_MB,
        "MB",
        goal="< 1",
        floor=f"the bound of {MEMORY_GOAL_MB:.0f} MB",
        bound="Python with Celery, minio-py, httpx and pydantic; forked, so most pages are shared with the main process",
    )


if __name__ == "__main__":
    sys.exit(main())
