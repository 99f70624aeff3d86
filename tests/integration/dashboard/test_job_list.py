"""The list of jobs in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime

from playwright.sync_api import expect

from factories.browser import Visit
from factories.job_api import OPERATOR_KEY, JobApi, a_job
from quantry_core.jobs import (
    JobReason,
    JobStatus,
    Progress,
    WaitingOn,
)


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


def test_several_jobs_are_cancelled_and_retried_at_once(visit: Visit, api: JobApi) -> None:
    running = [api.add(a_job()) for _ in range(2)]
    failed = api.add(a_job(JobStatus.FAILED))
    gone = api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    marked = page.get_by_role("group", name="Marked jobs")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(marked).to_be_hidden()
    for job in (*running, failed, gone):
        page.get_by_label(f"Mark job {job.id[:4]}…{job.id[-8:]}").check()
    expect(marked).to_contain_text("4 marked")
    marked.get_by_role("button", name="Cancel 3").click()
    with api.lock:
        del api.jobs[gone.id]
    page.get_by_role("button", name="Cancel them").click()
    expect(page.get_by_text("1 of 3 were not cancelled.")).to_be_visible()
    assert all(api.jobs[job.id].cancel_requested for job in running)
    expect(marked).to_be_hidden()
    page.get_by_label(f"Mark job {failed.id[:4]}…{failed.id[-8:]}").check()
    marked.get_by_role("button", name="Retry 1").click()
    page.get_by_role("button", name="Retry them").click()
    expect(page.get_by_text("were not cancelled")).to_be_hidden()
    assert [job.retry_of for job in api.jobs.values() if job.retry_of] == [failed.id]


def test_what_is_typed_into_a_filter_stays_while_the_list_goes_on(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    page = visit.sign_in(OPERATOR_KEY)
    page.get_by_label("Labels").press_sequentially("team=sea")
    job = api.add(a_job())
    expect(page.locator("tbody tr").first).to_contain_text(job.id[-8:])
    expect(page.get_by_label("Labels")).to_have_value("team=sea")
