from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from quantry_worker.idle import IdleEnd
from quantry_worker.settings import WorkerSettings


class Worker:
    """What an IdleEnd sees and does, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.is_busy = False
        self.num_ends = 0

    def end(self) -> None:
        self.num_ends += 1


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def idle(worker: Worker) -> IdleEnd:
    return IdleEnd(60.0, is_busy=lambda: worker.is_busy, end=worker.end, clock=lambda: worker.now_s)


def test_a_worker_that_nothing_came_for_ends(worker: Worker, idle: IdleEnd) -> None:
    worker.now_s += 59.9
    assert (idle.look(), worker.num_ends) == (False, 0)
    worker.now_s += 0.1
    assert (idle.look(), worker.num_ends) == (True, 1)


def test_a_busy_worker_does_not_end_however_long_its_job_takes(worker: Worker, idle: IdleEnd) -> None:
    worker.is_busy = True
    worker.now_s += 10 * 3600.0
    assert not idle.look()
    worker.is_busy = False
    worker.now_s += 59.0
    assert not idle.look(), "its time without work begins when the job has ended"
    worker.now_s += 1.0
    assert idle.look()


def test_the_watch_ends_the_worker_once(worker: Worker) -> None:
    # Without a wait: idle for long enough at the first look.
    ticks = iter([0.0, 60.0])
    IdleEnd(60.0, is_busy=lambda: False, end=worker.end, clock=lambda: next(ticks))._run()
    assert worker.num_ends == 1


def test_celery_is_asked_and_told_in_its_own_words() -> None:
    # In a process of its own: the state of Celery's worker is the process's.
    script = """
from celery.exceptions import WorkerShutdown
from celery.worker import state
from quantry_worker.idle import end_softly, is_any_slot_awake

class Wake:
    id, name = "1", "wake"

wake = Wake()
assert not is_any_slot_awake()
state.task_reserved(wake)
assert is_any_slot_awake()
state.task_accepted(wake)
assert is_any_slot_awake()
state.task_ready(wake)
assert not is_any_slot_awake()
state.maybe_shutdown()
end_softly()
try:
    state.maybe_shutdown()
except WorkerShutdown as shutdown:
    assert shutdown.code == 0
else:
    raise AssertionError("the worker goes on")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_worker_stays_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONTROL_URL", "WORKER_TOKEN", "BROKER_URL", "WORK_DIR", "ML_PYTHON"):
        monkeypatch.setenv(f"QUANTRY_{name}", "x")
    assert WorkerSettings().worker_max_idle_s is None
    monkeypatch.setenv("QUANTRY_WORKER_MAX_IDLE_S", "90")
    assert WorkerSettings().worker_max_idle_s == 90.0
    monkeypatch.setenv("QUANTRY_WORKER_MAX_IDLE_S", "0")
    with pytest.raises(ValidationError, match="greater than 0"):
        WorkerSettings()
