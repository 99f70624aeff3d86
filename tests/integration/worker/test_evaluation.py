"""Evaluations for real, on the example model and checkpoints of it that are written here with numpy alone.

The figures are compared with those of independent_evaluation.py, which shares no code with the recipe.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.child_runs import ENGINE_PYTHON, ENGINE_SCRIPT, MASTER, ML_SCRIPT, TEXT_FILE, Ran, checkpoint, text
from factories.coarse_versions import write_version
from factories.forked import run
from quantry_core.jobs import EvaluateSpec, InputRole, JobReason, SpeedSpec, TasksSpec
from quantry_core.methods import Format
from quantry_core.versions import Verdict, VersionKind

WINDOW, STRIDE, NUM_WINDOWS, ATTENTION_WINDOWS = 64, 40, 12, 4


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of 15 levels; nothing is rounded at run time, so two programs compute the same."""
    return write_version(tmp_path_factory.mktemp("coarse") / "version", largest_level=7, activations=None)


def independent(subject: Path, corpus: Path) -> dict[str, Any]:
    """Returns the figures of an independent computation."""
    script = Path(__file__).with_name("independent_evaluation.py")
    arguments = [subject, MASTER, WINDOW, STRIDE, NUM_WINDOWS, ATTENTION_WINDOWS, corpus / TEXT_FILE]
    finished = subprocess.run([*ML_SCRIPT, script, *map(str, arguments)], check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def evaluate(directory: Path, subject: Path, spec: EvaluateSpec, **more: Any) -> Ran:
    form = Format.SAFETENSORS if subject == MASTER else Format.COMPRESSED_TENSORS
    inputs = [checkpoint(InputRole.SUBJECT, subject, VersionKind.QUANTIZED, form)]
    if spec.against is not None:
        inputs.append(checkpoint(InputRole.REFERENCE, MASTER))
    inputs += [text(InputRole.CORPUS, directory.parent, f"{name}.test") for name in spec.corpora]
    return run(directory, spec, inputs, **more)


def spec_of(**changes: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"version": "bard", "window_tokens": WINDOW, "max_windows": NUM_WINDOWS} | changes)


def test_strided_figures_attention_and_extremes_agree_with_an_independent_computation(tmp_path: Path, coarse: Path) -> None:
    spec = spec_of(against="bard", corpora=["kjv"], stride_tokens=STRIDE, attention=True, extremes=True, thresholds={"kl_max_nats": 5})
    ran = evaluate(tmp_path / "attempt", coarse, spec)
    corpus = ran.evidence("kjv.test@1")
    expected = independent(coarse, tmp_path / "kjv.test")

    assert corpus.metrics["num_tokens"] == expected["num_tokens"] == WINDOW - 1 + (NUM_WINDOWS - 1) * STRIDE
    for name in expected.keys() - {"similarity_by_layer", "num_tokens"}:
        assert corpus.metrics[name] == pytest.approx(expected[name], rel=1e-3)
    low, change, high = (corpus.metrics[f"nll_increase{end}_nats"] for end in ("_low", "", "_high"))
    assert low < change < high
    assert corpus.metrics["perplexity_ratio"] == pytest.approx(math.exp(change))
    assert corpus.verdict is Verdict.PASS

    attention = ran.evidence("attention")
    assert attention.metrics["similarity_by_layer"] == pytest.approx(expected["similarity_by_layer"], abs=1e-4)
    assert attention.metrics["attention_similarity_min"] == min(attention.metrics["similarity_by_layer"]) < 1

    extremes = ran.evidence("extremes")
    cases = {case["name"]: case for case in extremes.metrics["cases"]}
    assert extremes.verdict is Verdict.PASS
    assert {name: case["num_tokens"] for name, case in cases.items()} | {"control-characters": 0, "emoji": 0} == {
        "empty": 1,
        "ten-thousand-characters": 1024,
        "control-characters": 0,
        "emoji": 0,
        "longest-context": 1024,
    }
    assert all(case["is_finite"] and 0 < case["kl_mean_nats"] < 1 for case in cases.values())
    assert {(one.metrics["against"], one.metrics["against_version_id"]) for one in ran.result.evidence} == {("bard@1", "ver_1")}
    check_artifacts(ran)


