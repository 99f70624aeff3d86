"""The form for new jobs in a real browser: built from the real schemas, refused by the real checks."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from factories.browser import PHONE, Visit
from factories.job_api import OPERATOR_KEY, VIEWER_KEY, JobApi, a_job
from quantry_core.jobs import EvaluateSpec, JobStatus, JobType

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def choose_type(page: Page, kind: str) -> None:
    page.get_by_label("Type", exact=True).select_option(kind)


def test_a_job_is_filled_in_estimated_and_submitted_once(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/jobs/new")
    estimate = page.get_by_role("region", name="Estimate")
    choose_type(page, "quantize")
    expect(estimate).to_contain_text("To be filled in: Base.")
    page.wait_for_url("**/jobs/new?type=quantize")
    page.get_by_label("Base").fill("bard-6m@1")
    expect(estimate).to_contain_text("3 min")
    page.get_by_label("Calibration").check()
    page.get_by_label("Datasets 1", exact=True).fill("kjv.calibration")
    page.get_by_role("button", name="Add to datasets").click()
    page.get_by_label("Datasets 2", exact=True).fill("psalms")
    page.get_by_text("More (3)").click()
    page.get_by_label("Num samples").fill("32")
    page.get_by_text("Priority, labels, limits and more").click()
    page.get_by_role("button", name="Add to labels").click()
    page.get_by_label("Labels, name").fill("team")
    page.get_by_label("Labels, value").fill("search")
    page.get_by_label("Priority").fill("2")
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_url("**/jobs/job_*")
    assert api.work.submitted == [
        {
            "spec": {
                "type": "quantize",
                "base": "bard-6m@1",
                "calibration": {"datasets": ["kjv.calibration", "psalms"], "num_samples": 32},
            },
            "labels": {"team": "search"},
            "priority": 2,
        }
    ]


def test_what_the_api_refuses_is_said_at_its_field(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/jobs/new?type=quantize&base=b&calibration.datasets=kjv")
    page.get_by_text("More (3)").click()
    page.get_by_label("Num samples").fill("many")
    page.get_by_text("Priority, labels, limits and more").click()
    page.get_by_label("Priority").fill("12")
    page.get_by_text("Priority, labels, limits and more").click()
    expect(page.get_by_label("Priority")).to_be_hidden()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Nothing was submitted: 2 fields below cannot be so.")).to_be_visible()
    # What is folded away is unfolded where something in it is wrong.
    expect(page.get_by_label("Priority")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("less than or equal to 9")).to_be_visible()
    expect(page.get_by_label("Num samples")).to_be_focused()
    expect(page.get_by_text("unable to parse string as an integer")).to_be_visible()
    page.get_by_label("Num samples").fill("8")
    page.get_by_label("Priority").fill("9")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/job_*")
    assert [document["spec"]["calibration"]["num_samples"] for document in api.work.submitted] == [8]


def test_every_type_has_a_form_that_fits_a_phone(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page = visit.sign_in(OPERATOR_KEY, "/jobs/new")
    nameless = "all => all.filter(c => c.isConnected && !(c.getAttribute('aria-label') || c.labels?.length)).map(c => c.outerHTML)"
    expect(page.get_by_label("Type", exact=True)).to_be_visible()
    kinds = page.get_by_label("Type", exact=True).locator("option").all_text_contents()
    assert set(kinds) == set(JobType)
    for kind in kinds:
        choose_type(page, kind)
        expect(page.get_by_role("region", name="Estimate")).to_contain_text("To be filled in")
        page.locator("details").evaluate_all("folds => folds.forEach(fold => { fold.open = true })")
        assert visit.overflow_px() == 0, kind
        assert page.locator("#content :is(input, select, textarea)").evaluate_all(nameless) == [], kind


def test_a_job_is_done_again_with_changes(visit: Visit, api: JobApi) -> None:
    spec = EvaluateSpec(version="bard@1", corpora=["kjv.test", HOSTILE])
    job = api.add(a_job(JobStatus.FAILED, spec=spec, labels={"team": "search"}))
    page = visit.sign_in(OPERATOR_KEY, f"/jobs/{job.id}")
    page.get_by_role("link", name="Again, with changes").click()
    expect(page.get_by_label("Corpora 2", exact=True)).to_have_value(HOSTILE)
    page.get_by_role("button", name="Remove corpora 1").click()
    expect(page.get_by_label("Version")).to_have_value("bard@1")
    page.get_by_label("Version").fill("bard@2")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(lambda url: "/jobs/job_" in url and job.id not in url)
    [submitted] = api.work.submitted
    assert submitted["spec"] == {"type": "evaluate", "version": "bard@2", "corpora": [HOSTILE]}
    assert (submitted["labels"], submitted["resource"]) == ({"team": "search"}, "cpu")
    assert page.title() != "owned"


def test_a_viewer_may_look_but_not_submit(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(VIEWER_KEY, "/jobs/new?type=import&model=bard&source=/m")
    expect(page.get_by_role("region", name="Estimate")).to_contain_text("3 min")
    expect(page.get_by_text("Your key is a viewer's")).to_be_visible()
    expect(page.get_by_role("button", name="Submit")).to_have_count(0)
    assert api.work.submitted == []


def test_the_command_that_does_the_same_can_be_copied(visit: Visit) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.sign_in(OPERATOR_KEY, "/jobs/new?type=import&model=bard&source=it's")
    page.get_by_text("The same on the command line").click()
    page.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_role("button", name="Copy the command")).to_have_text("Copied")
    copied = str(page.evaluate("navigator.clipboard.readText()"))
    assert copied.startswith("quantry jobs submit json '{")
    assert "it'\\''s" in copied
