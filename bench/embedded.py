"""An embedded stack to measure: the example master and one text in it, commit timestamps on, children that do nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.stub import write_stub_python
from quantry import Client
from quantry_core.jobs import EvaluateSpec, ImportSpec, JobStatus
from quantry_local.ports import free_ports
from quantry_local.postgres import SUPERUSER
from quantry_local.secret_values import load_secrets
from quantry_local.stack import Options, Stack
from quantry_local.state import load_ports

ROOT = Path(__file__).resolve().parent.parent
MODEL, TEXT = "bard-6m", "kjv.test"
IMPORT_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Measured:
    """A running stack and what a benchmark needs to reach into it."""

    stack: Stack
    client: Client
    url: str
    api_key: str
    postgres_dir: Path
    redis_url: str
    scratch: Path

    def database(self, name: str = "quantry") -> psycopg.Connection:
        """Returns a connection, each statement its own transaction."""
        return psycopg.connect(host=str(self.postgres_dir), user=SUPERUSER, dbname=name, autocommit=True)

    def sqlalchemy_url(self, name: str) -> str:
        """Returns the address of one of this server's databases as quantry_store takes it."""
        return f"postgresql+psycopg://{SUPERUSER}@/{name}?host={self.postgres_dir}&port=5432"

    def make_database(self, name: str) -> None:
        """Makes an empty database of this name."""
        with self.database() as connection:
            connection.execute(f'create database "{name}"')


@contextmanager
def embedded_stack(settings: Mapping[str, str]) -> Iterator[Measured]:
    """Yields a fresh stack; everything of it is gone afterwards. Imports may read below its scratch folder."""
    scratch = Path(tempfile.mkdtemp(prefix="quantry-bench-", dir="/tmp"))
    stack = Stack(Options(scratch / "stack", gateway_port=free_port(), import_roots=[scratch], settings=settings))
    try:
        with _up(stack, scratch) as measured:
            yield measured
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def no_op_stack(settings: Mapping[str, str]) -> Iterator[Measured]:
    """Yields a stack whose jobs cost only what the platform costs.

    The master is imported by the real child first. Then Postgres begins to keep commit timestamps, for which it must be restarted,
    and the child is replaced by the stub.
    """
    with embedded_stack({}) as measured:
        _fill(measured.client)
        with measured.database() as connection:
            connection.execute("alter system set track_commit_timestamp = on")
        measured.stack.down()
        stub = write_stub_python(measured.scratch)
        port = int(measured.url.rpartition(":")[2])
        stack = Stack(Options(measured.scratch / "stack", gateway_port=port, settings={"QUANTRY_ML_PYTHON": str(stub), **settings}))
        with _up(stack, measured.scratch) as restarted:
            yield restarted


@contextmanager
def _up(stack: Stack, scratch: Path) -> Iterator[Measured]:
    up = stack.up()
    secrets = load_secrets(stack.folders.state_dir)
    ports = load_ports(stack.folders.state_dir)
    if secrets.admin_key is None or ports is None:
        raise RuntimeError("the stack is up and does not know its keys or ports")
    redis_url = f"redis://:{secrets.redis_password}@127.0.0.1:{ports.redis}/0"
    with Client(up.url, secrets.admin_key) as client:
        yield Measured(stack, client, up.url, secrets.admin_key, stack.folders.sockets / "postgres", redis_url, scratch)


def free_port() -> int:
    """Returns a TCP port of the loopback address that is free now."""
    return free_ports(1, besides=set())[0]


def no_op() -> EvaluateSpec:
    """Returns the spec of a job whose child does nothing."""
    return EvaluateSpec(version=f"{MODEL}@1", corpora=[TEXT], max_windows=1)


def _fill(client: Client) -> None:
    client.datasets.upload(TEXT, ROOT / "examples" / "corpora" / f"{TEXT}.txt")
    job = client.jobs.submit(ImportSpec(model=MODEL, source=str(ROOT / "examples" / MODEL)))
    ended = client.jobs.wait(job.id, IMPORT_TIMEOUT_S)
    if ended.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"the example master was not imported: {ended.message}")