def check_artifacts(ran: Ran) -> None:
    """The raw results say the same as the evidence."""
    corpus = ran.evidence("kjv.test@1")
    tensors = load_file(ran.artifacts_dir / "tokens" / "kjv.test-v1.safetensors")
    assert len(tensors["nll"]) == corpus.metrics["num_tokens"]
    assert math.exp(tensors["nll"].astype(np.float64).mean()) == pytest.approx(corpus.metrics["perplexity"], rel=1e-6)
    assert tensors["kl"].max() == pytest.approx(corpus.metrics["kl_max_nats"], rel=1e-6)
    document = json.loads((ran.artifacts_dir / "results.json").read_text())
    assert [one["metrics"] for one in document["evidence"]] == [one.metrics for one in ran.result.evidence]
    assert document["spec"]["seed"] == 0
    assert {"torch", "transformers"} <= document["toolchain"].keys()


@pytest.mark.long
def test_activations_are_rounded_as_an_engine_rounds_them(tmp_path: Path) -> None:
    int8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    weights_only = write_version(tmp_path / "w8a16", largest_level=127, activations=None)
    both = write_version(tmp_path / "w8a8", largest_level=127, activations=int8)
    spec = spec_of(against="bard", corpora=["kjv"], stride_tokens=STRIDE)
    without, ours = (evaluate(tmp_path / f"{path.name}-run", path, spec).evidence("kjv.test@1").metrics for path in (weights_only, both))
    expected = independent(both, tmp_path / "kjv.test")
    # The last bit of a sum decides which way a rounding falls, and one that falls the other way moves all that follow.
    assert ours["perplexity"] == pytest.approx(expected["perplexity"], rel=3e-3)
    assert ours["kl_mean_nats"] == pytest.approx(expected["kl_mean_nats"], rel=0.25)
    assert ours["kl_mean_nats"] > 3 * without["kl_mean_nats"]


