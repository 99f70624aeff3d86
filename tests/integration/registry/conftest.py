"""The registry over real Postgres and S3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

from factories.registry import Registry, served
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.keys import Identity, Role, hash_key
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database

MAX_DATASET_BYTES = 20 * 1024**2
MAX_UPLOAD_FILE_BYTES = 4 * 1024**2
CAPTURE_KEY, NEW_KEY = (Fernet.generate_key().decode() for _ in range(2))
"""The registry has both: the key was changed since prompts were captured."""


@pytest.fixture(autouse=True)
def kept_logs() -> Iterator[list[EventDict]]:
    """Log lines as dictionaries: rendering a traceback for a terminal takes seconds."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def registry(database_url: str, blob_settings: BlobSettings) -> AsyncIterator[Registry]:
    """A registry of this test's own."""
    settings = RegistrySettings(
        registry_port=1,
        max_dataset_bytes=MAX_DATASET_BYTES,
        max_upload_file_bytes=MAX_UPLOAD_FILE_BYTES,
        registry_sweep_interval_s=3600,
        vault_poll_s=3600,
        collect_min_age_s=0,
        capture_keys=SecretStr(f"{NEW_KEY},{CAPTURE_KEY}"),
    )
    database = Database(database_url)
    store = MinioStore(blob_settings)
    parts = make_parts(settings, blob_settings, store)
    identities: dict[Role, Identity] = {}
    secrets: dict[Role, str] = {}
    async with database.begin() as uow:
        project_id = await uow.projects.get_or_create("default")
        await uow.projects.make_platform(project_id)
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.WORKER):
            _, secrets[role] = await uow.keys.create(project_id, role, role)
            known = await uow.keys.identify(hash_key(secrets[role]))
            assert known is not None
            identities[role] = known.identity
    async with served(make_app(database, parts, built_ins=())) as url:
        yield Registry(url, database, parts, identities, secrets)
    store.close()
