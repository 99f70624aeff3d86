"""The real Postgres, Redis and S3 of the embedded stack: one of each for the whole run, a fresh database and buckets per test."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
import redis
from pydantic import SecretStr

from factories.directories import short_directory
from factories.servers import free_port, running
from quantry_blobs.settings import BlobSettings
from quantry_local.folders import Folders, choose_folders
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3

TEMPLATE = "quantry"
"""The migrated database that every test's own is cloned from. Nothing connects to it after the migration."""

UNSAFE_BUT_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    # Its files lie in memory.
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
}

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_folders() -> Iterator[Folders]:
    """A state directory with a short path: pytest's own is closed to the account that runs Postgres for root."""
    folders = choose_folders(short_directory("quantry-tests-"))
    folders.make()
    yield folders
    for path in (folders.state_dir, *folders.outside):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_folders: Folders) -> Iterator[Postgres]:
    """A running Postgres."""
    server = Postgres(server_folders.postgres_home, server_folders.sockets / "postgres", server_folders.account, settings=UNSAFE_BUT_QUICK)
    with running(server, server_folders.logs / "postgres.log"):
        yield server


@pytest.fixture(scope="session")
def redis_server(server_folders: Folders) -> Iterator[Redis]:
    """A running Redis."""
    server = Redis.of(server_folders, port=free_port(), password="redis-password-of-the-tests")
    with running(server, server_folders.logs / "redis.log"):
        yield server


@pytest.fixture(scope="session")
def s3_server(server_folders: Folders) -> Iterator[S3]:
    """A running S3 server."""
    server = S3.of(server_folders, port=free_port(), access_key="test-access-key", secret_key="test-secret-key")
    with running(server, server_folders.logs / "s3.log"):
        yield server


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """Name of a database at the newest migration."""
    environment = {**os.environ, "QUANTRY_DATABASE_URL": postgres.database_url(TEMPLATE)}
    migrated = subprocess.run(
        [sys.executable, "-m", "quantry_store.migrate"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert migrated.returncode == 0, f"the migration failed:\n{migrated.stdout}\n{migrated.stderr}"
    return TEMPLATE


@pytest.fixture
def database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Address of a migrated database that is this test's alone."""
    # Copying files costs half of what writing every page to the log does.
    yield from _own_database(postgres, f"TEMPLATE {template_database} STRATEGY FILE_COPY")


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """Address of a database without any table, this test's alone: for tests of the migrations."""
    yield from _own_database(postgres, "TEMPLATE template0")


@pytest.fixture
def blob_settings(s3_server: S3) -> BlobSettings:
    """Settings of the S3 server with two buckets that are this test's alone; the test makes them with ensure_bucket."""
    number = next(_numbers)
    return BlobSettings(
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=SecretStr(s3_server.secret_key),
        vault_bucket=f"test-{os.getpid()}-{number}-vault",
        staging_bucket=f"test-{os.getpid()}-{number}-staging",
    )


@pytest.fixture
def redis_url(redis_server: Redis) -> Iterator[str]:
    """Address of the Redis, emptied before and after the test."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        yield redis_server.url
        client.flushall()


def _own_database(postgres: Postgres, source: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    administer = f"host={postgres.socket_dir} user=quantry dbname=postgres"
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {source}")
    yield postgres.database_url(name)
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
