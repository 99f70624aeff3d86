"""Layers are counted as their modules are done."""

from __future__ import annotations

import pytest

from quantry_worker.child.backends import layers
from quantry_worker.child.backends.layers import LayerCount, layer_of
from quantry_worker.child.reporter import Units


def test_a_modules_layer_is_its_name_up_to_the_first_number() -> None:
    assert layer_of("model.layers.12.mlp.experts.3.up_proj") == "model.layers.12"
    assert layer_of("model.layers.7") == "model.layers.7"
    assert layer_of("lm_head") == "lm_head"


def test_a_layer_is_done_with_the_last_of_its_modules() -> None:
    count = LayerCount(["a.0.q", "a.0.k", "a.1.q", "lm_head"])
    assert count.finish(["a.1.q"]) == Units(1, 3, "layers")
    assert count.finish(["a.0.k"]) == Units(1, 3, "layers")
    assert count.finish(["a.0.q", "lm_head"]) == Units(3, 3, "layers")


def test_every_module_is_looked_at_once_more_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of experts has tens of thousands: looking at all of them after each took minutes."""
    looked_at: list[str] = []

    def counted(module: str) -> str:
        looked_at.append(module)
        return layer_of(module)

    monkeypatch.setattr(layers, "layer_of", counted)
    modules = [f"a.{layer}.experts.{expert}" for layer in range(10) for expert in range(100)]
    count = LayerCount(modules)
    assert [count.finish([module]) for module in modules][-1] == Units(10, 10, "layers")
    assert len(looked_at) == 2 * len(modules)