@pytest.mark.long
def test_the_same_seed_gives_the_same_results_and_another_seed_another_interval(tmp_path: Path, coarse: Path) -> None:
    spec = spec_of(against="bard", corpora=["speeches"])
    first, again, other = (
        evaluate(tmp_path / name, coarse, spec.model_copy(update={"seed": seed})) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert (first.artifacts_dir / "results.json").read_bytes() == (again.artifacts_dir / "results.json").read_bytes()
    ours, theirs = (one.evidence("speeches.test@1").metrics for one in (first, other))
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert changed == {"seed", "nll_increase_low_nats", "nll_increase_high_nats", "perplexity_ratio_low", "perplexity_ratio_high"}


@pytest.mark.long
def test_tasks_run_without_a_network_and_what_needs_one_says_so(tmp_path: Path, coarse: Path) -> None:
    tasks = TasksSpec(names=["quantry_next_word", "quantry_sentence_order"], limit=40, num_fewshot=2)
    ran = evaluate(tmp_path / "tasks", coarse, spec_of(against="bard", tasks=tasks))
    word = ran.evidence("task:quantry_next_word")
    # Chance is a quarter; the model has read the books that the words are from.
    assert word.metrics["acc"] > 0.45
    assert word.metrics["reference_acc"] > 0.45
    assert word.metrics["acc_stderr"] == pytest.approx((word.metrics["acc"] * (1 - word.metrics["acc"]) / 39) ** 0.5)
    assert (word.metrics["num_documents"], word.metrics["num_fewshot"], word.metrics["task_version"]) == (40, 2, 1.0)
    rows = [json.loads(line) for line in (ran.artifacts_dir / "tasks.jsonl").read_text().splitlines()]
    assert len(rows) == 80
    samples = [row for row in rows if row["task"] == "quantry_next_word"]
    assert len(samples) == 40
    assert sum(sample["acc"] for sample in samples) / 40 == pytest.approx(word.metrics["acc"])
    # Two examples stand before each question.
    assert samples[0]["arguments"][0][0].count("\n\n") >= 2

    for name, words in (
        ("hellaswag", "task hellaswag cannot be loaded: .* not in this worker's QUANTRY_DATASETS_CACHE"),
        ("no-such", "has no task 'no-such'"),
    ):
        refused = evaluate(tmp_path / name, coarse, spec_of(tasks=TasksSpec(names=[name])))
        assert refused.failure.reason is JobReason.INVALID_INPUT
        assert "quantry_next_word" in refused.failure.message
        assert re.search(words, refused.failure.message)


@pytest.mark.long
def test_a_model_with_nan_fails_its_extremes_and_diverges_on_text(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in MASTER.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"][5, 7] = np.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    inputs = [checkpoint(InputRole.SUBJECT, broken)]

    extremes = run(tmp_path / "extremes", EvaluateSpec(version="bard", extremes=True), inputs).evidence("extremes")
    assert extremes.verdict is Verdict.FAIL
    assert {case["is_finite"] for case in extremes.metrics["cases"]} == {False}

    inputs.append(text(InputRole.CORPUS, tmp_path, "kjv.test"))
    failure = run(tmp_path / "text", spec_of(corpora=["kjv"]), inputs).failure
    assert failure.reason is JobReason.DIVERGED
    assert "kjv.test@1" in failure.message


@pytest.mark.long
def test_thresholds_decide(tmp_path: Path, coarse: Path) -> None:
    spec = spec_of(against="bard", corpora=["kjv"], thresholds={"kl_max_nats": 1e-9})
    corpus = evaluate(tmp_path / "strict", coarse, spec).evidence("kjv.test@1")
    assert corpus.verdict is Verdict.FAIL
    assert corpus.metrics["problems"][0].startswith("kl_max_nats is ")


@pytest.mark.long
def test_speed_is_measured_on_a_real_engine_that_is_gone_afterwards(tmp_path: Path) -> None:
    asked = SpeedSpec(concurrency=[1, 3], prompt_tokens=32, output_tokens=16, num_requests=6)
    refused = evaluate(tmp_path / "refused", MASTER, EvaluateSpec(version="bard", speed=asked))
    assert "no engine environment" in refused.failure.message

    engine = {"engine_python": ENGINE_PYTHON, "engine_script": ENGINE_SCRIPT}
    ran = evaluate(tmp_path / "speed", MASTER, EvaluateSpec(version="bard", speed=asked), **engine)
    metrics = ran.evidence("speed").metrics
    assert [(level["concurrency"], level["num_output_tokens"]) for level in metrics["levels"]] == [(1, 96), (3, 96)]
    for level in metrics["levels"]:
        assert 0 < level["ttft_ms_p50"] <= level["latency_ms_p50"] <= level["latency_ms_p95"]
        # A request is its first token and fifteen more.
        assert level["latency_ms_p50"] == pytest.approx(level["ttft_ms_p50"] + 15 * level["tpot_ms_p50"], rel=0.5)
    # vLLM with its libraries holds more than 200 MB, and this machine has less than 1 TB.
    assert 2e8 < metrics["memory_peak_bytes"] < 1e12
    requests = [json.loads(line) for line in (ran.artifacts_dir / "speed.jsonl").read_text().splitlines()]
    assert len(requests) == 12
    assert not engines_of(tmp_path)


def engines_of(directory: Path) -> list[str]:
    """Returns the processes whose working directory or home lies below a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"HOME={directory}" in environment:
            found.append((process / "cmdline").read_text())
    return found
