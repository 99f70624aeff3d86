"""Linear modules are told by name and shape."""

from __future__ import annotations

from quantry_core.estimates import StoredTensor
from quantry_core.linears import is_named, linear_modules


def test_linear_modules_are_the_matrices_that_are_no_embedding() -> None:
    shapes = {
        "model.embed_tokens.weight": (50, 8),
        "transformer.wte.weight": (50, 8),
        "gpt_neox.embed_out.weight": (50, 8),
        "lm_head.weight": (50, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 16),
        "model.layers.0.mlp.down_proj.bias": (8,),
        "model.norm.weight": (8,),
    }
    modules = linear_modules({name: StoredTensor("F16", shape) for name, shape in shapes.items()})
    assert modules == {"gpt_neox.embed_out": (50, 8), "lm_head": (50, 8), "model.layers.0.mlp.down_proj": (8, 16)}


def test_patterns_are_names_or_globs_over_the_whole_name() -> None:
    assert is_named("lm_head", ["lm_head"])
    assert not is_named("model.lm_head", ["lm_head"])
    assert is_named("model.layers.3.mlp.up_proj", ["*.up_proj"])
    assert not is_named("model.layers.3.mlp.up_proj", ["up_*"])


def test_transposed_weights_are_turned_round() -> None:
    tensors = {"h.0.attn.c_attn.weight": StoredTensor("F16", (8, 24)), "h.0.attn.c_attn.bias": StoredTensor("F16", (24,))}
    assert linear_modules(tensors, {"c_attn"}) == {"h.0.attn.c_attn": (24, 8)}
    assert linear_modules(tensors) == {"h.0.attn.c_attn": (8, 24)}


def test_globs_are_patterns_too() -> None:
    assert is_named("model.layers.3.mlp.up_proj", ["*.layers.[0-3].mlp.*"])
    assert not is_named("model.layers.4.mlp.up_proj", ["*.layers.[0-3].mlp.*"])
