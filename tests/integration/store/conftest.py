"""Two projects in a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from factories.store import Platform, make_platform, opened


@pytest.fixture
async def platform(database_url: str) -> AsyncIterator[Platform]:
    """The project ``default``."""
    async with opened(database_url) as database:
        yield await make_platform(database_url, database, "default")


@pytest.fixture
async def stranger(platform: Platform) -> Platform:
    """Another project of the same database."""
    return await make_platform(platform.url, platform.database, "stranger")
