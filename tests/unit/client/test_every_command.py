"""Every command takes --json, every address has a command or a reason why not, and tables fit a narrow terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.cells import cell_len

from factories.client import FakeServer, answer, job, page
from factories.command import run
from quantry.cli.main import build_app
from quantry.cli.output import print_table
from quantry_core.permissions import PERMISSIONS

COMMANDS: dict[tuple[str, str], str] = {
    ("POST", "/api/v1/jobs/estimate"): "jobs estimate quantize",
    ("POST", "/api/v1/jobs"): "jobs submit quantize",
    ("GET", "/api/v1/jobs"): "jobs list",
    ("GET", "/api/v1/jobs/{job_id}"): "jobs show",
    ("POST", "/api/v1/jobs/{job_id}/cancel"): "jobs cancel",
    ("POST", "/api/v1/jobs/{job_id}/retry"): "jobs retry",
    ("GET", "/api/v1/jobs/{job_id}/events"): "jobs watch",
    ("GET", "/api/v1/jobs/{job_id}/checkpoints"): "jobs checkpoints",
    ("GET", "/api/v1/jobs/{job_id}/curve"): "jobs curve",
    ("GET", "/api/v1/jobs/{job_id}/log"): "jobs logs",
    ("GET", "/api/v1/jobs/{job_id}/artifacts"): "jobs artifacts",
    ("GET", "/api/v1/jobs/{job_id}/artifacts/{path}"): "jobs download",
    ("GET", "/api/v1/jobs/{job_id}/checkpoints/{step}/files"): "jobs download",
    ("GET", "/api/v1/jobs/{job_id}/checkpoints/{step}/files/{path}"): "jobs download",
    ("POST", "/api/v1/pipelines"): "pipelines submit",
    ("GET", "/api/v1/pipelines"): "pipelines list",
    ("GET", "/api/v1/pipelines/{pipeline_id}"): "pipelines show",
    ("POST", "/api/v1/pipelines/{pipeline_id}/cancel"): "pipelines cancel",
    ("POST", "/api/v1/pipelines/{pipeline_id}/retry"): "pipelines retry",
    ("POST", "/api/v1/schedules"): "schedules create",
    ("POST", "/api/v1/schedules/preview"): "schedules preview",
    ("GET", "/api/v1/schedules"): "schedules list",
    ("GET", "/api/v1/schedules/{schedule_id}"): "schedules show",
    ("PATCH", "/api/v1/schedules/{schedule_id}"): "schedules pause",
    ("DELETE", "/api/v1/schedules/{schedule_id}"): "schedules delete",
    ("POST", "/api/v1/schedules/{schedule_id}/run"): "schedules run",
    ("GET", "/api/v1/schedules/{schedule_id}/runs"): "schedules runs",
    ("GET", "/api/v1/workers"): "workers list",
    ("GET", "/api/v1/queues"): "queues list",
    ("GET", "/api/v1/platform"): "doctor",
    ("GET", "/healthz"): "doctor",
    ("GET", "/api/v1/worker-hosts"): "workers hosts list",
    ("DELETE", "/api/v1/worker-hosts/{host_id}"): "workers hosts revoke",
    ("POST", "/api/v1/worker-enrolments"): "workers hosts invite",
    ("GET", "/api/v1/worker-enrolments"): "workers hosts invitations",
    ("DELETE", "/api/v1/worker-enrolments/{enrolment_id}"): "workers hosts withdraw",
    ("GET", "/api/v1/project"): "project show",
    ("GET", "/api/v1/projects"): "projects list",
    ("POST", "/api/v1/projects"): "projects create",
    ("GET", "/api/v1/projects/{project}"): "projects show",
    ("PATCH", "/api/v1/projects/{project}"): "projects change",
    ("GET", "/api/v1/deployments"): "deployments list",
    ("GET", "/api/v1/deployments/{name}"): "deployments show",
    ("GET", "/api/v1/deployments/{name}/rollouts"): "rollouts list",
    ("GET", "/api/v1/deployments/{name}/releases"): "deployments releases",
    ("POST", "/api/v1/deployments/{name}/rollback"): "deployments rollback",
    ("GET", "/api/v1/deployments/{name}/history"): "deployments history",
    ("GET", "/api/v1/deployments/{name}/at"): "deployments at",
    ("GET", "/api/v1/deployments/{name}/diff"): "deployments diff",
    ("GET", "/api/v1/deployments/{name}/capture"): "deployments capture show",
    ("PUT", "/api/v1/deployments/{name}/capture"): "deployments capture on",
    ("DELETE", "/api/v1/deployments/{name}/capture"): "deployments capture off",
    ("POST", "/api/v1/deployments/{name}/capture/dataset"): "deployments capture dataset",
    ("GET", "/api/v1/deployments/{name}/adapters"): "deployments adapters list",
    ("GET", "/api/v1/deployments/{name}/adapters/{adapter}"): "deployments adapters list",
    ("PUT", "/api/v1/deployments/{name}/adapters/{adapter}"): "deployments adapters attach",
    ("DELETE", "/api/v1/deployments/{name}/adapters/{adapter}"): "deployments adapters detach",
    ("POST", "/api/v1/deployments/{name}/stop"): "deployments stop",
    ("POST", "/api/v1/deployments/{name}/start"): "deployments start",
    ("POST", "/api/v1/rollouts"): "deploy",
    ("GET", "/api/v1/rollouts"): "rollouts list",
    ("GET", "/api/v1/rollouts/{rollout_id}"): "rollouts show",
    ("GET", "/api/v1/rollouts/{rollout_id}/traffic"): "rollouts show",
    ("POST", "/api/v1/rollouts/{rollout_id}/pause"): "rollouts pause",
    ("POST", "/api/v1/rollouts/{rollout_id}/resume"): "rollouts resume",
    ("POST", "/api/v1/rollouts/{rollout_id}/promote"): "rollouts promote",
    ("POST", "/api/v1/rollouts/{rollout_id}/abort"): "rollouts abort",
    ("POST", "/api/v1/rollouts/{rollout_id}/rollback"): "rollouts rollback",
    ("GET", "/api/v1/whoami"): "whoami",
    ("GET", "/api/v1/keys"): "keys list",
    ("POST", "/api/v1/keys"): "keys create",
    ("GET", "/api/v1/keys/{key_id}"): "keys show",
    ("POST", "/api/v1/keys/{key_id}/rotate"): "keys rotate",
    ("DELETE", "/api/v1/keys/{key_id}"): "keys revoke",
    ("GET", "/api/v1/audit"): "audit list",
    ("GET", "/api/v1/audit/verify"): "audit verify",
    ("GET", "/api/v1/methods"): "methods",
    ("GET", "/api/v1/methods/{method}"): "methods show",
    ("POST", "/api/v1/webhooks"): "webhooks create",
    ("GET", "/api/v1/webhooks"): "webhooks list",
    ("GET", "/api/v1/webhooks/{webhook_id}"): "webhooks show",
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): "webhooks change",
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): "webhooks delete",
    ("POST", "/api/v1/webhooks/{webhook_id}/rotate-secret"): "webhooks rotate",
    ("POST", "/api/v1/webhooks/{webhook_id}/test"): "webhooks test",
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries"): "webhooks deliveries",
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): "webhooks delivery",
    ("POST", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"): "webhooks redeliver",
    ("GET", "/api/v1/models"): "models list",
    ("GET", "/api/v1/models/{name}"): "models show",
    ("GET", "/api/v1/models/{name}/notes"): "models note",
    ("PATCH", "/api/v1/models/{name}/notes"): "models tag",
    ("GET", "/api/v1/models/{name}/figures"): "models figures",
    ("GET", "/api/v1/models/{name}/aliases"): "models aliases",
    ("GET", "/api/v1/models/{name}/aliases/{alias}"): "models alias",
    ("PUT", "/api/v1/models/{name}/aliases/{alias}"): "models set-alias",
    ("DELETE", "/api/v1/models/{name}/aliases/{alias}"): "models delete-alias",
    ("GET", "/api/v1/models/{name}/aliases/{alias}/history"): "models alias-history",
    ("GET", "/api/v1/vault/usage"): "models usage",
    ("GET", "/api/v1/versions"): "versions list",
    ("GET", "/api/v1/versions/compare"): "versions compare",
    ("GET", "/api/v1/versions/{ref}"): "versions show",
    ("GET", "/api/v1/versions/{ref}/lineage"): "versions lineage",
    ("GET", "/api/v1/versions/{ref}/lineage.svg"): "lineage",
    ("GET", "/api/v1/versions/{ref}/lineage.mmd"): "lineage",
    ("GET", "/api/v1/versions/{ref}/card"): "versions card",
    ("GET", "/api/v1/versions/{ref}/modules"): "versions modules",
    ("GET", "/api/v1/versions/{ref}/notes"): "versions note",
    ("PATCH", "/api/v1/versions/{ref}/notes"): "versions tag",
    ("GET", "/api/v1/versions/{ref}/files/{path}"): "versions export",
    ("DELETE", "/api/v1/versions/{version_id}"): "versions delete",
    ("POST", "/api/v1/versions/{version_id}/restore"): "versions restore",
    ("POST", "/api/v1/versions/{version_id}/archive"): "versions archive",
    ("POST", "/api/v1/versions/{version_id}/unarchive"): "versions unarchive",
    ("GET", "/api/v1/datasets"): "datasets list",
    ("GET", "/api/v1/datasets/{ref}"): "datasets show",
    ("GET", "/api/v1/datasets/{ref}/preview"): "datasets preview",
    ("GET", "/api/v1/datasets/{ref}/content"): "datasets download",
    ("PUT", "/api/v1/datasets/{name}"): "datasets upload",
    ("POST", "/api/v1/datasets/{name}/derive"): "datasets derive",
    ("DELETE", "/api/v1/datasets/{dataset_id}"): "datasets delete",
    ("POST", "/api/v1/datasets/{dataset_id}/restore"): "datasets restore",
    ("POST", "/api/v1/uploads"): "models upload",
    ("GET", "/api/v1/uploads"): "uploads list",
    ("GET", "/api/v1/uploads/{upload_id}"): "uploads show",
    ("PUT", "/api/v1/uploads/{upload_id}/files/{path}"): "models upload",
    ("DELETE", "/api/v1/uploads/{upload_id}"): "uploads delete",
    ("POST", "/api/v1/vault/verify"): "vault verify",
    ("POST", "/api/v1/vault/collect"): "vault collect",
    ("GET", "/api/v1/vault/store"): "vault store",
    ("GET", "/api/v1/vault/runs"): "vault list",
    ("GET", "/api/v1/vault/runs/{run_id}"): "vault show",
    ("GET", "/api/v1/retention"): "retention show",
    ("POST", "/api/v1/retention/run"): "retention run",
    ("GET", "/api/v1/retention/runs"): "retention runs",
    ("GET", "/api/v1/retention/runs/{run_id}"): "retention show",
}

LEFT_OUT = {
    "/livez": "asked by what starts and stops services",
    "/metrics": "for Prometheus",
    "/internal/": "between parts of the installation; the gateway does not forward it",
    "/api/v1/openapi.json": "a document for programs: client.openapi()",
    "/api/v1/registry/openapi.json": "the same",
    "/v1/": "OpenAI's APIs: their own client is the way in; jobs and datasets are the same things here",
    "/api/v1/execution/": "what workers do",
    "/api/v1/rollouts/{rollout_id}/traffic/spans": "for charts: client.rollouts.spans(); 'rollouts show' has the sums",
    "/api/v1/seals": "what workers do",
    "/api/v1/enrol": "python -m quantry_worker.enrol does it, on a machine that has no key yet",
    "/api/v1/sessions": "how the dashboard signs people in",
    "/mlflow/": "MLflow's API: its own client is the way in",
    "/api/2.0/mlflow/": "the same",
}
"""By the beginning of the path, with why there is no command."""

NO_DOCUMENT = {"jobs log"}
"""Hidden, an old name of another command."""


def leaves(command: object, path: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields every command that does something, with its words; a group that does something itself too."""
    inner = getattr(command, "commands", None)
    if inner is None or getattr(command, "invoke_without_command", False):
        yield " ".join(path), command
    for name, one in (inner or {}).items():
        yield from leaves(one, [*path, name])


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    return dict(leaves(typer.main.get_command(build_app()), []))


