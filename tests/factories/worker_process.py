"""The whole worker as it is started: ``python -m quantry_worker`` with a control plane that a test scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from celery import Celery

from factories.child_python import write_python
from factories.control_plane import ControlPlane, lease_of, running_job, serving
from quantry_core.celery_settings import sender_settings
from quantry_core.execution import WAKE_TASK
from quantry_core.jobs import CPU_QUEUE, Queue

READY_TIMEOUT_S = 30.0


class RunningWorker:
    """A started worker and the control plane it speaks to."""

    def __init__(self, process: subprocess.Popen[bytes], plane: ControlPlane, broker_url: str, log: Path, work_dir: Path) -> None:
        self.process = process
        self.plane = plane
        self.log = log
        self.work_dir = work_dir
        self._broker_url = broker_url

    def submit(
        self,
        model: str,
        *,
        queue: Queue = CPU_QUEUE,
        time_s: int | None = None,
        memory_bytes: int | None = None,
        lease_s: float = 60.0,
        heartbeat_s: float = 0.5,
    ) -> str:
        """Queues an import job and wakes the worker; returns the job's id. The child gets the model's name."""
        job = running_job(queue=queue, time_s=time_s, memory_bytes=memory_bytes)
        job = job.model_copy(update={"spec": job.spec.model_copy(update={"model": model})})
        self.plane.leases.append(lease_of(job, lease_s=lease_s, heartbeat_s=heartbeat_s))
        self.wake(queue)
        return job.id

    def wake(self, queue: Queue = CPU_QUEUE) -> None:
        """Sends a wake message as the api does; raises kombu's OperationalError if Redis is away."""
        with Celery("test", set_as_current=False) as app:
            app.conf.update(sender_settings(self._broker_url))
            app.send_task(WAKE_TASK, args=[queue], queue=queue, ignore_result=True)

    def child_pid(self) -> int:
        """Returns the pid of the last job's child, once it has said it."""
        wait_until(lambda: "the child is" in self.plane.log_text(), "the child's first line", self.log)
        return int(self.plane.log_text().split("the child is ")[-1].split()[0])

    def pool_pid(self) -> int:
        """Returns the pid of the pool process that runs the job: the parent of its child."""
        return psutil.Process(self.child_pid()).ppid()


@contextmanager
def running_worker(broker_url: str, directory: Path, child: str, **settings: str) -> Iterator[RunningWorker]:
    """Starts a worker whose children run the script ``child``; ``settings`` are its variables without ``QUANTRY_``.

    Kills it with its whole process group at the end.
    """
    python = write_python(directory, child)
    plane = ControlPlane()
    log = directory / "worker.log"
    with serving(plane) as url, log.open("wb") as output:
        chosen = {
            "CONTROL_URL": url,
            "WORKER_TOKEN": "token-of-the-test",
            "BROKER_URL": broker_url,
            "WORK_DIR": str(directory / "work"),
            "ML_PYTHON": str(python),
            "S3_ENDPOINT": "127.0.0.1:1",
            "S3_ACCESS_KEY": "unused",
            "S3_SECRET_KEY": "unused",
            "WORKER_DRAIN_GRACE_S": "0",
        } | settings
        environment = {"PATH": os.defpath, **{f"QUANTRY_{name}": value for name, value in chosen.items()}}
        # A process group of its own, as supervisord gives it.
        process = subprocess.Popen(
            [sys.executable, "-m", "quantry_worker"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
        running = RunningWorker(process, plane, broker_url, log, directory / "work")
        try:
            wait_until((directory / "work" / "worker.alive").exists, "health", log)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(is_so: Callable[[], bool], what: str, log: Path, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Returns once ``is_so`` says yes; fails with the worker's log after ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s; the worker's log:\n{log.read_text()}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Tells whether a process has ended, reaped or not."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
