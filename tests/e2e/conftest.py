"""The whole product as a user runs it: one embedded stack for the run, the example master in it, and its W4A16 version."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from factories.child_runs import SHARED_CORES
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_core.jobs import CalibrationSpec, ImportSpec, Job, JobSpec, JobStatus, QuantizeSpec
from quantry_core.versions import VersionDetail
from quantry_local.demo_steps import CALIBRATION_CORPORA, MODEL, TEST_CORPORA
from quantry_local.stack import Options, Stack

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
JOB_TIMEOUT_S = 300.0
SETTINGS = {
    # A lost worker is noticed within seconds instead of a minute.
    "QUANTRY_LEASE_S": "8",
    "QUANTRY_HEARTBEAT_S": "1",
    "QUANTRY_SWEEP_INTERVAL_S": "1",
    # A model hub where nobody listens.
    "HF_ENDPOINT": "http://127.0.0.1:9",
    **SHARED_CORES,
}


@dataclass(frozen=True)
class Platform:
    """A running stack and an admin's client for it."""

    stack: Stack
    url: str
    api_key: str
    client: Client

    @property
    def state_dir(self) -> Path:
        return self.stack.folders.state_dir

    def run(self, spec: JobSpec) -> Job:
        """Submits a job and returns it once it has ended."""
        return self.client.jobs.wait(self.client.jobs.submit(spec).id, JOB_TIMEOUT_S, poll_s=0.3)

    def succeed(self, spec: JobSpec) -> Job:
        """Runs a job that must succeed; its log is in the failure's message."""
        job = self.run(spec)
        assert job.status is JobStatus.SUCCEEDED, f"{job.reason}: {job.message}\n{self.client.jobs.log(job.id)[-4000:]}"
        return job

    def version_of(self, job: Job) -> VersionDetail:
        """Returns the version a job made."""
        assert job.result is not None
        assert job.result.version_id is not None
        return self.client.versions.get(job.result.version_id)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """The platform with the example texts uploaded, in a directory of its own with a short path."""
    state_dir = short_directory("quantry-e2e-")
    lines: list[str] = []
    stack = Stack(Options(state_dir / "stack", gateway_port=free_port(), import_roots=[state_dir], settings=SETTINGS), lines.append)
    try:
        up = stack.up()
        assert up.new_admin_key is not None, lines
        with Client(up.url, up.new_admin_key) as client:
            for name in [*(f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA), *(f"{corpus}.test" for corpus in TEST_CORPORA)]:
                client.datasets.upload(name, EXAMPLES / "corpora" / f"{name}.txt")
            yield Platform(stack, up.url, up.new_admin_key, client)
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def master(platform: Platform) -> VersionDetail:
    """The example master, imported."""
    return platform.version_of(platform.succeed(ImportSpec(model=MODEL, source=str(EXAMPLES / MODEL))))


def quantize_spec(base: str, *, seed: int = 0, num_samples: int = 66) -> QuantizeSpec:
    """Returns the example's W4A16 recipe; another seed makes another version."""
    datasets = [f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA]
    calibration = CalibrationSpec(datasets=datasets, num_samples=num_samples, length_tokens=256, seed=seed)
    return QuantizeSpec(base=base, method="gptq", scheme="W4A16", calibration=calibration)


@pytest.fixture(scope="session")
def quantized(platform: Platform, master: VersionDetail) -> VersionDetail:
    """The example master quantized to W4A16 by GPTQ."""
    return platform.version_of(platform.succeed(quantize_spec(master.id)))
