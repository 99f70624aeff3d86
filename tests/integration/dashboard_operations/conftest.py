"""One api, one dashboard and one provider for all modules here; what a test makes, others see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from factories.browser import Visit, chromium
from factories.oidc_provider import CLIENT_ID, CLIENT_SECRET, LocalProvider, serving_provider
from factories.operations_world import OperationsWorld, operations_world, own_database, world_name
from quantry_dashboard.settings import CALLBACK
from quantry_local.ports import free_ports
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis

GRANTS = [{"value": "ml-admins", "project": "default", "role": "admin"}, {"value": "ml", "project": "default", "role": "viewer"}]


@pytest.fixture(scope="session")
def provider() -> Iterator[LocalProvider]:
    """Where people sign in."""
    with serving_provider() as served:
        yield served


@pytest.fixture(scope="session")
def world(
    postgres: Postgres, template_database: str, redis_server: Redis, provider: LocalProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperationsWorld]:
    """Everything running."""
    (port,) = free_ports(1, besides=set())
    oidc = {"OIDC_ISSUER": provider.issuer, "OIDC_CLIENT_ID": CLIENT_ID}
    api = {**oidc, "OIDC_GRANTS": json.dumps(GRANTS), "OUTBOUND_PRIVATE": "127.0.0.1"}
    dashboard = {
        **oidc,
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_NAME": "Example ID",
        "OIDC_REDIRECT_URL": f"http://127.0.0.1:{port}{CALLBACK}",
        "DASHBOARD_PORT": str(port),
        "PUBLIC_URL": "https://quantry.example",
    }
    with own_database(postgres, template_database, world_name()) as url:
        directory = tmp_path_factory.mktemp("operations")
        with operations_world(url, redis_server.url, directory, api_settings=api, dashboard_settings=dashboard) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: as long as it is there, its event loop runs, and no test beside may begin one."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def people(browser: Browser, world: OperationsWorld) -> Iterator[dict[str, Visit]]:
    """People who stay signed in, by their role: to sign in takes longer than most of what they do."""
    signed_in = {role: Visit(browser, world.dashboard.url) for role in ("admin", "operator", "viewer")}
    for role, person in signed_in.items():
        person.sign_in(world.secrets[role], "/workers")
    yield signed_in
    for person in signed_in.values():
        person.close()


@pytest.fixture
def look(people: dict[str, Visit]) -> Iterator[Callable[..., Page]]:
    """Opens a page as somebody with a role. Whatever they do: nothing is loaded from elsewhere, and the console stays empty."""
    yield lambda role, path: people[role].go(path)
    for person in people.values():
        assert person.requests_elsewhere() == []
        assert person.complaints == []


@pytest.fixture
def visit(browser: Browser, world: OperationsWorld) -> Iterator[Callable[..., Visit]]:
    """Opens a browser of somebody who is not signed in."""
    people: list[Visit] = []

    def open_one(**options: object) -> Visit:
        people.append(Visit(browser, world.dashboard.url, **options))  # type: ignore[arg-type]
        return people[-1]

    yield open_one
    for person in people:
        person.close()
        assert person.complaints == []
