"""The dashboard over plain HTTP: who comes in, what a cookie is, what every answer carries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from factories.dashboard import RunningDashboard
from factories.job_api import OPERATOR_KEY, WORKER_KEY, JobApi, a_job
from quantry_core.errors import Unavailable
from quantry_dashboard.guard import HEADERS


@pytest.fixture
def browser(dashboard: RunningDashboard, api: JobApi) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=dashboard.url, trust_env=False) as client:
        yield client


def sign_in(browser: httpx.Client, key: str = OPERATOR_KEY, **fields: str) -> httpx.Response:
    return browser.post("/sign-in", data={"api_key": key, **fields})


def test_nobody_comes_in_without_a_session(browser: httpx.Client) -> None:
    for path in ("/jobs?status=failed", "/jobs/job_1", "/jobs/job_1/log"):
        answer = browser.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=%2Fjobs")
    assert browser.get("/").headers["location"] == "/sign-in"


def test_the_cookie_is_closed_to_scripts_and_other_sites_and_holds_no_key(browser: httpx.Client) -> None:
    answer = sign_in(browser, next="/jobs?status=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?status=failed")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert OPERATOR_KEY not in cookie
    page = browser.get("/jobs")
    assert page.status_code == 200
    assert OPERATOR_KEY not in page.text
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "refused"), ("   ", "refused"), ("qtr_no", "refused"), ("é", "refused"), ("x" * 9000, "refused"), (WORKER_KEY, "machine")],
)
def test_other_keys_are_sent_back_with_a_sentence(browser: httpx.Client, key: str, said: str) -> None:
    answer = sign_in(browser, key)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?said={said}")
    assert "set-cookie" not in answer.headers
    assert browser.get("/jobs").status_code == 303


def test_an_api_that_is_away_is_not_a_wrong_key(browser: httpx.Client, api: JobApi) -> None:
    api.refusal = Unavailable("the database is away")
    assert sign_in(browser).headers["location"] == "/sign-in?said=away"


def test_signing_out_ends_the_session_for_a_copied_cookie_too(browser: httpx.Client) -> None:
    sign_in(browser)
    [(name, copied)] = browser.cookies.items()
    assert browser.post("/sign-out").headers["location"] == "/sign-in?said=out"
    assert not browser.cookies
    browser.cookies.set(name, copied)
    assert browser.get("/jobs").status_code == 303


def test_another_sites_page_can_neither_sign_in_nor_out(browser: httpx.Client) -> None:
    sign_in(browser)
    elsewhere = {"origin": "https://evil.example"}
    assert browser.post("/sign-out", headers=elsewhere).status_code == 403
    assert browser.post("/sign-in", data={"api_key": OPERATOR_KEY}, headers=elsewhere).status_code == 403
    assert browser.get("/_nicegui_ws/socket.io/?EIO=4&transport=polling", headers=elsewhere).status_code == 403
    assert browser.get("/jobs").status_code == 200


def test_every_answer_says_what_a_page_may_load(browser: httpx.Client) -> None:
    sign_in(browser)
    for path in ("/healthz", "/sign-in", "/jobs", "/static/dashboard.css", "/nothing-here", "/jobs/job_1/log"):
        headers = browser.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, path


def test_the_whole_log_comes_as_text_through_the_api(browser: httpx.Client, api: JobApi) -> None:
    sign_in(browser)
    job = api.add(a_job())
    api.logs[job.id] = ["<script>alert(1)</script>", "ünï"]
    answer = browser.get(f"/jobs/{job.id}/log")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "<script>alert(1)</script>\nünï\n"
    assert browser.get("/jobs/job_0197f0a0000070008000000000000009/log").status_code == 404
    assert browser.get("/jobs/..%2F..%2Fkeys/log").status_code in {404, 502}


def test_what_a_job_left_is_handed_on_as_a_file_whatever_it_is(browser: httpx.Client, api: JobApi) -> None:
    job = api.add(a_job())
    api.artifacts[job.id] = {"raw/results.html": "<script>alert(1)</script>"}
    path = f"/jobs/{job.id}/artifacts/raw/results.html"
    assert browser.get(path).status_code == 303
    sign_in(browser)
    answer = browser.get(path)
    assert answer.text == "<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    for other in ("nothing", "..%2F..%2F..%2Fetc%2Fpasswd", "raw/"):
        assert browser.get(f"/jobs/{job.id}/artifacts/{other}").status_code == 404, other


def test_a_revoked_key_leads_to_the_form(browser: httpx.Client, api: JobApi) -> None:
    sign_in(browser)
    job = api.add(a_job())
    del api.roles[OPERATOR_KEY]
    answer = browser.get(f"/jobs/{job.id}/log")
    assert answer.headers["location"] == f"/sign-in?said=over&next=%2Fjobs%2F{job.id}%2Flog"
    assert browser.get("/jobs").status_code == 303


def test_settings_that_are_wrong_are_named() -> None:
    environment = {"QUANTRY_DASHBOARD_PORT": "http", "QUANTRY_DASHBOARD_SECRET": "short"}
    finished = subprocess.run(
        [sys.executable, "-m", "quantry_dashboard"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert finished.returncode == 2
    for name in ("QUANTRY_CONTROL_URL", "QUANTRY_DASHBOARD_PORT", "QUANTRY_DASHBOARD_SECRET"):
        assert name in finished.stderr
