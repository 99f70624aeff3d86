"""Bytes of the version that a job makes, exactly, from shapes alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from quantry_core.estimates.facts import CheckpointFacts, StoredTensor
from quantry_core.families import OUTPUT_LAYER, is_router
from quantry_core.jobs import QuantizeSpec, chosen, overridden
from quantry_core.layouts import stored_parts
from quantry_core.linears import Shape, is_embedding, is_named
from quantry_core.methods import Format, MethodChoice, Scheme, Weights
from quantry_core.safetensors import LENGTH_BYTES

HEADER_ALIGNMENT_BYTES = 8
DTYPE_ORDER = ("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8")
"""As the library puts tensors into a file: the widest elements first, and floats before integers. Others come last."""
METADATA = {"format": "pt"}
"""What transformers writes into every header."""
Q6_K_BITS = 6.5625
"""Of one weight, its share of scales counted: 210 bytes for 256."""
GGUF_TOKEN_BYTES = 32
"""About what a GGUF file holds for each token of the vocabulary: its text, type and merge."""
_BLOCK = re.compile(r"\.(\d+)\.")
_MORE_BITS_MODULES = ("v_proj", "down_proj", "w2")


def quantized_facts(base: CheckpointFacts, spec: QuantizeSpec) -> CheckpointFacts:
    """Returns the facts of the version that a quantize job will make of its base.

    Each Linear that is no router and that the spec does not keep at 16 bit becomes the parts that its format stores
    (quantry_core.layouts); every other tensor stays as it is. A gguf file is told by the types of its tensors. Raises
    UnknownMethod, UnknownScheme or InvalidInput for a method that is none.
    """
    choice = chosen(spec)
    if choice.info.format is Format.GGUF:
        return replace(base, weights_bytes=_gguf_bytes(base, choice))
    tensors = dict(base.tensors)
    packed: dict[str, Shape] = {}
    modules = {} if choice.scheme is Scheme.KV_FP8 else base.linears
    for module, shape in modules.items():
        weight = tensors.get(f"{module}.weight")
        if weight is None or is_router(module) or is_named(module, spec.kept_patterns):
            continue
        del tensors[f"{module}.weight"]
        weights = weights_of(module, choice, spec)
        has_double = choice.options.get("double_quantization") is True
        parts = stored_parts(shape, weights, choice.info.format, weight.dtype, double_quantization=has_double)
        tensors |= {f"{module}.{name}": StoredTensor(*part) for name, part in parts.items()}
        packed[module] = shape
    if spec.has_kv_scales:
        dtype = next((tensor.dtype for tensor in base.tensors.values() if len(tensor.shape) > 1), "F16")
        for layer in base.layers:
            tensors |= {f"{layer}.self_attn.{name}": StoredTensor(dtype, (1,)) for name in ("k_scale", "v_scale")}
    return replace(base, tensors=tensors, weights_bytes=safetensors_bytes(tensors), packed=packed)


def weights_of(module: str, choice: MethodChoice, spec: QuantizeSpec) -> Weights:
    """Returns how one module is stored: as the last override that names it says, else as the job does."""
    naming = [override for override in spec.overrides if is_named(module, override.modules)]
    return overridden(choice, spec, naming[-1]) if naming else choice.weights


def _gguf_bytes(base: CheckpointFacts, choice: MethodChoice) -> int:
    """Bytes of one GGUF file. Which type each matrix gets is llama.cpp's rule: https://github.com/ggml-org/llama.cpp, src/llama-quant.cpp

    Every matrix is of the scheme's own type but, in a K_M scheme, the output layer (the embedding, where that is tied), and the
    values and down projections of some layers: these are Q6_K. Vectors are float32.
    """
    has_output = any(name.startswith(f"{OUTPUT_LAYER}.") for name in base.tensors)
    layers = sorted({int(match[1]) for name in base.tensors if (match := _BLOCK.search(name)) is not None})
    finer = {layer for index, layer in enumerate(layers) if _takes_more_bits(index, len(layers))}
    bits = 0.0
    for name, tensor in base.tensors.items():
        module = name.removesuffix(".weight")
        match = _BLOCK.search(name)
        is_finer = match is not None and int(match[1]) in finer and module.endswith(_MORE_BITS_MODULES)
        is_output = module == OUTPUT_LAYER or (is_embedding(module) and not has_output)
        if len(tensor.shape) < 2:
            bits += tensor.num_elements * 32
        elif choice.scheme is not Scheme.Q8_0 and (is_finer or is_output):
            bits += tensor.num_elements * Q6_K_BITS
        else:
            bits += tensor.num_elements * choice.weights.bits
    return round(bits / 8) + base.vocabulary * GGUF_TOKEN_BYTES


def _takes_more_bits(index: int, num_layers: int) -> bool:
    """llama.cpp's use_more_bits: the first and the last eighth of the layers, and every third between them."""
    eighth = num_layers // 8
    return index < eighth or index >= 7 * num_layers // 8 or (index - eighth) % 3 == 2


def safetensors_bytes(tensors: Mapping[str, StoredTensor]) -> int:
    """Returns the size of one safetensors file with these tensors.

    As the library writes it: 8 bytes, compact JSON padded with spaces to a multiple of 8, then the tensors, those with the
    widest elements first, and by name among those of one dtype. https://huggingface.co/docs/safetensors
    """
    header: dict[str, object] = {"__metadata__": METADATA}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (_rank(item[1].dtype), item[0])):
        end = position + tensor.size_bytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text_bytes = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return LENGTH_BYTES + ceil(text_bytes / HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES + position


def _rank(dtype: str) -> int:
    return DTYPE_ORDER.index(dtype) if dtype in DTYPE_ORDER else len(DTYPE_ORDER)
