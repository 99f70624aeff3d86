"""What will be quantized, and what is refused from headers alone."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import InvalidInput, UnknownMethod, UnknownScheme
from quantry_core.jobs import CalibrationSpec, QuantizeSpec
from quantry_core.linears import linear_modules
from quantry_core.safetensors import TensorInfo
from quantry_worker.child.plan import (
    QuantizationPlan,
    carried_files,
    fused_groups,
    names_in_words,
    plan_quantization,
    unmatched_patterns,
)

LAYER = {
    "self_attn.q_proj": (128, 128),
    "self_attn.k_proj": (64, 128),
    "self_attn.v_proj": (64, 128),
    "mlp.gate_proj": (96, 128),
    "mlp.up_proj": (96, 128),
    "mlp.down_proj": (128, 96),
}


def master(more: dict[str, tuple[int, ...]] | None = None, *, tied: bool = True) -> CheckpointInfo:
    shapes: dict[str, tuple[int, ...]] = {f"model.layers.0.{name}.weight": shape for name, shape in LAYER.items()}
    shapes |= {"model.embed_tokens.weight": (50, 128), "model.norm.weight": (128,), **(more or {})}
    tensors = {name: TensorInfo(dtype="F16", shape=shape, begin=0, end=0) for name, shape in shapes.items()}
    return CheckpointInfo(config={"tie_word_embeddings": tied}, files={}, tensors=tensors, tensor_files={})


def plan(info: CheckpointInfo, **changes: Any) -> QuantizationPlan:
    spec = QuantizeSpec(base="m", group_size=32, calibration=CalibrationSpec(datasets=["text"])).model_copy(update=changes)
    return plan_quantization(spec, info)


def test_linear_modules_are_the_matrices_that_are_no_embedding() -> None:
    info = master({"lm_head.weight": (50, 128), "transformer.wte.weight": (50, 128), "gpt_neox.embed_out.weight": (50, 128)})
    modules = linear_modules(info.tensors)
    assert modules["model.layers.0.mlp.down_proj"] == (128, 96)
    assert {"lm_head", "gpt_neox.embed_out"} <= set(modules)
    assert not {"model.embed_tokens", "model.norm", "transformer.wte"} & set(modules)


def test_names_and_expressions_are_ignored() -> None:
    made = plan(master(), ignore=["lm_head", "re:.*down_proj$", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "re:nothing"])
    assert set(made.kept) == {f"model.layers.0.mlp.{name}_proj" for name in ("down", "gate", "up")}
    assert len(made.targets) == 3
    assert unmatched_patterns(made) == ["re:nothing"]
    assert (made.bits, made.group_size) == (4, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group_size": 64}, r"group size 64 does not divide the inputs of model\.layers\.0\.mlp\.down_proj \(96 inputs\)"),
        ({"group_size": 48}, r"takes group sizes 32, 64, 128, not 48"),
        ({"ignore": ["lm_head", "re:.*q_proj"]}, r"ignore all of them or none, not model\.layers\.0\.self_attn\.q_proj alone"),
        ({"ignore": ["lm_head", "re:.*"]}, "nothing to quantize"),
        ({"ignore": ["lm_head", "re:("]}, "not a regular expression"),
        ({"ignore": []}, "tied to its embedding"),
    ],
)
def test_what_cannot_be_done_or_served_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        plan(master(), **changes)


def test_an_untied_output_layer_may_be_quantized() -> None:
    info = master({"lm_head.weight": (64, 128)}, tied=False)
    assert "lm_head" in plan(info, ignore=[]).targets


def test_sides_that_the_engine_cannot_take_are_refused() -> None:
    info = master({"model.layers.0.mlp.router.weight": (40, 128)})
    with pytest.raises(InvalidInput, match=r"multiples of 32 only; ignore model\.layers\.0\.mlp\.router"):
        plan(info)


def test_unknown_methods_and_schemes_have_their_own_error() -> None:
    with pytest.raises(UnknownMethod):
        plan(master(), method="magic")
    with pytest.raises(UnknownScheme):
        plan(master(), scheme="W1A1")


def test_fused_groups_need_two_members_of_one_parent() -> None:
    assert fused_groups(["a.q_proj", "a.v_proj", "b.q_proj", "b.gate_proj", "b.up_proj"]) == [
        ["a.q_proj", "a.v_proj"],
        ["b.gate_proj", "b.up_proj"],
    ]


def test_tokenizer_and_licence_are_carried_over_but_no_weights_config_or_card() -> None:
    files = ["LICENSE", "README.md", "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"]
    assert carried_files(files) == ["LICENSE", "tokenizer.json"]


def test_long_lists_of_names_are_cut() -> None:
    assert names_in_words([f"m{index}" for index in range(8)]) == "m0, m1, m2, m3, m4 and 3 more"
    assert names_in_words(["b", "a"]) == "a, b"
