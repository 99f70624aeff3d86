"""A tiny Llama-shaped master on disk and a W4A16 checkpoint of it, written with numpy and safetensors alone.

The packing here is arithmetic on Python's integers, so that it shares nothing with the reader it tests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Tensors = dict[str, NDArray[Any]]

HIDDEN, KV, INTERMEDIATE, VOCABULARY, NUM_LAYERS = 64, 32, 96, 40, 2
GROUP_SIZE = 32
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
MODULES = [f"model.layers.{layer}.{name}" for layer in range(NUM_LAYERS) for name in LINEARS]
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "dtype": "float16",
    "hidden_size": HIDDEN,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "vocab_size": VOCABULARY,
}


@dataclass
class TinyCheckpoint:
    """Contents that a test may change before they are written."""

    config: dict[str, Any]
    tensors: Tensors
    others: dict[str, str] = field(default_factory=lambda: {"tokenizer.json": "{}", "chat_template.jinja": "{{ messages }}"})

    def write(self, directory: Path) -> Path:
        """Writes the files below ``directory`` and returns it."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.config))
        save_file(self.tensors, directory / "model.safetensors")
        for name, text in self.others.items():
            (directory / name).write_text(text)
        return directory


def tiny_master(seed: int = 0) -> TinyCheckpoint:
    """Returns a float16 master with tied embeddings and random weights."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float16]:
        return (generator.standard_normal(shape) * 0.1).astype(np.float16)

    tensors: Tensors = {"model.embed_tokens.weight": normal(VOCABULARY, HIDDEN), "model.norm.weight": np.ones(HIDDEN, np.float16)}
    for layer in range(NUM_LAYERS):
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = np.ones(HIDDEN, np.float16)
        for name, shape in LINEARS.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = normal(*shape)
    return TinyCheckpoint(dict(CONFIG), tensors)


def tiny_quantized(master: TinyCheckpoint, *, kept: frozenset[str] = frozenset(), group_size: int = GROUP_SIZE) -> TinyCheckpoint:
    """Returns the master rounded to nearest at 4 bits, modules named in ``kept`` left as they are."""
    tensors: Tensors = {}
    for name, tensor in master.tensors.items():
        module = name.removesuffix(".weight")
        if module in MODULES and module not in kept:
            tensors |= packed_parts(module, tensor, group_size)
        else:
            tensors[name] = tensor
    return TinyCheckpoint(master.config | {"quantization_config": quantization_config(["lm_head", *sorted(kept)], group_size)}, tensors)


def packed_parts(module: str, weight: NDArray[Any], group_size: int = GROUP_SIZE) -> Tensors:
    """Returns weight_packed, weight_scale and weight_shape of one module."""
    rows, columns = weight.shape
    grouped = weight.astype(np.float32).reshape(rows, columns // group_size, group_size)
    scales = (np.abs(grouped).max(axis=2) / 7.5).astype(np.float16)
    values = np.clip(np.rint(grouped / scales.astype(np.float32)[:, :, None]), -8, 7).astype(int).reshape(rows, columns)
    packed = np.array([[pack_word(row[start : start + 8]) for start in range(0, columns, 8)] for row in values.tolist()], dtype=np.int32)
    return {
        f"{module}.weight_packed": packed,
        f"{module}.weight_scale": scales,
        f"{module}.weight_shape": np.array([rows, columns], dtype=np.int64),
    }


def pack_word(values: list[int]) -> int:
    """Returns eight 4-bit integers as one signed 32-bit word, the first in the lowest bits, 8 added to each."""
    word = sum((value + 8) << (4 * index) for index, value in enumerate(values))
    return word - 2**32 if word >= 2**31 else word


def quantization_config(ignore: list[str], group_size: int = GROUP_SIZE) -> dict[str, Any]:
    """Returns what compressed-tensors writes for W4A16."""
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": group_size, "dynamic": False}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}},
        "ignore": ignore,
    }
