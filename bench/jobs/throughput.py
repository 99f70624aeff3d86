"""How many jobs that do nothing get through everything in a second, and how many submissions one api process takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx

from bench.embedded import Measured, no_op
from bench.jobs.peer.running import Peer
from quantry_core.jobs import FINAL_STATUSES, JobSubmission

POLL_S = 0.05
TIMEOUT_S = 300.0
NUM_CLIENTS = 8


def jobs_per_s(measured: Measured, num_jobs: int) -> float:
    """Returns no-op jobs per second, from the first claim to the last end, all having been submitted before."""
    job_ids = [measured.client.jobs.submit(no_op()).id for _ in range(num_jobs)]
    with measured.database() as database:
        _until(
            lambda: (
                database.execute(
                    "select count(*) from jobs where id = any(%s) and status = any(%s)", [job_ids, sorted(FINAL_STATUSES)]
                ).fetchall()
                == [(num_jobs,)]
            )
        )
        ((seconds,),) = database.execute(
            "select extract(epoch from max(finished_at) - min(started_at)) from jobs where id = any(%s)", [job_ids]
        ).fetchall()
    return num_jobs / float(seconds)


def tasks_per_s(measured: Measured, peer: Peer, num_tasks: int) -> float:
    """Returns the peer's tasks per second: a commit, a bare Python start, a commit."""
    ids = [uuid4().hex for _ in range(num_tasks)]
    python = str(measured.scratch / "stub_python")
    started = time.monotonic()
    with peer.celery.connection_for_write() as connection:
        for task_id in ids:
            peer.celery.send_task("peer.work", args=[task_id, python], connection=connection)
    _until(lambda: peer.database.execute("select count(*) from steps where id = any(%s)", [ids]).fetchall() == [(2 * num_tasks,)])
    return num_tasks / (time.monotonic() - started)


def submissions_per_s(api_url: str, api_key: str, num_requests: int) -> float:
    """Returns submissions per second that one api process takes from NUM_CLIENTS clients. The jobs wait: they are not before tomorrow."""
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 24 * 3600))
    body = JobSubmission(spec=no_op(), not_before=tomorrow).model_dump_json()
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    return _requests_per_s(f"{api_url}/api/v1/jobs", lambda: body, headers, num_requests)


def inserts_per_s(peer: Peer, num_requests: int) -> float:
    """Returns requests per second of the peer's server: one insert and one commit each."""
    headers = {"Content-Type": "application/json"}
    return _requests_per_s(f"{peer.url}/submit", lambda: f'{{"id": "{uuid4().hex}"}}', headers, num_requests)


def _requests_per_s(url: str, body: Callable[[], str], headers: dict[str, str], num_requests: int) -> float:
    def client(count: int) -> None:
        with httpx.Client(headers=headers, timeout=30) as http:
            for _ in range(count):
                http.post(url, content=body()).raise_for_status()

    with ThreadPoolExecutor(NUM_CLIENTS) as threads:
        started = time.monotonic()
        list(threads.map(client, [num_requests // NUM_CLIENTS] * NUM_CLIENTS))
        return num_requests / (time.monotonic() - started)


def _until(is_done: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while not is_done():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"this did not end within {TIMEOUT_S} s")
        time.sleep(POLL_S)
