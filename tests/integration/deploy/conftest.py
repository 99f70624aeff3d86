"""A controller over a project of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factories.deploy import FAKE_ENGINE, Pool, make_controller
from factories.store import make_platform, opened
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Vault
from quantry_deploy.settings import DeploySettings


@pytest.fixture
def deploy_settings(tmp_path: Path) -> DeploySettings:
    return DeploySettings(
        deploy_port=1,
        deploy_dir=tmp_path / "deploy",
        engine_python=Path(sys.executable),
        engine_script=FAKE_ENGINE,
        state_dir=tmp_path,
    )


@pytest.fixture
async def pool(database_url: str, blob_settings: BlobSettings, deploy_settings: DeploySettings) -> AsyncIterator[Pool]:
    """A controller over an empty project; every engine it started is ended with the test."""
    async with opened(database_url) as database:
        platform = await make_platform(database_url, database, "default")
        objects = MinioStore(blob_settings)
        await asyncio.to_thread(objects.ensure_bucket, blob_settings.vault_bucket)
        vault = Vault(objects, blob_settings.vault_bucket)
        controller, driver = make_controller(deploy_settings, database, vault)
        pool = Pool(platform, database, objects, vault, deploy_settings, controller, driver)
        yield pool
        await pool.close()
        await asyncio.to_thread(objects.close)
