"""One database, one api and one registry for all tests of access, called in process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

from factories.access_world import World, make_keys
from factories.store import make_platform
from quantry_api.app import build_app
from quantry_api.bootstrap import bootstrap
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.settings import StoreSettings

NEVER_S = 3600.0
PLENTY_PER_MINUTE = "1000000"
"""The wrong keys of the matrix all come from one address."""


@pytest.fixture(autouse=True)
def kept_logs() -> Iterator[list[EventDict]]:
    """Log lines as dictionaries: there are thousands of requests, and to render a traceback for a terminal takes seconds."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(scope="module")
def module_database_url(postgres: Postgres, template_database: str, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"access_{os.getpid()}_{request.module.__name__.rpartition('.')[2].removeprefix('test_')}"
    administer = f"host={postgres.socket_dir} user=quantry dbname=postgres"
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield postgres.database_url(name)
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    module_database_url: str, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """The services with their keys; nothing is in the owner's project yet."""
    root = tmp_path_factory.mktemp("roots")
    keys = SecretStr(Fernet.generate_key().decode())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("QUANTRY_HTTP_FAILED_KEYS_PER_MINUTE", PLENTY_PER_MINUTE)
        environment.setenv("QUANTRY_HTTP_ENROLMENTS_PER_MINUTE", PLENTY_PER_MINUTE)
        settings = ApiSettings(
            broker_url=SecretStr(redis_server.url),
            import_roots=[root],
            sweep_interval_s=NEVER_S,
            schedule_interval_s=NEVER_S,
            capture_keys=keys,
            webhook_keys=keys,
        )
        api = build_app(settings, StoreSettings(database_url=module_database_url))
        database: Database = api.state.database
        blobs = _buckets(s3_server)
        store = MinioStore(blobs)
        registry_settings = RegistrySettings(registry_port=1, capture_keys=keys, collect_min_age_s=0)
        parts = make_parts(registry_settings, blobs, store)
        registry = make_app(database, parts, built_ins=())
    await parts.ensure_buckets()
    async with api.router.lifespan_context(api):
        platform_id = (await bootstrap(database))["project_id"]
        owner = await make_platform(module_database_url, database, "zebra-owner")
        stranger = await make_platform(module_database_url, database, "stranger")
        made = World(api, registry, database, parts, owner, stranger, platform_id, root)
        await make_keys(made)
        yield made
    store.close()


def _buckets(s3: S3) -> BlobSettings:
    return BlobSettings(
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=SecretStr(s3.secret_key),
        vault_bucket=f"access-{os.getpid()}-vault",
        staging_bucket=f"access-{os.getpid()}-staging",
    )
