"""The whole worker as it is started: Celery's processes on the real Redis, a child process, and kills by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery

from factories.child_python import write_python
from factories.control_plane import ControlPlane, lease_of, running_job, serving
from quantry_core.execution import WAKE_TASK, Outcome
from quantry_core.jobs import JobReason, Queue

CHILD = """
task = json.load(open(sys.argv[1]))
print("the child is", os.getpid(), flush=True)
if task["spec"]["model"] == "slow":
    time.sleep(600)
say(event="result", metrics={"answer": 42})
"""


class RunningWorker:
    """A started ``python -m quantry_worker`` and the control plane it speaks to."""

    def __init__(self, process: subprocess.Popen[bytes], plane: ControlPlane, broker_url: str, log: Path, work_dir: Path) -> None:
        self.process = process
        self.plane = plane
        self.log = log
        self.work_dir = work_dir
        self._broker_url = broker_url

    def submit(self, model: str) -> str:
        """Queues an import job and wakes the worker; returns the job's id."""
        job = running_job()
        job = job.model_copy(update={"spec": job.spec.model_copy(update={"model": model})})
        self.plane.leases.append(lease_of(job, heartbeat_s=0.5))
        with Celery("test", broker=self._broker_url, set_as_current=False) as app:
            app.send_task(WAKE_TASK, args=[Queue.CPU.value], queue=Queue.CPU.value, ignore_result=True)
        return job.id

    def child_pid(self) -> int:
        """Returns the pid of the job's child, once it has said it."""
        wait_until(lambda: "the child is" in self.plane.log_text(), "the child's first line", self.log)
        return int(self.plane.log_text().split("the child is ")[1].split()[0])

    def pool_pid(self) -> int:
        """Returns the pid of the pool process that runs the job: the parent of its child."""
        return psutil.Process(self.child_pid()).ppid()


def wait_until(is_so: Callable[[], bool], what: str, log: Path, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s; the worker's log:\n{log.read_text()}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[RunningWorker]:
    python = write_python(tmp_path, CHILD)
    plane = ControlPlane()
    log = tmp_path / "worker.log"
    with serving(plane) as url, log.open("wb") as output:
        environment = {
            "PATH": os.defpath,
            "QUANTRY_CONTROL_URL": url,
            "QUANTRY_WORKER_TOKEN": "token-of-the-test",
            "QUANTRY_BROKER_URL": redis_url,
            "QUANTRY_WORK_DIR": str(tmp_path / "work"),
            "QUANTRY_ML_PYTHON": str(python),
            "QUANTRY_S3_ENDPOINT": "127.0.0.1:1",
            "QUANTRY_S3_ACCESS_KEY": "unused",
            "QUANTRY_S3_SECRET_KEY": "unused",
        }
        # A process group of its own, as supervisord gives it.
        process = subprocess.Popen(
            [sys.executable, "-m", "quantry_worker"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        running = RunningWorker(process, plane, redis_url, log, tmp_path / "work")
        try:
            wait_until((tmp_path / "work" / "worker.alive").exists, "health", log)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_job_runs_and_nothing_of_it_stays(worker: RunningWorker) -> None:
    job_id = worker.submit("quick")
    finish = worker.plane.wait_for_finish()
    assert (finish.outcome, finish.reason, finish.metrics) == (Outcome.SUCCEEDED, JobReason.COMPLETED, {"answer": 42})
    assert finish.peak_memory_bytes is not None
    assert "the child is" in worker.plane.log_text()
    assert not (worker.work_dir / "attempts" / job_id).exists()
    health = [sys.executable, "-m", "quantry_worker.health"]
    assert subprocess.run(health, env={"QUANTRY_WORK_DIR": str(worker.work_dir)}, check=False).returncode == 0


def test_a_killed_child_is_a_lost_attempt_and_the_slot_works_on(worker: RunningWorker) -> None:
    worker.submit("slow")
    os.kill(worker.child_pid(), signal.SIGKILL)
    finish = worker.plane.wait_for_finish()
    assert (finish.outcome, finish.reason) == (Outcome.LOST, JobReason.WORKER_LOST)
    assert "SIGKILL" in (finish.message or "")
    worker.submit("quick")
    assert worker.plane.wait_for_finish(2).outcome is Outcome.SUCCEEDED


def test_a_killed_pool_process_takes_its_child_along_and_is_replaced(worker: RunningWorker) -> None:
    worker.submit("slow")
    child, pool = worker.child_pid(), worker.pool_pid()
    os.kill(pool, signal.SIGKILL)
    wait_until(lambda: is_gone(child), "end of the child", worker.log, 5)
    assert worker.plane.finishes == []
    worker.submit("quick")
    assert worker.plane.wait_for_finish().outcome is Outcome.SUCCEEDED


def test_a_killed_main_process_takes_pool_and_child_along(worker: RunningWorker) -> None:
    worker.submit("slow")
    child, pool = worker.child_pid(), worker.pool_pid()
    worker.process.kill()
    wait_until(lambda: is_gone(pool) and is_gone(child), "end of pool process and child", worker.log, 5)
    assert worker.plane.finishes == []


@pytest.mark.parametrize("to_group", [True, False], ids=["whole group", "main process alone"])
def test_sigterm_hands_the_job_back_within_8_seconds(worker: RunningWorker, to_group: bool) -> None:
    worker.submit("slow")
    child = worker.child_pid()
    began = time.monotonic()
    if to_group:
        os.killpg(worker.process.pid, signal.SIGTERM)
    else:
        os.kill(worker.process.pid, signal.SIGTERM)
    status = worker.process.wait(20)
    assert time.monotonic() - began < 8, worker.log.read_text()
    assert status == 0
    assert is_gone(child)
    assert [finish.outcome for finish in worker.plane.finishes] == [Outcome.RELEASED]
    assert list((worker.work_dir / "attempts").iterdir()) == []


def test_a_cancel_request_ends_the_child(worker: RunningWorker) -> None:
    job_id = worker.submit("slow")
    child = worker.child_pid()
    worker.plane.cancelled.add(job_id)
    finish = worker.plane.wait_for_finish()
    assert (finish.outcome, finish.reason) == (Outcome.CANCELLED, JobReason.CANCELLED)
    assert is_gone(child)
