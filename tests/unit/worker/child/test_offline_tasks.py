"""The tasks that need no download: what is in the package is what the script makes, and is multiple choice in order."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
TASKS = ROOT / "services/worker/quantry_worker/child/evaluation/tasks"
NAMES = sorted(path.stem for path in TASKS.glob("*.yaml"))


def documents(path: Path) -> list[dict[str, str | int | list[str]]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_are_two_and_they_are_small() -> None:
    assert NAMES == ["quantry_next_word", "quantry_sentence_order"]
    assert sum(path.stat().st_size for path in TASKS.iterdir()) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_every_document_can_be_answered_and_no_position_gives_the_answer_away(name: str) -> None:
    config = yaml.safe_load((TASKS / f"{name}.yaml").read_text())
    assert config["task"] == name
    files = config["dataset_kwargs"]["data_files"]
    test, fewshot = documents(TASKS / files["test"]), documents(TASKS / files["fewshot"])
    assert len(test) >= 140
    for one in test + fewshot:
        choices = one["choices"]
        assert isinstance(choices, list)
        assert len(set(choices)) == 4
        assert one["context"]
    golds = [one["gold"] for one in test]
    # Four standard errors about a quarter.
    assert all(abs(golds.count(place) / len(test) - 0.25) < 4 * (0.1875 / len(test)) ** 0.5 for place in range(4))
    assert not {one["context"] for one in fewshot} & {one["context"] for one in test}


def test_the_script_makes_the_same_files_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "examples" / "make_tasks.py"))
    script["main"].__globals__["TASKS"] = tmp_path
    script["main"]()
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in TASKS.glob("*.jsonl")}
    assert "240 documents" in capsys.readouterr().out
