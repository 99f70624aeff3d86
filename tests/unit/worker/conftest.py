"""The worker's log lines go nowhere in these tests: threads that a test leaves behind would print them into other tests' output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from factories.supervised import World


@pytest.fixture(scope="module", autouse=True)
def _quiet_log() -> Iterator[None]:
    # With no processors, whatever a test before has had lines made of.
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A supervisor of its own for each test."""
    return World(tmp_path)
