"""Good checkpoints of every method pass the whole gate: made by the recipe with the real libraries, on the example model."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from factories.child_runs import ENGINE_PYTHON, MASTER
from factories.families import family_master
from factories.gated import gated
from quantry_core.jobs import CalibrationSpec, ModuleOverride, QuantizeSpec

TEXT = CalibrationSpec(datasets=["text"], num_samples=16, length_tokens=128)


def spec(method: str, **changes: Any) -> QuantizeSpec:
    return QuantizeSpec(base="bard", method=method, quality=None, **changes)


DATA_FREE = {
    "rtn W3A16 with zero points": spec("rtn", scheme="W3A16", group_size=64, options={"symmetric": False}),
    "mixed": spec(
        "rtn", overrides=[ModuleOverride(modules=["*mlp*"], scheme="W8A16", group_size="channel")], keep_16bit=["*.0.self_attn.*"]
    ),
    "fp8": spec("fp8"),
    "nvfp4a16": spec("nvfp4"),
    "nf4": spec("bitsandbytes"),
}
LONGER = {
    "mxfp4": spec("mxfp4", scheme="MXFP4"),
    "hqq": spec("hqq"),
    "int8": spec("bitsandbytes", scheme="INT8"),
    "rtn W2A16": spec("rtn", scheme="W2A16", group_size=64),
    "rtn W8A16 by channel": spec("rtn", scheme="W8A16", group_size="channel"),
    "gptq W4A16": spec("gptq", calibration=TEXT),
    "gptq W2A16": spec("gptq", scheme="W2A16", group_size=64, calibration=TEXT),
    "gptq W3A16 by channel": spec("gptq", scheme="W3A16", group_size="channel", calibration=TEXT),
    "gptq W4A8": spec("gptq", scheme="W4A8", calibration=TEXT),
    "gptq with KV scales": spec("gptq", kv_cache="fp8", calibration=TEXT),
    "awq": spec("awq", calibration=TEXT, options={"num_grid": 4}),
    "awq W3A16 with zero points": spec("awq", scheme="W3A16", calibration=TEXT, options={"num_grid": 4, "symmetric": False}),
    "smoothquant": spec("smoothquant", calibration=TEXT),
    "fp8 static": spec("fp8", scheme="FP8", calibration=TEXT),
    "nvfp4": spec("nvfp4", scheme="NVFP4", calibration=TEXT),
    "mxfp4a16": spec("mxfp4"),
    "kv-cache": spec("kv-cache", calibration=TEXT),
    "hqq W2A16": spec("hqq", scheme="W2A16"),
    "nf4, scales as they are": spec("bitsandbytes", options={"double_quantization": False}),
    "autoround": spec("autoround", options={"preset": "light"}, calibration=TEXT),
    "autoround W2A16": spec("autoround", scheme="W2A16", group_size=64, options={"preset": "light"}, calibration=TEXT),
    "gguf Q4_K_M": spec("gguf"),
    "gguf Q5_K_M": spec("gguf", scheme="Q5_K_M"),
    "gguf Q8_0": spec("gguf", scheme="Q8_0"),
}


def check_all_ready(folder: Path, specs: dict[str, QuantizeSpec], environment: str = "ml", master: Path = MASTER) -> None:
    said = gated(folder, specs, make=True, environment=environment, master=master)
    assert {name: one.problems for name, one in said.items() if one.problems} == {}
    assert {one.state for one in said.values()} == {"ready"}


def test_what_looks_at_weights_alone_passes(tmp_path: Path) -> None:
    check_all_ready(tmp_path, DATA_FREE)


@pytest.mark.long
def test_every_other_method_passes(tmp_path: Path) -> None:
    check_all_ready(tmp_path, LONGER)


@pytest.mark.long
def test_llama_cpp_finds_another_tokenizer_in_a_gguf_file(tmp_path: Path) -> None:
    specs = {"Q8_0": spec("gguf", scheme="Q8_0")}
    made = gated(tmp_path, specs, make=True)["Q8_0"]
    assert made.problems == {}
    metrics = made.evidence["reader"].metrics
    assert 0 < metrics["llama_cpp_logprob_error_mean_nats"] < 0.05
    assert metrics["llama_cpp_num_greedy_tokens"] == 16
    # Two words of the probe change places in the vocabulary.
    path = made.output_dir / "model-Q8_0.gguf"
    king, name = (struct.pack("<Q", len(word.encode())) + word.encode() for word in ("Ġking", "Ġname"))
    content = path.read_bytes()
    assert content.count(king) == content.count(name) == 1
    path.write_bytes(content.replace(king, b"?" * len(king)).replace(name, king).replace(b"?" * len(king), name))
    (problem,) = gated(tmp_path, specs, make=False)["Q8_0"].problems["reader"]
    assert "as from other tokens than the master's" in problem


@pytest.mark.long
def test_the_gptq_layout_passes(tmp_path: Path) -> None:
    check_all_ready(tmp_path, {"gptqmodel": spec("gptqmodel", calibration=TEXT)}, environment="gptqmodel")


@pytest.mark.long
def test_transposed_matrices_pass(tmp_path: Path) -> None:
    """GPT-2 keeps its weights as (in, out)."""
    master = family_master("gpt2", tmp_path)
    check_all_ready(tmp_path / "nf4", {"nf4": spec("bitsandbytes")}, master=master)
    check_all_ready(tmp_path / "gptq", {"gptqmodel": spec("gptqmodel", group_size=32, calibration=TEXT)}, "gptqmodel", master)


@pytest.mark.long
def test_experts_pass(tmp_path: Path) -> None:
    master = family_master("qwen3_moe", tmp_path)
    specs = {"rtn": spec("rtn", group_size=32), "fp8": spec("fp8"), "gptq": spec("gptq", group_size=32, calibration=TEXT)}
    check_all_ready(tmp_path, specs, master=master)


@pytest.mark.long
def test_vllm_agrees_with_the_reader_and_what_it_cannot_serve_passes_as_such(tmp_path: Path) -> None:
    specs = {"W4A16": spec("rtn"), "FP8": spec("fp8"), "nf4": spec("bitsandbytes")}
    said = gated(tmp_path, specs, make=True, engine_pythons=dict.fromkeys(specs, ENGINE_PYTHON))
    assert {name: one.problems for name, one in said.items() if one.problems} == {}
    assert said["W4A16"].evidence["engine"].metrics["num_greedy_tokens"] == 16
    assert said["W4A16"].evidence["engine"].metrics["logprob_error_mean_nats"] > 0
    assert "cannot load NF4" in said["nf4"].evidence["engine"].metrics["not_served"]