def own(commands: dict[str, Any]) -> dict[str, Any]:
    """Returns the commands of the SDK: those of plugins have tests of their own."""
    return {path: one for path, one in commands.items() if one.callback is not None and one.callback.__module__.startswith("quantry.")}


def test_every_command_prints_a_document(commands: dict[str, Any]) -> None:
    without = [path for path, one in own(commands).items() if path and not any("--json" in parameter.opts for parameter in one.params)]
    assert set(without) - NO_DOCUMENT == set()


def test_every_address_has_a_command_or_a_reason(commands: dict[str, Any]) -> None:
    silent = {(method, path) for method, path in PERMISSIONS if method != "HEAD" and (method, path) not in COMMANDS}
    assert {door for door in silent if not any(door[1].startswith(beginning) for beginning in LEFT_OUT)} == set()
    assert set(COMMANDS) <= set(PERMISSIONS), "the table names an address that is gone"
    assert {words for words in COMMANDS.values() if words not in commands} == set()


def test_every_command_is_explained(commands: dict[str, Any]) -> None:
    assert [path for path, one in own(commands).items() if path and not (one.help or "").strip()] == []


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_list_fits_the_terminal_and_no_id_is_broken(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal has 80 columns, whatever COLUMNS says
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    server.on("GET", "/api/v1/jobs", page(job(), job(id="job_" + "9" * 32)))
    assert run("jobs", "list") == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(cell_len(line.rstrip()) for line in lines) <= columns
    assert any("job_" + "9" * 32 in line for line in lines)
    assert sum("bard <- /models/bard" in line for line in lines) == 2


def test_a_wide_terminal_gets_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], (("name", lambda one: one), ("twice", lambda one: one * 2)), empty="")
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["name", "twice"], ["a", "aa"], ["b", "bb"]]


