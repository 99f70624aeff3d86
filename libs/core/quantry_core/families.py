"""What differs between families of causal language models, as far as quantizing them goes: one literal table by model_type.

A family that is not in the table is taken for one like Llama: Linear modules stored as (out, in), an output layer called
lm_head, queries, keys and values fused by engines, gate and up too. What a method cannot do is refused with a sentence that
names another way, before anything heavy is loaded.

Sources: what transformers 5.17 saves for each model_type, and what llm-compressor 0.14, compressed-tensors 0.19, GPTQModel
7.6 and vLLM 0.32 do with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.gguf_schemes import block_weights
from quantry_core.linears import Shaped
from quantry_core.methods import Format, Method, MethodChoice, NumberType, Scheme

OUTPUT_LAYER = "lm_head"
FUSED_MODULES: dict[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w13": ("w1", "w3"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
}
"""Modules, by their last names, that vLLM joins into one matrix product, and its name for that: all of them quantized alike, or none."""
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
"""What config.json calls the context, by family."""
_EXPERT = re.compile(r"(?P<layer>.*\.experts)\.\d+\.")
_ROUTER = re.compile(r".*\.(gate|router|router\.layer|router\.classifier|shared_expert_gate)$")


class Family(BaseModel):
    """One row of the table. The defaults are those of Llama."""

    model_config = ConfigDict(frozen=True)

    output_layers: tuple[str, ...] = Field(
        default=(OUTPUT_LAYER,), description="What the output layer is called: in the checkpoint, and in the model where that differs."
    )
    transposed: frozenset[str] = Field(
        default=frozenset(), description="Last names of modules whose weight is stored as (in, out): Conv1D in transformers."
    )
    ties_embeddings: bool = Field(default=False, description="What holds where config.json does not say tie_word_embeddings.")
    has_gguf: bool = Field(
        default=True, description="auto-round 0.15 with gguf 0.19 writes GGUF files of it, and transformers reads them back."
    )
    renames_experts: bool = Field(
        default=False, description="Experts have other names in the loaded model than in the checkpoint: what is saved from it is lost."
    )


_TIED = Family(ties_embeddings=True)

FAMILIES: dict[str, Family] = {
    "bloom": _TIED,
    "cohere": _TIED,
    "cohere2": _TIED,
    "falcon": _TIED,
    "gemma": Family(ties_embeddings=True, has_gguf=False),
    "gemma2": Family(ties_embeddings=True, has_gguf=False),
    "gemma3_text": Family(ties_embeddings=True, has_gguf=False),
    "gpt2": Family(transposed=frozenset({"c_attn", "c_proj", "c_fc", "q_attn"}), ties_embeddings=True, has_gguf=False),
    "gpt_bigcode": _TIED,
    "gpt_neo": _TIED,
    "gpt_neox": Family(output_layers=("embed_out", OUTPUT_LAYER)),
    "minimax": Family(renames_experts=True),
    "mistral": Family(has_gguf=False),
    "mixtral": Family(renames_experts=True),
    "mpt": _TIED,
    "openai-gpt": Family(transposed=frozenset({"c_attn", "c_proj", "c_fc"}), ties_embeddings=True, has_gguf=False),
    "opt": _TIED,
    "phimoe": Family(renames_experts=True),
    "qwen2": Family(has_gguf=False),
    "qwen3": Family(has_gguf=False),
}

_LIKE_LLAMA = Family()


def family_of(config: Mapping[str, Any]) -> Family:
    """Returns the row of a model by its config.json; one like Llama's where the table has none."""
    return FAMILIES.get(str(config.get("model_type")), _LIKE_LLAMA)


def is_tied(config: Mapping[str, Any]) -> bool:
    """Tells whether the output layer shares its weight with the embedding."""
    return bool(config.get("tie_word_embeddings", family_of(config).ties_embeddings))


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """Returns the longest input, in tokens; None where config.json says nothing of it."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, Mapping) else {}):
        for name in CONTEXT_NAMES:
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def is_router(module: str) -> bool:
    """Tells whether a module chooses experts, or weighs a shared one, by its name.

    Such modules stay at 16 bit: they are tiny, a wrong choice costs much, and libraries have them as no Linear.
    """
    return _ROUTER.fullmatch(module) is not None


def has_experts(names: Iterable[str]) -> bool:
    """Tells whether modules or tensors of these names are of a mixture of experts."""
    return any(_EXPERT.match(name) for name in names)


def stacked_experts(tensors: Mapping[str, Shaped]) -> list[str]:
    """Returns the tensors that hold the matrices of all experts of a layer in one, shape (experts, a, b)."""
    # One of a convolution is (channels, 1, width).
    return sorted(name for name, tensor in tensors.items() if len(tensor.shape) == 3 and min(tensor.shape[1:]) > 1)


def fused_groups(modules: Iterable[str]) -> list[list[str]]:
    """Returns the modules that vLLM joins with one another into one matrix product, two or more each."""
    present = set(modules)
    groups: list[list[str]] = []
    for parts in FUSED_MODULES.values():
        parents = sorted({name.rpartition(".")[0] for name in present if name.rpartition(".")[2] in parts})
        groups += [[f"{parent}.{part}" for part in parts if f"{parent}.{part}" in present] for parent in parents]
    return [group for group in groups if len(group) > 1]


def expert_groups(modules: Iterable[str]) -> list[list[str]]:
    """Returns the experts' modules of each layer: vLLM computes all of them in one kernel, so they share one scheme."""
    layers: dict[str, list[str]] = {}
    for name in sorted(modules):
        if match := _EXPERT.match(name):
            layers.setdefault(match["layer"], []).append(name)
    return list(layers.values())


