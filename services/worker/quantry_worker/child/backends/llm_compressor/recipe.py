"""Which of llm-compressor's modifiers make a method, with what settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

from quantry_core.methods import Method
from quantry_worker.child.backends.llm_compressor.schemes import config_groups, kv_cache_scheme
from quantry_worker.child.plan import QuantizationPlan

STATIC_ORDER = "static"
"""Columns are rounded by falling activation while groups keep their place: no g_idx is stored, which vLLM on CPU would refuse."""
DUO_SCALING: dict[str, bool | str] = {"both": "both", "on": True, "off": False}
CHANGES_NORMS = frozenset({Method.AWQ, Method.SMOOTHQUANT})
"""Methods that divide norms and earlier layers by what they multiply into the next ones."""


def modifiers_of(plan: QuantizationPlan, ignore: list[str]) -> list[Modifier]:
    """Returns the modifiers of the plan's method in the order in which they act. The last one quantizes."""
    return _RECIPES[plan.method.method](plan, ignore)


def _gptq(plan: QuantizationPlan, ignore: list[str]) -> list[Modifier]:
    options = plan.choice.options
    static = options.get("activation_order", STATIC_ORDER) == STATIC_ORDER
    order = STATIC_ORDER if static else None
    return [GPTQModifier(**_quantized(plan, ignore), dampening_frac=options["damping"], actorder=order)]


def _awq(plan: QuantizationPlan, ignore: list[str]) -> list[Modifier]:
    options = plan.choice.options
    scaling = AWQModifier(duo_scaling=DUO_SCALING[str(options["duo_scaling"])], n_grid=options["num_grid"])
    return [scaling, *_rounded(plan, ignore)]


def _smoothquant(plan: QuantizationPlan, ignore: list[str]) -> list[Modifier]:
    smoothing = SmoothQuantModifier(smoothing_strength=plan.choice.options["smoothing_strength"])
    return [smoothing, *_gptq(plan, ignore)]


def _rounded(plan: QuantizationPlan, ignore: list[str]) -> list[Modifier]:
    return [QuantizationModifier(**_quantized(plan, ignore))]


def _quantized(plan: QuantizationPlan, ignore: list[str]) -> dict[str, Any]:
    return {"config_groups": dict(config_groups(plan)), "ignore": ignore, "kv_cache_scheme": kv_cache_scheme(plan)}


_RECIPES: dict[Method, Callable[[QuantizationPlan, list[str]], list[Modifier]]] = {
    Method.GPTQ: _gptq,
    Method.AWQ: _awq,
    Method.SMOOTHQUANT: _smoothquant,
    Method.FP8: _rounded,
    Method.NVFP4: _rounded,
    Method.KV_CACHE: _rounded,
}
