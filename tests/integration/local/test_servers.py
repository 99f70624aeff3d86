"""The three servers start, answer, and keep or lose what they should over an orderly end and a kill -9."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from factories.servers import free_port, running
from quantry_local.folders import Folders, choose_folders
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3


@pytest.fixture
def folders() -> Iterator[Folders]:
    with tempfile.TemporaryDirectory(prefix="quantry-tests-", dir="/tmp") as home:
        made = choose_folders(Path(home))
        made.make()
        yield made


def connect(server: Postgres) -> psycopg.Connection:
    return psycopg.connect(f"host={server.socket_dir} user=quantry dbname=quantry", autocommit=True)


def test_postgres_keeps_committed_rows_over_a_stop_and_a_kill(folders: Folders) -> None:
    server = Postgres.of(folders)
    log = folders.logs / "postgres.log"
    with running(server, log), connect(server) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    with running(server, log) as process, connect(server) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
        process.kill()
        process.wait()
    server.clear_stale_lock()
    with running(server, log), connect(server) as connection:
        assert connection.execute("SELECT sum(number) FROM kept").fetchall() == [(3,)]


def test_postgres_listens_on_a_private_socket_only(folders: Folders) -> None:
    server = Postgres.of(folders)
    with running(server, folders.logs / "postgres.log"), connect(server) as connection:
        assert connection.execute("SHOW listen_addresses").fetchall() == [("",)]
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700


def test_postgres_prepares_again_after_a_start_that_died_in_initdb(folders: Folders) -> None:
    server = Postgres.of(folders)
    (server.home / "data.new").mkdir(parents=True)
    (server.home / "data.new" / "half").write_text("written")
    with running(server, folders.logs / "postgres.log"):
        assert server.is_ready()
    assert not server.is_ready()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends Postgres an account, which then must reach the data")
def test_postgres_runs_for_root_below_a_folder_its_account_cannot_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    closed = choose_folders(tmp_path / "state")
    closed.make()
    try:
        server = Postgres.of(closed)
        with running(server, closed.logs / "postgres.log"), connect(server) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
        assert len(closed.outside) == 2
    finally:
        for path in closed.outside:
            shutil.rmtree(path)


def test_redis_wants_its_password(folders: Folders) -> None:
    server = Redis.of(folders, port=free_port(), password="right")
    with running(server, folders.logs / "redis.log"):
        assert not Redis(server.home, server.port, "wrong").is_ready()
        with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    assert stat.S_IMODE((server.home / "redis.conf").stat().st_mode) == 0o600


def test_s3_says_when_it_is_there(folders: Folders) -> None:
    server = S3.of(folders, port=free_port(), access_key="an-access-key", secret_key="a-secret-key")
    assert not server.is_ready()
    with running(server, folders.logs / "s3.log") as process:
        assert server.is_ready()
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "a-secret-key" not in command_line
