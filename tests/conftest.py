"""How the tests are shared between processes: those of one file stay together, and so do all that use the one platform."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"
WITH_STACKS_OF_THEIR_OWN = frozenset({"test_chaos_short.py", "test_killed_training.py", "test_lifecycle.py"})
"""Files among the end-to-end tests that do not use the one platform of a test session."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Shares out files, so that what a module or the session starts is started once.

    Not by pytest-xdist's groups: it keeps them in the names of tests, where pytest 9.2 does not look any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        is_shared = path.startswith(E2E) and path.removeprefix(E2E) not in WITH_STACKS_OF_THEIR_OWN
        return "platform" if is_shared else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Has pytest-xdist share the tests out so, whatever --dist says."""
    return ByFile(config, log)
