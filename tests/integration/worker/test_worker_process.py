"""The whole worker as it is started: Celery's processes on the real Redis, a child process, and kills by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from factories.worker_process import READY_TIMEOUT_S, RunningWorker, is_gone, running_worker, wait_until
from quantry_core.execution import Outcome
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import JobReason
from quantry_core.methods import Environment
from quantry_worker.toolchains import toolchain_digest

CHILD = """
task = json.load(open(sys.argv[1]))
print("the child is", os.getpid(), flush=True)
match task["spec"]["model"]:
    case "slow":
        time.sleep(600)
    case "short":
        time.sleep(3)
    case "hungry":
        held = [bytearray(b"x" * 1_000_000) for _ in range(400) if time.sleep(0.01) is None]
        time.sleep(600)
    case "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        inner = subprocess.Popen(["sleep", "600"])
        print("its own child is", inner.pid, flush=True)
        time.sleep(600)
say(event="result", metrics={"answer": 42})
"""


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[RunningWorker]:
    with running_worker(redis_url, tmp_path, CHILD) as running:
        yield running


def test_the_worker_says_who_it_is_before_it_takes_work(worker: RunningWorker, tmp_path: Path) -> None:
    worker.submit("quick")
    worker.plane.wait_for_finish()
    assert "/workers/" in worker.plane.paths[0]
    ((worker_id, hello),) = worker.plane.hellos.items()
    assert is_id(worker_id, IdPrefix.WORKER)
    assert (hello.pid, hello.queues, hello.num_slots, hello.devices) == (worker.process.pid, ["cpu"], 1, [])
    assert hello.environments == {Environment.ML: toolchain_digest(tmp_path / "python")}
    assert hello.memory_bytes is not None
    claim = worker.plane.claims[0]
    assert (claim.worker_id, claim.environments) == (worker_id, hello.environments)


def test_the_supervisor_is_small_and_has_no_torch(worker: RunningWorker) -> None:
    worker.submit("slow")
    pool = psutil.Process(worker.pool_pid())
    for process in (pool, psutil.Process(worker.process.pid)):
        assert process.memory_info().rss < 120_000_000
        assert not [mapped.path for mapped in process.memory_maps() if "torch" in mapped.path]


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


def test_a_cancel_ends_a_child_that_does_not_listen_and_all_it_started(worker: RunningWorker) -> None:
    job_id = worker.submit("stubborn")
    wait_until(lambda: "its own child is" in worker.plane.log_text(), "grandchild", worker.log)
    pids = [worker.child_pid(), int(worker.plane.log_text().split("its own child is ")[1].split()[0])]
    worker.plane.cancelled.add(job_id)
    assert worker.plane.wait_for_finish(timeout_s=10).outcome is Outcome.CANCELLED
    assert all(is_gone(pid) for pid in pids)


def test_a_job_past_its_time_fails_and_the_slot_works_on(worker: RunningWorker) -> None:
    worker.submit("slow", time_s=1)
    child = worker.child_pid()
    finish = worker.plane.wait_for_finish()
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.TIMED_OUT)
    assert "limit of 1 s" in (finish.message or "")
    assert is_gone(child)
    worker.submit("quick")
    assert worker.plane.wait_for_finish(2).outcome is Outcome.SUCCEEDED


def test_a_job_past_its_memory_fails_and_the_slot_works_on(worker: RunningWorker) -> None:
    worker.submit("hungry", memory_bytes=128 * 1024**2)
    finish = worker.plane.wait_for_finish()
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.OUT_OF_MEMORY)
    assert "the job's limit of 128 MiB" in (finish.message or "")
    assert finish.peak_memory_bytes is not None
    assert 128 * 1024**2 < finish.peak_memory_bytes < 400_000_000
    worker.submit("quick")
    assert worker.plane.wait_for_finish(2).outcome is Outcome.SUCCEEDED


def test_a_supervisor_that_slept_past_its_lease_writes_nothing(worker: RunningWorker) -> None:
    job_id = worker.submit("slow", lease_s=2.0)
    worker.plane.lease_s = 2.0
    child, pool = worker.child_pid(), worker.pool_pid()
    os.kill(pool, signal.SIGSTOP)
    time.sleep(2.5)
    num_requests = len(worker.plane.paths)
    os.kill(pool, signal.SIGCONT)
    wait_until(lambda: is_gone(child), "end of the child", worker.log, 10)
    wait_until(lambda: not (worker.work_dir / "attempts" / job_id).exists(), "end of the attempt", worker.log, 10)
    worker.submit("quick")
    assert worker.plane.wait_for_finish().outcome is Outcome.SUCCEEDED
    assert [path for path in worker.plane.paths[num_requests:] if job_id in path] == []


@pytest.mark.parametrize(("model", "outcome"), [("short", Outcome.SUCCEEDED), ("slow", Outcome.RELEASED)])
def test_a_drain_lets_the_running_job_go_on_for_its_grace(redis_url: str, tmp_path: Path, model: str, outcome: Outcome) -> None:
    with running_worker(redis_url, tmp_path, CHILD, WORKER_DRAIN_GRACE_S="6") as worker:
        worker.submit(model)
        worker.child_pid()
        worker.process.terminate()
        worker.submit("quick")
        assert worker.process.wait(6 + 8 + 5) == 0
        assert [finish.outcome for finish in worker.plane.finishes] == [outcome]
        assert len(worker.plane.leases) == 1


def test_a_worker_without_work_ends_by_itself_but_never_in_a_job(redis_url: str, tmp_path: Path) -> None:
    with running_worker(redis_url, tmp_path, CHILD, WORKER_MAX_IDLE_S="1") as worker:
        # Takes 3 s: longer than the worker may be idle.
        worker.submit("short")
        assert worker.process.wait(READY_TIMEOUT_S) == 0, worker.log.read_text()
        assert [finish.outcome for finish in worker.plane.finishes] == [Outcome.SUCCEEDED]
        assert "no work came" in worker.log.read_text()


def test_each_gpu_has_its_slot_whatever_died(redis_url: str, tmp_path: Path) -> None:
    child = 'print("the child is", os.getpid(), "on", repr(os.environ["CUDA_VISIBLE_DEVICES"]), flush=True)\ntime.sleep(600)\n'
    gpu = {"WORKER_QUEUES": "gpu,cpu", "WORKER_GPUS": "GPU-a,GPU-b", "WORKER_SLOTS": "2"}
    with running_worker(redis_url, tmp_path, child, **gpu) as worker:
        for _ in range(2):
            worker.submit("slow", queue="gpu")
        wait_until(lambda: worker.plane.log_text().count(" on ") == 2, "two children", worker.log)
        lines = [line.split() for line in worker.plane.log_text().splitlines()]
        assert {line[-1] for line in lines} == {"'GPU-a'", "'GPU-b'"}
        pid, device = int(lines[0][3]), lines[0][-1]
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        worker.submit("slow", queue="gpu")
        wait_until(lambda: worker.plane.log_text().count(" on ") == 3, "a third child", worker.log)
        assert worker.plane.log_text().splitlines()[-1].endswith(device)


def test_a_job_of_a_cpu_queue_sees_no_gpu(redis_url: str, tmp_path: Path) -> None:
    child = 'print("on", repr(os.environ["CUDA_VISIBLE_DEVICES"]), flush=True)\nsay(event="result", peak_vram_bytes=7)\n'
    gpu = {"WORKER_QUEUES": "gpu,cpu", "WORKER_GPUS": "0", "WORKER_SLOTS": "1"}
    with running_worker(redis_url, tmp_path, child, **gpu) as worker:
        worker.submit("quick", queue="cpu")
        assert worker.plane.wait_for_finish().peak_vram_bytes == 7
        assert worker.plane.log_text() == "on ''"
