"""The pages in a real browser, on an API that says what the test wants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, expect

from factories.browser import PHONE, Visit, chromium
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi, a_job, a_spec
from quantry_core.errors import Forbidden, Unavailable
from quantry_core.jobs import (
    CurvePoint,
    Estimate,
    EstimateFigures,
    EventKind,
    FinetuneSpec,
    JobCheckpoint,
    JobReason,
    JobResult,
    JobStatus,
    JobType,
    Progress,
    WaitingOn,
)

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>{{ 7*7 }}`${7*7}`"

WAIT_S = 15.0
QUIET_MS = 4000
"""Longer than any page waits between two questions, and than a closed page is waited for."""
NUM_TABS = 4
HIDE = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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


def test_the_list_shows_jobs_as_they_come_and_go_on(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY)
    expect(page.get_by_text("There are no jobs yet")).to_be_visible()
    expect(page.get_by_text("quantry jobs submit import")).to_be_visible()
    job = api.add(a_job(JobStatus.QUEUED, priority=2))
    row = page.get_by_role("row").filter(has_text=job.id[-8:])
    expect(row).to_contain_text("queued")
    link = row.get_by_role("link")
    link.focus()
    api.change(job, status=JobStatus.RUNNING, started_at=datetime.now(UTC), progress=Progress(phase="load", fraction=0.25, remaining_s=90))
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(row).to_contain_text("load · 1 min 30 s left")
    newer = api.add(a_job(JobStatus.WAITING, waiting_on=WaitingOn.NEEDS))
    expect(page.locator("tbody tr").first).to_contain_text(newer.id[-8:])
    expect(link).to_be_focused()
    api.change(job, status=JobStatus.FAILED, reason=JobReason.TIMED_OUT, progress=None, finished_at=datetime.now(UTC))
    expect(row).to_contain_text("failed")
    expect(row).to_contain_text("timed out")
    link.press("Enter")
    page.wait_for_url(f"**/jobs/{job.id}")


def test_filters_live_in_the_address(visit: Visit, api: JobApi) -> None:
    api.add(a_job(JobStatus.FAILED, labels={"team": "search"}))
    api.add(a_job(JobStatus.SUCCEEDED, queue="gpu"))
    page = visit.sign_in(OPERATOR_KEY)
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Labels").fill("team=search")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs?labels=team%3Dsearch")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Status").select_option("succeeded")
    page.wait_for_url("**/jobs?status=succeeded&labels=team%3Dsearch")
    expect(page.get_by_text("No job is like that")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.go_back()
    expect(page.get_by_label("Labels")).to_have_value("team=search")


def test_pages_go_back_in_time_and_to_the_newest(visit: Visit, api: JobApi) -> None:
    # Two ids of one millisecond may stand in either order.
    jobs = sorted((api.add(a_job(JobStatus.SUCCEEDED)) for _ in range(5)), key=lambda job: job.id)
    page = visit.sign_in(OPERATOR_KEY, "/jobs?limit=2")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr").first).to_contain_text(jobs[2].id[-8:])
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name="Older")).to_be_hidden()
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr").first).to_contain_text(jobs[4].id[-8:])


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


def test_a_training_jobs_curve_and_checkpoints_grow(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.RUNNING, spec=FinetuneSpec(model="bard-6m", training_file="jargon.train")))
    now = datetime.now(UTC)
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("region", name="Job")).to_be_visible()
    expect(page.get_by_role("region", name="Curve")).to_be_hidden()
    expect(page.get_by_role("region", name="Checkpoints")).to_be_hidden()

    def measure(steps: range) -> None:
        with api.lock:
            api.points[job.id] = [
                CurvePoint(step=step, attempt=1, values={"loss": 3.0 + 1.0 / step, "learning_rate": 2e-4}, created_at=now) for step in steps
            ]

    measure(range(1, 31))
    curve = page.get_by_role("region", name="Curve")
    expect(curve).to_contain_text("step 30 · loss 3.03")
    expect(curve.locator("svg text", has_text="learning rate")).to_be_visible()
    first = curve.locator("svg path").evaluate_all("paths => paths.map(path => path.getAttribute('d')).join()")
    measure(range(1, 61))
    expect(curve).to_contain_text("step 60 · loss 3.017")
    page.wait_for_function(
        "first => [...document.querySelectorAll('.chart svg path')].map(path => path.getAttribute('d')).join() !== first", arg=first
    )
    checkpoint = JobCheckpoint(
        job_id=job.id, step=50, attempt=1, size_bytes=2_500_000, metrics={"loss": 3.02}, has_files=True, created_at=now
    )
    with api.lock:
        api.checkpoints[job.id] = [checkpoint, checkpoint.model_copy(update={"step": 25, "attempt": 0, "has_files": False})]
    rows = page.get_by_role("region", name="Checkpoints").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("kept")
    expect(rows.nth(1)).to_contain_text("an earlier job's")
    assert visit.overflow_px() == 0


def test_other_jobs_are_asked_for_no_curve(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.RUNNING))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("region", name="Job")).to_be_visible()
    page.wait_for_timeout(2500)
    assert not [asked for asked in api.requests if asked.endswith(("/curve", "/checkpoints"))]


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


def test_a_job_is_followed_live(visit: Visit, api: JobApi) -> None:
    estimate = Estimate(key="quantize/gptq/cpu", uncorrected=EstimateFigures(), minutes=2)
    job = api.add(a_job(estimate=estimate, needs=["job_0197f0a0000070008000000000000009"]))
    api.tell(job, EventKind.STATE, status="running")
    api.logs[job.id] = [f"line {number}" for number in range(1000)]
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Quantize bard-6m · gptq W4A16")
    expect(page.get_by_role("log")).to_contain_text("line 999")
    expect(page.get_by_role("log")).not_to_contain_text("line 599")
    expect(page.get_by_text("the last 400 lines")).to_be_visible()
    api.logs[job.id].append("one more line")
    api.tell(job, EventKind.NOTE, text="Two threads.")
    api.change(job, progress=Progress(phase="quantize", fraction=0.5, done=6, total=12, unit="layers", rate_per_s=0.5, remaining_s=12))
    expect(page.get_by_role("log")).to_contain_text("one more line")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    expect(page.get_by_text("quantize · 6 of 12 layers · 0.5 layers/s · 12 s left")).to_be_visible()
    expect(page.get_by_role("region", name="Events").get_by_role("listitem").first).to_contain_text("Two threads.")
    result = JobResult(version_id="ver_1", seconds=150, estimate_errors={"minutes": 1.25}, metrics={"perplexity": {"kjv": 12.5}})
    api.tell(job, EventKind.STATE, status="succeeded", reason="completed")
    api.change(job, status=JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, result=result, finished_at=datetime.now(UTC))
    expect(page.get_by_role("region", name="Result")).to_contain_text("ver_1")
    expect(page.get_by_role("region", name="Estimate").get_by_role("row").last).to_have_text("wall clock2 min2 min 30 s1.25×")
    expect(page.get_by_role("region", name="Events").get_by_role("listitem")).to_have_count(3)
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Full log").click()
    expect(popup.value.locator("body")).to_contain_text("line 0\n")


def test_cancelling_asks_first(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("dialog", name="Cancel this job?")).to_be_visible()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert not api.jobs[job.id].cancel_requested
    page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Cancel", exact=True).press("Enter")
    page.get_by_role("button", name="Cancel the job").press("Enter")
    expect(page.get_by_text("asked to stop")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    assert api.jobs[job.id].cancel_requested


def test_retrying_leads_to_the_new_job(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.FAILED, message="17 GB"))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_text("17 GB")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: "/jobs/job_" in url and job.id not in url)
    expect(page.get_by_role("link", name=job.id)).to_be_visible()


def test_a_second_click_makes_no_second_job(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.FAILED))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    page.get_by_role("button", name="Retry").dblclick()
    # Each click leads there: the second breaks off the first one's way, so where the page is counts, not how it got there.
    expect(page).to_have_url(re.compile(rf"/jobs/(?!{job.id})job_"))
    with api.lock:
        assert api.lock.wait_for(lambda: sum(line.endswith("/retry") for line in api.requests) == 2, WAIT_S)
    assert len(api.jobs) == 2


def test_a_refused_action_is_explained_until_something_is_done(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    # Somebody made it a viewer's key after the sign-in.
    api.roles[OPERATOR_KEY] = api.roles[VIEWER_KEY]
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text(f"Your key may not do that: {Forbidden('this needs the role operator').detail}")).to_be_visible()
    num_asked = len(api.requests)
    page.wait_for_timeout(2500)
    assert len(api.requests) > num_asked
    expect(page.get_by_text("Your key may not do that")).to_be_visible()


def test_a_viewer_sees_buttons_that_say_why_they_do_nothing(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(VIEWER_KEY, f"/jobs/{job.id}")
    button = page.get_by_role("button", name="Cancel", exact=True)
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text("Your key is a viewer's: it may look")).to_be_visible()
    button.click(force=True)
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not api.jobs[job.id].cancel_requested


def test_a_job_that_is_not_there_is_said_to_be_missing(visit: Visit) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/jobs/job_0197f0a0000070008000000000000009")
    expect(page.get_by_role("alert").first).to_contain_text("There is no job 'job_0197")
    visit.go("/jobs/no%20id")
    expect(page.get_by_role("alert").first).to_contain_text("An id or name is made of letters")


def test_what_people_wrote_is_never_markup(visit: Visit, api: JobApi) -> None:
    job = api.add(
        a_job(
            JobStatus.FAILED,
            spec=a_spec(HOSTILE),
            message=HOSTILE,
            metadata={"note": HOSTILE},
            result=JobResult(metrics={HOSTILE: HOSTILE}),
        )
    )
    api.logs[job.id] = [HOSTILE]
    api.tell(job, EventKind.NOTE, text=HOSTILE)
    page = visit.sign_in(OPERATOR_KEY)
    expect(page.locator("td.about")).to_contain_text(HOSTILE)
    visit.go(f"/jobs/{job.id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
    expect(page.locator(".explanation")).to_have_text(HOSTILE)
    expect(page.get_by_role("log")).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="Events")).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="Result")).to_contain_text(HOSTILE)
    assert page.locator("#content img, #content b").count() == 0
    assert page.title().startswith("Job ")


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
    page.wait_for_timeout(QUIET_MS)
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
    page.wait_for_timeout(QUIET_MS)
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
    for _ in range(11):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "(e => e.getAttribute('aria-label') || e.labels?.[0]?.firstChild.textContent || e.textContent)(document.activeElement)"
            )
        )
    assert names[:3] == ["Skip to content", "Quantry", "Jobs"]
    assert {"Switch between light and dark", "Sign out", "Status", "Type", "Labels", "Queue"} <= set(names)
    assert any(name.startswith("Job job_") for name in names)
    assert page.locator("main header").count() == 0
