"""Postgres, Redis and S3 of the embedded stack for the time of a run."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import psycopg

from factories.directories import short_directory
from factories.servers import free_port, running
from quantry_local.folders import choose_folders
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3

ACCESS_KEY, SECRET_KEY = "fuzz-access-key", "fuzz-secret-key"


@contextmanager
def running_servers() -> Iterator[Callable[[], AbstractContextManager[Mapping[str, str]]]]:
    """Starts the three, and gives what makes the settings of services over a fresh, migrated database."""
    folders = choose_folders(short_directory("quantry-fuzz-"))
    folders.make()
    postgres = Postgres.of(folders)
    redis = Redis.of(folders, port=free_port(), password="redis-password-of-the-fuzz")
    s3 = S3.of(folders, port=free_port(), access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    numbers = itertools.count(1)

    @contextmanager
    def fresh() -> Iterator[Mapping[str, str]]:
        name = f"fuzz_{next(numbers)}"
        with psycopg.connect(f"host={postgres.socket_dir} user=quantry dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        variables = {
            "QUANTRY_DATABASE_URL": postgres.database_url(name),
            "QUANTRY_BROKER_URL": redis.url,
            "QUANTRY_S3_ENDPOINT": s3.endpoint,
            "QUANTRY_S3_SECURE": "false",
            "QUANTRY_S3_ACCESS_KEY": ACCESS_KEY,
            "QUANTRY_S3_SECRET_KEY": SECRET_KEY,
        }
        subprocess.run([sys.executable, "-m", "quantry_store.migrate"], env={**os.environ, **variables}, check=True, capture_output=True)
        yield variables

    try:
        with (
            running(postgres, folders.logs / "postgres.log"),
            running(redis, folders.logs / "redis.log"),
            running(s3, folders.logs / "s3.log"),
        ):
            yield fresh
    finally:
        for path in (folders.state_dir, *folders.outside):
            shutil.rmtree(path, ignore_errors=True)
