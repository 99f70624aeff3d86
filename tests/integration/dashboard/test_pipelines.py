"""Pipelines as a list, as a graph and as a table, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from factories.browser import PHONE, Visit
from factories.job_api import OPERATOR_KEY, JobApi, a_job, a_spec
from quantry_core.jobs import EvaluateSpec, Job, JobStatus, Progress, WaitingOn


def two_steps(status: JobStatus = JobStatus.RUNNING) -> dict[str, Job]:
    first = a_job(status, spec=a_spec())
    second = a_job(
        JobStatus.WAITING, spec=EvaluateSpec(version=f"output:{first.id}", corpora=["c"]), needs=[first.id], waiting_on=WaitingOn.NEEDS
    )
    return {"quantize": first, "evaluate": second}


def test_a_pipeline_is_found_and_watched(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/pipelines")
    expect(page.get_by_text("There are no pipelines yet")).to_be_visible()
    jobs = two_steps()
    pipeline = api.work.add_pipeline("<b>nightly</b>", jobs)
    row = page.get_by_role("row").filter(has_text="<b>nightly</b>")
    expect(row).to_contain_text("1 waiting, 1 running")
    row.get_by_role("link").press("Enter")
    page.wait_for_url(f"**/pipelines/{pipeline.id}")
    graph = page.get_by_role("group", name="Steps and what they need")
    expect(graph.get_by_role("link")).to_have_count(2)
    assert graph.locator("svg path").count() == 1
    table = page.get_by_role("table", name="Steps")
    expect(table.get_by_role("row").nth(2)).to_contain_text("quantize")
    # A box that has the focus keeps it while its job goes on.
    box = graph.get_by_role("link", name="quantize")
    box.focus()
    api.change(jobs["quantize"], progress=Progress(phase="quantize", fraction=0.75))
    expect(table.get_by_role("progressbar").first).to_have_attribute("aria-valuenow", "75")
    api.change(jobs["quantize"], status=JobStatus.SUCCEEDED, progress=None)
    expect(box).to_contain_text("succeeded")
    expect(box).to_be_focused()
    box.press("Enter")
    page.wait_for_url(f"**/jobs/{jobs['quantize'].id}")
    here = page.get_by_role("region", name="Pipeline").locator("[aria-current=true]")
    expect(here).to_contain_text("quantize")


def test_a_pipeline_is_cancelled_and_retried_after_a_question(visit: Visit, api: JobApi) -> None:
    pipeline = api.work.add_pipeline("nightly", two_steps())
    page = visit.sign_in(OPERATOR_KEY, f"/pipelines/{pipeline.id}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    assert f"POST /api/v1/pipelines/{pipeline.id}/cancel" not in api.requests
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the pipeline").click()
    with api.lock:
        for job in [job for job in api.jobs.values() if job.pipeline_id == pipeline.id]:
            api.change(job, status=JobStatus.CANCELLED, waiting_on=None, progress=None)
    page.get_by_role("button", name="Retry", exact=True).click()
    page.get_by_role("button", name="Retry them").click()
    expect(page.get_by_role("region", name="Status")).to_contain_text("cancelled")
    page.wait_for_function("() => true")
    with api.lock:
        assert api.lock.wait_for(lambda: f"POST /api/v1/pipelines/{pipeline.id}/retry" in api.requests, 10)
    assert f"POST /api/v1/pipelines/{pipeline.id}/cancel" in api.requests


def test_a_pipeline_is_a_list_of_its_steps_on_a_phone(visit: Visit, api: JobApi) -> None:
    pipeline = api.work.add_pipeline("nightly", two_steps())
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page = visit.sign_in(OPERATOR_KEY, f"/pipelines/{pipeline.id}")
    expect(page.get_by_role("table", name="Steps")).to_be_visible()
    assert visit.overflow_px() == 0
    steps = page.get_by_role("group", name="Steps and what they need")
    assert steps.evaluate("group => group.scrollWidth <= group.clientWidth")
    tops = steps.get_by_role("link").evaluate_all("boxes => boxes.map((box) => box.getBoundingClientRect().top)")
    assert tops == sorted(set(tops))


def test_a_pipeline_that_is_not_there_is_said_to_be_so(visit: Visit) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/pipelines/pip_0197f0a0000070008000000000000009")
    expect(page.get_by_role("alert").filter(has_text="There is no pipeline")).to_be_visible()
