"""One dashboard process and one API of jobs for all modules here; each test begins with an empty API and its own window."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from factories.browser import Visit, chromium
from factories.dashboard import RunningDashboard, running_dashboard
from factories.job_api import JobApi, serving

_served = JobApi()


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDashboard]:
    """A running dashboard that asks the API of the test."""
    with serving(_served) as control_url, running_dashboard(control_url, tmp_path_factory.mktemp("dashboard")) as running:
        yield running


@pytest.fixture
def api(dashboard: RunningDashboard) -> JobApi:
    """What the dashboard sees; empty at first."""
    _served.forget()
    return _served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: as long as it is there, its event loop runs, and no test beside may begin one."""
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, dashboard: RunningDashboard, api: JobApi) -> Iterator[Visit]:
    """A person's browser. Whatever they do: nothing is loaded from elsewhere, and the console stays empty."""
    person = Visit(browser, dashboard.url)
    yield person
    person.close()
    assert person.requests_elsewhere() == []
    assert person.complaints == []
