"""How the tests are shared between processes: those of one file stay together, and so do all that use the one platform."""

from __future__ import annotations

from pathlib import Path

import pytest

E2E = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every test the group that it is run in, so that what a module or the session starts is started once."""
    for item in items:
        has_platform = item.path.parent == E2E and "platform" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("platform" if has_platform else str(item.path)))
