"""The api and the dashboard as they are run, over a database of their own: for pages whose meaning lies in what the api does with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
from cryptography.fernet import Fernet

from factories.api_process import ApiProcess, running_api
from factories.checkpoints import master_contents, write_checkpoint
from factories.dashboard import RunningDashboard, running_dashboard
from quantry import Client
from quantry_api.bootstrap import bootstrap
from quantry_core.keys import Role
from quantry_core.workers import Device, WorkerHello
from quantry_local.postgres import Postgres
from quantry_store.database import Database

WORKER_ID = "wrk_" + "7" * 32
GPU = Device(
    id="0",
    name="NVIDIA H200",
    memory_bytes=150_000_000_000,
    memory_used_bytes=60_000_000_000,
    utilization=0.83,
    temperature_c=61.0,
    power_w=412.0,
)
HELLO = WorkerHello(host="gpu-host-1", pid=4711, version="0.1.0", queues=["cpu", "gpu"], num_slots=2, environments={}, devices=[GPU])


@dataclass
class OperationsWorld:
    """Where everything answers, and a client of the platform's admin."""

    api: ApiProcess
    dashboard: RunningDashboard
    admin: Client
    secrets: dict[str, str]
    """Of keys in the platform project: admin, operator, viewer, and worker."""
    database_url: str
    source: Path
    """A checkpoint that an import may read."""

    def say_hello(self, hello: WorkerHello = HELLO) -> None:
        """Has a worker say that it is there."""
        answer = httpx.put(
            f"{self.api.url}/api/v1/execution/workers/{WORKER_ID}",
            content=hello.model_dump_json(),
            headers={"Authorization": f"Bearer {self.secrets['worker']}", "Content-Type": "application/json"},
            trust_env=False,
        )
        assert answer.is_success, answer.text

    def client(self, secret: str) -> Client:
        """Returns a client with another key; the caller closes it."""
        return Client(self.api.url, secret)


@contextmanager
def own_database(postgres: Postgres, template: str, name: str) -> Iterator[str]:
    """Yields the address of a migrated database that is dropped afterwards."""
    administer = f"host={postgres.socket_dir} user=quantry dbname=postgres"
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield postgres.database_url(name)
    finally:
        with psycopg.connect(administer, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def operations_world(
    database_url: str, redis_url: str, directory: Path, *, api_settings: dict[str, str], dashboard_settings: dict[str, str]
) -> Iterator[OperationsWorld]:
    """Starts an api and a dashboard and stops both. Settings are variables without their prefix, ``PUBLIC_URL`` and the like."""
    secrets = asyncio.run(_make_keys(database_url))
    source = write_checkpoint(directory / "roots" / "bard", master_contents())
    environment = {
        "QUANTRY_DATABASE_URL": database_url,
        "QUANTRY_BROKER_URL": redis_url,
        "QUANTRY_IMPORT_ROOTS": str(directory / "roots"),
        "QUANTRY_WEBHOOK_KEYS": Fernet.generate_key().decode(),
        "QUANTRY_WEBHOOK_INTERVAL_S": "0.1",
        **{f"QUANTRY_{name}": value for name, value in api_settings.items()},
    }
    served = {f"QUANTRY_{name}": value for name, value in dashboard_settings.items()}
    folder = directory / "dashboard"
    folder.mkdir()
    with running_api(environment, directory / "api.log") as api, running_dashboard(api.url, folder, **served) as dashboard:
        with Client(api.url, secrets["admin"]) as admin:
            yield OperationsWorld(api, dashboard, admin, secrets, database_url, source)
        api.stop()


def world_name() -> str:
    """Returns the name of a database that no other test process uses."""
    return f"operations_{os.getpid()}"


async def _make_keys(database_url: str) -> dict[str, str]:
    database = Database(database_url, pool_size=1)
    try:
        made = await bootstrap(database)
        secrets = {"admin": made["admin_key"], "worker": made["worker_token"]}
        async with database.begin() as uow:
            for role in (Role.OPERATOR, Role.VIEWER):
                _, secrets[role.value] = await uow.keys.create(made["project_id"], f"test-{role}", role)
        return secrets
    finally:
        await database.close()
