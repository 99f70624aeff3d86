"""What callers see while Postgres is away, and that all is well again afterwards."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import psycopg
import pytest

from quantry_api.jobs import stream
from quantry_core.keys import Role
from quantry_local.postgres import Postgres

from .conftest import Api, slug


class Door:
    """Shuts a database to everyone, and opens it again."""

    def __init__(self, postgres: Postgres, database_url: str) -> None:
        self._address = f"host={postgres.socket_dir} user=quantry dbname=postgres"
        self._name = urlsplit(database_url).path.removeprefix("/")

    def shut(self) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._name])

    def open(self) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")


async def test_a_lost_database_is_a_503_until_it_is_back(
    api: Api, postgres: Postgres, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "AWAY_INTERVAL_S", 0.2)
    job = await api.submit_import()
    watching = asyncio.create_task(api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/events"))
    await asyncio.sleep(stream.POLL_INTERVAL_S)
    door = Door(postgres, database_url)
    door.shut()
    for path in ("/healthz", "/api/v1/jobs", "/api/v1/whoami"):
        response = await api[Role.VIEWER].get(path)
        assert (path, response.status_code, slug(response)) == (path, 503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert not watching.done()
    door.open()
    assert (await api[Role.VIEWER].get("/healthz")).status_code == 200
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert '"status":"cancelled"' in (await asyncio.wait_for(watching, 5)).text.replace(" ", "")
