"""docs/jobs.md, docs/pipelines.md, docs/finetuning.md, those of deployments and the gateway, and the README's canary say what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from factories.client import FakeServer, page
from factories.serving import a_rollout
from quantry import read_pipeline, read_strategy
from quantry.cli.main import main
from quantry_core.errors import BodyStalled
from quantry_core.jobs import RETRIES, JobReason, JobStatus, WaitingOn
from quantry_core.strategies import CanaryStrategy, OnInconclusive
from quantry_deploy.settings import DeploySettings
from quantry_gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
JOBS = (DOCS / "jobs.md").read_text()
PIPELINES = (DOCS / "pipelines.md").read_text()
FINETUNING = (DOCS / "finetuning.md").read_text()
DEPLOYMENTS = (DOCS / "deployments.md").read_text()
GATEWAY = (DOCS / "gateway.md").read_text()
SHADOW = (DOCS / "shadow.md").read_text()
CAPTURE = (DOCS / "capture.md").read_text()
README = (ROOT / "README.md").read_text()
ENDS = {JobReason.COMPLETED, JobReason.CANCELLED, JobReason.POISON}


def test_the_table_of_retries_is_the_one_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([^|]*) \|$", JOBS, re.MULTILINE)
    assert {JobReason(reason): int(number) for reason, number, _ in rows} == {
        reason: rule.max_retries for reason, rule in RETRIES.items() if reason not in ENDS
    }
    for reason, _, words in rows:
        rule = RETRIES[JobReason(reason)]
        waits = [f"{rule.backoff_s * rule.factor**number:g} s" for number in range(rule.max_retries) if rule.backoff_s]
        assert ", ".join(waits) in words


@pytest.mark.parametrize("word", [*JobStatus, *WaitingOn])
def test_every_status_is_explained(word: str) -> None:
    assert f"`{word}`" in JOBS


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["jobs", "submit", "import", "--help"]) == 0
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--model", "--source", "--help", "--json"}
    assert {option for option in options if f"`{option}" not in JOBS} == set()


def test_every_option_of_a_fine_tune_that_is_named_exists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["jobs", "submit", "finetune", "--help"]) == 0
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) | {"--wait"}
    table = FINETUNING[FINETUNING.index("An option of the command") : FINETUNING.index("Of merge jobs")]
    commands = "\n".join(re.findall(r"quantry jobs submit finetune (?:.*\\\n)*.*", FINETUNING))
    assert set(re.findall(r"--[a-z][a-z-]+", table + commands)) <= options
    assert "--validate-every-steps" in table
    assert "--reward" in commands


def test_the_yaml_in_the_document_is_good(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", PIPELINES, re.DOTALL)
    path = tmp_path / "nightly.yaml"
    path.write_text(block)
    assert list(read_pipeline(path).steps) == ["quantize", "evaluate"]


def test_the_strategy_in_the_document_and_the_example_are_good(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", DEPLOYMENTS, re.DOTALL)
    path = tmp_path / "strategy.yaml"
    path.write_text(block)
    for canary in (read_strategy(path), read_strategy(ROOT / "examples" / "strategies" / "careful-canary.yaml")):
        assert isinstance(canary, CanaryStrategy)
        assert canary.on_inconclusive is OnInconclusive.ROLL_BACK
        assert canary.steps[-1].percent == 100


def test_every_option_of_a_deployment_is_explained(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["deploy", "--help"]) == 0
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert main(["jobs", "submit", "import", "--help"]) == 0
    shared = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert {option for option in options - shared if option not in DEPLOYMENTS} == set()


COMMANDS = sorted(
    set(
        re.findall(
            r"^quantry ((?:deploy|deployments|rollouts|jobs submit (?:deploy|recalibrate)) [^<\n]*?)(?: +#.*)?$",
            "\n".join([README, *((DOCS / f"{name}.md").read_text() for name in ("deployments", "rollouts", "shadow", "pools", "capture"))]),
            re.MULTILINE,
        )
    )
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_about_deployments_is_one(server: FakeServer, line: str) -> None:
    """The server, which knows little, refuses it: 2 would be a command that is not right, 0 one that asked for nothing."""
    server.on("GET", "/api/v1/deployments/bard/rollouts", page(a_rollout()))
    assert main(shlex.split(line)) == 1
    assert server.requests


def test_the_gateways_errors_are_those_of_the_code() -> None:
    source = "".join((ROOT / "services/gateway/quantry_gateway" / name).read_text() for name in ("openai_errors.py", "feedback.py"))
    raised = set(re.findall(r'OpenAIError\((\d+), "(\w+)"', source)) | {(str(BodyStalled.status), BodyStalled.slug.replace("-", "_"))}
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`(?:, )?)+) \|", GATEWAY, re.MULTILINE)
    assert {(status, code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == raised


def test_the_gateways_settings_have_their_defaults() -> None:
    told = dict(re.findall(r"^\| `QUANTRY_(GATEWAY_\w+)` \| ([^|]+) \|", GATEWAY, re.MULTILINE))
    elsewhere = {name for name in GatewaySettings.model_fields if f"`QUANTRY_{name.upper()}`" in SHADOW + CAPTURE}
    assert {name.upper() for name in GatewaySettings.model_fields if name.startswith("gateway_")} == {
        *told,
        "GATEWAY_HOST",
        "GATEWAY_PORT",
        *(name.upper() for name in elsewhere),
    }
    for name, default in told.items():
        field = GatewaySettings.model_fields[name.lower()]
        number = re.fullmatch(r"([\d,.]+)( MiB)?", default)
        if number is None:
            assert (name, default) == (name, "must be set" if field.is_required() else "none")
            assert field.is_required() or field.default in (None, "")
        else:
            assert field.default == float(number[1].replace(",", "")) * (2**20 if number[2] else 1), name


def test_the_controllers_settings_are_told_with_the_numbers_that_hold() -> None:
    rollouts, everything = (DOCS / "rollouts.md").read_text(), "".join(path.read_text() for path in DOCS.glob("*.md"))
    assert [name for name in DeploySettings.model_fields if f"QUANTRY_{name.upper()}" not in everything] == []
    table = rollouts[rollouts.index("## Settings of the controller") :]
    for names, defaults in re.findall(r"^\| ((?:`QUANTRY_\w+`(?:, )?)+) \| ([\d, ]+) \|", table, re.MULTILINE):
        fields = [DeploySettings.model_fields[name.lower()].default for name in re.findall(r"`QUANTRY_(\w+)`", names)]
        assert (names, fields) == (names, [float(default) for default in defaults.split(", ")])
