"""From the commit of a submission to the commit of its claim, by Postgres's own commit timestamps; and the same of the peer."""

from __future__ import annotations

import time
from uuid import uuid4

import psycopg

from bench.embedded import Measured, no_op
from bench.jobs.peer.running import Peer
from quantry_core.jobs import FINAL_STATUSES

POLL_S = 0.01
TIMEOUT_S = 60.0
REST_S = 0.05
"""Between two jobs: the slot has asked for more work and is idle again."""

COMMIT_TO_CLAIM = """
select extract(epoch from pg_xact_commit_timestamp(claimed.xmin) - pg_xact_commit_timestamp(submitted.xmin)) * 1000
from job_events submitted join job_events claimed using (job_id)
where submitted.job_id = any(%s) and submitted.kind = 'state' and claimed.kind = 'state'
  and submitted.data ->> 'status' = 'queued' and claimed.data ->> 'status' = 'running'
"""
COMMIT_TO_TAKEN = """
select extract(epoch from pg_xact_commit_timestamp(taken.xmin) - pg_xact_commit_timestamp(submitted.xmin)) * 1000
from steps submitted join steps taken using (id)
where id = any(%s) and submitted.step = 'submitted' and taken.step = 'taken'
"""


def commit_to_claim_ms(measured: Measured, num_jobs: int) -> list[float]:
    """Returns the milliseconds of ``num_jobs`` jobs, submitted one by one to an idle worker."""
    job_ids = []
    with measured.database() as database:
        for _ in range(num_jobs):
            job_id = measured.client.jobs.submit(no_op()).id
            _wait(database, "select count(*) from jobs where id = %s and status = any(%s)", [job_id, sorted(FINAL_STATUSES)])
            job_ids.append(job_id)
            time.sleep(REST_S)
        return _milliseconds(database, COMMIT_TO_CLAIM, job_ids)


def commit_to_taken_ms(peer: Peer, num_tasks: int) -> list[float]:
    """Returns the milliseconds of ``num_tasks`` bare tasks: commit, send, and the commit at the end of the task's round trip."""
    ids = []
    with peer.celery.connection_for_write() as connection:
        for _ in range(num_tasks):
            task_id = uuid4().hex
            peer.database.execute("insert into steps (id, step) values (%s, 'submitted')", [task_id])
            peer.celery.send_task("peer.take", args=[task_id], connection=connection)
            _wait(peer.database, "select count(*) from steps where id = %s and step = 'taken'", [task_id])
            ids.append(task_id)
            time.sleep(REST_S)
    return _milliseconds(peer.database, COMMIT_TO_TAKEN, ids)


def _wait(database: psycopg.Connection, query: str, parameters: list[object]) -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while database.execute(query, parameters).fetchall() == [(0,)]:
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"this did not end within {TIMEOUT_S} s: {parameters[0]}")
        time.sleep(POLL_S)


def _milliseconds(database: psycopg.Connection, query: str, ids: list[str]) -> list[float]:
    values = [float(value) for (value,) in database.execute(query, [ids])]
    if len(values) != len(ids):
        raise RuntimeError(f"{len(values)} of {len(ids)} were measured")
    return values
