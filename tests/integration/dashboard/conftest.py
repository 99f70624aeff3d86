"""One dashboard process and one API of jobs for each module; each test begins with an empty API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factories.dashboard import RunningDashboard, running_dashboard
from factories.job_api import JobApi, serving

_served = JobApi()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDashboard]:
    """A running dashboard that asks the API of the test."""
    with serving(_served) as control_url, running_dashboard(control_url, tmp_path_factory.mktemp("dashboard")) as running:
        yield running


@pytest.fixture
def api(dashboard: RunningDashboard) -> JobApi:
    """What the dashboard sees; empty at first."""
    _served.forget()
    return _served
