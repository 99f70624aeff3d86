"""The quality gate for real, with thresholds of every kind, on the example model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factories.child_runs import MASTER, Ran, checkpoint, text
from factories.forked import run
from quantry_core.jobs import EvaluateSpec, InputRole, QualitySpec, QuantizeSpec, TasksSpec
from quantry_core.methods import Format
from quantry_core.versions import Verdict, VersionKind, VersionState

WORD, ORDER = "quantry_next_word", "quantry_sentence_order"
CORPUS = "kjv.test@1"
LOOSE = {
    "perplexity_ratio_high": 1.5,
    "attention_similarity_min": 0.5,
    f"task:{WORD}.acc": 0.2,
    f"task:{ORDER}.acc_change": -0.5,
    "extremes.num_failed": 0,
    "extremes.top1_agreement": 0.1,
    "weights_ratio": 0.6,
    "bits_per_parameter": 9,
}
TIGHT = {
    "perplexity_ratio": 1.0,
    "attention_similarity_min": 1.0,
    f"task:{WORD}.acc": 1.0,
    f"task:{ORDER}.word_perplexity": 1000,
    "extremes.kl_mean_nats": 0,
    "weights_bytes": 1000,
}


def quality(thresholds: dict[str, float]) -> QualitySpec:
    tasks = TasksSpec(names=[WORD, ORDER], limit=20)
    return QualitySpec(corpora=["kjv"], thresholds=thresholds, window_tokens=64, max_windows=12, extremes=True, tasks=tasks)


def quantize(folder: Path, thresholds: dict[str, float]) -> Ran:
    inputs = [checkpoint(InputRole.BASE, MASTER), text(InputRole.CORPUS, folder, "kjv.test")]
    spec = QuantizeSpec(base="bard", method="rtn", scheme="W4A16", group_size=64, quality=quality(thresholds))
    return run(folder / "attempt", spec, inputs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return quantize(tmp_path_factory.mktemp("loose"), LOOSE)


def test_a_version_within_all_its_thresholds_is_ready_and_each_figure_is_told(made: Ran) -> None:
    found = made.evidence("quality")
    assert (found.verdict, found.metrics["problems"]) == (Verdict.PASS, [])
    assert made.result.version is not None
    assert made.result.version.state is VersionState.READY
    assert found.metrics.keys() > LOOSE.keys()
    assert found.metrics["weights_ratio"] == made.result.metrics["weights_ratio"]
    # What was kept of the master is gone.
    assert not list(made.output_dir.parent.glob("quality-*"))
    rows = [json.loads(line) for line in (made.artifacts_dir / "quality" / "tasks.jsonl").read_text().splitlines()]
    assert [sum(row["task"] == name for row in rows) for name in (WORD, ORDER)] == [20, 20]


def test_what_is_kept_of_the_master_gives_the_figures_of_both_models_in_memory(made: Ran, tmp_path: Path) -> None:
    asked = quality(LOOSE)
    spec = EvaluateSpec(
        version="bard@2",
        against="bard@1",
        corpora=["kjv"],
        window_tokens=64,
        max_windows=12,
        attention=True,
        extremes=True,
        tasks=asked.tasks,
        thresholds=LOOSE,
    )
    inputs = [
        checkpoint(InputRole.SUBJECT, made.output_dir, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS),
        checkpoint(InputRole.REFERENCE, MASTER),
        text(InputRole.CORPUS, tmp_path, "kjv.test"),
    ]
    evaluated = run(tmp_path / "attempt", spec, inputs)
    gate = made.evidence("quality").metrics
    corpus = evaluated.evidence(CORPUS).metrics
    assert {name: corpus[name] for name in gate["corpora"][CORPUS]} == gate["corpora"][CORPUS]
    attention = evaluated.evidence("attention").metrics
    assert attention["similarity_by_layer"] == gate["similarity_by_layer"]
    assert evaluated.evidence("extremes").metrics["cases"] == gate["cases"]
    for name in (WORD, ORDER):
        task = evaluated.evidence(f"task:{name}").metrics
        assert {metric: task[metric] for metric in gate["tasks"][name]} == gate["tasks"][name]
    for name in ("weights_ratio", "bits_per_parameter"):
        assert evaluated.evidence("size").metrics[name] == gate[name]
    assert {one.verdict for one in evaluated.result.evidence} == {Verdict.PASS}


def test_a_version_that_breaks_one_of_each_kind_is_quarantined_for_each(tmp_path: Path) -> None:
    made = quantize(tmp_path, TIGHT)
    assert made.result.version is not None
    assert made.result.version.state is VersionState.QUARANTINED
    problems = made.evidence("quality").metrics["problems"]
    # A task that does not have the metric keeps no threshold on it.
    assert f"task:{ORDER}.word_perplexity could not be measured" in problems
    for name in TIGHT:
        assert sum(name in problem for problem in problems) == 1, (name, problems)


def test_a_task_that_is_not_here_is_refused_before_any_work(tmp_path: Path) -> None:
    inputs = [checkpoint(InputRole.BASE, MASTER), text(InputRole.CORPUS, tmp_path, "kjv.test")]
    asked = QualitySpec(corpora=["kjv"], tasks=TasksSpec(names=["no-such"]))
    ran = run(tmp_path / "attempt", QuantizeSpec(base="bard", method="rtn", quality=asked), inputs)
    assert "has no task 'no-such'" in ran.failure.message
    assert not list(ran.output_dir.iterdir())