def refusal(choice: MethodChoice, config: Mapping[str, Any], tensors: Mapping[str, Shaped]) -> str | None:
    """Returns why a model cannot be quantized so, with another way; None where nothing speaks against it.

    ``config`` is the master's config.json, ``tensors`` what its headers say.
    """
    family, kind = family_of(config), config.get("model_type")
    if family.transposed and choice.info.format in {Format.COMPRESSED_TENSORS, Format.EETQ}:
        return (
            f"a {kind} model keeps its matrices in Conv1D modules, which {choice.info.format} neither writes nor loads; "
            f"take {Method.GPTQMODEL} or {Method.BITSANDBYTES}"
        )
    if choice.info.method is Method.GGUF and not family.has_gguf:
        return f"GGUF files of {kind} models are not written, or not read back; take {Method.GPTQMODEL} or {Method.BITSANDBYTES}"
    if stacked := stacked_experts(tensors):
        return (
            f"this {kind} model stores all experts of a layer in one tensor (such as {stacked[0]}), and method {choice.info.method} "
            f"quantizes plain matrices; take a model that stores each expert by itself"
        )
    return _experts_refusal(choice, family, kind) if has_experts(tensors) else None


def blocks_refusal(scheme: Scheme, kept: Collection[str], tensors: Mapping[str, Shaped]) -> str | None:
    """Returns why a GGUF file of this scheme cannot be made of a model; None where nothing speaks against it.

    ``kept`` are the modules that are to stay at 16 bit. A row holds whole blocks: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    if inner := sorted(set(kept) - {OUTPUT_LAYER}):
        return f"a GGUF scheme decides itself how each tensor is stored; it cannot keep {_first(inner)} at 16 bit"
    block, small = block_weights(scheme), block_weights(Scheme.Q8_0)
    columns = {name.removesuffix(".weight"): tensor.shape[-1] for name, tensor in tensors.items() if len(tensor.shape) > 1}
    uneven = [f"{name} ({size})" for name, size in sorted(columns.items()) if size % block]
    if not uneven:
        return None
    fits_small = block != small and not any(size % small for size in columns.values())
    instead = f"take {Scheme.Q8_0}, whose blocks are of {small}" if fits_small else "take another method"
    return f"{scheme} stores rows in blocks of {block} weights, which do not fit {_first(uneven)}; {instead}"


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _experts_refusal(choice: MethodChoice, family: Family, kind: object) -> str | None:
    # transformers holds the experts of a layer in one tensor, which it fills with what it can dequantize while it loads.
    info, weights = choice.info, choice.weights
    if weights.scheme is Scheme.KV_FP8:
        # transformers 5.17 looks for the scheme of the experts' weights in any case.
        return f"the experts of a {kind} model cannot be loaded beside scales of a KV cache alone; take {Method.RTN} or {Method.FP8}"
    if info.method in _NO_EXPERTS:
        return f"method {info.method} does not reach the experts of a {kind} model; take {Method.RTN}, {Method.GPTQ} or {Method.FP8}"
    if weights.scheme in _LOST_WITH_EXPERTS or (weights.number_type is NumberType.INT and not weights.symmetric):
        asymmetric = "" if weights.symmetric else " with zero points"
        return (
            f"the experts of a {kind} model cannot be loaded from scheme {weights.scheme}{asymmetric}; "
            f"take {Method.RTN} or {Method.GPTQ} with symmetric weights and 16-bit activations, or {Method.FP8}"
        )
    if family.renames_experts and choice.needs_calibration:
        return (
            f"fitted to text, the experts of a {kind} model would be saved under names that no engine looks for; "
            f"take {Method.RTN}, {Method.FP8} with scheme {Scheme.FP8_DYNAMIC}, or {Method.MXFP4}"
        )
    return None


_NO_EXPERTS = frozenset({Method.AUTOROUND, Method.GPTQMODEL, Method.BITSANDBYTES, Method.GGUF, Method.EETQ})
_LOST_WITH_EXPERTS = frozenset({Scheme.W8A8, Scheme.W4A8, Scheme.NVFP4, Scheme.NVFP4A16})
"""Schemes of which transformers 5.17 loses the scales, or does not dequantize at all, where the module is an expert."""
