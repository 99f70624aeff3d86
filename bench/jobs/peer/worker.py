"""The peer's Celery worker: a task is one HTTP round trip, and a bare Python start where it is told which.

Started as ``celery -A bench.jobs.peer.worker worker``; PEER_BROKER_URL and PEER_SERVER_URL say where everything is.
"""

from __future__ import annotations

import os
import subprocess

import httpx
from celery import Celery

app = Celery("peer", broker=os.environ["PEER_BROKER_URL"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

_clients: dict[int, httpx.Client] = {}


def _client() -> httpx.Client:
    """Returns this pool process's client: its connection is kept from task to task, as a platform's would be."""
    if os.getpid() not in _clients:
        _clients[os.getpid()] = httpx.Client(base_url=os.environ["PEER_SERVER_URL"])
    return _clients[os.getpid()]


@app.task(name="peer.take")
def take(task_id: str) -> None:
    """Tells the server that the task was taken."""
    _client().post(f"/take/{task_id}").raise_for_status()


@app.task(name="peer.work")
def work(task_id: str, python: str) -> None:
    """Tells the server, starts the interpreter a job's child would start, and tells the server again."""
    _client().post(f"/take/{task_id}").raise_for_status()
    subprocess.run([python], env={"QUANTRY_EVENTS_FD": "1", "PATH": os.defpath}, stdout=subprocess.DEVNULL, check=True)
    _client().post(f"/take/{task_id}").raise_for_status()