@pytest.mark.parametrize(
    ("line", "word"),
    [("jbos list", "Did you mean 'jobs'"), ("jobs lst", "Did you mean 'list'"), ("jobs list --statsu queued", "--status")],
)
@pytest.mark.usefixtures("server")
def test_a_slip_is_answered_with_what_was_meant(capsys: pytest.CaptureFixture[str], line: str, word: str) -> None:
    assert run(*line.split()) == 2
    assert word in capsys.readouterr().err


def test_what_to_do_about_a_refusal(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/whoami", answer({"status": 401}, 401))
    assert run("whoami") == 1
    assert "quantry config show" in capsys.readouterr().err


NOTES = {"model_id": "mod_1", "tags": {"stage": "test", "golden": ""}, "notes": "for the search team", "updated_at": None}
MORE = [
    ("GET", "/api/v1/models/bard/notes", "models note bard", NOTES, "search team"),
    ("PATCH", "/api/v1/models/bard/notes", "models tag bard stage=test", NOTES, "golden\nstage: test"),
    ("GET", "/api/v1/queues", "queues list", {"data": []}, "no queues"),
    ("GET", "/api/v1/uploads", "uploads list", {"data": []}, "no uploads"),
    ("GET", "/api/v1/models/bard/figures", "models figures bard", {"model_name": "bard", "data": [], "has_more": True}, "no versions"),
    ("GET", "/api/v1/versions/bard/modules", "versions modules bard", {"version_id": "v", "data": [], "note": "all 16-bit"}, "16-bit"),
    (
        *("GET", "/api/v1/vault/usage", "models usage"),
        {"num_versions": 1, "logical_bytes": 3000, "stored_bytes": 2000, "saved_bytes": 1000, "models": []},
        "2.0 kB",
    ),
    ("GET", "/api/v1/whoami", "whoami", {"key_id": "key_1", "project_id": "prj_1", "role": "viewer", "is_platform": True}, "viewer"),
]


@pytest.mark.parametrize(("method", "path", "line", "document", "word"), MORE, ids=[row[2] for row in MORE])
def test_small_commands(
    server: FakeServer, capsys: pytest.CaptureFixture[str], *, method: str, path: str, line: str, document: Any, word: str
) -> None:
    server.on(method, path, answer(document))
    assert run(*line.split()) == 0
    assert word in capsys.readouterr().out
    assert run(*line.split(), "--json") == 0
    assert json.loads(capsys.readouterr().out).items() >= document.items()
