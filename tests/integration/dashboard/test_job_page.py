"""The page of one job in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from playwright.sync_api import expect

from factories.browser import Visit
from factories.client import JOB_ID, QUANTIZED_ID
from factories.described import described_adapter
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi, a_job
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
    Progress,
)

WAIT_S = 15.0


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


def test_a_fine_tune_that_is_over_shows_before_and_after(visit: Visit, api: JobApi) -> None:
    result = JobResult(version_id=QUANTIZED_ID, metrics={"num_steps": 100, "validation": {"nll_mean": 2.5}})
    job = api.add(a_job(JobStatus.SUCCEEDED, spec=FinetuneSpec(model="bard-6m", training_file="jargon.train"), id=JOB_ID, result=result))
    api.versions[QUANTIZED_ID] = described_adapter()
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    measured = page.get_by_role("region", name="Measured")
    expect(measured.get_by_role("heading", name="What was held out against the master bard@1")).to_be_visible()
    row = measured.get_by_role("row").filter(has=page.get_by_role("rowheader", name="reference_perplexity", exact=True))
    expect(row).to_contain_text("20.08")
    expect(page.get_by_role("region", name="Result")).to_contain_text("num_steps")
    expect(page.get_by_role("region", name="Result")).not_to_contain_text("validation")
    assert visit.overflow_px() == 0


def test_a_fine_tune_is_shown_while_the_registry_is_away(visit: Visit, api: JobApi) -> None:
    result = JobResult(version_id=QUANTIZED_ID, metrics={"num_steps": 100, "validation": {"nll_mean": 2.5}})
    job = api.add(a_job(JobStatus.SUCCEEDED, spec=FinetuneSpec(model="bard-6m", training_file="jargon.train"), id=JOB_ID, result=result))
    api.versions[QUANTIZED_ID] = described_adapter()
    api.tell(job, EventKind.NOTE, text="Two threads.")
    api.registry_refusal = Unavailable("the registry is away")
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("region", name="Result")).to_contain_text("validation.nll_mean")
    expect(page.get_by_role("region", name="Events")).to_contain_text("Two threads.")
    measured = page.get_by_role("region", name="Measured")
    expect(measured).to_contain_text("could not be read: The API could not answer: the registry is away", timeout=60_000)
    with api.lock:
        api.registry_refusal = None
    expect(measured.get_by_role("table", name="What was held out against the master bard@1")).to_be_visible(timeout=60_000)
    expect(measured).not_to_contain_text("could not be read")
    expect(page.get_by_role("region", name="Result")).not_to_contain_text("validation")


def test_a_version_that_was_deleted_leaves_the_result(visit: Visit, api: JobApi) -> None:
    result = JobResult(version_id=QUANTIZED_ID, metrics={"validation": {"nll_mean": 2.5}})
    job = api.add(a_job(JobStatus.SUCCEEDED, spec=FinetuneSpec(model="bard-6m", training_file="jargon.train"), result=result))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("region", name="Result")).to_contain_text("validation.nll_mean")
    expect(page.get_by_role("region", name="Measured")).to_be_hidden()


def test_other_jobs_are_asked_for_no_curve(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.RUNNING))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    expect(page.get_by_role("region", name="Job")).to_be_visible()
    page.wait_for_timeout(2500)
    assert not [asked for asked in api.requests if asked.endswith(("/curve", "/checkpoints"))]


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


def test_a_viewer_sees_no_buttons_and_is_told_why(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    page = visit.sign_in(VIEWER_KEY, f"/jobs/{job.id}")
    expect(page.get_by_text("Your key is a viewer's: it may look")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


def test_a_job_that_is_not_there_is_said_to_be_missing(visit: Visit) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/jobs/job_0197f0a0000070008000000000000009")
    expect(page.get_by_role("alert").first).to_contain_text("There is no job 'job_0197")
    visit.go("/jobs/no%20id")
    expect(page.get_by_role("alert").first).to_contain_text("An id or name is made of letters")


def test_the_log_is_searched_and_followed(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job())
    api.logs[job.id] = [f"step {number} <i>loss</i>" for number in range(1000)]
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    log = page.get_by_role("log")
    expect(log).to_contain_text("step 999")
    page.wait_for_function("() => { const e = document.querySelector('[role=log]'); return e.scrollTop > 0 }")
    page.get_by_label("Follow").uncheck()
    log.evaluate("log => { log.scrollTop = 0 }")
    with api.lock:
        api.logs[job.id] = [*api.logs[job.id], "one more"]
    expect(log).to_contain_text("one more")
    assert log.evaluate("log => log.scrollTop") == 0
    page.get_by_label("Search the log").fill("STEP 12 <")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 line has it")).to_be_visible()
    expect(page.get_by_label("Lines that were found")).to_have_text("13: step 12 <i>loss</i>")
    expect(log).to_be_hidden()
    page.get_by_label("Search the log").fill("")
    page.keyboard.press("Enter")
    expect(log).to_be_visible()


def test_what_a_job_left_can_be_fetched(visit: Visit, api: JobApi) -> None:
    job = api.add(a_job(JobStatus.SUCCEEDED))
    api.artifacts[job.id] = {"results.jsonl": "{}\n"}
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    with page.expect_download() as begun:
        page.get_by_role("region", name="Artifacts").get_by_role("link", name="results.jsonl").click()
    assert begun.value.suggested_filename == "results.jsonl"
    assert begun.value.path().read_text() == "{}\n"
