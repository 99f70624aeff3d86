"""Redis dies, forgets everything, or stays away for a while: the worker takes work again, and what runs meanwhile runs on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from factories.servers import free_port, start, wait_until_ready
from factories.worker_process import RunningWorker, is_gone, running_worker, wait_until
from quantry_core.execution import Outcome
from quantry_local.folders import Folders
from quantry_local.redis import Redis

BACK_WITHIN_S = 30.0
"""Of Redis being back."""

CHILD = """
task = json.load(open(sys.argv[1]))
print("the child is", os.getpid(), flush=True)
wait_for = task["spec"]["model"]
while wait_for == "waits" and not os.path.exists(os.path.join(os.path.dirname(sys.argv[0]), "go-on")):
    time.sleep(0.05)
say(event="result")
"""


class OwnRedis:
    """A Redis of this module's tests alone, which they kill."""

    def __init__(self, server: Redis, log: Path) -> None:
        self.server = server
        self._log = log
        self._process = start(server, log)
        wait_until_ready(server, self._process, log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        self._process = start(self.server, self._log)
        wait_until_ready(self.server, self._process, self._log)

    def flush(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()


@pytest.fixture
def own_redis(server_folders: Folders, tmp_path: Path) -> Iterator[OwnRedis]:
    server = Redis(tmp_path / "redis", free_port(), "password-of-the-test")
    server.prepare()
    own = OwnRedis(server, tmp_path / "redis.log")
    yield own
    own.kill()


@pytest.fixture
def worker(own_redis: OwnRedis, tmp_path: Path) -> Iterator[RunningWorker]:
    with running_worker(own_redis.server.url, tmp_path, CHILD) as running:
        yield running


def takes_work_again(worker: RunningWorker) -> None:
    """Submits a job and wakes the worker each second, as the api's sweep does, until the job has succeeded."""
    num_before = len(worker.plane.finishes)
    give_up_at = time.monotonic() + BACK_WITHIN_S
    is_submitted = False
    while len(worker.plane.finishes) == num_before:
        assert time.monotonic() < give_up_at, worker.log.read_text()
        with suppress(OperationalError):
            if is_submitted:
                worker.wake()
            else:
                is_submitted = True
                worker.submit("quick")
        time.sleep(1)
    assert worker.plane.finishes[-1].outcome is Outcome.SUCCEEDED


def test_redis_is_killed_and_flushed_and_the_worker_works_on(own_redis: OwnRedis, worker: RunningWorker) -> None:
    takes_work_again(worker)
    for away_s in (0, 0, 3):
        own_redis.kill()
        time.sleep(away_s)
        own_redis.start()
        takes_work_again(worker)
    for _ in range(2):
        own_redis.flush()
        takes_work_again(worker)
    own_redis.kill()
    own_redis.start()
    own_redis.flush()
    takes_work_again(worker)
    assert worker.process.poll() is None


def test_a_job_runs_on_while_redis_is_away(own_redis: OwnRedis, worker: RunningWorker, tmp_path: Path) -> None:
    worker.submit("waits")
    child = worker.child_pid()
    own_redis.kill()
    num_heartbeats = len(worker.plane.heartbeats)
    wait_until(lambda: len(worker.plane.heartbeats) >= num_heartbeats + 2, "heartbeats without a broker", worker.log)
    assert not is_gone(child)
    (tmp_path / "go-on").touch()
    assert worker.plane.wait_for_finish().outcome is Outcome.SUCCEEDED
    own_redis.start()
    takes_work_again(worker)


def test_a_worker_without_redis_still_stops_when_told(own_redis: OwnRedis, worker: RunningWorker) -> None:
    own_redis.kill()
    wait_until(lambda: "waiting for the broker" in worker.log.read_text(), "word of the lost broker", worker.log)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(20) == 0
