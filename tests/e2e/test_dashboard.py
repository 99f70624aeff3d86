"""The dashboard on a running platform, in a real browser: a job is watched, cancelled and retried. Its children are stand-ins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from factories.browser import DESKTOP, PHONE, Visit, chromium
from factories.checkpoints import master_contents, write_checkpoint
from factories.child_python import write_python
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_core.jobs import ImportSpec, Job, JobReason, JobStatus
from quantry_core.keys import Role
from quantry_local.stack import Options, Stack

SETTINGS = {"QUANTRY_SWEEP_INTERVAL_S": "1", "QUANTRY_HEARTBEAT_S": "1", "QUANTRY_WORKER_SLOTS": "2"}
WAIT_S = 60.0
BROKEN_ONCE = "broken-once"

CHILD = """
import shutil
task = json.load(open(sys.argv[1]))
model, source, output = task["spec"]["model"], task["spec"]["source"], task["output_dir"]
say(event="note", text="Reads " + source)
if model == "broken-once":
    broken = os.path.join(os.path.dirname(source), "broken")
    if os.path.exists(broken):
        os.remove(broken)
        print("<b>the first file is empty</b>", flush=True)
        say(event="failure", reason="invalid_input", message="The first file is <i>empty</i>.")
        sys.exit(0)
steps = 3000 if model == "slow" else 3
for step in range(steps):
    say(event="progress", phase="copy", fraction=step / steps, done=step, total=steps, unit="files")
    print("file", step, flush=True)
    time.sleep(0.1)
for name in os.listdir(source):
    shutil.copy(os.path.join(source, name), output)
say(event="result", version={"kind": "master", "format": "safetensors", "dtype": "float16"}, metrics={"files": steps})
"""


@dataclass(frozen=True)
class Platform:
    """A running stack, the dashboard's address, and an admin's client and key."""

    dashboard_url: str
    client: Client
    api_key: str
    source: Path

    def submit(self, model: str) -> Job:
        """Submits a job whose stand-in behaves as the model's name says."""
        return self.client.jobs.submit(ImportSpec(model=model, source=str(self.source)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def platform(browser: Browser) -> Iterator[Platform]:
    """A stack of its own, started only where there is a browser."""
    directory = short_directory("quantry-e2e-")
    source = write_checkpoint(directory / "bard", master_contents())
    (directory / "broken").touch()
    settings = {**SETTINGS, "QUANTRY_ML_PYTHON": str(write_python(directory, CHILD))}
    stack = Stack(Options(directory / "stack", gateway_port=free_port(), import_roots=[directory], settings=settings))
    try:
        up = stack.up()
        assert up.new_admin_key is not None
        with Client(up.url, up.new_admin_key) as client:
            yield Platform(up.addresses["dashboard"], client, up.new_admin_key, source)
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(request: pytest.FixtureRequest, browser: Browser, platform: Platform) -> Iterator[Visit]:
    """A person's browser. Nothing is loaded from elsewhere, nothing stands out of the window, and the console stays empty."""
    person = Visit(browser, platform.dashboard_url, size=request.param)
    yield person
    assert person.overflow_px() == 0
    person.close()
    assert person.requests_elsewhere() == []
    assert person.complaints == []


def share_of(page: Page) -> int:
    return int(page.get_by_role("progressbar").get_attribute("aria-valuenow") or 0)


def test_a_running_job_is_watched_and_cancelled(visit: Visit, platform: Platform) -> None:
    job = platform.submit("slow")
    page = visit.sign_in(platform.api_key)
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=job.id))
    expect(row).to_contain_text("running", timeout=WAIT_S * 1000)
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Import slow")
    expect(page.get_by_role("log")).to_contain_text("file 1", timeout=WAIT_S * 1000)
    expect(page.get_by_text(f"Reads {platform.source}")).to_be_visible()
    page.wait_for_function("Number(document.querySelector('[role=progressbar]').ariaValueNow) >= 1", timeout=WAIT_S * 1000)
    before = share_of(page)
    page.wait_for_function(f"Number(document.querySelector('[role=progressbar]').ariaValueNow) > {before}", timeout=WAIT_S * 1000)
    assert visit.overflow_px() == 0
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("region", name="Status")).to_contain_text("cancelled", timeout=WAIT_S * 1000)
    expect(page.get_by_role("region", name="Events").get_by_role("listitem").first).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert platform.client.jobs.get(job.id).status is JobStatus.CANCELLED


def test_a_failed_job_is_retried_and_its_result_shows(visit: Visit, platform: Platform) -> None:
    (platform.source.parent / "broken").touch()
    job = platform.client.jobs.wait(platform.submit(BROKEN_ONCE).id, WAIT_S, poll_s=0.2)
    assert job.reason is JobReason.INVALID_INPUT
    page = visit.sign_in(platform.api_key, f"/jobs/{job.id}")
    expect(page.get_by_text("The first file is <i>empty</i>.").first).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("<b>the first file is empty</b>")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url(lambda url: "/jobs/job_" in url and job.id not in url)
    expect(page.get_by_role("link", name=job.id)).to_be_visible()
    expect(page.get_by_role("region", name="Status")).to_contain_text("succeeded", timeout=WAIT_S * 1000)
    expect(page.get_by_role("region", name="Result")).to_contain_text("ver_")
    repeated = platform.client.jobs.get(page.url.rpartition("/")[2])
    assert (repeated.status, repeated.retry_of) == (JobStatus.SUCCEEDED, job.id)


def test_filters_reach_the_api(visit: Visit, platform: Platform) -> None:
    job = platform.client.jobs.submit(ImportSpec(model="quick", source=str(platform.source)), labels={"team": "search"})
    page = visit.sign_in(platform.api_key, "/jobs?labels=team%3Dsearch&type=import")
    expect(page.get_by_role("link", name=job.id)).to_be_visible()
    visit.go("/jobs?labels=team%3Dnobody")
    expect(page.get_by_text("No job is like that")).to_be_visible()
    visit.go("/jobs?labels=%3D%3D")
    expect(page.get_by_role("alert").filter(has_text="is no label condition")).to_be_visible()


def test_a_revoked_key_ends_the_session(visit: Visit, platform: Platform) -> None:
    made = platform.client.keys.create(f"dashboard-{visit.page.viewport_size['width'] if visit.page.viewport_size else 0}", Role.VIEWER)
    page = visit.sign_in(made.secret)
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    platform.client.keys.revoke(made.key.id)
    expect(page.get_by_role("alert")).to_contain_text("your key was revoked", timeout=WAIT_S * 1000)
