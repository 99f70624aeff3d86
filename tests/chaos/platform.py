"""The embedded stack with stub recipes, quick engines and short leases, and what a scenario needs to hurt it and to look into it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from chaos.stub import Behaviour, Stub
from factories.checkpoints import master_contents, write_checkpoint
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_core.jobs import FINAL_STATUSES, ImportSpec, JobStatus
from quantry_local.launch import LaunchFile
from quantry_local.postgres import DATABASE, SUPERUSER
from quantry_local.stack import Options, Stack
from quantry_local.supervisor_config import SupervisorFiles
from quantry_local.supervisor_rpc import Program, ProgramState, SupervisorRpc

LEASE_S = 6.0
SWEEP_S = 1.0
NUM_SLOTS = 4
MODEL, TEXT = "chaos", "chaos.text"
SETUP_TIMEOUT_S = 60.0
FAKE_ENGINE = Path(__file__).with_name("fake_server.py")
POLL_S = 0.1


@dataclass(frozen=True)
class Chaos:
    """A running stack with one master and one dataset in it."""

    stack: Stack
    client: Client
    url: str
    api_key: str
    stub: Stub
    scratch: Path
    files: SupervisorFiles
    rpc: SupervisorRpc

    @contextmanager
    def http(self, *, part: str = "gateway", key: str | None = None) -> Iterator[httpx.Client]:
        """Yields a client of one part with a key (the admin's by default); it repeats nothing and hides nothing."""
        base_url = self.url if part == "gateway" else self.address_of(part)
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        # The stack is on this machine: no proxy finds it.
        with httpx.Client(base_url=base_url, headers=headers, timeout=30.0, trust_env=False) as client:
            yield client

    def launch_file(self, part: str) -> LaunchFile:
        """Returns how the stack starts a part, its secrets included."""
        return LaunchFile.model_validate_json(self.files.launch_file(part).read_bytes())

    def address_of(self, part: str) -> str:
        """Returns the origin of an HTTP service."""
        environment = self.launch_file(part).environment
        return f"http://127.0.0.1:{environment[f'QUANTRY_{part.upper()}_PORT']}"

    @property
    def worker_token(self) -> str:
        return self.launch_file("worker").environment["QUANTRY_WORKER_TOKEN"]

    @property
    def broker_url(self) -> str:
        return self.launch_file("worker").environment["QUANTRY_BROKER_URL"]

    def program(self, part: str) -> Program:
        """Returns a part as the process manager sees it; asks for it to be started again where that has given up."""
        program = self.rpc.program(part)
        if program.state is ProgramState.FATAL:
            self.rpc.start(part)
        return program

    def database(self) -> psycopg.Connection[Any]:
        """Returns a connection to the platform's database, each statement its own transaction."""
        socket_dir = self.stack.folders.sockets / "postgres"
        return psycopg.connect(host=str(socket_dir), user=SUPERUSER, dbname=DATABASE, autocommit=True)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Returns a query's rows, straight from the database: what the platform says of itself is not asked."""
        with self.database() as connection:
            return connection.execute(query, values).fetchall()

    def submit(self, num_jobs: int, milliseconds: int, behaviour: Behaviour = Behaviour.WORK, **options: Any) -> list[str]:
        """Submits jobs whose stub works so long; returns their ids."""
        with self.http() as http:
            return [submit_one(http, submission(milliseconds, behaviour, **options)) for _ in range(num_jobs)]

    def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Returns where each of the jobs is."""
        rows = self.rows("select id, status from jobs where id = any(%s)", list(job_ids))
        return {job_id: JobStatus(status) for job_id, status in rows}

    def num_unfinished(self, job_ids: Sequence[str]) -> int:
        """Returns how many of the jobs have not ended."""
        return sum(status not in FINAL_STATUSES for status in self.statuses(job_ids).values())

    def wait_until_ended(self, job_ids: Sequence[str], timeout_s: float) -> bool:
        """Returns whether all the jobs ended in time."""
        return wait_until(lambda: self.num_unfinished(job_ids) == 0, timeout_s)

    def is_idle(self) -> bool:
        """Tells whether no job is queued or running."""
        return not self.rows("select 1 from jobs where status in ('queued', 'running') limit 1")


def submission(milliseconds: int, behaviour: Behaviour = Behaviour.WORK, **options: Any) -> dict[str, Any]:
    """Returns the body of a submission; ``options`` as quantry_core.jobs.JobSubmission has them."""
    spec = {"type": "evaluate", "version": MODEL, "corpora": [TEXT], "max_windows": milliseconds, "window_tokens": int(behaviour)}
    return {"spec": spec, **options}


def submit_one(http: httpx.Client, body: dict[str, Any]) -> str:
    """Submits one job and returns its id."""
    answer = http.post("/api/v1/jobs", json=body)
    if answer.status_code != 201:
        raise RuntimeError(f"the submission was answered {answer.status_code}: {answer.text[:500]}")
    return str(answer.json()["id"])


def wait_until(is_so: Callable[[], bool], timeout_s: float, *, poll_s: float = POLL_S) -> bool:
    """Returns whether it became so within ``timeout_s``; looks every ``poll_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_s)
    return True


@contextmanager
def chaos_stack(say: Callable[[str], None] = lambda _line: None) -> Iterator[Chaos]:
    """Yields a stack in a directory of its own; nothing of it is left afterwards."""
    scratch = short_directory("quantry-chaos-")
    stub = Stub(scratch / "stub")
    settings = {
        "QUANTRY_LEASE_S": str(LEASE_S),
        "QUANTRY_HEARTBEAT_S": "1",
        "QUANTRY_SWEEP_INTERVAL_S": str(SWEEP_S),
        # A fake engine's first token takes 20 ms; one that hangs is found in seconds.
        "QUANTRY_GATEWAY_FIRST_EVENT_TIMEOUT_S": "3",
        "QUANTRY_WORKER_SLOTS": str(NUM_SLOTS),
        "QUANTRY_ML_PYTHON": str(stub.python),
        "QUANTRY_ENGINE_PYTHON": sys.executable,
        "QUANTRY_ENGINE_SCRIPT": str(FAKE_ENGINE),
    }
    stack = Stack(Options(scratch / "stack", gateway_port=free_port(), import_roots=[scratch], settings=settings), say)
    try:
        up = stack.up()
        if up.new_admin_key is None:
            raise RuntimeError("the stack is not fresh")
        files = SupervisorFiles(stack.folders)
        with Client(up.url, up.new_admin_key) as client:
            _fill(client, scratch)
            yield Chaos(stack, client, up.url, up.new_admin_key, stub, scratch, files, SupervisorRpc(files.socket))
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(client: Client, scratch: Path) -> None:
    source = write_checkpoint(scratch / "master", master_contents())
    text = scratch / "text.txt"
    text.write_text("In the beginning\n" * 64)
    client.datasets.upload(TEXT, text)
    job = client.jobs.wait(client.jobs.submit(ImportSpec(model=MODEL, source=str(source))).id, SETUP_TIMEOUT_S, poll_s=POLL_S)
    if job.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"the master was not imported: {job.reason}: {job.message}")
