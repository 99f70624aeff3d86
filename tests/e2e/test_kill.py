"""kill -9 in mid-quantize: of the child, of the pool process, of the worker. Retried, succeeded, exactly one version."""

from __future__ import annotations

import time

import httpx
import psutil
import pytest

from e2e.conftest import JOB_TIMEOUT_S, Platform, quantize_spec
from quantry_core.jobs import FINAL_STATUSES, EventKind, Job, JobStatus, QuantizeSpec
from quantry_core.versions import VersionDetail
from quantry_local.secret_values import load_secrets

MID_QUANTIZE_FRACTION = 0.15
CHILD_MODULE = "quantry_worker.child"
WORKER_MODULE = "quantry_worker"


def ungated(master: VersionDetail, *, seed: int) -> QuantizeSpec:
    """Returns a quantization of seconds, without a quality gate: what it is worth is not what is looked at here."""
    return quantize_spec(master.id, seed=seed, num_samples=16).model_copy(update={"quality": None})


def processes_running(platform: Platform, module: str) -> list[psutil.Process]:
    """Returns this stack's processes that run ``python -m <module>``, oldest first."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = str(platform.state_dir) in process.environ().get("QUANTRY_STATE_DIR", "")
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if is_ours and any(command[index : index + 2] == ["-m", module] for index in range(len(command))):
            found.append(process)
    return sorted(found, key=psutil.Process.create_time)


def child_processes(platform: Platform) -> list[psutil.Process]:
    """Returns the recipe processes of this stack: python processes that the job's task file was given to."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = str(platform.state_dir) in process.environ().get("QUANTRY_STATE_DIR", "")
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if is_ours and CHILD_MODULE in command and "task.json" in command:
            found.append(process)
    return found


def until_mid_quantize(platform: Platform, job_id: str) -> Job:
    """Returns the job once its child is well inside the quantization."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while time.monotonic() < deadline:
        job = platform.client.jobs.get(job_id)
        assert job.status not in FINAL_STATUSES, f"the job ended before it was killed: {job.status} {job.message}"
        if job.progress is not None and job.progress.fraction >= MID_QUANTIZE_FRACTION and child_processes(platform):
            return job
        time.sleep(0.1)
    raise AssertionError("the job never got going")


def assert_one_version(platform: Platform, job: Job) -> VersionDetail:
    """Returns the job's version after checking that it left exactly one, made by the last attempt."""
    assert job.status is JobStatus.SUCCEEDED, f"{job.reason}: {job.message}"
    versions = [version for version in platform.client.versions.list("bard-6m", limit=100).data if version.job_id == job.id]
    assert len(versions) == 1
    assert versions[0].attempt == job.attempt
    return platform.client.versions.get(versions[0].id)


@pytest.mark.parametrize("victim", ["child", "worker"])
def test_a_killed_quantize_is_retried_and_leaves_one_version(platform: Platform, master: VersionDetail, victim: str) -> None:
    job = platform.client.jobs.submit(ungated(master, seed=1 if victim == "child" else 2))
    before = until_mid_quantize(platform, job.id)
    if victim == "child":
        for process in child_processes(platform):
            process.kill()
    else:
        # All of the worker: its main process, its pool process; the child dies with them.
        for process in processes_running(platform, WORKER_MODULE):
            process.kill()
    ended = platform.client.jobs.wait(job.id, JOB_TIMEOUT_S, poll_s=0.3)
    assert ended.attempt == before.attempt + 1
    assert ended.num_lost_attempts == 1
    assert_one_version(platform, ended)
    states = [event.data["status"] for event in platform.client.jobs.events(job.id) if event.kind is EventKind.STATE]
    assert states == ["queued", "running", "queued", "running", "succeeded"]


def test_an_attempt_that_wakes_up_late_is_refused(platform: Platform, master: VersionDetail) -> None:
    """The worker is stopped past its lease; a second attempt finishes; every late write of the first answers stale-attempt."""
    job = platform.client.jobs.submit(ungated(master, seed=3))
    before = until_mid_quantize(platform, job.id)
    sleepers = [*processes_running(platform, WORKER_MODULE), *child_processes(platform)]
    for process in sleepers:
        process.suspend()
    try:
        deadline = time.monotonic() + 60
        while platform.client.jobs.get(job.id).status is not JobStatus.QUEUED:
            assert time.monotonic() < deadline, "the lease of a stopped worker never ran out"
            time.sleep(0.2)
        token = load_secrets(platform.state_dir).worker_token
        headers = {"Authorization": f"Bearer {token}"}
        path = f"{platform.url}/api/v1/execution/jobs/{job.id}"
        late_finish = {"attempt": before.attempt, "outcome": "failed", "reason": "internal"}
        late = {"heartbeat": {"attempt": before.attempt}, "finish": late_finish}
        late["events"] = {"attempt": before.attempt, "offset": 0, "events": [{"kind": "note", "data": {"text": "late"}}]}
        for door, body in late.items():
            answer = httpx.post(f"{path}/{door}", json=body, headers=headers)
            assert answer.status_code == 409
            assert answer.json()["type"] == "urn:quantry:problem:stale-attempt"
    finally:
        for process in sleepers:
            if process.is_running():
                process.resume()
    ended = platform.client.jobs.wait(job.id, JOB_TIMEOUT_S, poll_s=0.3)
    assert ended.attempt == before.attempt + 1
    assert_one_version(platform, ended)
