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
        config={"model_type": model_type},
    )


LLAMA = facts("llama", {"model.layers.0.mlp.up_proj.weight": (256, 512)})
NARROW = facts("llama", {"model.layers.0.mlp.up_proj.weight": (256, 288)})
GPT2 = facts("gpt2", {"transformer.h.0.attn.c_attn.weight": (64, 192)})
EXPERTS = facts("qwen3_moe", {"model.layers.0.mlp.experts.0.up_proj.weight": (256, 512)})


def spec(method: str, **changes: Any) -> QuantizeSpec:
    info = method_info(method)
    text = {"datasets": ["text"]} if info.needs_calibration(info.schemes[0]) else None
    return QuantizeSpec.model_validate({"base": "bard", "method": method, "calibration": text, **changes})


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"eetq"}))
def test_a_plain_model_is_refused_to_no_method(method: str) -> None:
    for resource in Resource:
        check_quantizable(spec(method), LLAMA, resource)
        check_quantizable(spec(method), None, resource)


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
    ],
)
def test_what_a_method_cannot_do_to_a_model_is_told(base: CheckpointFacts, method: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_quantizable(spec(method, **changes), base, Resource.CPU)
    check_quantizable(spec(method, **changes), None, Resource.CPU)
