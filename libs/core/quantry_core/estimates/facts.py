"""What an estimate needs to know of a checkpoint: its tensors' dtypes and shapes, and a few numbers of config.json."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.families import family_of
from quantry_core.linears import Shape, is_embedding, linear_modules
from quantry_core.safetensors import DTYPE_BITS

DEFAULT_BITS = 4
WORD_BITS = 32
PACKED_SUFFIX, GPTQ_SUFFIX = ".weight_packed", ".qweight"
"""A packed Linear's weight, in compressed-tensors and in the gptq layout."""
SIDE_PARTS = re.compile(
    r"\.(?:weight_(?:scale|shape|zero_point|global_scale)|input_(?:global_)?scale|[kv]_scale|scales|qzeros|g_idx|SCB|weight_format"
    r"|weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*))$"
)
"""What is stored with quantized weights and is none: scales, zero points, shapes."""

_LAYER = re.compile(r"(.*?\.\d+)\.")


class StoredTensor(NamedTuple):
    """A tensor as a safetensors header names it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.num_elements * DTYPE_BITS[self.dtype] // 8


@dataclass(frozen=True)
class CheckpointFacts:
    """A checkpoint as an estimate sees it. Made from headers and config.json; no weight is loaded."""

    tensors: Mapping[str, StoredTensor]
    weights_bytes: int
    """Of all *.safetensors files."""
    other_bytes: int
    """Of everything else: tokenizer, config, licence."""
    config: Mapping[str, Any]
    """config.json, or its text_config where it has one."""
    bits: int = DEFAULT_BITS
    """Of one weight of a packed module, where ``packed`` does not say."""
    packed: Mapping[str, Shape] | None = None
    """Packed modules with the shape they have when unpacked, where that is known; None: told by ``bits``."""

    @cached_property
    def linears(self) -> dict[str, Shape]:
        """The Linear modules by name, packed ones included, with the shape that they have when unpacked."""
        plain = {name: tensor for name, tensor in self.tensors.items() if SIDE_PARTS.search(name) is None}
        packed = self._packed_by_bits() if self.packed is None else dict(self.packed)
        return linear_modules(plain, family_of(self.config).transposed) | packed

    @cached_property
    def layers(self) -> dict[str, dict[str, Shape]]:
        """The Linear modules of each decoder layer; those of none, such as lm_head, are left out."""
        layers: dict[str, dict[str, Shape]] = defaultdict(dict)
        for name, shape in self.linears.items():
            match = _LAYER.match(name)
            if match is not None:
                layers[match[1]][name] = shape
        return dict(layers)

    @cached_property
    def num_parameters(self) -> int:
        """Numbers that the model computes with once it is loaded: packed weights count one each, scales not at all."""
        linears = self.linears
        counted = sum(prod(shape) for shape in linears.values())
        for name, tensor in self.tensors.items():
            module = name.rpartition(".")[0]
            if module not in linears or name == f"{module}.bias":
                counted += 0 if SIDE_PARTS.search(name) else tensor.num_elements
        return counted

    @cached_property
    def num_linear_weights(self) -> int:
        """Weights that every token is multiplied by in the decoder's layers."""
        return sum(prod(shape) for layer in self.layers.values() for shape in layer.values())

    @cached_property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self._number("hidden_size", "n_embd", "d_model") or self._embedding[1]

    @cached_property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return self._number("vocab_size") or self._embedding[0]

    @cached_property
    def num_heads(self) -> int:
        """Attention heads of a layer."""
        return self._number("num_attention_heads", "n_head", "n_heads") or max(1, self.hidden_size // 64)

    @cached_property
    def num_layers(self) -> int:
        """Layers of the decoder."""
        return self._number("num_hidden_layers", "n_layer", "n_layers", "num_layers") or max(1, len(self.layers))

    @cached_property
    def kv_width(self) -> int:
        """Numbers that a token's keys have in one layer; its values have as many."""
        num_kv_heads = self._number("num_key_value_heads") or self.num_heads
        return num_kv_heads * (self._number("head_dim") or self.hidden_size // self.num_heads)

    @cached_property
    def _embedding(self) -> Shape:
        tables = [tensor.shape for name, tensor in self.tensors.items() if len(tensor.shape) == 2 and is_embedding(name.rpartition(".")[0])]
        largest = max(tables, key=prod, default=(0, 0))
        return (largest[0], largest[1])

    def _packed_by_bits(self) -> dict[str, Shape]:
        modules: dict[str, Shape] = {}
        for name, tensor in self.tensors.items():
            if len(tensor.shape) != 2:
                continue
            if name.endswith(PACKED_SUFFIX):
                per_element = 2 if tensor.dtype == "U8" else WORD_BITS / self.bits
                modules[name.removesuffix(PACKED_SUFFIX)] = (tensor.shape[0], round(tensor.shape[1] * per_element))
            elif name.endswith(GPTQ_SUFFIX):
                modules[name.removesuffix(GPTQ_SUFFIX)] = (tensor.shape[1], round(tensor.shape[0] * WORD_BITS / self.bits))
        return modules

    def _number(self, *names: str) -> int | None:
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None


def facts_of(info: CheckpointInfo) -> CheckpointFacts:
    """Returns the facts of an inspected checkpoint."""
    nested = info.config.get("text_config")
    return CheckpointFacts(
        tensors={name: StoredTensor(tensor.dtype, tensor.shape) for name, tensor in info.tensors.items()},
        weights_bytes=info.weights_bytes,
        other_bytes=sum(info.files.values()) - info.weights_bytes,
        config=nested if isinstance(nested, dict) else info.config,
        bits=_stated_bits(info.config),
    )


def _stated_bits(config: Mapping[str, Any]) -> int:
    """Returns the bits that quantization_config names first; config.json of an import may hold anything."""
    quantization = config.get("quantization_config")
    stated = quantization.get("bits") if isinstance(quantization, dict) else None
    if isinstance(stated, int) and not isinstance(stated, bool) and 1 <= stated <= WORD_BITS:
        return stated
    groups = quantization.get("config_groups") if isinstance(quantization, dict) else None
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        if isinstance(bits, int) and 1 <= bits <= WORD_BITS:
            return bits
    return DEFAULT_BITS
