"""docs/jobs.md, docs/pipelines.md and docs/finetuning.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantry import read_pipeline
from quantry.cli.main import main
from quantry_core.jobs import RETRIES, JobReason, JobStatus, WaitingOn

DOCS = Path(__file__).resolve().parents[3] / "docs"
JOBS = (DOCS / "jobs.md").read_text()
PIPELINES = (DOCS / "pipelines.md").read_text()
FINETUNING = (DOCS / "finetuning.md").read_text()
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
