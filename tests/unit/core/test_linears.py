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


def test_patterns_are_names_or_expressions_from_the_start() -> None:
    assert is_named("lm_head", ["lm_head"])
    assert not is_named("model.lm_head", ["lm_head"])
    assert is_named("model.layers.3.mlp.up_proj", [r"re:.*\.up_proj$"])
    assert not is_named("model.layers.3.mlp.up_proj", ["re:up_proj"])
