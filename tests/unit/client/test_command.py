"""The command line: what it sends, what it prints, how it exits."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from factories.client import (
    JOB_ID,
    MASTER_ID,
    NOW,
    PIPELINE_ID,
    QUANTIZED_ID,
    URL,
    FakeServer,
    Pieces,
    answer,
    event,
    event_stream,
    failing,
    job,
    lineage,
    page,
    pipeline,
    problem,
    step,
    succeeded,
    version,
)
from factories.described import described_master, described_quantized
from quantry.cli import lineage as lineage_command
from quantry.cli import main as command
from quantry_core.aliases import Alias
from quantry_core.cards import CARD_MARK
from quantry_core.comparisons import Relation, compare
from quantry_core.jobs import EventKind, JobReason, JobStatus
from quantry_core.keys import ApiKey, NewKey, Role
from quantry_core.method_views import MethodView, method_view, method_views
from quantry_core.methods import METHODS, Environment, Method
from quantry_core.pages import Page
from quantry_core.projects import Project, ProjectLimits
from quantry_core.rollouts import Deployment
from quantry_core.vault import CollectReport, VaultRun, VaultRunKind, VaultRunStatus, VaultStore, VerifyReport
from quantry_core.vault_usage import ModelUsage, VaultUsage
from quantry_core.version_notes import VersionNotes
from quantry_core.versions import Model
from quantry_core.workers import Device, Worker

JOB = f"/api/v1/jobs/{JOB_ID}"


def sent(server: FakeServer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(server.requests[0].content)
    return document


DEFAULTS: dict[str, Any] = {
    "priority": 5,
    "resource": None,
    "queue": None,
    "limits": {"time_s": None, "memory_bytes": None},
    "not_before": None,
    "labels": {},
    "metadata": {},
    "force": False,
    "needs": [],
}


def run(*arguments: str) -> int:
    return command.main(arguments)


def test_a_quantize_job_with_every_option(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    options = "--base bard@1 --method gptq --scheme W4A16 --group-size 64 --option damping=0.05 --ignore lm_head --ignore re:.*gate"
    more = "--calibration plays --calibration psalms@2 --num-samples 32 --length-tokens 128 --seed 7 --priority 1"
    mixed = "--keep-16bit *.o_proj --override *.down_proj=W8A16:32 --override re:.*k_proj=W8A16 --kv-cache fp8"
    quality = "--quality-corpus news --threshold perplexity_ratio=1.05 --threshold top1_agreement=0.8"
    assert run("jobs", "submit", "quantize", *options.split(), *more.split(), *mixed.split(), *quality.split()) == 0
    assert sent(server) == {
        "spec": {
            "type": "quantize",
            "base": "bard@1",
            "method": "gptq",
            "scheme": "W4A16",
            "group_size": 64,
            "options": {"damping": 0.05},
            "ignore": ["lm_head", "re:.*gate"],
            "keep_16bit": ["*.o_proj"],
            "overrides": [
                {"modules": ["*.down_proj"], "scheme": "W8A16", "group_size": 32},
                {"modules": ["re:.*k_proj"], "scheme": "W8A16", "group_size": None},
            ],
            "kv_cache": "fp8",
            "calibration": {"datasets": ["plays", "psalms@2"], "num_samples": 32, "length_tokens": 128, "seed": 7},
            "quality": {
                "corpora": ["news"],
                "thresholds": {"perplexity_ratio": 1.05, "top1_agreement": 0.8},
                "window_tokens": 256,
                "max_windows": 64,
                "seed": 0,
            },
        },
    } | DEFAULTS | {"priority": 1}
    assert f"quantry jobs watch {JOB_ID}" in capsys.readouterr().out


def test_defaults_are_those_of_the_spec(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "deploy", "--deployment", "chat", "--version", "bard") == 0
    assert sent(server)["spec"] == {
        "type": "deploy",
        "deployment": "chat",
        "version": "bard",
        "replicas": 1,
        "engine": {"engine": "vllm", "max_model_len_tokens": None, "kv_cache_bytes": 268435456, "max_num_seqs": 16},
        "ready_timeout_s": 600,
    }
    assert sent(server)["priority"] == 5


def test_a_relative_source_is_taken_from_here_and_a_hub_id_is_left_alone(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    for given, expected in (("models/bard", str(tmp_path / "models/bard")), ("/abs", "/abs"), ("hf:owner/name@main", "hf:owner/name@main")):
        server.requests.clear()
        assert run("jobs", "submit", "import", "--model", "bard", "--source", given) == 0
        assert sent(server)["spec"]["source"] == expected


def test_a_method_without_text_and_quality(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "quantize", "--base", "bard", "--method", "rtn", "--group-size", "channel", "--no-quality") == 0
    spec = sent(server)["spec"]
    assert (spec["group_size"], spec["calibration"], spec["quality"], spec["scheme"]) == ("channel", None, None, None)


def test_evaluate(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "evaluate", "--version", "bard@2", "--against", "bard@1", "--corpus", "plays", "--max-windows", "4") == 0
    assert sent(server)["spec"] == {
        "type": "evaluate",
        "version": "bard@2",
        "against": "bard@1",
        "corpora": ["plays"],
        "window_tokens": 256,
        "stride_tokens": None,
        "max_windows": 4,
        "thresholds": {"perplexity_ratio": 1.02},
        "attention": False,
        "extremes": False,
        "tasks": None,
        "speed": None,
        "seed": 0,
    }


def test_evaluate_with_tasks_and_speed(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    line = "--version bard@2 --extremes --task piqa --task quantry_next_word --task-limit 8 --speed --concurrency 1 --concurrency 8"
    assert run("jobs", "submit", "evaluate", *line.split(), "--threshold", "kl_mean_nats=0.1") == 0
    spec = sent(server)["spec"]
    assert spec["tasks"] == {"names": ["piqa", "quantry_next_word"], "num_fewshot": None, "limit": 8}
    assert spec["speed"] == {"concurrency": [1, 8], "prompt_tokens": 64, "output_tokens": 32, "num_requests": 16}
    assert (spec["corpora"], spec["extremes"], spec["thresholds"]) == ([], True, {"kl_mean_nats": 0.1})


def test_recalibrate(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    line = "--deployment chat --dataset traffic --corpus plays --corpus news --margin-nats 0.02 --rollout"
    assert run("jobs", "submit", "recalibrate", *line.split()) == 0
    spec = sent(server)["spec"]
    assert (spec["deployment"], spec["serving"], spec["recipe"]) == ("chat", None, None)
    assert (spec["datasets"], spec["corpora"], spec["alias"]) == (["traffic"], ["plays", "news"], "candidate")
    assert (spec["margin_nats"], spec["rollout"]) == (0.02, True)


def test_waiting_for_a_job_that_succeeds(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", JOB, answer(succeeded()))
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.STATE, status="running", reason=None, message=None),
            event(2, EventKind.PROGRESS, phase="copy [x]", fraction=0.10, detail="file 1"),
            event(3, EventKind.PROGRESS, phase="copy [x]", fraction=0.12, detail="file 2"),
            event(4, EventKind.PROGRESS, phase="copy [x]", fraction=0.55, detail="file 3"),
            event(5, EventKind.LOG, text="noise"),
            event(6, EventKind.NOTE, text="[bold] is no markup"),
            event(7, EventKind.STATE, status="succeeded", reason="completed", message=None),
        ),
    )
    assert run("jobs", "submit", "import", "--model", "bard", "--source", "/m", "--wait") == 0
    out = capsys.readouterr().out
    assert "copy [x]  10% file 1" in out
    assert "file 2" not in out
    assert "copy [x]  55% file 3" in out
    assert "[bold] is no markup" in out
    assert "noise" not in out
    assert out.splitlines()[-1] == f"{JOB_ID} succeeded in 1.2 s: {MASTER_ID}"


def test_watching_a_job_that_fails(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/events", event_stream(event(1, EventKind.STATE, status="failed", reason="gate_failed", message="bad")))
    server.on("GET", JOB, answer(job(JobStatus.FAILED, reason=JobReason.GATE_FAILED, message="perplexity rose by 9%")))
    assert run("jobs", "watch", JOB_ID) == 1
    err = capsys.readouterr().err
    assert f"{JOB_ID} failed (gate_failed): perplexity rose by 9%" in err
    assert f"quantry jobs logs {JOB_ID}" in err


def test_watching_for_programs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    events = [event(1, EventKind.NOTE, text="ä"), event(2, EventKind.STATE, status="failed", reason="internal")]
    server.on("GET", f"{JOB}/events", event_stream(*events))
    server.on("GET", JOB, answer(job(JobStatus.FAILED)))
    assert run("jobs", "watch", JOB_ID, "--json") == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [item.model_dump(mode="json") for item in events]


def test_on_a_terminal_a_bar_is_shown_and_notes_scroll_by(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    server.on("GET", JOB, answer(succeeded()))
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.PROGRESS, phase="[copy]", fraction=0.42, detail="file 1"),
            event(2, EventKind.NOTE, text="[red]a note"),
            event(3, EventKind.STATE, status="succeeded"),
        ),
    )
    assert run("jobs", "watch", JOB_ID) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert "[red]a note" in out
    assert "42%" in out
    assert "succeeded in 1.2 s" in out


def test_submitting_and_waiting_for_programs_prints_the_job_alone(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", JOB, answer(succeeded()))
    assert run("jobs", "submit", "import", "--model", "bard", "--source", "/m", "--wait", "--json") == 0
    assert json.loads(capsys.readouterr().out) == succeeded().model_dump(mode="json")


KEY_ROW = ApiKey(id="key_1", project_id="prj_1", name="ci", role=Role.VIEWER, prefix="qtr_abcd", created_at=NOW)
MODEL = Model(id="mod_1", project_id="prj_1", name="bard", created_at=NOW, num_versions=2, latest_version_id=QUANTIZED_ID)
DEPLOYMENT = Deployment(
    id="dep_1", project_id="prj_1", name="chat", current_release=None, active_rollout=None, replicas=[], is_stopped=True, created_at=NOW
)
PIPELINE = pipeline(step("import", JobStatus.SUCCEEDED))
WORKER_ID = "wrk_" + "1" * 32
WORKER = Worker(
    id=WORKER_ID,
    host="gpu-host",
    pid=7,
    version="0.1.0",
    queues=["cpu", "gpu-80g"],
    num_slots=2,
    environments={Environment.ML: "a" * 64},
    devices=[Device(id="0", name="H200", memory_bytes=150_000_000_000)],
    is_alive=True,
    job_ids=[JOB_ID],
    started_at=NOW,
    last_seen_at=NOW,
)
PROJECT = Project(id="prj_1", name="default", limits=ProjectLimits(max_running=4), num_waiting=1, num_queued=9, num_running=3)
VERSION = version({"config.json": b"{}"})


NOTES = VersionNotes(version_id=MASTER_ID, tags={"stage": "test", "golden": ""}, notes="to be shown", updated_at=NOW)
USAGE = VaultUsage(
    num_versions=2,
    logical_bytes=2000,
    stored_bytes=1500,
    saved_bytes=500,
    models=[ModelUsage(model_name="bard", num_versions=2, logical_bytes=2000, stored_bytes=1500, saved_bytes=500)],
)
VERIFIED = VaultRun(
    id="vrn_" + "1" * 32,
    project_id="prj_1",
    kind=VaultRunKind.VERIFY,
    status=VaultRunStatus.SUCCEEDED,
    request={},
    report=VerifyReport(num_blobs=3, num_bytes=6000).model_dump(mode="json"),
    message="nothing is damaged",
    created_at=NOW,
    finished_at=NOW,
)
COLLECTED = VaultRun(
    id="vrn_" + "2" * 32,
    project_id="prj_1",
    kind=VaultRunKind.COLLECT,
    status=VaultRunStatus.SUCCEEDED,
    request={},
    report=CollectReport(num_blobs=2, num_bytes=1500).model_dump(mode="json"),
    message="1500 bytes would be freed",
    created_at=NOW,
    finished_at=NOW,
)
ALIAS = Alias(model_name="bard", alias="live", version_id=MASTER_ID, updated_at=NOW)


def test_an_alias_is_moved_to_the_version_that_a_ref_names(server: FakeServer) -> None:
    server.on("GET", "/api/v1/versions/bard@1", answer(VERSION))
    server.on("PUT", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    assert server.client().models.move_alias("bard", "live", MASTER_ID) == ALIAS
    assert run("models", "set-alias", "bard", "live", "bard@1") == 0
    assert [json.loads(request.content) for request in server.requests if request.method == "PUT"] == [{"version_id": MASTER_ID}] * 2


def prepare_everything(server: FakeServer) -> None:
    server.on("GET", "/api/v1/jobs", page(job(), has_more=True))
    server.on("GET", JOB, answer(job()))
    server.on("POST", f"{JOB}/cancel", answer(job(JobStatus.CANCELLED)))
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text="line\n"))
    server.on("GET", "/api/v1/pipelines", page(PIPELINE))
    server.on("GET", "/api/v1/workers", page(WORKER))
    server.on("GET", "/api/v1/project", answer(PROJECT))
    server.on("GET", "/api/v1/models", page(MODEL))
    server.on("GET", "/api/v1/models/bard", answer(MODEL))
    server.on("GET", "/api/v1/versions", page(VERSION))
    server.on("GET", "/api/v1/versions/bard@1", answer(VERSION))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}", answer(VERSION))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/config.json", lambda _request: httpx.Response(200, stream=Pieces(b"{}")))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/card", lambda _request: httpx.Response(200, text=f"# The card\n{CARD_MARK}\n"))
    for ref in (MASTER_ID, "bard@1"):
        server.on("GET", f"/api/v1/versions/{ref}/notes", answer(NOTES))
        server.on("PATCH", f"/api/v1/versions/{ref}/notes", answer(NOTES))
    server.on("GET", "/api/v1/versions/bard@1/card", lambda _request: httpx.Response(200, text=f"# The card\n{CARD_MARK}\n"))
    server.on("GET", "/api/v1/versions/compare", answer(compare(described_master(), described_quantized(), Relation.ANCESTOR)))
    server.on("GET", "/api/v1/vault/usage", answer(USAGE))
    server.on("GET", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    server.on("PUT", "/api/v1/models/bard/aliases/live", answer(ALIAS))
    server.on("GET", "/api/v1/vault/store", answer(VaultStore(keeps_versions=True, locks_objects=True, retention_s=3600)))
    server.on("GET", "/api/v1/vault/runs", page(VERIFIED, COLLECTED))
    server.on("GET", f"/api/v1/vault/runs/{COLLECTED.id}", answer(COLLECTED))
    server.on("POST", "/api/v1/vault/verify", answer(VERIFIED, 202))
    server.on("POST", "/api/v1/vault/collect", answer(COLLECTED, 202))
    server.on("DELETE", f"/api/v1/versions/{MASTER_ID}", lambda _request: httpx.Response(204))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/lineage", answer(lineage()))
    server.on("GET", "/api/v1/datasets", page())
    server.on("GET", "/api/v1/deployments", page(DEPLOYMENT))
    server.on("GET", "/api/v1/deployments/chat", answer(DEPLOYMENT))
    server.on("POST", "/api/v1/deployments/chat/stop", answer(DEPLOYMENT))
    server.on("POST", "/api/v1/deployments/chat/start", answer(DEPLOYMENT))
    server.on("GET", "/api/v1/methods", answer(Page[MethodView](data=method_views())))
    server.on("GET", "/api/v1/methods/gptq", answer(method_view(METHODS[Method.GPTQ])))
    server.on("GET", "/api/v1/keys", page(KEY_ROW))
    server.on("POST", "/api/v1/keys", answer(NewKey(key=KEY_ROW, secret="qtr_abcd-once"), 201))
    server.on("DELETE", "/api/v1/keys/key_1", lambda _request: httpx.Response(204))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("jobs list", [JOB_ID, "import", "queued", "bard <- /models/bard"]),
        (f"jobs show {JOB_ID}", [JOB_ID, "attempt", '"source":"/models/bard"']),
        (f"jobs cancel {JOB_ID}", [f"{JOB_ID} cancelled"]),
        (f"jobs logs {JOB_ID} --tail 5", ["line"]),
        ("pipelines list", ["compare", "succeeded", "1 succeeded", PIPELINE_ID]),
        ("workers list", [WORKER_ID, "gpu-host pid 7", "there", "cpu, gpu-80g", "1 of 2 busy", "0 H200 150.0 GB", "ml"]),
        ("project show", ["default", "3 of at most 4", "9", "1"]),
        ("models list", ["bard", "2", QUANTIZED_ID]),
        ("models show bard", ["bard", MASTER_ID, "1.5 kB; 500 B saved"]),
        ("models alias bard live --at 2026-11-22T12:00Z", [MASTER_ID]),
        ("models set-alias bard live bard@1", [f"bard@live: {MASTER_ID}"]),
        ("vault store", ["keeps versions  yes", "for 3600 s"]),
        ("vault list", [VERIFIED.id, "verify", "succeeded", "nothing is damaged", COLLECTED.id]),
        (f"vault show {COLLECTED.id}", ["would be freed", "blobs", "2", "1.5 kB"]),
        ("vault verify --version bard@1", [VERIFIED.id, "3 blobs", "6.0 kB"]),
        ("vault collect", [COLLECTED.id, "collect"]),
        ("versions list --model bard", ["bard@1", "master", MASTER_ID]),
        ("versions show bard@1", ["bard@1", "config.json", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]),
        ("versions export bard@1 {out}", ["2 files", "digests checked"]),
        ("versions lineage bard@1", ["bard@1", "bard@2", "calibration: plays@1"]),
        ("versions compare bard@1 bard@2", ["left is ancestor", "recipe.yaml", "options.damping", "perplexity", "W4A16"]),
        ("versions tag bard@1 stage=test --remove old", ["golden,stage=test"]),
        ("versions note bard@1", ["to be shown"]),
        ("versions delete bard@1", ["bard@1", "is deleted"]),
        ("lineage bard@1", ["bard@1", "bard@2", "calibration: plays@1"]),
        ("datasets list", ["There are no datasets"]),
        ("deployments list", ["chat", "stopped"]),
        ("deployments show chat", ["chat", "It has no replicas."]),
        ("deployments stop chat", ["chat is being stopped"]),
        ("deployments start chat", ["chat is being started"]),
        ("methods", ["gptq", "W4A16", "32, 64, 128*", "eetq", "cuda"]),
        ("methods show gptq", ["arXiv:2210.17323", "damping", "0.01", "vllm (cpu)", "activation_order"]),
        ("keys list", ["key_1", "ci", "viewer", "qtr_abcd"]),
        ("keys create --name ci --role viewer", ["qtr_abcd-once"]),
        ("keys revoke key_1", ["key_1 is revoked"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: list[str]
) -> None:
    prepare_everything(server)
    arguments = line.format(out=tmp_path / "out").split()
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert run(*arguments, "--json") == 0
    json.loads(capsys.readouterr().out)


def test_a_longer_list_says_how_to_go_on(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_everything(server)
    assert run("jobs", "list", "--limit", "1") == 0
    assert f"--after {JOB_ID}" in capsys.readouterr().err


def test_the_lineage_tree_has_the_master_at_its_root() -> None:
    [tree] = lineage_command.lineage_trees(lineage())
    assert str(tree.label).startswith("bard@1  master")
    [quantized] = tree.children
    assert "bard@2" in str(quantized.label)
    assert "<- this one" in str(quantized.label)
    assert [str(leaf.label) for leaf in quantized.children] == ["calibration: plays@1"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "jobs list --status nonsense",
        "jobs submit import --model A/B --source /m",
        "jobs submit quantize --base bard",
        "jobs submit quantize --base bard --calibration plays --option damping=7",
        "jobs submit quantize --base bard --calibration plays --option damping",
        "jobs submit quantize --base bard --calibration plays --group-size wide",
        "jobs submit quantize --base bard --calibration plays --override o_proj",
        "jobs submit quantize --base bard --calibration plays --threshold speed=1",
        "jobs submit quantize --base bard --method rtn --calibration plays",
        "jobs submit quantize --base bard --method magic",
        "jobs submit evaluate --version bard",
        "jobs submit evaluate --version bard --corpus plays --threshold perplexity=low",
        "jobs submit recalibrate --dataset a --corpus b",
        "jobs submit import --model bard --source /m --priority 11",
        "datasets upload plays /no/such/file",
        "keys create --name a/b",
        "models show ..",
        "--url nonsense models list",
    ],
)
def test_what_is_not_right_is_a_usage_error_and_reaches_no_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert run(*line.split()) == 2
    assert server.requests == []
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err or captured.out


def test_a_refusal_says_why_and_exits_with_1(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"field": "spec.base", "message": "is quantized already"}]
    server.on("POST", "/api/v1/jobs", problem(422, "invalid-input", "that cannot be quantized", errors=errors))
    assert run("jobs", "submit", "quantize", "--base", "bard@2", "--calibration", "plays") == 1
    assert capsys.readouterr().err.splitlines() == ["quantry: that cannot be quantized", "spec.base: is quantized already"]


def test_no_server_exits_with_3(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/jobs", failing(httpx.ConnectError))
    assert run("jobs", "list") == 3
    err = capsys.readouterr().err.splitlines()
    assert URL in err[0]
    assert len(err) == 2


def test_no_key_names_the_places(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "entry_points", lambda group: [])
    monkeypatch.setenv("QUANTRY_STATE_DIR", str(tmp_path))
    for name in ("QUANTRY_URL", "QUANTRY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert run("jobs", "list") == 2
    err = capsys.readouterr().err
    assert "QUANTRY_API_KEY" in err
    assert "client.json" in err


def test_a_plugin_adds_commands_and_a_broken_one_costs_only_a_warning(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        importlib.metadata.EntryPoint("good", "unit_client_plugin:register", command.PLUGIN_GROUP),
        importlib.metadata.EntryPoint("broken", "no_such_module:register", command.PLUGIN_GROUP),
    ]

    def register(app: typer.Typer) -> None:
        @app.command("greet")
        def greet() -> None:
            typer.echo("hello")

    def load(entry: importlib.metadata.EntryPoint) -> object:
        if entry.name == "good":
            return register
        raise ModuleNotFoundError("no_such_module")

    monkeypatch.setattr(command, "entry_points", lambda group: entries)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    assert run("greet") == 0
    captured = capsys.readouterr()
    assert captured.out == "hello\n"
    assert "broken" in captured.err


def test_ctrl_c_exits_with_130(server: FakeServer) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.on("GET", "/api/v1/jobs", interrupt)
    assert run("jobs", "list") == 130
