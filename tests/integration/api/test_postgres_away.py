"""Under load, Postgres loses its connections one after the other, or is stopped in the middle: 503 with Retry-After, never 500."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from factories.checkpoints import master_contents, write_checkpoint
from factories.directories import short_directory
from factories.servers import running, start, wait_until_ready
from quantry_core.keys import Role
from quantry_local.folders import Folders, choose_folders
from quantry_local.postgres import Postgres

from .conftest import ENVIRONMENTS, WORKER_ID, Api, client_of, slug

NUM_CLIENTS = 6
LOAD_S = 4.0
NUM_KILLS = 40


@dataclass
class Restartable:
    """A Postgres of this module's own, which a test may stop and start."""

    server: Postgres
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.server.url

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(f"host={self.server.socket_dir} user=quantry dbname=postgres", autocommit=True)

    def stop_at_once(self) -> None:
        """Stops it as a crash does: no client is told, nothing is flushed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(10)

    def start(self) -> None:
        self.process = start(self.server, self.log)
        wait_until_ready(self.server, self.process, self.log)


@contextmanager
def own_folders() -> Iterator[Folders]:
    folders = choose_folders(short_directory("quantry-tests-"))
    folders.make()
    yield folders
    for path in (folders.state_dir, *folders.outside):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Restartable]:
    with own_folders() as folders:
        server = Postgres(folders.postgres_home, folders.sockets / "postgres", folders.account, settings={"fsync": "off"})
        log = folders.logs / "postgres.log"
        with running(server, log) as process:
            environment = {**os.environ, "QUANTRY_DATABASE_URL": server.url}
            subprocess.run([sys.executable, "-m", "quantry_store.migrate"], env=environment, check=True, timeout=120, capture_output=True)
            own = Restartable(server, log, process)
            yield own
            if own.process is not process and own.process.poll() is None:
                own.process.send_signal(signal.SIGINT)
                own.process.wait(10)


@pytest.fixture
def database_url(own_postgres: Restartable) -> str:
    return own_postgres.url


@dataclass
class Load:
    """Clients that ask for everything there is, and what they were answered."""

    api: Api
    source: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    async def run(self, seconds: float) -> None:
        """Returns when every client has asked for so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(NUM_CLIENTS):
                group.create_task(self._ask(deadline))

    async def _ask(self, deadline: float) -> None:
        anybody = client_of(self.api.app, None)
        while asyncio.get_running_loop().time() < deadline:
            await self.submit()
            await self._note("claim", self._claim())
            await self._note("list", self.api[Role.VIEWER].get("/api/v1/jobs?limit=5"))
            await self._note("whoami", self.api[Role.ADMIN].get("/api/v1/whoami"))
            await self._note("workers", self.api[Role.VIEWER].get("/api/v1/workers"))
            await self._note("project", self.api[Role.VIEWER].get("/api/v1/project"))
            await self._note("metrics", anybody.get("/metrics"))
            await self._note("health", anybody.get("/healthz"))
            await self._note("estimate", self.api[Role.VIEWER].post("/api/v1/jobs/estimate", json=self._body()))
            if self.job_ids:
                job_id = self.job_ids[next(self.numbers) % len(self.job_ids)]
                await self._note("show", self.api[Role.VIEWER].get(f"/api/v1/jobs/{job_id}"))
                await self._note("cancel", self.api[Role.OPERATOR].post(f"/api/v1/jobs/{job_id}/cancel"))
                await self._note("log", self.api[Role.VIEWER].get(f"/api/v1/jobs/{job_id}/log"))
                heartbeat = f"/api/v1/execution/jobs/{job_id}/heartbeat"
                await self._note("heartbeat", self.api[Role.WORKER].post(heartbeat, json={"attempt": 1}))
                await self._watch(job_id)
        await anybody.aclose()

    async def submit(self) -> None:
        """Submits a job and keeps its id once it was answered."""
        response = await self._note("submit", self.api[Role.OPERATOR].post("/api/v1/jobs", json=self._body()))
        if response.status_code == 201:
            self.job_ids.append(response.json()["id"])

    async def _watch(self, job_id: str) -> None:
        """Opens an event stream; one that has begun outlives the outage, so this one is left after a moment."""
        watching = asyncio.create_task(self.api[Role.VIEWER].get(f"/api/v1/jobs/{job_id}/events"))
        done, _ = await asyncio.wait({watching}, timeout=0.2)
        if done:
            await self._note("events", watching)
            return
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def _note(self, what: str, asking: Any) -> httpx.Response:
        response: httpx.Response = await asking
        self.answers[what, response.status_code] += 1
        if response.status_code >= 500:
            if response.status_code != 503 or int(response.headers.get("retry-after", "0")) < 1:
                self.problems.append(f"{what}: {response.status_code} {response.text}")
            else:
                assert slug(response) == "unavailable"
        return response

    def _claim(self) -> Any:
        body = {"queue": "cpu", "worker_id": WORKER_ID, "environments": ENVIRONMENTS}
        return self.api[Role.WORKER].post("/api/v1/execution/next", json=body)

    def _body(self) -> dict[str, Any]:
        return {"spec": {"type": "import", "model": f"model-{next(self.numbers)}", "source": self.source}}

    @property
    def num_unavailable(self) -> int:
        return sum(number for (_, status), number in self.answers.items() if status == 503)


@pytest.fixture
def load(api: Api) -> Load:
    return Load(api, str(write_checkpoint(api.roots / "bard", master_contents())))


async def all_is_well(load: Load) -> None:
    """Asserts that nothing was a 500, and that the api serves again and holds every job that it said it took."""
    assert load.problems == []
    assert load.num_unavailable > 0, "the outage was not noticed: this test proved nothing"
    before = len(load.job_ids)
    await load.submit()
    assert len(load.job_ids) == before + 1
    for job_id in load.job_ids:
        assert (await load.api[Role.VIEWER].get(f"/api/v1/jobs/{job_id}")).status_code == 200


async def test_backends_that_are_terminated_one_after_the_other(load: Load, own_postgres: Restartable) -> None:
    async def terminate() -> None:
        with own_postgres.connect() as connection:
            for _ in range(NUM_KILLS):
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'quantry' AND state <> 'idle'")
                await asyncio.sleep(LOAD_S / NUM_KILLS)

    await asyncio.gather(load.run(LOAD_S), terminate())
    await all_is_well(load)


async def test_a_server_that_is_stopped_in_the_middle_and_started_again(load: Load, own_postgres: Restartable) -> None:
    async def restart() -> None:
        await asyncio.sleep(LOAD_S / 4)
        await asyncio.to_thread(own_postgres.stop_at_once)
        await asyncio.sleep(LOAD_S / 4)
        await asyncio.to_thread(own_postgres.start)

    await asyncio.gather(load.run(LOAD_S), restart())
    await all_is_well(load)
