"""The overview in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from factories.browser import PHONE, Visit
from factories.job_api import OPERATOR_KEY, JobApi, a_job
from factories.serving import a_release, a_rollout
from quantry_core.errors import Unavailable
from quantry_core.jobs import JobReason, JobStatus, Progress
from quantry_core.rollouts import Deployment, RolloutState
from quantry_core.workers import Worker

NOW = datetime.now(UTC)


def test_what_happens_is_shown_live_and_leads_further(visit: Visit, api: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/")
    for region, nothing in (("Runs", "No job runs."), ("Failed lately", "No job has failed."), ("Serves", "Nothing is deployed.")):
        expect(page.get_by_role("region", name=region)).to_contain_text(nothing)
    expect(page.get_by_role("region", name="Needs a person")).to_contain_text("Nothing waits for anybody.")
    job = api.add(a_job(progress=Progress(phase="quantize", fraction=0.5)))
    api.add(a_job(JobStatus.FAILED, reason=JobReason.GATE_FAILED, message="perplexity_ratio is <b>1.09</b>"))
    paused = a_rollout(RolloutState.PAUSED, message="no verdict in time")
    with api.lock:
        api.work.workers.append(
            Worker(
                id="wrk_1",
                host="gpu-7",
                pid=1,
                version="1",
                queues=["gpu"],
                num_slots=2,
                environments={},
                is_alive=False,
                started_at=NOW,
                last_seen_at=NOW - timedelta(minutes=9),
            )
        )
        api.deployments.append(
            Deployment(
                id="dep_1",
                project_id="prj_1",
                name="chat",
                current_release=a_release(),
                active_rollout=paused,
                replicas=[],
                is_stopped=False,
                created_at=NOW,
            )
        )
    expect(page.get_by_role("region", name="Runs").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    expect(page.get_by_role("region", name="Failed lately")).to_contain_text("perplexity_ratio is <b>1.09</b>")
    serves = page.get_by_role("region", name="Serves")
    expect(serves.get_by_role("img")).to_have_attribute("aria-label", "90% release 1 · bard@1, 10% rel_…00000002")
    matters = page.get_by_role("region", name="Needs a person")
    expect(matters).to_contain_text("no verdict in time")
    expect(matters).to_contain_text("gpu-7")
    expect(page.get_by_role("region", name="Queues and workers")).to_contain_text("0 of 1 answer")
    expect(matters.get_by_role("link", name="chat")).to_have_attribute("href", f"/deployments/chat/rollouts/{paused.id}")
    page.get_by_role("region", name="Runs").get_by_role("link", name="Quantize bard-6m").click()
    page.wait_for_url(f"**/jobs/{job.id}")


def test_what_cannot_be_told_is_said_in_its_own_panel(visit: Visit, api: JobApi) -> None:
    api.add(a_job())
    api.registry_refusal = Unavailable("the registry is away")
    page = visit.sign_in(OPERATOR_KEY, "/")
    expect(page.get_by_role("region", name="Needs a person")).to_contain_text("the registry is away")
    expect(page.get_by_role("region", name="Runs").get_by_role("progressbar")).to_be_visible()


def test_the_places_hide_behind_a_button_on_a_phone(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page = visit.sign_in(OPERATOR_KEY, "/")
    places = page.get_by_role("navigation", name="Main")
    expect(places).to_be_hidden()
    menu = page.get_by_role("button", name="Menu")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(places.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    page.keyboard.press("Escape")
    expect(places).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    places.get_by_role("link", name="Pipelines").click()
    page.wait_for_url("**/pipelines")
    assert visit.overflow_px() == 0
