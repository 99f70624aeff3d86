"""The page of deployments in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from factories.browser import PHONE, Visit
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, PROJECT, JobApi
from quantry_core.jobs import EngineConfig
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.rollouts import AttachedAdapter, Deployment, Release, Replica, ReplicaState

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def a_release(**changes: Any) -> Release:
    fields: dict[str, Any] = {
        "id": "rel_1",
        "deployment_id": "dep_1",
        "number": 1,
        "version_id": "ver_1",
        "version_ref": "bard-6m@2",
        "num_replicas": 1,
        "engine": EngineConfig(max_adapters=2),
        "created_at": NOW,
    }
    return Release.model_validate(fields | changes)


def a_deployment(name: str = "bard", **changes: Any) -> Deployment:
    fields: dict[str, Any] = {
        "id": f"dep_{name}",
        "project_id": PROJECT,
        "name": name,
        "current_release": a_release(),
        "active_rollout": None,
        "replicas": [Replica(id="rep_1", release_id="rel_1", ordinal=0, state=ReplicaState.READY, updated_at=NOW)],
        "is_stopped": False,
        "created_at": NOW,
    }
    return Deployment.model_validate(fields | changes)


def an_adapter(name: str, **changes: Any) -> AttachedAdapter:
    fields: dict[str, Any] = {
        "id": f"ada_{name}",
        "project_id": PROJECT,
        "deployment_id": "dep_bard",
        "name": name,
        "version_id": "ver_2",
        "version_ref": "bard-6m-sea@1",
        "created_at": NOW,
    }
    return AttachedAdapter.model_validate(fields | changes)


def test_adapters_show_up_while_one_looks(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    expect(page.get_by_text("Nothing is deployed")).to_be_visible()
    assert page.title() == "Deployments – Quantry"
    expect(page.get_by_role("link", name="Deployments")).to_have_attribute("aria-current", "page")
    with api.lock:
        api.deployments.append(a_deployment())
    panel = page.get_by_role("region", name="bard")
    expect(panel.get_by_text("serves", exact=True)).to_be_visible()
    expect(panel).to_contain_text("bard-6m@2")
    expect(panel).to_contain_text("0 of 2, of rank 16 at most")
    expect(panel.get_by_role("table", name="Adapters")).to_have_count(0)
    loaded = Replica(id="rep_1", release_id="rel_1", ordinal=0, state=ReplicaState.READY, adapter_ids=["ada_pirate"], updated_at=NOW)
    with api.lock:
        api.deployments[0] = a_deployment(adapters=[an_adapter("pirate"), an_adapter("odd", message=HOSTILE)], replicas=[loaded])
    rows = panel.get_by_role("table", name="Adapters").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("1 of 1")
    expect(rows.nth(1)).to_contain_text(HOSTILE)
    expect(panel.get_by_role("table", name="Replicas").locator("tbody tr")).to_contain_text("pirate")
    assert page.locator("#content img, #content b").count() == 0
    with api.lock:
        api.deployments.clear()
    expect(panel).to_have_count(0)


def test_pages_go_on(visit: Visit, api: JobApi) -> None:
    api.deployments.extend(a_deployment(f"bard-{number}") for number in range(DEFAULT_LIMIT + 1))
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    expect(page.locator("section.panel")).to_have_count(DEFAULT_LIMIT)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("section.panel")).to_have_count(1)
    expect(page.get_by_role("region", name=f"bard-{DEFAULT_LIMIT}")).to_be_visible()
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("section.panel")).to_have_count(DEFAULT_LIMIT)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything(browser: Browser, dashboard: RunningDashboard, api: JobApi, scheme: Any) -> None:
    name = "a-name-that-is-as-long-as-a-name-of-a-deployment-may-be-in-this"
    api.deployments.append(a_deployment(name, adapters=[an_adapter("pirate", message="m" * 300)]))
    person = Visit(browser, dashboard.url, size=PHONE, color_scheme=scheme)
    page = person.sign_in(OPERATOR_KEY, "/deployments")
    expect(page.get_by_role("table", name="Adapters")).to_contain_text("mmm")
    assert person.overflow_px() == 0
    person.close()
    assert person.requests_elsewhere() + person.complaints == []
