"""Estimates against closed forms, against the example model, and against what really was written."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.checkpoints import MemoryCheckpoint, master_contents, safetensors_bytes
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core import estimates
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import UnknownMethod
from quantry_core.estimates import (
    CheckpointFacts,
    EarlierJob,
    Given,
    StoredTensor,
    actual_figures,
    corrected,
    corrections,
    estimate_figures,
    estimate_key,
    facts_of,
    memory,
    quantized_facts,
    ratios,
)
from quantry_core.jobs import (
    CalibrationSpec,
    DeploySpec,
    EngineConfig,
    EstimateFigures,
    EvaluateSpec,
    ImportSpec,
    JobResult,
    QualitySpec,
    QuantizeSpec,
    RecalibrateSpec,
    Resource,
)
from quantry_core.methods import method_info

BARD = Path(__file__).parents[3] / "examples" / "bard-6m"
BARD_W4A16_BYTES = 4_552_456
"""Of model.safetensors, as llm-compressor 0.14 and compressed-tensors 0.19 wrote it (GPTQ, W4A16, groups of 128, lm_head ignored)."""
FLOAT32_BYTES = 4


@pytest.fixture(scope="module")
def bard() -> CheckpointFacts:
    return facts_of(inspect_checkpoint(DirectoryCheckpoint(BARD)))


def quantize(**changes: Any) -> QuantizeSpec:
    return QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"])).model_copy(update=changes)


def evaluate(**changes: Any) -> EvaluateSpec:
    return EvaluateSpec(version="bard", corpora=["text"]).model_copy(update=changes)


def facts(shapes: dict[str, tuple[int, ...]], **config: Any) -> CheckpointFacts:
    tensors = {name: StoredTensor("F16", shape) for name, shape in shapes.items()}
    return CheckpointFacts(tensors, weights_bytes=estimates.safetensors_bytes(tensors), other_bytes=0, config=config)


def test_the_example_is_told_from_its_headers(bard: CheckpointFacts) -> None:
    assert bard.weights_bytes == (BARD / "model.safetensors").stat().st_size
    assert (bard.hidden_size, bard.vocabulary, bard.num_heads, len(bard.layers)) == (256, 4096, 4, 6)
    # Closed form of a Llama: the embedding (tied), and per layer q, o, k, v, three of the MLP, and two norms; one norm at the end.
    layer = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 768 + 2 * 256
    assert bard.num_parameters == 4096 * 256 + 6 * layer + 256


def test_the_result_is_told_to_the_byte(bard: CheckpointFacts) -> None:
    figures = estimate_figures(quantize(), Given(main=bard), Resource.CPU)
    assert figures.result_bytes == BARD_W4A16_BYTES
    assert BARD_W4A16_BYTES / bard.weights_bytes == pytest.approx(0.394, abs=0.001)


def test_a_recalibration_is_its_recipe_and_the_comparison(bard: CheckpointFacts) -> None:
    recipe = quantize(quality=None)
    again = RecalibrateSpec(serving="bard@2", datasets=["text"], corpora=["text"], window_tokens=2048, recipe=recipe)
    alone = estimate_figures(recipe, Given(main=bard), Resource.CPU)
    both = estimate_figures(again, Given(main=bard, text_bytes=[10**6]), Resource.CPU)
    candidate = quantized_facts(bard, recipe)
    compared = evaluate(against="bard", window_tokens=2048)
    comparing = estimate_figures(compared, Given(main=candidate, reference=candidate, text_bytes=[10**6]), Resource.CPU)
    assert both.result_bytes == alone.result_bytes == BARD_W4A16_BYTES
    assert alone.minutes is not None and comparing.minutes is not None
    assert both.minutes == pytest.approx(alone.minutes + 2 * comparing.minutes)
    # Windows of 2048 tokens: the logits of version and master are more than calibration holds.
    assert alone.peak_ram_bytes is not None and comparing.peak_ram_bytes is not None and both.peak_ram_bytes is not None
    assert both.peak_ram_bytes > max(alone.peak_ram_bytes, comparing.peak_ram_bytes)
    small = again.model_copy(update={"window_tokens": 16})
    assert estimate_figures(small, Given(main=bard), Resource.GPU).peak_vram_bytes is not None
    assert estimate_figures(again.model_copy(update={"recipe": None}), Given(main=bard), Resource.CPU) == EstimateFigures()


@pytest.mark.parametrize(
    ("changes", "written_bytes"),
    [
        # Of the weights' file, as the libraries wrote it; the tests of the backends hold every scheme to theirs.
        ({"method": "rtn", "calibration": None}, BARD_W4A16_BYTES),
        ({"method": "hqq", "calibration": None}, 4_667_840),
        ({"method": "gptqmodel"}, 4_629_432),
        ({"method": "autoround"}, BARD_W4A16_BYTES),
    ],
)
def test_what_other_libraries_write_is_told_to_the_byte(bard: CheckpointFacts, changes: dict[str, Any], written_bytes: int) -> None:
    assert quantized_facts(bard, quantize(**changes)).weights_bytes == written_bytes


@pytest.mark.parametrize(
    ("method", "scheme", "written_bytes", "within"),
    [
        ("bitsandbytes", "NF4", 4_620_759, 1e-5),
        ("gguf", "Q8_0", 6_273_952, 0.001),
        ("gguf", "Q5_K_M", 4_311_456, 0.001),
        ("gguf", "Q4_K_M", 3_778_976, 0.001),
    ],
)
def test_what_depends_on_values_and_words_is_told_nearly(
    bard: CheckpointFacts, method: str, scheme: str, written_bytes: int, within: float
) -> None:
    made = quantized_facts(bard, quantize(method=method, scheme=scheme, calibration=None))
    assert made.weights_bytes == pytest.approx(written_bytes, rel=within)


def test_transposed_matrices_count_the_right_way_round() -> None:
    base = facts({"transformer.h.0.attn.c_attn.weight": (64, 192), "transformer.wte.weight": (512, 64)}, model_type="gpt2")
    assert base.linears == {"transformer.h.0.attn.c_attn": (192, 64)}
    made = quantized_facts(base, quantize(method="gptqmodel", group_size=32))
    assert made.tensors["transformer.h.0.attn.c_attn.qweight"] == StoredTensor("I32", (64 * 4 // 32, 192))
    assert made.tensors["transformer.h.0.attn.c_attn.scales"].shape == (64 // 32, 192)


def test_routers_of_experts_keep_their_bytes() -> None:
    base = facts({"model.layers.0.mlp.gate.weight": (64, 128), "model.layers.0.mlp.experts.0.up_proj.weight": (64, 128)})
    assert set(base.tensors) & set(quantized_facts(base, quantize()).tensors) == {"model.layers.0.mlp.gate.weight"}


def test_the_file_size_of_a_master_is_told_to_the_byte(bard: CheckpointFacts) -> None:
    assert estimates.safetensors_bytes(bard.tensors) == bard.weights_bytes


def test_packed_parts_have_the_shapes_that_compressed_tensors_gives_them() -> None:
    base = facts({"model.layers.0.mlp.up_proj.weight": (96, 128), "lm_head.weight": (50, 128), "model.norm.weight": (128,)})
    made = quantized_facts(base, quantize(group_size=32))
    assert dict(made.tensors) == {
        "model.layers.0.mlp.up_proj.weight_packed": StoredTensor("I32", (96, 16)),
        "model.layers.0.mlp.up_proj.weight_scale": StoredTensor("F16", (96, 4)),
        "model.layers.0.mlp.up_proj.weight_shape": StoredTensor("I64", (2,)),
        "lm_head.weight": StoredTensor("F16", (50, 128)),
        "model.norm.weight": StoredTensor("F16", (128,)),
    }
    assert made.linears == base.linears
    assert made.num_parameters == base.num_parameters


def test_what_is_ignored_keeps_its_bytes() -> None:
    base = facts({"model.layers.0.a_proj.weight": (64, 128), "model.layers.0.b_proj.weight": (64, 128)})
    kept = quantized_facts(base, quantize(ignore=["*"]))
    half = quantized_facts(base, quantize(ignore=["model.layers.0.a_proj"]))
    assert kept.tensors == base.tensors
    assert "model.layers.0.a_proj.weight" in half.tensors
    assert half.weights_bytes < kept.weights_bytes


@given(rows=st.integers(1, 64), groups=st.integers(1, 8), group_size=st.sampled_from([32, 64, 128]))
def test_bits_per_weight_are_four_and_the_scales(rows: int, groups: int, group_size: int) -> None:
    columns = groups * group_size
    made = quantized_facts(facts({"model.layers.0.up_proj.weight": (rows, columns)}), quantize(group_size=group_size))
    stored = sum(tensor.size_bytes for tensor in made.tensors.values())
    assert stored * 8 == rows * columns * 4 + rows * groups * 16 + 2 * 64


def test_a_method_that_is_none_is_refused(bard: CheckpointFacts) -> None:
    with pytest.raises(UnknownMethod):
        estimate_figures(quantize(method="magic"), Given(main=bard), Resource.CPU)


@pytest.mark.parametrize(
    ("method", "peak_mib"),
    # Of the child with the default quality gate, measured on two cores with 16 calibration samples.
    [("gptq", 883), ("rtn", 866), ("hqq", 831), ("gptqmodel", 1000), ("bitsandbytes", 829), ("gguf", 1154), ("autoround", 891)],
)
def test_the_peak_of_every_library_is_near_what_was_measured(bard: CheckpointFacts, method: str, peak_mib: int) -> None:
    info = method_info(method)
    text = CalibrationSpec(datasets=["text"], num_samples=16) if info.needs_calibration(info.schemes[0]) else None
    figures = estimate_figures(quantize(method=method, calibration=text), Given(main=bard), Resource.CPU)
    assert figures.peak_ram_bytes == pytest.approx(peak_mib * 1024**2, rel=0.15)


def test_a_models_float32_weights_are_the_least_that_a_quantize_job_holds(bard: CheckpointFacts) -> None:
    # Without the quality gate, whose batches of logits may be the larger part.
    few = estimate_figures(
        quantize(quality=None, calibration=CalibrationSpec(datasets=["text"], num_samples=1024)), Given(main=bard), Resource.CPU
    )
    more_text = quantize(quality=None, calibration=CalibrationSpec(datasets=["text"], num_samples=4096))
    many = estimate_figures(more_text, Given(main=bard), Resource.CPU)
    assert few.peak_ram_bytes is not None
    assert many.peak_ram_bytes is not None
    assert few.peak_ram_bytes > bard.num_parameters * FLOAT32_BYTES
    # Closed form of what more samples add: their hidden states, float32.
    assert many.peak_ram_bytes - few.peak_ram_bytes == (4096 - 1024) * 256 * bard.hidden_size * FLOAT32_BYTES
    assert few.peak_vram_bytes is None


def test_the_quality_gate_holds_one_model_at_a_time(bard: CheckpointFacts) -> None:
    batch = 32 * 1024**2
    assert memory._quality_bytes(bard, quantize()) == bard.num_parameters * FLOAT32_BYTES + bard.weights_bytes + 5 * batch
    with_extremes = quantize(quality=QualitySpec(extremes=True))
    # Five odd inputs, the logits of 64 tokens behind each, of both models.
    assert memory._quality_bytes(bard, with_extremes) - memory._quality_bytes(bard, quantize()) == 5 * 64 * 2 * 4096 * FLOAT32_BYTES


def test_on_a_gpu_one_layer_at_a_time_is_on_the_device(bard: CheckpointFacts) -> None:
    figures = estimate_figures(quantize(), Given(main=bard), Resource.GPU)
    assert figures.peak_vram_bytes is not None
    assert figures.minutes is not None
    assert figures.minutes < (estimate_figures(quantize(), Given(main=bard), Resource.CPU).minutes or 0)


def test_an_evaluation_holds_both_models_and_a_batch(bard: CheckpointFacts) -> None:
    alone = estimate_figures(evaluate(), Given(main=bard, text_bytes=[100_000]), Resource.CPU)
    pair = estimate_figures(evaluate(against="master"), Given(main=bard, reference=bard, text_bytes=[100_000]), Resource.CPU)
    assert alone.peak_ram_bytes is not None
    assert pair.peak_ram_bytes is not None
    # The second model and its file, and three more copies of 32 MiB of logits (8 windows of 256 tokens by 4096 words, float32).
    second = bard.num_parameters * FLOAT32_BYTES + bard.weights_bytes
    assert pair.peak_ram_bytes - alone.peak_ram_bytes == second + 3 * 32 * 1024**2
    assert alone.result_bytes is None


def test_an_evaluation_takes_as_long_as_its_text(bard: CheckpointFacts) -> None:
    def minutes(text_bytes: int, **changes: Any) -> float:
        figures = estimate_figures(evaluate(**changes), Given(main=bard, text_bytes=[text_bytes]), Resource.CPU)
        assert figures.minutes is not None
        return figures.minutes

    none = minutes(0, max_windows=1)
    assert minutes(10_000_000) - none > 9 * (minutes(1_000_000) - none)
    assert minutes(10_000_000, max_windows=4) == minutes(20_000_000, max_windows=4)
    # Windows of 256 tokens that begin 32 tokens apart: each token is computed in eight of them.
    apart, overlapping = minutes(10_000_000) - none, minutes(10_000_000, stride_tokens=32) - none
    assert overlapping / apart == pytest.approx(8, rel=0.01)
    assert minutes(10_000_000, stride_tokens=256) == minutes(10_000_000)
    assert minutes(10_000_000, stride_tokens=1, max_windows=4) == minutes(10_000_000, max_windows=4)


def test_a_deployment_holds_an_engine_weights_and_cache_for_each_replica(bard: CheckpointFacts) -> None:
    spec = DeploySpec(deployment="bard", version="bard", engine=EngineConfig(kv_cache_bytes=64 * 1024**2))
    one = estimate_figures(spec, Given(main=bard), Resource.CPU)
    three = estimate_figures(spec.model_copy(update={"replicas": 3}), Given(main=bard), Resource.CPU)
    assert one.peak_ram_bytes is not None
    assert three.peak_ram_bytes == 3 * one.peak_ram_bytes
    assert one.peak_ram_bytes > 64 * 1024**2 + bard.weights_bytes


def test_what_is_not_known_is_none() -> None:
    assert estimate_figures(quantize(), Given(), Resource.CPU) == EstimateFigures()
    assert estimate_figures(evaluate(against="other"), Given(main=facts({"a.weight": (4, 4)})), Resource.CPU) == EstimateFigures()
    hub = estimate_figures(ImportSpec(model="bard", source="hf:owner/name"), Given(), Resource.CPU)
    assert (hub.result_bytes, hub.minutes) == (None, None)
    assert hub.peak_ram_bytes is not None


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        (quantize(), "quantize/gptq/gpu"),
        (evaluate(), "evaluate/alone/gpu"),
        (evaluate(against="master"), "evaluate/pair/gpu"),
        (ImportSpec(model="bard", source="/models/bard"), "import/folder/gpu"),
        (ImportSpec(model="bard", source="hf:owner/name"), "import/hub/gpu"),
        (DeploySpec(deployment="bard", version="bard"), "deploy/vllm/gpu"),
    ],
)
def test_jobs_of_a_key_are_alike(spec: Any, key: str) -> None:
    assert estimate_key(spec, Resource.GPU) == key


def earlier(*minutes: float, estimated: float = 1.0) -> list[EarlierJob]:
    return [EarlierJob(EstimateFigures(minutes=estimated), EstimateFigures(minutes=actual)) for actual in minutes]


def test_a_correction_is_the_median_of_three_at_least() -> None:
    assert corrections(earlier(2, 4)) == {}
    assert corrections(earlier(2, 4, 3)) == {"minutes": 3}
    assert corrections(earlier(2, 4, 3, 100)) == {"minutes": 3.5}


def test_a_correction_is_bounded() -> None:
    assert corrections(earlier(1000, 1000, 1000)) == {"minutes": 20}
    assert corrections(earlier(0.001, 0.001, 0.001)) == {"minutes": 0.05}


def test_jobs_beyond_the_last_twenty_do_not_count() -> None:
    assert corrections(earlier(*[2.0] * 20, *[9.0] * 100)) == {"minutes": 2}


def test_corrections_bring_an_estimate_that_is_always_half_to_the_truth() -> None:
    figures = EstimateFigures(minutes=5.0, peak_ram_bytes=1001)
    assert corrected(figures, {"minutes": 2.0, "peak_ram_bytes": 1.5, "peak_vram_bytes": 3.0}) == EstimateFigures(
        minutes=10.0, peak_ram_bytes=round(1501.5)
    )


def test_ratios_leave_out_what_is_not_known_and_zero() -> None:
    actual = EstimateFigures(minutes=3.0, peak_ram_bytes=200, result_bytes=0)
    assert ratios(actual, EstimateFigures(minutes=2.0, peak_vram_bytes=5, result_bytes=7)) == {"minutes": 1.5}
    assert ratios(actual, EstimateFigures(minutes=0.0)) == {}, "nothing is a multiple of nothing"
    assert ratios(EstimateFigures(minutes=inf), EstimateFigures(minutes=2.0)) == {}, "a worker may report what is no number"


def test_what_happened_is_read_from_the_result() -> None:
    result = JobResult(seconds=90.0, peak_memory_bytes=5, peak_vram_bytes=6)
    assert actual_figures(result, 7) == EstimateFigures(minutes=1.5, peak_ram_bytes=5, peak_vram_bytes=6, result_bytes=7)
    assert actual_figures(JobResult(seconds=1.0, reused=True), 7) == EstimateFigures()


def test_odd_configs_are_no_defect() -> None:
    odd = {
        "model_type": "llama",
        "hidden_size": "wide",
        "vocab_size": True,
        "quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": "four"}}}},
    }
    found = facts_of(inspect_checkpoint(MemoryCheckpoint(master_contents(config__json=_json(odd)))))
    assert (found.hidden_size, found.vocabulary, found.bits) == (0, 0, 4)


def test_a_nested_text_config_is_read() -> None:
    config = {"model_type": "gemma3", "text_config": {"hidden_size": 640, "vocab_size": 1000, "num_attention_heads": 4}}
    tensors = safetensors_bytes({"model.embed_tokens.weight": ("BF16", (1000, 640))})
    found = facts_of(inspect_checkpoint(MemoryCheckpoint(master_contents(config__json=_json(config), model__safetensors=tensors))))
    assert (found.hidden_size, found.vocabulary, found.num_heads) == (640, 1000, 4)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def test_a_data_free_method_holds_no_whole_model() -> None:
    shapes: dict[str, tuple[int, ...]] = {f"model.layers.{layer}.mlp.up_proj.weight": (4096, 4096) for layer in range(64)}
    large = facts(shapes, vocab_size=1000, hidden_size=4096)
    free = QuantizeSpec(base="large", method="rtn", quality=None)
    fitted = QuantizeSpec(base="large", method="gptq", calibration=CalibrationSpec(datasets=["text"]), quality=None)
    figures = [estimate_figures(one, Given(main=large), Resource.CPU) for one in (free, fitted)]
    assert (figures[0].minutes or 0) < (figures[1].minutes or 0)
    assert memory._making_bytes(large, free) < large.weights_bytes < memory._making_bytes(large, fitted)


@pytest.mark.parametrize(
    ("method", "scheme", "bits"),
    [("rtn", "W8A16", 8), ("smoothquant", "W8A8", 8), ("fp8", "FP8_DYNAMIC", 8), ("nvfp4", "NVFP4A16", 4.5), ("mxfp4", "MXFP4A16", 4.25)],
)
def test_bits_per_weight_of_every_kind_of_scheme(method: str, scheme: str, bits: float) -> None:
    rows, columns = 4096, 4096
    needs_text = method == "smoothquant"
    spec = QuantizeSpec(
        base="b", method=method, scheme=scheme, calibration=CalibrationSpec(datasets=["text"]) if needs_text else None, quality=None
    )
    made = quantized_facts(facts({"model.layers.0.up_proj.weight": (rows, columns)}), spec)
    stored = sum(tensor.size_bytes for tensor in made.tensors.values())
    per_channel = 16 * rows if scheme in {"W8A8", "FP8_DYNAMIC"} else 0
    per_group = 16 * rows * columns / 128 if scheme == "W8A16" else 0
    assert stored * 8 == pytest.approx(rows * columns * bits + per_channel + per_group, abs=256)
    assert made.num_parameters == rows * columns
