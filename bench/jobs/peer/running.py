"""Starts the peer beside the stack it is compared with, on the same Postgres and the same Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import psycopg
from celery import Celery

from bench.embedded import ROOT, Measured, free_port
from bench.jobs.peer.server import DATABASE

START_S = 30.0
REDIS_DATABASE = 5
"""Not the stack's own, which is 0."""


@dataclass(frozen=True)
class Peer:
    """The running peer."""

    celery: Celery
    url: str
    database: psycopg.Connection


@contextmanager
def running_peer(measured: Measured, *, concurrency: int) -> Iterator[Peer]:
    """Yields the peer; its processes are ended afterwards."""
    measured.make_database(DATABASE)
    broker = measured.redis_url.rpartition("/")[0] + f"/{REDIS_DATABASE}"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        database = stack.enter_context(measured.database(DATABASE))
        database.execute("create table if not exists steps (id text, step text)")
        environment = {**os.environ, "PEER_BROKER_URL": broker, "PEER_SERVER_URL": url, "PYTHONPATH": str(ROOT)}
        log = stack.enter_context((measured.scratch / "peer.log").open("wb"))
        server = [sys.executable, "-m", "bench.jobs.peer.server", str(port), str(measured.postgres_dir)]
        worker = [sys.executable, "-m", "celery", "-A", "bench.jobs.peer.worker", "worker", "-c", str(concurrency), "--loglevel", "WARNING"]
        for command in (server, [*worker, "--without-gossip", "--without-mingle", "--without-heartbeat"]):
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
            stack.callback(_end, process)
        celery = Celery("bench", broker=broker, set_as_current=False)
        peer = Peer(celery, url, database)
        _wait_until_it_works(peer)
        yield peer


def _wait_until_it_works(peer: Peer) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        try:
            httpx.post(f"{peer.url}/take/start").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    peer.celery.send_task("peer.take", args=["first"])
    while peer.database.execute("select count(*) from steps where id = 'first'").fetchall() == [(0,)]:
        if time.monotonic() > give_up_at:
            raise RuntimeError("the peer does not start")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
