"""Good checkpoints of every method pass the whole gate: made by the recipe with the real libraries, on the example model."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.child_runs import ENGINE_PYTHON, MASTER
from factories.fake_vllm import write_fake_vllm
from factories.families import family_master
from factories.gated import gated
from quantry_core.jobs import CalibrationSpec, ModuleOverride, QuantizeSpec
from quantry_core.versions import Verdict

WRONG_READER = Path(__file__).with_name("gate_with_other_zero_points.py")
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
    "awq with KV scales": spec("awq", kv_cache="fp8", calibration=TEXT, options={"num_grid": 4}),
    "awq W3A16 with zero points": spec("awq", scheme="W3A16", calibration=TEXT, options={"num_grid": 4, "symmetric": False}),
    "smoothquant": spec("smoothquant", calibration=TEXT),
    "fp8 static": spec("fp8", scheme="FP8", calibration=TEXT),
    "nvfp4": spec("nvfp4", scheme="NVFP4", calibration=TEXT),
    "nvfp4 with KV scales": spec("nvfp4", scheme="NVFP4", kv_cache="fp8", calibration=TEXT),
    "nvfp4a16 with KV scales": spec("nvfp4", kv_cache="fp8", calibration=TEXT),
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
def test_the_gptq_layout_passes_and_zero_points_packed_otherwise_do_not(tmp_path: Path) -> None:
    """GPTQModel itself is the reader, so not even a checkpoint that our own reader takes for a good one gets through."""
    specs = {
        name: spec("gptqmodel", group_size=64, calibration=TEXT, options={"symmetric": False}) for name in ("good", "shifted", "columns")
    }
    good = gated(tmp_path, {"good": specs["good"]}, make=True, environment="gptqmodel")["good"]
    assert (good.state, good.problems) == ("ready", {})
    assert good.evidence["reader"].metrics["kl_dequantized_nats"] < 1e-6
    for name, respell in (("shifted", one_more), ("columns", along_the_groups)):
        shutil.copytree(good.output_dir, tmp_path / name)
        weights = tmp_path / name / "model.safetensors"
        tensors = load_file(weights)
        zeros = {tensor: respell(packed) for tensor, packed in tensors.items() if tensor.endswith(".qzeros")}
        save_file(tensors | zeros, weights, metadata={"format": "pt"})
    said = gated(tmp_path, {"columns": specs["columns"]}, make=False, environment="gptqmodel")["columns"]
    assert any("nats from the master's" in problem for problem in said.problems["reader"])
    said = gated(tmp_path, {"shifted": specs["shifted"]}, make=False, environment="gptqmodel", script=WRONG_READER)["shifted"]
    assert list(said.problems) == ["reader"]
    assert any("nats from those of its dequantized weights" in problem for problem in said.problems["reader"])


def one_more(packed: Any) -> Any:
    """As the second version of the layout stores zero points, under the first one's name: eight in a word, none at its highest level."""
    return (packed.astype("<u4") + np.uint32(0x11111111)).view("<i4")


def along_the_groups(packed: Any) -> Any:
    """Packed along the groups in place of the outputs, then given the shape that was expected."""
    nibbles = packed.astype("<u4")[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15
    mixed = nibbles.reshape(len(packed), -1).T.reshape(len(packed), -1, 8)
    return (mixed << np.arange(0, 32, 4, dtype=np.uint32)).sum(axis=2, dtype=np.uint32).view("<i4")


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
def test_vllm_agrees_with_the_reader_and_what_it_cannot_serve_is_no_pass_and_no_failure(tmp_path: Path) -> None:
    specs = {"W4A16": spec("rtn"), "FP8": spec("fp8"), "nf4": spec("bitsandbytes")}
    said = gated(tmp_path, specs, make=True, engine_pythons=dict.fromkeys(specs, ENGINE_PYTHON))
    assert {name: one.problems for name, one in said.items() if one.problems} == {}
    assert said["W4A16"].evidence["engine"].metrics["num_greedy_tokens"] == 16
    assert said["W4A16"].evidence["engine"].metrics["logprob_error_mean_nats"] > 0
    assert said["W4A16"].evidence["engine"].verdict is Verdict.PASS
    not_asked = said["nf4"].evidence["engine"]
    assert (said["nf4"].state, not_asked.verdict) == ("ready", Verdict.INCONCLUSIVE)
    assert "cannot load NF4" in not_asked.metrics["not_served"]


def test_a_vllm_for_gpus_is_not_asked_where_the_job_sees_none(tmp_path: Path) -> None:
    for_gpus = write_fake_vllm(tmp_path / "engine", "vllm")
    said = gated(tmp_path, {"made": spec("rtn")}, make=True, engine_pythons={"made": for_gpus})["made"]
    not_asked = said.evidence["engine"]
    assert (said.state, said.problems, not_asked.verdict) == ("ready", {}, Verdict.INCONCLUSIVE)
    assert not_asked.metrics["not_served"] == "the vLLM 9.9.9 of this worker was built for CUDA, and a job of this queue sees no GPU"
