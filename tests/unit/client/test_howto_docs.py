"""docs/howto: its commands can be typed, and command, Python and curl of a page submit the same job."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import quantry
from factories.client import JOB_ID, FakeServer, answer, job
from factories.client import page as list_of
from factories.serving import a_rollout
from quantry.cli.main import main
from quantry_core.jobs import JobReason, JobStatus, JobSubmission, JobType

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HOWTO.glob("*.md"))}
SECTIONS = [
    "What you need",
    "By command",
    "In Python",
    "Over HTTP",
    "On the dashboard",
    "What comes of it",
    "What can go wrong",
]


def commands(page: str) -> list[str]:
    """Returns the commands of a page's blocks, a line each."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith("quantry ")]


def submitted(server: FakeServer) -> JobSubmission:
    """Returns the one submission that the server got, with every default written out."""
    [request] = [one for one in server.requests if (one.method, one.url.path) == ("POST", "/api/v1/jobs")]
    return JobSubmission.model_validate_json(request.content)


@pytest.fixture
def taking(server: FakeServer) -> FakeServer:
    """A server that takes a job, and says next that it succeeded."""
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", f"/api/v1/jobs/{JOB_ID}", answer(job(JobStatus.SUCCEEDED, reason=JobReason.COMPLETED)))
    return server


def test_every_type_of_job_that_can_be_submitted_has_a_page() -> None:
    assert set(PAGES) == {kind.value for kind in JobType} - {"distill", "search"}


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_the_same_parts(page: str) -> None:
    assert re.findall(r"^## (.*)$", PAGES[page], re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in commands(page)}))
def test_every_command_is_one(server: FakeServer, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses all: 2 would be a command that is not right, 0 one that asked for nothing."""
    monkeypatch.chdir(HOWTO.parents[1])
    server.on("GET", "/api/v1/deployments/bard/rollouts", list_of(a_rollout()))
    assert main(shlex.split(line.replace("job_...", JOB_ID))[1:]) == 1
    assert server.requests


@pytest.mark.parametrize("page", PAGES)
def test_command_python_and_curl_submit_the_same(page: str, taking: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [argument for argument in shlex.split(commands(page)[0])[1:] if argument != "--wait"]
    assert main(arguments) == 0
    by_command = submitted(taking)
    taking.requests.clear()

    [code] = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    monkeypatch.setattr(quantry, "Client", taking.client)
    exec(code.replace("    print(client.jobs.estimate(spec))\n", ""), {})  # noqa: S102  the page's own example
    assert submitted(taking) == by_command

    over_http = PAGES[page][PAGES[page].index("## Over HTTP") :]
    curl = re.search(r"/api/v1/jobs\".*?-d '(.*?)'\n", over_http, re.DOTALL)
    assert curl is not None
    assert JobSubmission.model_validate(json.loads(curl[1])) == by_command


@pytest.mark.parametrize("page", PAGES)
def test_the_form_is_opened_for_the_pages_own_type(page: str) -> None:
    assert f"`/jobs/new?type={page}" in PAGES[page]
