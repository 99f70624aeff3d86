"""Rollouts in a real browser: watched, decided about, and what served when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from factories.browser import PHONE, Visit
from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, PROJECT, VIEWER_KEY, JobApi
from factories.serving import NOW, ROLLOUT_ID, a_judgement, a_period, a_release, a_rollout, a_tally, spans, traffic
from quantry_core.errors import RolloutOver
from quantry_core.rollouts import Deployment, PeriodCause, Replica, ReplicaState, RolloutReason, RolloutState
from quantry_core.verdicts import Verdict

PAGE = f"/deployments/chat/rollouts/{ROLLOUT_ID}"


@pytest.fixture
def canary(api: JobApi) -> JobApi:
    """An API with a canary at its first step."""
    replicas = [
        Replica(id=f"rep_{number}", release_id=a_release(number).id, ordinal=0, state=ReplicaState.READY, updated_at=NOW)
        for number in (1, 2)
    ]
    deployment = Deployment(
        id="dep_1",
        project_id=PROJECT,
        name="chat",
        current_release=a_release(1),
        active_rollout=None,
        replicas=replicas,
        is_stopped=False,
        created_at=NOW,
    )
    serving = api.serving
    serving.deployments.append(deployment)
    serving.releases["chat"] = [a_release(2), a_release(1)]
    serving.periods["chat"] = [
        a_period(1, {1: 90, 2: 10}, ended_at=None, note="<b>try</b> it"),
        a_period(0, {1: 100}, PeriodCause.PROMOTED, rollout_id=None),
    ]
    serving.traffic[ROLLOUT_ID] = traffic()
    serving.spans[ROLLOUT_ID] = spans()
    serving.keep(a_rollout())
    return api


def paths_of(page: Page) -> str:
    """Returns the drawn lines of the page's charts."""
    drawn: str = page.locator(".chart svg path").evaluate_all("paths => paths.map(path => path.getAttribute('d')).join()")
    return drawn


def test_a_rollout_is_watched(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, PAGE)
    status = page.get_by_role("region", name="Status")
    expect(status).to_contain_text("progressing")
    expect(status.get_by_role("img")).to_have_attribute("aria-label", "90% release 1 · bard@1, 10% release 2 · bard@2")
    body = page.get_by_role("region", name="Rollout", exact=True)
    expect(body).to_contain_text("step 1 of 3: 10% of requests")
    expect(body.get_by_role("img", name="between 0.98 and 1.61, held against 1.5")).to_be_visible()
    expect(body).to_contain_text("p95 is 1.22 times stable's")
    rows = body.get_by_role("table", name="Traffic").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("12 (5.0%)")
    chart = body.get_by_role("img", name="Share of the candidate over time, planned and as it was: step 1 of 3: 10% of requests")
    expect(chart.locator("svg text", has_text="as it was")).to_be_visible()
    beside = page.get_by_role("region", name="Both releases over time")
    failed = beside.get_by_role("img", name="stable lately 0.00% (0.00% to 1.58%); candidate lately 7.69%")
    expect(failed.locator("svg text", has_text="candidate")).to_be_visible()
    expect(beside.get_by_role("img", name="Answer, p95 of both releases over time")).to_be_visible()
    changes = page.get_by_role("region", name="Changes").locator("tbody tr")
    expect(changes).to_have_count(1)
    expect(changes).to_contain_text("<b>try</b> it")
    first = paths_of(page)
    with canary.lock:
        canary.serving.periods["chat"].insert(0, a_period(2, {1: 50, 2: 50}, ended_at=None))
        canary.serving.traffic[ROLLOUT_ID] = traffic(candidate=a_tally(900))
        canary.serving.keep(a_rollout(stage=1, percent=50, judgement=a_judgement(Verdict.PASS)))
    expect(body).to_contain_text("step 2 of 3: 50% of requests")
    expect(rows.nth(1)).to_contain_text("900")
    expect(changes).to_have_count(2)
    expect(body.locator(".findings > .heading .status")).to_have_text("pass")
    page.wait_for_function(
        "first => [...document.querySelectorAll('.chart svg path')].map(path => path.getAttribute('d')).join() !== first", arg=first
    )
    assert visit.overflow_px() == 0


