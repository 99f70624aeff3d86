"""The api and the registry as processes of their own, with something in them to ask for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from factories.servers import free_port
from quantry import Client
from quantry_api.bootstrap import bootstrap
from quantry_core.jobs import ImportSpec
from quantry_core.keys import Role
from quantry_store.database import Database

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
DOCUMENTS = {"api": "/api/v1/openapi.json", "registry": "/api/v1/registry/openapi.json"}
UNLIMITED = {"QUANTRY_HTTP_REQUESTS_PER_MINUTE": "10000000", "QUANTRY_HTTP_ENROLMENTS_PER_MINUTE": "1000000"}
"""So many requests are wanted here; that they are limited is shown elsewhere."""


@dataclass(frozen=True)
class Services:
    """Where they answer, and whose keys they know."""

    urls: Mapping[str, str]
    admin_key: str
    logs: Mapping[str, Path]

    def document(self, name: str) -> str:
        """Returns the address of a service's OpenAPI document."""
        return self.urls[name] + DOCUMENTS[name]


@contextmanager
def running_services(environment: Mapping[str, str], folder: Path) -> Iterator[Services]:
    """Starts both over the servers that ``environment`` names (database, broker, object store), and ends them."""
    admin_key = asyncio.run(_admin_key(environment["QUANTRY_DATABASE_URL"]))
    with ExitStack() as stack:
        urls, logs = {}, {}
        for name in DOCUMENTS:
            logs[name] = folder / f"{name}.log"
            urls[name] = stack.enter_context(_running(name, environment, logs[name]))
        _add_things(urls["api"], admin_key)
        yield Services(urls, admin_key, logs)


async def _admin_key(database_url: str) -> str:
    database = Database(database_url)
    try:
        return (await bootstrap(database))["admin_key"]
    finally:
        await database.close()


@contextmanager
def _running(name: str, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    port = free_port()
    variables = {**os.environ, **environment, **UNLIMITED, f"QUANTRY_{name.upper()}_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", f"quantry_{name}"], env=variables, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _is_well(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_well(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _add_things(url: str, admin_key: str) -> None:
    """Adds a job and a key, so that lists are not empty. The job is over: the stream of its events ends, and nobody waits for more."""
    with Client(url, admin_key) as client:
        client.jobs.cancel(client.jobs.submit(ImportSpec(model="bard", source="hf:owner/name")).id)
        client.keys.create("of-the-fuzz", Role.VIEWER)
