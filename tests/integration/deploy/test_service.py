"""``python -m quantry_deploy`` as it is started and stopped in earnest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from factories.deploy import PATIENCE_S, Pool, eventually
from factories.servers import free_port
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import JobStatus
from quantry_core.rollouts import ReplicaState, Rollout


class Service:
    """How a test starts the controller's process over the pool's platform."""

    def __init__(self, pool: Pool, blobs: BlobSettings, database_url: str, log: Path) -> None:
        self.port = free_port()
        self.log = log
        self.environment = {
            "PATH": os.environ["PATH"],
            "QUANTRY_DATABASE_URL": database_url,
            "QUANTRY_S3_ENDPOINT": blobs.endpoint,
            "QUANTRY_S3_ACCESS_KEY": blobs.access_key,
            "QUANTRY_S3_SECRET_KEY": blobs.secret_key.get_secret_value(),
            "QUANTRY_S3_VAULT_BUCKET": blobs.vault_bucket,
            "QUANTRY_S3_STAGING_BUCKET": blobs.staging_bucket,
            "QUANTRY_DEPLOY_PORT": str(self.port),
            "QUANTRY_DEPLOY_DIR": str(pool.settings.deploy_dir),
            "QUANTRY_ENGINE_PYTHON": str(pool.settings.engine_python),
            "QUANTRY_ENGINE_SCRIPT": str(pool.settings.engine_script),
            "QUANTRY_RECONCILE_INTERVAL_S": "0.1",
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Yields the controller's process once it is healthy; it is ended with the block."""
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "quantry_deploy"], env=self.environment, stdout=log, stderr=log)
        try:
            self.wait_until_healthy(process)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def run_beside(self) -> subprocess.CompletedProcess[str]:
        """Returns how a second controller fared over the same directory."""
        environment = {**self.environment, "QUANTRY_DEPLOY_PORT": str(free_port())}
        command = [sys.executable, "-m", "quantry_deploy"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    def wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).json() == {"status": "ok"}:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        pytest.fail(f"the controller is not healthy:\n{self.log.read_text()}")


@pytest.fixture
def service(pool: Pool, blob_settings: BlobSettings, database_url: str, tmp_path: Path) -> Service:
    return Service(pool, blob_settings, database_url, tmp_path / "service.log")


async def promoted(pool: Pool, rollout: Rollout) -> None:
    """Returns when the service has ended the rollout's job; the test's own controller only watches."""

    async def is_over() -> bool:
        return (await pool.job(rollout)).finished_at is not None

    await eventually(is_over)
    assert (await pool.job(rollout)).status is JobStatus.SUCCEEDED


async def test_it_serves_stops_its_engines_and_brings_them_back(pool: Pool, service: Service) -> None:
    async def are_ready() -> bool:
        return {replica.state for replica in await pool.replicas()} == {ReplicaState.READY}

    rollout = await pool.platform.rollout(await pool.version(), replicas=2)
    with service.running() as process:
        await promoted(pool, rollout)
        engines = [psutil.Process(replica.pid) for replica in await pool.replicas()]
        assert len(engines) == 2
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert not any(engine.is_running() for engine in engines)
    assert {replica.state for replica in await pool.replicas()} == {ReplicaState.STOPPED}
    with service.running():
        await eventually(are_ready)
    assert len((await pool.route()).replicas) == 2


async def test_a_killed_controller_leaves_its_engines_to_the_next(pool: Pool, service: Service) -> None:
    rollout = await pool.platform.rollout(await pool.version())
    with service.running() as process:
        await promoted(pool, rollout)
        process.kill()
    (before,) = await pool.replicas()
    assert before.state is ReplicaState.READY
    with service.running():
        await asyncio.sleep(1)
        assert await pool.replicas() == [before]


async def test_a_second_controller_on_the_same_directory_says_so(pool: Pool, service: Service) -> None:
    with service.running():
        second = service.run_beside()
    assert second.returncode == 1
    assert "another rollout controller holds" in second.stderr
