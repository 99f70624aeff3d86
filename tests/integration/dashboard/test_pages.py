"""What all pages have in common, in a real browser, on an API that says what the test wants."""

from __future__ import annotations

from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, expect

from factories.browser import PHONE, Visit
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi, a_job, a_spec
from quantry_core.errors import Unavailable
from quantry_core.jobs import (
    EventKind,
    JobStatus,
    JobType,
)

WAIT_S = 15.0
QUIET_MS = 2500
"""Longer than these pages wait between two questions."""
CLOSED_MS = 3500
"""Longer than a closed page is waited for."""
NUM_TABS = 4
HIDE = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"


def test_a_deep_link_leads_through_the_sign_in_to_the_page(visit: Visit, api: JobApi) -> None:
    api.add(a_job(JobStatus.FAILED))
    api.add(a_job(JobStatus.SUCCEEDED))
    page = visit.sign_in(OPERATOR_KEY, "/jobs?status=failed")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Status")).to_have_value("failed")
    assert page.url.endswith("/jobs?status=failed")
    assert page.title() == "Jobs – Quantry"


def test_a_wrong_key_gets_a_sentence(visit: Visit) -> None:
    page = visit.go("/sign-in")
    page.get_by_label("API key").fill("qtr_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("mistyped, or it was revoked")
    assert "qtr_wrong" not in page.url + page.content()


def test_what_the_api_refuses_is_said_and_the_page_stays(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY, "/jobs?labels=%3D%3D&status=sleeping")
    expect(page.get_by_text("There is no status 'sleeping'")).to_be_visible()
    expect(page.get_by_text("is no label condition")).to_be_visible()
    visit.go("/jobs")
    expect(page.locator("tbody tr")).to_have_count(1)
    api.refusal = Unavailable("the database is away")
    expect(page.get_by_text("The API could not answer: the database is away")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)
    api.refusal = None
    expect(page.get_by_text("The API could not answer")).to_be_hidden()


def test_a_revoked_key_leads_back_to_the_sign_in(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    expect(page.locator("tbody tr")).to_have_count(1)
    del api.roles[OPERATOR_KEY]
    expect(page.get_by_role("alert")).to_contain_text("your key was revoked")
    expect(page.get_by_label("API key")).to_be_visible()
    api.roles[OPERATOR_KEY] = api.roles[VIEWER_KEY]
    visit.sign_in(OPERATOR_KEY)


def test_signing_out_ends_the_other_tabs_too(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    other = visit.open_tab()
    other.goto(visit.url + "/jobs")
    expect(other.locator("tbody tr")).to_have_count(1)
    page.bring_to_front()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    other.bring_to_front()
    expect(other.get_by_label("API key")).to_be_visible()


def test_a_closed_page_stops_reading(visit: Visit, api: JobApi, dashboard: RunningDashboard) -> None:
    job = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    process = psutil.Process(dashboard.pid)
    num_threads = []
    # The first round makes the threads that asyncio keeps for questions; the second must leave none of its own.
    for _ in range(2):
        tabs = [visit.open_tab() for _ in range(NUM_TABS)]
        for tab in tabs:
            tab.goto(f"{visit.url}/jobs/{job.id}")
            expect(tab.get_by_role("heading", level=1)).to_be_visible()
        with api.lock:
            assert api.lock.wait_for(lambda: api.num_streams == NUM_TABS, WAIT_S)
        for tab in tabs:
            tab.close()
        with api.lock:
            assert api.lock.wait_for(lambda: api.num_streams == 0, WAIT_S)
        num_threads.append(process.num_threads())
    assert num_threads[1] < num_threads[0] + NUM_TABS - 1
    page.goto("about:blank")
    page.wait_for_timeout(CLOSED_MS)
    num_asked = len(api.requests)
    page.wait_for_timeout(QUIET_MS)
    assert len(api.requests) == num_asked


def test_a_hidden_tab_asks_for_nothing(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    with api.lock:
        assert api.lock.wait_for(lambda: api.num_streams == 1, WAIT_S)
    page.evaluate(HIDE % "true")
    with api.lock:
        assert api.lock.wait_for(lambda: api.num_streams == 0, WAIT_S)
    page.wait_for_timeout(QUIET_MS / 2)
    num_asked = len(api.requests)
    page.wait_for_timeout(QUIET_MS)
    assert len(api.requests) == num_asked
    api.tell(job, EventKind.NOTE, text="While nobody looked.")
    page.evaluate(HIDE % "false")
    expect(page.get_by_role("region", name="Events")).to_contain_text("While nobody looked.")


def test_a_tab_that_is_hidden_while_it_asks_stops_reading_all_the_same(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    with api.lock:
        assert api.lock.wait_for(lambda: api.num_streams == 1, WAIT_S)
    with api.lock:
        # No answer is given while the lock is held, so that a question is under way when the tab is hidden.
        page.wait_for_timeout(QUIET_MS / 2)
        page.evaluate(HIDE % "true")
        page.wait_for_timeout(QUIET_MS / 4)
    page.wait_for_timeout(QUIET_MS)
    assert api.num_streams == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_and_a_phone_show_everything(browser: Browser, dashboard: RunningDashboard, api: JobApi, scheme: Any) -> None:
    for status in JobStatus:
        api.add(
            a_job(
                status,
                spec=a_spec("a-name-that-is-as-long-as-a-model-name-may-be-and-does-not-fit-in-a-column-of-a-table"),
                type=JobType.QUANTIZE,
            )
        )
    job = a_job(message="x" * 300, labels={f"key-{number}": "v" * 60 for number in range(8)})
    api.add(job)
    api.logs[job.id] = ["y" * 2000]
    for size in (PHONE, (1440, 900)):
        person = Visit(browser, dashboard.url, size=size, color_scheme=scheme)
        page = person.sign_in(OPERATOR_KEY)
        expect(page.locator("tbody tr")).to_have_count(len(JobStatus) + 1)
        assert person.overflow_px() == 0
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(246, 247, 249)", "dark": "rgb(17, 20, 24)"}[scheme]
        page.get_by_role("button", name="Switch between light and dark").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
        person.go(f"/jobs/{job.id}")
        expect(page.get_by_role("log")).to_contain_text("yyy")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
        assert person.overflow_px() == 0
        person.close()
        assert person.requests_elsewhere() + person.complaints == []


def test_the_keyboard_reaches_everything_and_everything_has_a_name(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.evaluate("document.activeElement.blur()")
    names = []
    for _ in range(20):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "(e => e.getAttribute('aria-label') || e.labels?.[0]?.firstChild.textContent || e.textContent)(document.activeElement)"
            )
        )
    places = ["Overview", "Jobs", "Pipelines", "Models", "Datasets", "Deployments", "Schedules", "Workers"]
    assert names[:10] == ["Skip to content", "Quantry", *places]
    assert {"Switch between light and dark", "Sign out", "Status", "Type", "Labels", "Queue"} <= set(names)
    assert any(name.startswith("Job job_") for name in names)
    assert any(name.startswith("Mark job job_") for name in names)
    assert page.locator("main header").count() == 0
