"""Two different S3 servers, each started once: what the platform embeds, and one that was written by other people."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from conformance.servers import SERVERS, running, settings_for
from factories.servers import free_port
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings


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
