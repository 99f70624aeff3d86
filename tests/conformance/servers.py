"""The two S3 servers of the conformance suite: what the platform embeds, and one that was written by other people."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr

from quantry_blobs.settings import MIN_PART_BYTES, BlobSettings
from quantry_local.s3 import S3

START_TIMEOUT_S = 30
KEY = "quantry-test-key"
SECRET = "quantry-test-secret"


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
