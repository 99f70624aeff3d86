"""The dashboard on a running platform, in a real browser: all of a person's way, and jobs that are cancelled, fail and are retried.

On the way the example model is quantized by the real child and served by quick engines; the children of the other jobs are stand-ins.
With real engines the same way is gone by test_walk_with_vllm.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from chaos.platform import FAKE_ENGINE
from e2e.conftest import EXAMPLES, ROOT
from e2e.walk import Recipe, Walk
from factories.browser import DESKTOP, PHONE, Visit, chromium
from factories.checkpoints import master_contents, write_checkpoint
from factories.child_python import write_python
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_core.jobs import DeploySpec, ImportSpec, Job, JobReason, JobSpec, JobStatus
from quantry_core.keys import Role
from quantry_core.rollouts import RolloutState
from quantry_local.demo_steps import MODEL
from quantry_local.stack import Options, Stack

SETTINGS = {
    "QUANTRY_SWEEP_INTERVAL_S": "1",
    "QUANTRY_HEARTBEAT_S": "1",
    "QUANTRY_WORKER_SLOTS": "2",
    "QUANTRY_ENGINE_PYTHON": sys.executable,
    "QUANTRY_ENGINE_SCRIPT": str(FAKE_ENGINE),
}
WAIT_S = 60.0
JOB_S = 240.0
DEPLOYMENT = "bard"
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


REAL = ROOT / ".venvs" / "ml" / "bin" / "python"


def write_either_python(directory: Path) -> Path:
    """Writes an interpreter that is the stand-in for tasks that name the directory, and the real one for all others."""
    stand_in = write_python(directory, CHILD)
    either = directory / "either"
    either.write_text(f'#!/bin/sh\ngrep -q "{directory}/bard" "$5" && exec "{stand_in}" "$@"\nexec "{REAL}" "$@"\n')
    either.chmod(0o755)
    return either


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

    def succeed(self, spec: JobSpec) -> None:
        """Runs a job that must succeed."""
        job = self.client.jobs.wait(self.client.jobs.submit(spec).id, JOB_S, poll_s=0.2)
        assert job.status is JobStatus.SUCCEEDED, f"{job.reason}: {job.message}"


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
    settings = {**SETTINGS, "QUANTRY_ML_PYTHON": str(write_either_python(directory))}
    stack = Stack(Options(directory / "stack", gateway_port=free_port(), import_roots=[directory, EXAMPLES], settings=settings))
    try:
        up = stack.up()
        assert up.new_admin_key is not None
        with Client(up.url, up.new_admin_key) as client:
            yield Platform(up.addresses["dashboard"], client, up.new_admin_key, source)
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=[DESKTOP], ids=["desktop"])
def visit(request: pytest.FixtureRequest, browser: Browser, platform: Platform) -> Iterator[Visit]:
    """A person's browser. Nothing is loaded from elsewhere, nothing stands out of the window, and the console stays empty."""
    person = Visit(browser, platform.dashboard_url, size=request.param)
    # Other tests want the processors as well.
    expect.set_options(timeout=15_000)
    yield person
    assert person.overflow_px() == 0
    person.close()
    assert person.requests_elsewhere() == []
    assert person.complaints == []


def share_of(page: Page) -> int:
    return int(page.get_by_role("progressbar").get_attribute("aria-valuenow") or 0)


def test_a_person_quantizes_compares_deploys_and_rolls_back(visit: Visit, platform: Platform) -> None:
    platform.succeed(ImportSpec(model=MODEL, source=str(EXAMPLES / MODEL)))
    platform.succeed(DeploySpec(deployment=DEPLOYMENT, version=f"{MODEL}@1"))

    def look(part: str) -> None:
        assert visit.overflow_px() == 0, part

    Walk(visit, platform.api_key, MODEL, DEPLOYMENT, Recipe("fp8", "FP8_DYNAMIC"), job_s=JOB_S, engine_s=WAIT_S, look=look).go()
    deployment = platform.client.deployments.get(DEPLOYMENT)
    assert deployment.active_rollout is None
    assert deployment.current_release is not None
    assert deployment.current_release.version_ref == f"{MODEL}@1"
    [rollout, _] = platform.client.deployments.rollouts(DEPLOYMENT).data
    assert rollout.state is RolloutState.ROLLED_BACK


@pytest.mark.parametrize("visit", [PHONE], ids=["phone"], indirect=True)
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


def test_a_revoked_key_ends_the_session(visit: Visit, platform: Platform) -> None:
    made = platform.client.keys.create(f"dashboard-{visit.page.viewport_size['width'] if visit.page.viewport_size else 0}", Role.VIEWER)
    page = visit.sign_in(made.secret)
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    platform.client.keys.revoke(made.key.id)
    expect(page.get_by_role("alert")).to_contain_text("your key was revoked", timeout=WAIT_S * 1000)
