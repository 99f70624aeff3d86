"""What a submitter is told of a quantize job at once, from the facts of its base and the queue it would go to."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_api.estimates.refusals import check_quantizable
from quantry_core.errors import InvalidInput
from quantry_core.estimates import CheckpointFacts, StoredTensor
from quantry_core.jobs import QuantizeSpec, Resource
from quantry_core.methods import METHODS, method_info


def facts(model_type: str, shapes: dict[str, tuple[int, ...]]) -> CheckpointFacts:
    return CheckpointFacts(
        {name: StoredTensor("F16", shape) for name, shape in shapes.items()},
        weights_bytes=0,
        other_bytes=0,
        config={"model_type": model_type, "max_position_embeddings": 1024},
    )


LLAMA = facts("llama", {"model.layers.0.mlp.up_proj.weight": (256, 512)})
NARROW = facts("llama", {"model.layers.0.mlp.up_proj.weight": (256, 288)})
GPT2 = facts("gpt2", {"transformer.h.0.attn.c_attn.weight": (64, 192)})
ODD = facts("llama", {"model.layers.0.mlp.extra.weight": (40, 128)})
FUSED = facts("llama", {f"model.layers.0.self_attn.{name}_proj.weight": (128, 128) for name in "qkv"})
TIED = facts("gemma", {"model.layers.0.mlp.up_proj.weight": (256, 512)})
EXPERTS = facts("qwen3_moe", {"model.layers.0.mlp.experts.0.up_proj.weight": (256, 512)})


def spec(method: str, **changes: Any) -> QuantizeSpec:
    info = method_info(method)
    text = {"datasets": ["text"]} if info.needs_calibration(info.schemes[0]) else None
    return QuantizeSpec.model_validate({"base": "bard", "method": method, "calibration": text, **changes})


ON_GPUS = ("autoround", "awq", "bitsandbytes", "eetq", "gptq", "gptqmodel", "kv-cache", "smoothquant")
"""Methods whose first scheme a GPU works on."""


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_plain_model_is_refused_to_no_method_where_it_runs(method: str) -> None:
    resources = ([] if method == "eetq" else [Resource.CPU]) + ([Resource.GPU] if method in ON_GPUS else [])
    for resource in resources:
        check_quantizable(spec(method), LLAMA, resource)
        check_quantizable(spec(method), None, resource)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(ON_GPUS)))
def test_a_queue_for_gpus_is_refused_to_what_leaves_them_idle(method: str) -> None:
    with pytest.raises(InvalidInput, match=rf"of method {method} runs on cpu only, .* a queue for gpu; name another queue"):
        check_quantizable(spec(method), LLAMA, Resource.GPU)


def test_what_is_fitted_to_text_is_worked_on_by_a_gpu() -> None:
    text = {"datasets": ["text"]}
    check_quantizable(spec("fp8", scheme="FP8", calibration=text), LLAMA, Resource.GPU)
    check_quantizable(spec("fp8", kv_cache="fp8", calibration=text), LLAMA, Resource.GPU)


@pytest.mark.parametrize("base", [LLAMA, None])
def test_a_method_for_gpus_is_refused_to_a_queue_for_cpus(base: CheckpointFacts | None) -> None:
    words = r"method eetq runs on cuda only, .* a queue for cpu; .* take W8A16 by method rtn or gptq"
    with pytest.raises(InvalidInput, match=words) as told:
        check_quantizable(spec("eetq"), base, Resource.CPU)
    assert [problem.field for problem in told.value.errors] == ["spec.method"]
    check_quantizable(spec("eetq"), base, Resource.GPU)


@pytest.mark.parametrize(
    ("base", "method", "changes", "words"),
    [
        (GPT2, "gptq", {}, "take gptqmodel or bitsandbytes"),
        (EXPERTS, "hqq", {}, "the experts of a qwen3_moe model cannot be loaded"),
        (NARROW, "gguf", {}, "blocks of 256 weights, .* take Q8_0"),
        (LLAMA, "gguf", {"keep_16bit": ["*.up_proj"]}, "cannot keep model.layers.0.mlp.up_proj at 16 bit"),
        (NARROW, "rtn", {}, "group size 128 does not divide the inputs of model.layers.0.mlp.up_proj"),
        (ODD, "rtn", {"group_size": "channel"}, "sides are multiples of 32 only; ignore model.layers.0.mlp.extra"),
        (FUSED, "gptq", {"keep_16bit": ["*.q_proj"]}, "so they must share one scheme"),
        (TIED, "gptq", {"ignore": []}, "tied to its embedding"),
        (LLAMA, "gptq", {"calibration": {"datasets": ["text"], "length_tokens": 2048}}, "the model's context is 1024 tokens"),
        (LLAMA, "rtn", {"overrides": [{"modules": ["*.upproj"], "scheme": "W8A16"}]}, "near it are model.layers.0.mlp.up_proj"),
    ],
)
def test_what_a_method_cannot_do_to_a_model_is_told(base: CheckpointFacts, method: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_quantizable(spec(method, **changes), base, Resource.CPU)
    check_quantizable(spec(method, **changes), None, Resource.CPU)
