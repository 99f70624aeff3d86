"""What will be quantized, and what is refused from headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import InvalidInput, UnknownMethod, UnknownScheme
from quantry_core.jobs import CalibrationSpec, ModuleOverride, QuantizeSpec
from quantry_core.safetensors import TensorInfo
from quantry_worker.child.plan import (
    QuantizationPlan,
    carried_files,
    fused_groups,
    names_in_words,
    plan_quantization,
)

LAYER = {
    "self_attn.q_proj": (128, 128),
    "self_attn.k_proj": (64, 128),
    "self_attn.v_proj": (64, 128),
    "mlp.gate_proj": (96, 128),
    "mlp.up_proj": (96, 128),
    "mlp.down_proj": (128, 96),
}


OTHER_UP = ModuleOverride(modules=["*.up_proj"], scheme="W8A16", group_size=32)


def master(more: Mapping[str, tuple[int, ...]] | None = None, *, tied: bool = True, **config: Any) -> CheckpointInfo:
    shapes: dict[str, tuple[int, ...]] = {f"model.layers.0.{name}.weight": shape for name, shape in LAYER.items()}
    shapes |= {"model.embed_tokens.weight": (50, 128), "model.norm.weight": (128,), **(more or {})}
    tensors = {name: TensorInfo(dtype="F16", shape=shape, begin=0, end=0) for name, shape in shapes.items()}
    return CheckpointInfo(config={"tie_word_embeddings": tied, **config}, files={}, tensors=tensors, tensor_files={})


def plan(info: CheckpointInfo, **changes: Any) -> QuantizationPlan:
    spec = QuantizeSpec(base="m", group_size=32, calibration=CalibrationSpec(datasets=["text"])).model_copy(update=changes)
    return plan_quantization(spec, info)


def test_names_and_expressions_are_ignored() -> None:
    made = plan(master(), ignore=["lm_head", "*.down_proj", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"])
    assert set(made.kept) == {f"model.layers.0.mlp.{name}_proj" for name in ("down", "gate", "up")}
    assert len(made.targets) == 3
    weights = made.targets["model.layers.0.self_attn.q_proj"].weights
    assert (weights.bits, weights.group_size, weights.symmetric) == (4, 32, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group_size": 64}, r"group size 64 does not divide the inputs of model\.layers\.0\.mlp\.down_proj \(96 inputs\)"),
        ({"group_size": 48}, r"takes group sizes 32, 64, 128, channel, not 48"),
        (
            {"ignore": ["lm_head", "*q_proj"]},
            r"asked for were 16 bit for model\.layers\.0\.self_attn\.q_proj; W4A16 in groups of 32 for model",
        ),
        ({"ignore": ["lm_head", "*"]}, "nothing to quantize"),
        ({"ignore": ["lm_head", "re:.*q_proj"]}, "is a regular expression"),
        ({"ignore": []}, "tied to its embedding"),
        (
            {"overrides": [ModuleOverride(modules=["*.up_proj"], scheme="W8A16", group_size=32)]},
            r"W8A16 in groups of 32 for model\.layers\.0\.mlp\.up_proj",
        ),
        (
            {"calibration": CalibrationSpec(datasets=["text"], length_tokens=65)},
            "length_tokens is 65, but the model's context is 64 tokens",
        ),
    ],
)
def test_what_cannot_be_done_or_served_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        plan(master(n_positions=64), **({"calibration": CalibrationSpec(datasets=["text"], length_tokens=64)} | changes))


@pytest.mark.parametrize(
    ("changes", "fields", "words"),
    [
        (
            {"overrides": [ModuleOverride(modules=["*.mlp.*", "*.dwon_proj"], scheme="W8A16", group_size=32)]},
            ["spec.overrides.0.modules"],
            r"overrides\.0\.modules: '\*\.dwon_proj' names no module of this model; near it are model\.layers\.0\.mlp\.down_proj",
        ),
        ({"keep_16bit": ["model.layers.7.mlp.up_proj"]}, ["spec.keep_16bit"], r"near it are model\.layers\.0\.mlp\.up_proj"),
        ({"ignore": ["lm_head", "*zzz"], "keep_16bit": ["qqq"]}, ["spec.ignore", "spec.keep_16bit"], "'.zzz' names no module"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_with_what_is_near(changes: dict[str, Any], fields: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as told:
        plan(master(), **changes)
    assert [problem.field for problem in told.value.errors] == fields


def test_what_stays_at_16_bit_in_any_case_may_be_named_there_but_not_overridden() -> None:
    plan(master(), ignore=["*lm_head", "model.embed_tokens"], keep_16bit=["*.norm"])
    with pytest.raises(InvalidInput, match=r"overrides\.0\.modules: 'model\.embed_tokens' names no module"):
        plan(master(), overrides=[ModuleOverride(modules=["model.embed_tokens"], scheme="W8A16", group_size=32)])
    routed = master(EXPERT_LAYER, model_type="qwen3_moe")
    with pytest.raises(InvalidInput, match=r"overrides\.0\.modules: '\*\.mlp\.gate' names no module"):
        plan(routed, overrides=[ModuleOverride(modules=["*.mlp.gate"], scheme="W8A16", group_size=32)])


def test_an_untied_output_layer_may_be_quantized() -> None:
    info = master({"lm_head.weight": (64, 128)}, tied=False)
    assert "lm_head" in plan(info, ignore=[]).targets


def test_sides_that_the_engine_cannot_take_are_refused() -> None:
    info = master({"model.layers.0.mlp.extra.weight": (40, 128)})
    with pytest.raises(InvalidInput, match=r"multiples of 32 only; ignore model\.layers\.0\.mlp\.extra"):
        plan(info)


def test_modules_of_one_job_may_differ() -> None:
    wide = ModuleOverride(modules=["*.mlp.*"], scheme="W8A16", group_size=32)
    narrow = ModuleOverride(modules=["*down_proj"], scheme="W3A16", group_size=32)
    made = plan(master(), overrides=[wide, narrow])
    bits = {name.rpartition(".")[2]: target.weights.bits for name, target in made.targets.items()}
    assert bits == {"q_proj": 4, "k_proj": 4, "v_proj": 4, "gate_proj": 8, "up_proj": 8, "down_proj": 3}


EXPERT_LAYER = {"model.layers.0.mlp.gate.weight": (4, 128)} | {
    f"model.layers.0.mlp.experts.{expert}.{name}.weight": shape
    for expert in range(2)
    for name, shape in {"gate_proj": (64, 128), "up_proj": (64, 128), "down_proj": (128, 64)}.items()
}


def test_a_router_stays_at_16_bit() -> None:
    made = plan(master(EXPERT_LAYER, model_type="qwen3_moe"))
    assert made.kept == {"model.layers.0.mlp.gate": (4, 128)}
    assert "model.layers.0.mlp.experts.1.down_proj" in made.targets


def test_experts_of_a_layer_share_one_scheme() -> None:
    info = master(EXPERT_LAYER, model_type="qwen3_moe")
    with pytest.raises(InvalidInput, match=r"engines join .*experts\.0\.down_proj.*W8A16.* for model\.layers\.0\.mlp\.experts\.1"):
        plan(info, overrides=[ModuleOverride(modules=["*.experts.1.*"], scheme="W8A16", group_size=32)])
    plan(info, overrides=[ModuleOverride(modules=["*.experts.*"], scheme="W8A16", group_size=32)])


def test_a_method_that_cannot_do_a_family_is_refused_with_another_way() -> None:
    info = master({"transformer.h.0.attn.c_attn.weight": (64, 192)}, model_type="gpt2")
    with pytest.raises(InvalidInput, match="take gptqmodel or bitsandbytes"):
        plan(info)
    assert plan(info, method="gptqmodel").targets["transformer.h.0.attn.c_attn"].shape == (192, 64)


def test_the_gptq_layout_leaves_the_output_layer_alone() -> None:
    info = master({"lm_head.weight": (64, 128)}, tied=False)
    with pytest.raises(InvalidInput, match="add lm_head to ignore"):
        plan(info, method="gptqmodel", ignore=[])


def test_an_output_layer_of_two_names_stays_at_16_bit() -> None:
    info = master({"embed_out.weight": (64, 128)}, tied=False, model_type="gpt_neox")
    with pytest.raises(InvalidInput, match="add it to ignore"):
        plan(info)
    assert "embed_out" in plan(info, ignore=["embed_out"]).kept


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
