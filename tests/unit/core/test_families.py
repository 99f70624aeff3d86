"""What is known of families, and what is refused of which method, with another way named."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.estimates import StoredTensor
from quantry_core.families import context_tokens, expert_groups, family_of, fused_groups, is_router, is_tied, refusal
from quantry_core.methods import METHODS, choose

DENSE = {"model.layers.0.mlp.up_proj.weight": StoredTensor("F16", (64, 32))}
EXPERTS = {f"model.layers.0.mlp.experts.{expert}.up_proj.weight": StoredTensor("F16", (64, 32)) for expert in range(2)}
STACKED = {"model.layers.0.mlp.experts.gate_up_proj": StoredTensor("F16", (4, 32, 64))}
CONVOLUTION = {"model.layers.0.mixer.conv1d.weight": StoredTensor("F16", (64, 1, 4))}


def said(method: str, model_type: str, tensors: dict[str, StoredTensor], scheme: str | None = None, **options: Any) -> str | None:
    return refusal(choose(method, scheme, None, options), {"model_type": model_type}, tensors)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "mistral", "gemma", "something_new"])
def test_dense_families_are_refused_to_no_method(method: str, model_type: str) -> None:
    reason = said(method, model_type, DENSE | CONVOLUTION)
    if method == "gguf" and model_type in {"qwen3", "mistral", "gemma"}:
        assert reason == f"GGUF files of {model_type} models are not written, or not read back; take gptqmodel or bitsandbytes"
    else:
        assert reason is None


@pytest.mark.parametrize("method", METHODS)
def test_gpt2_goes_with_the_methods_that_know_its_modules(method: str) -> None:
    reason = said(method, "gpt2", DENSE)
    if method in {"gptqmodel", "bitsandbytes"}:
        assert reason is None
    else:
        assert reason is not None and "take gptqmodel or bitsandbytes" in reason


@pytest.mark.parametrize(
    ("method", "scheme", "options", "words"),
    [
        ("hqq", None, {}, "W4A16 with zero points; take rtn or gptq"),
        ("rtn", None, {"symmetric": False}, "W4A16 with zero points; take rtn or gptq"),
        ("smoothquant", None, {}, "cannot be loaded from scheme W8A8"),
        ("nvfp4", None, {}, "cannot be loaded from scheme NVFP4A16"),
        ("autoround", None, {}, "does not reach the experts of a qwen3_moe model; take rtn, gptq or fp8"),
        ("gptqmodel", None, {}, "does not reach the experts"),
        ("bitsandbytes", None, {}, "does not reach the experts"),
    ],
)
def test_what_would_lose_experts_is_refused(method: str, scheme: str | None, options: dict[str, Any], words: str) -> None:
    assert words in (said(method, "qwen3_moe", EXPERTS, scheme, **options) or "")


@pytest.mark.parametrize(("method", "scheme"), [("rtn", None), ("gptq", "W8A16"), ("fp8", None), ("fp8", "FP8"), ("mxfp4", None)])
def test_experts_stored_one_by_one_are_quantized(method: str, scheme: str | None) -> None:
    assert said(method, "qwen3_moe", EXPERTS, scheme) is None


def test_renamed_experts_are_for_methods_without_text() -> None:
    assert "take rtn, fp8 with scheme FP8_DYNAMIC, or mxfp4" in (said("gptq", "mixtral", EXPERTS) or "")
    assert said("rtn", "mixtral", EXPERTS) is None
    assert said("fp8", "mixtral", EXPERTS, "FP8_DYNAMIC") is None
    assert said("fp8", "mixtral", EXPERTS, "FP8") is not None


def test_stacked_experts_are_refused_by_name() -> None:
    assert "(such as model.layers.0.mlp.experts.gate_up_proj)" in (said("rtn", "gpt_oss", STACKED) or "")
    assert "take a model that stores each expert by itself" in (said("kv-cache", "gpt_oss", STACKED) or "")
    assert "beside scales of a KV cache alone" in (said("kv-cache", "qwen3_moe", EXPERTS) or "")
    assert said("kv-cache", "llama", CONVOLUTION) is None


def test_routers_are_told_by_name() -> None:
    routers = ["model.layers.0.mlp.gate", "model.layers.0.block_sparse_moe.gate", "a.router", "a.router.layer", "a.shared_expert_gate"]
    assert all(map(is_router, routers))
    assert not any(map(is_router, ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.experts.0.gate_proj", "gateway.up_proj"]))


def test_engines_fuse_modules_of_one_parent_and_all_experts_of_a_layer() -> None:
    modules = ["a.q_proj", "a.v_proj", "b.q_proj", "b.gate_proj", "b.up_proj", "l.0.experts.0.w1", "l.0.experts.0.w3", "l.0.experts.1.w2"]
    assert fused_groups(modules) == [["a.q_proj", "a.v_proj"], ["b.gate_proj", "b.up_proj"], ["l.0.experts.0.w1", "l.0.experts.0.w3"]]
    assert expert_groups([*modules, "l.1.experts.0.w1"]) == [
        ["l.0.experts.0.w1", "l.0.experts.0.w3", "l.0.experts.1.w2"],
        ["l.1.experts.0.w1"],
    ]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 128}, 128),
        ({"model_type": "gpt2", "n_positions": 64}, 64),
        ({"text_config": {"max_position_embeddings": 32}}, 32),
        ({"max_position_embeddings": True}, None),
        ({"model_type": "bloom"}, None),
    ],
)
def test_the_context_has_other_names(config: dict[str, Any], tokens: int | None) -> None:
    assert context_tokens(config) == tokens


def test_what_config_leaves_out_is_known_by_family() -> None:
    assert is_tied({"model_type": "gpt2"}) and not is_tied({"model_type": "llama"})
    assert not is_tied({"model_type": "gemma", "tie_word_embeddings": False})
    assert family_of({"model_type": "gpt_neox"}).output_layers == ("embed_out", "lm_head")