def test_a_rollout_that_fails_says_why_and_is_asked_about_no_more(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, PAGE)
    status = page.get_by_role("region", name="Status")
    expect(status).to_contain_text("progressing")
    failed = a_rollout(
        RolloutState.ROLLED_BACK,
        percent=0,
        reason=RolloutReason.VERDICT_FAILED,
        message="latency_compared: p95 is 2.4 times stable's",
        judgement=a_judgement(Verdict.FAIL),
        finished_at=NOW + timedelta(minutes=3),
    )
    with canary.lock:
        canary.serving.keep(failed)
    expect(status).to_contain_text("rolled back")
    expect(status).to_contain_text("the candidate failed its rules: latency_compared: p95 is 2.4 times stable's")
    expect(status.get_by_role("button", name="Abort")).to_be_hidden()
    page.wait_for_timeout(1500)
    with canary.lock:
        canary.requests.clear()
    page.wait_for_timeout(2500)
    assert canary.requests == []


def test_each_decision_asks_first_and_is_told_to_the_api(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, PAGE)
    status = page.get_by_role("region", name="Status")

    def decide(button: str, answer: str) -> None:
        status.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=answer).click()

    expect(status.get_by_role("button", name="Resume")).to_be_hidden()
    status.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert canary.serving.asked == []
    decide("Pause", "Pause it")
    expect(status).to_contain_text("paused")
    expect(status).to_contain_text("asked for")
    decide("Resume", "Resume it")
    expect(status.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    decide("Promote", "Promote it")
    expect(page.get_by_text("to be promoted once its replicas are ready")).to_be_visible()
    decide("Roll back", "Roll it back")
    expect(status).to_contain_text("rolled back")
    asked = [path.rpartition("/")[2] for path, _ in canary.serving.asked]
    assert asked == ["pause", "resume", "promote", "rollback"]
    expect(status.get_by_role("button")).to_have_count(0)


def test_a_decision_that_comes_too_late_is_a_sentence(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    panel = page.get_by_role("region", name="chat")
    panel.get_by_role("button", name="Abort").click()
    with canary.lock:
        canary.serving.rollouts[ROLLOUT_ID] = a_rollout(RolloutState.PROMOTED, percent=100)
    page.get_by_role("dialog").get_by_role("button", name="Abort it").click()
    expect(page.get_by_role("alert").filter(has_text=f"Rollout {ROLLOUT_ID} is promoted")).to_be_visible()
    assert RolloutOver.status == 409


def test_a_viewer_may_only_look(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(VIEWER_KEY, PAGE)
    expect(page.get_by_text("it may look, but not change anything")).to_be_visible()
    expect(page.get_by_role("button", name="Promote")).to_have_count(0)
    visit.go("/deployments/chat")
    expect(page.get_by_role("region", name="Releases").get_by_role("row").nth(1)).to_be_visible()
    expect(page.get_by_role("button", name="Serve release")).to_have_count(0)


def test_the_page_of_deployments_shows_and_decides(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    panel = page.get_by_role("region", name="chat")
    expect(panel.get_by_role("img", name="90% release 1 · bard@1, 10% release 2 · bard@2")).to_be_visible()
    rollout = panel.get_by_role("group", name="Rollout of chat")
    expect(rollout).to_contain_text("step 1 of 3: 10% of requests")
    expect(rollout.get_by_role("table", name="Traffic")).to_contain_text("12 (5.0%)")
    expect(rollout.get_by_role("link", name="Rollout")).to_have_attribute("href", PAGE)
    rollout.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Pause it").click()
    expect(rollout.locator(".heading .status").first).to_have_text("paused")
    with canary.lock:
        canary.serving.keep(a_rollout(RolloutState.ABORTED, percent=0, finished_at=NOW))
    expect(rollout).to_be_hidden()
    expect(panel.get_by_role("img", name="100% release 1 · bard@1")).to_be_visible()


def test_a_watched_rollout_is_undone_at_once_by_number(visit: Visit, canary: JobApi) -> None:
    promoted = a_rollout(RolloutState.PROMOTED, percent=100, stage=2, finished_at=NOW, watch_until=NOW + timedelta(days=3650))
    with canary.lock:
        canary.serving.keep(promoted)
        changes = {"current_release": a_release(2), "watched_rollout": promoted}
        canary.serving.deployments[0] = canary.serving.deployments[0].model_copy(update=changes)
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    panel = page.get_by_role("region", name="chat")
    expect(panel).to_contain_text("Rollout, watched")
    panel.get_by_role("button", name="Roll back", exact=True).last.click()
    dialog = page.get_by_role("dialog", name="Roll back to the release before?")
    expect(dialog).to_contain_text("Release 1 · bard@1 is still warm")
    dialog.get_by_role("button", name="Roll it back").click()
    expect(panel.get_by_role("img", name="100% release 1 · bard@1")).to_be_visible()
    assert canary.serving.asked == [("/deployments/chat/rollback", {"release": 1, "note": None})]


def test_one_deployment_shows_what_served_when_and_goes_back(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/deployments")
    page.get_by_role("region", name="chat").get_by_role("link", name="chat").click()
    history = page.get_by_role("region", name="History")
    expect(history.get_by_role("img", name="Shares of the releases over time, 2 changes")).to_be_visible()
    expect(history.locator("svg text", has_text="release 2")).to_be_visible()
    expect(history.locator("tbody tr").first).to_contain_text("90% bard@1 (release 1), 10% bard@2 (release 2)")
    releases = page.get_by_role("region", name="Releases").locator("tbody tr")
    expect(releases).to_have_count(2)
    expect(releases.nth(1)).to_contain_text("serves")
    rollouts = page.get_by_role("region", name="Rollouts").locator("tbody tr")
    expect(rollouts.get_by_role("link")).to_have_attribute("href", PAGE)
    page.get_by_role("button", name="Serve release 2 again").click()
    page.get_by_role("dialog", name="Serve release 2 again?").get_by_role("button", name="Serve it again").click()
    expect(releases.first).to_contain_text("serves")
    assert canary.serving.asked == [("/deployments/chat/rollback", {"release": 2, "note": None})]


def test_a_rollout_is_found_by_its_id_alone(visit: Visit, canary: JobApi, dashboard: RunningDashboard) -> None:
    page = visit.sign_in(OPERATOR_KEY, f"/rollouts/{ROLLOUT_ID}")
    expect(page).to_have_url(f"{dashboard.url}{PAGE}")
    expect(page.get_by_role("region", name="Status")).to_contain_text("progressing")
    missing = page.request.get(f"{dashboard.url}/rollouts/rol_0197f0a0000070008000000000000009")
    assert (missing.status, "There is no rollout" in missing.text()) == (404, True)
    with canary.lock:
        canary.serving.rollouts[ROLLOUT_ID] = a_rollout(deployment_id="dep_2")
    orphan = page.request.get(f"{dashboard.url}/rollouts/{ROLLOUT_ID}")
    assert (orphan.status, orphan.text()) == (404, "The deployment of this rollout is gone.\n")


def test_what_does_not_exist_is_said(visit: Visit, canary: JobApi) -> None:
    page = visit.sign_in(OPERATOR_KEY, "/deployments/nobody")
    expect(page.get_by_role("alert").filter(has_text="There is no deployment 'nobody'")).to_be_visible()
    visit.go("/deployments/chat/rollouts/rol_0197f0a0000070008000000000000009")
    expect(page.get_by_role("alert").filter(has_text="There is no rollout")).to_be_visible()
    with canary.lock:
        canary.serving.rollouts[ROLLOUT_ID] = a_rollout(deployment_id="dep_2")
    visit.go(PAGE)
    expect(page.get_by_role("alert").filter(has_text="is not one of chat")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/deployments", "/deployments/chat", PAGE])
def test_a_phone_shows_everything(browser: Browser, dashboard: RunningDashboard, canary: JobApi, scheme: Any, path: str) -> None:
    person = Visit(browser, dashboard.url, size=PHONE, color_scheme=scheme)
    page = person.sign_in(OPERATOR_KEY, path)
    expect(page.get_by_role("table", name="Traffic")).to_be_visible()
    assert person.overflow_px() == 0
    person.close()
    assert person.requests_elsewhere() + person.complaints == []
