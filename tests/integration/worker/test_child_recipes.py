"""The child for real, in the ml environment, on the example model: import, quantize, evaluate, and what must be refused.

The figures are compared with those of independent_perplexity.py, which shares no code with the recipes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from factories import forked
from factories.child_runs import MASTER, ML_SCRIPT, TEXT_FILE, Ran, checkpoint, run, start, text
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.gate import required_checks
from quantry_core.jobs import CalibrationSpec, EvaluateSpec, ImportSpec, InputRole, JobReason, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import Verdict, VersionKind, VersionState
from quantry_worker.protocol import ChildFailure, ChildInput, ChildProgress, ChildResult, parse_event

TEST_WINDOWS = 24
WINDOW_TOKENS = 256


def quantize_spec(**changes: Any) -> QuantizeSpec:
    spec = QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["kjv", "shakespeare", "speeches"]), quality=None)
    return spec.model_copy(update=changes)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> list[ChildInput]:
    folder = tmp_path_factory.mktemp("calibration")
    return [text(InputRole.CALIBRATION, folder, f"{name}.calibration") for name in ("kjv", "shakespeare", "speeches")]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, calibration: list[ChildInput]) -> Ran:
    """The example master at W4A16, made once for all tests here."""
    return forked.run(tmp_path_factory.mktemp("quantize") / "attempt", quantize_spec(), [checkpoint(InputRole.BASE, MASTER), *calibration])


def test_a_folder_is_imported_without_a_machine_learning_library(tmp_path: Path) -> None:
    ran = run(tmp_path / "attempt", ImportSpec(model="bard", source=str(MASTER)), [])

    version = ran.result.version
    assert version is not None
    assert (version.kind, version.dtype, version.state) == (VersionKind.MASTER, "float16", VersionState.READY)
    assert {path.name: path.read_bytes() for path in ran.output_dir.iterdir()} == {
        path.name: path.read_bytes() for path in MASTER.iterdir()
    }
    assert ran.seconds < 5


def test_the_hub_out_of_reach_is_said_in_a_sentence(tmp_path: Path) -> None:
    ran = run(tmp_path / "attempt", ImportSpec(model="gpt", source="hf:openai/gpt"), [])
    assert ran.failure.reason is JobReason.INVALID_INPUT
    assert "hub cannot be reached" in ran.failure.message
    assert list(ran.output_dir.iterdir()) == []


def test_quantized_weights_are_small_tied_and_pass_the_gate(quantized: Ran) -> None:
    result, version = quantized.result, quantized.result.version
    assert version is not None
    assert (version.kind, version.state, version.scheme) == (VersionKind.QUANTIZED, VersionState.READY, "W4A16")
    assert {"python", "torch", "transformers", "llmcompressor", "compressed-tensors"} <= set(version.toolchain)
    assert {one.name: one.verdict for one in result.evidence} == dict.fromkeys(required_checks(None), Verdict.PASS)

    info = inspect_checkpoint(DirectoryCheckpoint(quantized.output_dir))
    assert info.weights_bytes <= 0.45 * (MASTER / "model.safetensors").stat().st_size
    assert "lm_head.weight" not in info.tensors
    assert info.config["tie_word_embeddings"] is True
    assert {path.stat().st_mode & 0o777 for path in quantized.output_dir.iterdir()} == {0o644}
    assert (quantized.output_dir / "chat_template.jinja").read_bytes() == (MASTER / "chat_template.jinja").read_bytes()
    assert not (quantized.output_dir / "recipe.yaml").exists()

    progress = [event for event in quantized.events if isinstance(event, ChildProgress)]
    layers = [(event.done, event.total) for event in progress if event.unit == "layers"]
    assert layers == sorted(set(layers))
    assert layers[-1] == (6, 6)
    assert len(layers) >= 6
    # The numbers stand in done and total alone. What comes before the first layer has no name.
    assert {event.detail for event in progress if event.unit == "layers"} - {""} == {f"model.layers.{layer}" for layer in range(6)}
    assert [event.fraction for event in progress] == sorted(event.fraction for event in progress)


def test_config_json_is_the_masters_with_quantization_config_added(quantized: Ran) -> None:
    config = json.loads((quantized.output_dir / "config.json").read_text())
    assert config.pop("quantization_config")["quant_method"] == Format.COMPRESSED_TENSORS
    assert list(config.items()) == list(json.loads((MASTER / "config.json").read_text()).items())


def test_what_is_not_quantized_is_bit_for_bit_the_masters(quantized: Ran) -> None:
    ours, theirs = load_file(quantized.output_dir / "model.safetensors"), load_file(MASTER / "model.safetensors")
    plain = sorted(ours.keys() & theirs.keys())
    # The embedding, two norms in each of six layers, and the last norm.
    assert len(plain) == 14
    assert [name for name in plain if ours[name].tobytes() != theirs[name].tobytes()] == []


def test_a_master_with_a_config_of_transformers_4_is_quantized_and_evaluated(tmp_path: Path, calibration: list[ChildInput]) -> None:
    master = tmp_path / "master"
    shutil.copytree(MASTER, master)
    config = old_style(json.loads((MASTER / "config.json").read_text()))
    (master / "config.json").write_text(json.dumps(config))
    ran = forked.run(tmp_path / "quantize", quantize_spec(), [checkpoint(InputRole.BASE, master), *calibration])

    assert ran.result.version is not None
    assert ran.result.version.state is VersionState.READY, [one.metrics["problems"] for one in ran.result.evidence]
    written = json.loads((ran.output_dir / "config.json").read_text())
    assert written.pop("quantization_config")["format"] == "pack-quantized"
    assert written == config

    # transformers reads it as it reads the master: the figures are those of a model that works.
    spec = EvaluateSpec(version="bard", against="bard@1", corpora=["kjv"], window_tokens=WINDOW_TOKENS, max_windows=4)
    inputs = [
        checkpoint(InputRole.SUBJECT, ran.output_dir, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS),
        checkpoint(InputRole.REFERENCE, MASTER),
        text(InputRole.CORPUS, tmp_path, "kjv.test"),
    ]
    (one,) = forked.run(tmp_path / "evaluate", spec, inputs).result.evidence
    assert 0.95 < one.metrics["perplexity_ratio"] < 1.1


def test_evaluation_agrees_with_an_independent_one(tmp_path: Path, quantized: Ran) -> None:
    corpora = [text(InputRole.CORPUS, tmp_path, f"{name}.test") for name in ("kjv", "speeches")]
    spec = EvaluateSpec(
        version="bard", against="bard@1", corpora=["kjv", "speeches"], window_tokens=WINDOW_TOKENS, max_windows=TEST_WINDOWS
    )
    inputs = [
        checkpoint(InputRole.SUBJECT, quantized.output_dir, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS),
        checkpoint(InputRole.REFERENCE, MASTER),
        *corpora,
    ]
    ran = forked.run(tmp_path / "attempt", spec, inputs)

    counted = [
        (event.detail, event.done, event.total) for event in ran.events if isinstance(event, ChildProgress) and event.unit == "windows"
    ]
    for corpus in corpora:
        assert [one for one in counted if one[0] == corpus.ref][-1] == (corpus.ref, TEST_WINDOWS, TEST_WINDOWS)
    assert ran.result.peak_vram_bytes is None

    independent = independent_figures(quantized.output_dir, [corpus.path / TEXT_FILE for corpus in corpora])
    assert [one.name for one in ran.result.evidence] == [corpus.ref for corpus in corpora]
    for one, expected in zip(ran.result.evidence, independent, strict=True):
        assert one.metrics["num_tokens"] == expected["num_tokens"] == TEST_WINDOWS * (WINDOW_TOKENS - 1)
        for figure in ("perplexity", "reference_perplexity"):
            assert one.metrics[figure] == pytest.approx(expected[figure], rel=0.005)
        assert one.metrics["kl_mean_nats"] == pytest.approx(expected["kl_mean_nats"], rel=0.01)
        assert one.metrics["top1_agreement"] == pytest.approx(expected["top1_agreement"], abs=0.002)
        assert one.metrics["perplexity_ratio"] == pytest.approx(expected["perplexity"] / expected["reference_perplexity"], rel=0.005)
        # GPTQ at 4 bits is not free and not broken.
        assert 0.001 < one.metrics["kl_mean_nats"] < one.metrics["kl_p99_nats"] < 1
        assert 0.99 < one.metrics["perplexity_ratio"] < 1.05


def test_a_version_is_its_own_best_reference(tmp_path: Path) -> None:
    spec = EvaluateSpec(version="bard", against="bard", corpora=["shakespeare"], max_windows=4)
    inputs = [
        checkpoint(InputRole.SUBJECT, MASTER),
        checkpoint(InputRole.REFERENCE, MASTER),
        text(InputRole.CORPUS, tmp_path, "shakespeare.test"),
    ]
    (one,) = forked.run(tmp_path / "attempt", spec, inputs).result.evidence
    assert one.verdict is Verdict.PASS
    assert one.metrics["perplexity_ratio"] == 1
    assert one.metrics["top1_agreement"] == 1
    assert math.isclose(one.metrics["kl_mean_nats"], 0, abs_tol=1e-6)


def test_without_a_reference_there_is_no_verdict(tmp_path: Path) -> None:
    spec = EvaluateSpec(version="bard", corpora=["shakespeare"], max_windows=2)
    inputs = [checkpoint(InputRole.SUBJECT, MASTER), text(InputRole.CORPUS, tmp_path, "shakespeare.test")]
    (one,) = forked.run(tmp_path / "attempt", spec, inputs).result.evidence
    assert one.verdict is Verdict.INCONCLUSIVE
    assert "kl_mean_nats" not in one.metrics


def test_a_master_with_nan_diverged_before_anything_was_loaded(tmp_path: Path, calibration: list[ChildInput]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(MASTER, broken)
    weights = bytearray((broken / "model.safetensors").read_bytes())
    weights[-2:] = b"\x00\x7e"
    (broken / "model.safetensors").write_bytes(weights)
    ran = run(tmp_path / "attempt", quantize_spec(), [checkpoint(InputRole.BASE, broken), *calibration])
    assert ran.failure.reason is JobReason.DIVERGED
    assert ran.status == 0
    assert ran.seconds < 5


def test_too_little_calibration_text_is_refused(tmp_path: Path) -> None:
    short = text(InputRole.CALIBRATION, tmp_path, "kjv.calibration", max_bytes=8000)
    ran = forked.run(tmp_path / "attempt", quantize_spec(), [checkpoint(InputRole.BASE, MASTER), short])
    assert ran.failure.reason is JobReason.INVALID_INPUT
    assert "too short: 64 samples of 256 tokens" in ran.failure.message


def test_sigterm_ends_it_at_once(tmp_path: Path, calibration: list[ChildInput]) -> None:
    child, reader = start(tmp_path / "attempt", quantize_spec(), [checkpoint(InputRole.BASE, MASTER), *calibration])
    with os.fdopen(reader, "rb") as events:
        assert isinstance(parse_event(events.readline()), ChildProgress)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=5) == -signal.SIGTERM
        assert not any(isinstance(parse_event(line), ChildResult | ChildFailure) for line in events)


def old_style(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a Llama config in the words of transformers 4.31: version 5 would rewrite nearly all that differs here."""
    newer = {"head_dim", "attention_bias", "attention_dropout", "mlp_bias", "rope_parameters", "dtype"}
    older = {name: value for name, value in config.items() if name not in newer}
    return older | {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float16", "transformers_version": "4.31.0"}


def independent_figures(subject: Path, texts: list[Path]) -> list[dict[str, float]]:
    """Returns the figures of each text's first windows."""
    script = Path(__file__).with_name("independent_perplexity.py")
    finished = subprocess.run(
        [*ML_SCRIPT, script, subject, MASTER, str(WINDOW_TOKENS), str(TEST_WINDOWS), *texts], check=True, capture_output=True, text=True
    )
    figures: list[dict[str, float]] = json.loads(finished.stdout.splitlines()[-1])
    return figures
