"""Two different S3 servers, each started once: what the platform embeds, and one that was written by other people."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from factories.servers import free_port
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import MIN_PART_BYTES, BlobSettings
from quantry_local.s3 import S3

START_TIMEOUT_S = 30
KEY = "quantry-test-key"
SECRET = "quantry-test-secret"


@pytest.fixture(scope="session", params=["rclone", "moto"])
def s3_settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobSettings]:
    """Settings of a running server, once for each of the two. Small parts, so that a few MiB are a multipart transfer."""
    port = free_port()
    command, environment = SERVERS[request.param](port, tmp_path_factory.mktemp(request.param))
    with running(command, environment, port):
        yield settings_for(port)


@pytest.fixture
def store(s3_settings: BlobSettings) -> Iterator[MinioStore]:
    made = MinioStore(s3_settings)
    yield made
    made.close()


@pytest.fixture
def bucket(store: MinioStore) -> str:
    """A bucket of this test alone."""
    name = f"bucket-{secrets.token_hex(6)}"
    store.ensure_bucket(name)
    return name


def settings_for(port: int) -> BlobSettings:
    return BlobSettings(
        endpoint=f"127.0.0.1:{port}",
        access_key=KEY,
        secret_key=SecretStr(SECRET),
        part_bytes=MIN_PART_BYTES,
        connect_timeout_s=2,
        num_retries=1,
    )


def embedded(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Returns command and environment of the S3 server exactly as the platform starts it."""
    server = S3(folder, port, KEY, SECRET)
    return server.command(), server.environment()


def moto(port: int, _folder: Path) -> tuple[list[str], dict[str, str]]:
    return [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], {}


SERVERS: dict[str, Callable[[int, Path], tuple[list[str], dict[str, str]]]] = {"rclone": embedded, "moto": moto}


@contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the block ends; it answers on ``port`` when the block begins."""
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, f"{command[0]} did not answer in {START_TIMEOUT_S} s"
                time.sleep(0.05)
        yield process
