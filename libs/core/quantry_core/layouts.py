"""The tensors that a quantized module becomes on disk, by format and scheme: names, dtypes, shapes. No I/O, no library.

Sources: the compressors of compressed-tensors 0.19, the gptq layout of AutoGPTQ and GPTQModel, bitsandbytes' serialization.
"""

from __future__ import annotations

import json
from math import ceil
from typing import NamedTuple

from quantry_core.linears import Shape
from quantry_core.methods import SCHEMES, Activations, Format, Granularity, Scheme, Weights

WORD_BITS = 32
NF4_BLOCK = 64
"""Weights of NF4 that share a scale."""
NF4_SUPER_BLOCK = 256
"""Scales of NF4 that share one scale of their own, where those are quantized too."""
NF4_OFFSET = 0.14888326823711395
"""Stands for the mean of a module's scales, which lies in its JSON with the digits that it happens to have: 19 characters, mostly."""
DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class StoredPart(NamedTuple):
    """One tensor of a module, as a safetensors header names it."""

    dtype: str
    shape: tuple[int, ...]


Parts = dict[str, StoredPart]
"""By the part's name after the module's, such as ``weight_packed``."""


def num_groups(in_features: int, group_size: int | None) -> int:
    """Returns how many scales one row of a module has; without a group size, one."""
    return 1 if group_size is None else ceil(in_features / group_size)


def stored_parts(shape: Shape, weights: Weights, format_: Format, dtype: str, *, double_quantization: bool = True) -> Parts:
    """Returns what a module of shape (out, in) becomes; ``dtype`` is its weight's in the master, such as F16.

    Raises KeyError for a format that keeps no tensors of its own for each module: gguf.
    """
    match format_:
        case Format.COMPRESSED_TENSORS:
            return _compressed_tensors(shape, weights, dtype)
        case Format.GPTQ:
            return _gptq(shape, weights)
        case Format.BITSANDBYTES:
            return _nf4(shape, dtype, double_quantization) if weights.scheme is Scheme.NF4 else _int8(shape)
        case Format.EETQ:
            return {"weight": StoredPart("I8", (shape[1], shape[0])), "weight_scales": StoredPart("F16", (shape[0],))}
        case _:
            raise KeyError(f"format {format_} keeps no parts of modules")


def _compressed_tensors(shape: Shape, weights: Weights, dtype: str) -> Parts:
    rows, columns = shape
    groups = num_groups(columns, weights.group_size)
    match weights.scheme:
        case Scheme.FP8 | Scheme.FP8_DYNAMIC:
            scale = (1,) if weights.granularity is Granularity.TENSOR else (rows, 1)
            parts = {"weight": StoredPart("F8_E4M3", shape), "weight_scale": StoredPart(dtype, scale)}
            if SCHEMES[weights.scheme].activations is Activations.FP8_STATIC:
                parts["input_scale"] = StoredPart(dtype, (1,))
            return parts
        case Scheme.NVFP4 | Scheme.NVFP4A16:
            parts = {
                "weight_packed": StoredPart("U8", (rows, columns // 2)),
                "weight_scale": StoredPart("F8_E4M3", (rows, groups)),
                "weight_global_scale": StoredPart("F32", (1,)),
            }
            if weights.scheme is Scheme.NVFP4:
                parts["input_global_scale"] = StoredPart("F32", (1,))
            return parts
        case Scheme.MXFP4 | Scheme.MXFP4A16:
            return {"weight_packed": StoredPart("U8", (rows, columns // 2)), "weight_scale": StoredPart("U8", (rows, groups))}
        case Scheme.W8A8:
            return {"weight": StoredPart("I8", shape), "weight_scale": StoredPart(dtype, (rows, groups))}
        case _:
            return _packed_integers(shape, weights, dtype)


def _packed_integers(shape: Shape, weights: Weights, dtype: str) -> Parts:
    rows, columns = shape
    bits, groups = round(weights.bits), num_groups(columns, weights.group_size)
    parts = {
        "weight_packed": StoredPart("I32", (rows, ceil(columns * bits / WORD_BITS))),
        "weight_scale": StoredPart(dtype, (rows, groups)),
        "weight_shape": StoredPart("I64", (2,)),
    }
    if not weights.symmetric:
        parts["weight_zero_point"] = StoredPart("I32", (ceil(rows * bits / WORD_BITS), groups))
    return parts


def _gptq(shape: Shape, weights: Weights) -> Parts:
    rows, columns = shape
    bits, groups = round(weights.bits), num_groups(columns, weights.group_size)
    return {
        "qweight": StoredPart("I32", (ceil(columns * bits / WORD_BITS), rows)),
        "qzeros": StoredPart("I32", (groups, ceil(rows * bits / WORD_BITS))),
        "scales": StoredPart("F16", (groups, rows)),
        "g_idx": StoredPart("I32", (columns,)),
    }


def _nf4(shape: Shape, dtype: str, double_quantization: bool) -> Parts:
    num_blocks = ceil(shape[0] * shape[1] / NF4_BLOCK)
    state: dict[str, object] = {
        "quant_type": "nf4",
        "blocksize": NF4_BLOCK,
        "dtype": DTYPE_NAMES.get(dtype, "float16"),
        "shape": list(shape),
    }
    parts = {"weight": StoredPart("U8", (ceil(shape[0] * shape[1] / 2), 1)), "weight.quant_map": StoredPart("F32", (16,))}
    if double_quantization:
        state |= {"nested_blocksize": NF4_SUPER_BLOCK, "nested_dtype": "float32", "nested_offset": NF4_OFFSET}
        parts |= {
            "weight.absmax": StoredPart("U8", (num_blocks,)),
            "weight.nested_absmax": StoredPart("F32", (ceil(num_blocks / NF4_SUPER_BLOCK),)),
            "weight.nested_quant_map": StoredPart("F32", (256,)),
        }
    else:
        parts["weight.absmax"] = StoredPart("F32", (num_blocks,))
    return parts | {"weight.quant_state.bitsandbytes__nf4": StoredPart("U8", (len(json.dumps(state)),))}


def _int8(shape: Shape) -> Parts:
    return {
        "weight": StoredPart("I8", shape),
        "SCB": StoredPart("F32", (shape[0],)),
        "weight_format": StoredPart("U8", ()),
    }
